"""Every proposal gives the same distribution, and so does any number of devices; too low an acceptance is refused."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist

from cardiojax import latent, zoo

RNG = np.random.default_rng(0)
#: Two clusters, which one normal density cannot fit.
CODES = jnp.asarray(np.concatenate([RNG.normal(-2, 0.5, (60, 2)), RNG.normal(2, 1.0, (60, 2))]), jnp.float32)
TARGET = latent.fit_parzen(CODES, bandwidth=0.4)
PROPOSALS = {
    "gaussian": latent.fit_gaussian(CODES),
    "mixture": latent.fit_mixture(jax.random.key(0), CODES, 2, num_steps=20, covariance=0.16 * jnp.eye(2)),
    "itself": TARGET,
    "widened": TARGET.widened(1.2),
}


def same_distribution_p_value(a, b, num_permutations=199):
    """Permutation test on the energy distance (Szekely and Rizzo 2004)."""
    distances = cdist(np.concatenate([a, b]), np.concatenate([a, b]))
    rng = np.random.default_rng(1)
    signs = np.repeat([1.0, -1.0], [len(a), len(b)])

    def statistic(s):
        return -s @ distances @ s

    null = [statistic(rng.permutation(signs)) for _ in range(num_permutations)]
    return (1 + np.sum(null >= statistic(signs))) / (num_permutations + 1)


@functools.partial(jax.jit, static_argnames=("num_samples", "scale", "max_proposals"))
def sample(key, proposal, num_samples=1000, scale="max", max_proposals=10**6):
    options = {"scale": scale, "max_proposals": max_proposals, "block_size": 512, "blocks_per_round": 8}
    return latent.rejection_sample(key, TARGET, proposal, num_samples, **options)


@pytest.mark.parametrize("name", PROPOSALS)
def test_every_proposal_gives_the_target(name):
    samples = sample(jax.random.key(1), PROPOSALS[name])
    assert bool(samples.valid.all())
    assert samples.num_accepted == 1000
    exact = TARGET.sample(jax.random.key(7), 1000)
    assert same_distribution_p_value(np.asarray(samples.values[:600]), np.asarray(exact[:600])) > 0.01
    for axis in range(2):
        assert stats.ks_2samp(samples.values[:, axis], exact[:, axis]).pvalue > 0.01
    assert samples.share_exceeded == 0
    # The acceptance estimated before is the one observed.
    assert 1000 / float(samples.acceptance) == pytest.approx(float(samples.expected_proposals), rel=0.15)
    ratios = np.asarray(TARGET.log_prob(CODES) - PROPOSALS[name].log_prob(CODES))
    if name == "widened":
        assert samples.mass_exceeded == 0
        assert float(samples.log_scale) == pytest.approx(2 * np.log(1.2), abs=1e-6)
        assert float(samples.expected_proposals) == pytest.approx(1000 * 1.2**2, rel=1e-4)
        assert float(samples.acceptance) == pytest.approx(1.2**-2, abs=0.03)
    else:
        assert float(samples.log_scale) == pytest.approx(ratios.max(), abs=1e-4)
    if name == "itself":
        assert float(samples.acceptance) == pytest.approx(1, abs=1e-3)


@given(st.floats(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_a_widened_window_bounds_the_window_everywhere(factor, seed):
    """Far from the codes, at them, and where the bound is reached: at a code with no other near it."""
    points = jnp.asarray(np.random.default_rng(seed).normal(0, 4, (200, 2)), jnp.float32)
    points = jnp.concatenate([points, CODES[:80]])
    isolated = latent.Parzen(CODES.at[0].set(50.0), TARGET.scale_tril)
    wide = isolated.widened(factor)
    log_ratios = isolated.log_prob(points) - wide.log_prob(points)
    assert float(log_ratios.max()) <= float(wide.log_bound) + 1e-4
    at_isolated = isolated.log_prob(isolated.codes[0]) - wide.log_prob(isolated.codes[0])
    assert float(at_isolated) == pytest.approx(2 * np.log(factor), abs=1e-4)


def test_a_widened_window_works_on_the_packaged_codes():
    """In 16 dimensions, where one normal proposal would take 1e10 draws for each that is accepted."""
    codes = zoo.load_bank("cvae_camus")
    window = latent.fit_parzen(jnp.asarray(codes[:512]), bandwidth=0.74)
    samples = latent.rejection_sample(jax.random.key(0), window, window.widened(1.05), 2000)
    assert bool(samples.valid.all())
    assert float(samples.acceptance) == pytest.approx(1.05**-16, abs=0.02)
    exact = window.sample(jax.random.key(1), 600)
    assert same_distribution_p_value(np.asarray(samples.values[:600]), np.asarray(exact)) > 0.01


@pytest.mark.parametrize("factor", [0.9, float("nan")])
def test_a_window_is_not_narrowed(factor):
    with pytest.raises(ValueError, match="factor must be at least 1"):
        TARGET.widened(factor)


def test_the_test_sees_a_difference():
    other = PROPOSALS["gaussian"].sample(jax.random.key(2), 1000)
    exact = TARGET.sample(jax.random.key(7), 1000)
    assert same_distribution_p_value(np.asarray(other[:600]), np.asarray(exact[:600])) < 0.01


def test_the_quartile_says_what_it_misses():
    proposal = PROPOSALS["gaussian"]
    ratios = np.exp(np.asarray(TARGET.log_prob(CODES) - proposal.log_prob(CODES), np.float64))
    samples = sample(jax.random.key(1), proposal, scale="upper_quartile")
    assert float(samples.log_scale) == pytest.approx(np.log(np.percentile(ratios, 75)), rel=1e-4)
    assert float(samples.share_exceeded) == pytest.approx(0.25, abs=0.01)
    assert samples.mass_exceeded > 0.1


def test_a_given_scale_and_a_limit():
    """With k = 20 one proposal in twenty is kept: within 8,192 there are about 410."""
    samples = sample(jax.random.key(2), PROPOSALS["gaussian"], num_samples=400, scale=20.0, max_proposals=8192)
    assert float(samples.log_scale) == pytest.approx(np.log(20))
    assert samples.num_proposed == 8192
    assert samples.num_accepted == samples.valid.sum()
    assert float(samples.acceptance) == pytest.approx(1 / 20, rel=0.2)


def test_settings_that_accept_nearly_nothing_are_refused_with_their_cost():
    """A narrow window in 24 dimensions under one normal proposal."""
    codes = jnp.asarray(RNG.normal(size=(200, 24)), jnp.float32)
    target = latent.fit_parzen(codes, bandwidth=0.3)
    proposal = latent.fit_gaussian(codes)
    with pytest.raises(
        ValueError, match=r"one proposal in .* would be accepted: .* more than max_proposals = 1000000000"
    ):
        latent.rejection_sample(jax.random.key(0), target, proposal, 50)
    samples = jax.jit(lambda key: latent.rejection_sample(key, target, proposal, 50))(jax.random.key(0))
    assert samples.num_proposed == samples.num_accepted == 0
    assert not bool(samples.valid.any())
    assert samples.expected_proposals > 1e9


def test_options_are_checked():
    proposal = PROPOSALS["gaussian"]
    with pytest.raises(ValueError, match="scale must be"):
        latent.rejection_sample(jax.random.key(0), TARGET, proposal, 10, scale="mean")
    with pytest.raises(ValueError, match="no codes"):
        latent.rejection_sample(jax.random.key(0), proposal, proposal, 10)
    with pytest.raises(ValueError, match="max_proposals"):
        latent.rejection_sample(jax.random.key(0), TARGET, proposal, 10, max_proposals=2**31)
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        latent.rejection_sample(jax.random.key(0), TARGET, proposal, 0)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from cardiojax import latent
codes = jnp.asarray(np.random.default_rng(0).normal(size=(150, 4)), jnp.float32)
target, proposal = latent.fit_parzen(codes, bandwidth=0.5), latent.fit_gaussian(codes)
mesh = jax.make_mesh((8,), ("data",)) if jax.device_count() == 8 else None
options = dict(block_size=256, blocks_per_round=16, mesh=mesh)
samples = jax.jit(lambda key: latent.rejection_sample(key, target, proposal, 500, **options))(jax.random.key(3))
wide, options = target.widened(1.1), dict(decode=lambda z: z, is_valid=lambda z: z[:, 0] > 0, mesh=mesh)
candidates = jax.jit(lambda key: latent.draw_candidates(key, jnp.arange(8), target, wide, wide.log_bound, block_size=64,
    **options))(jax.random.key(4))
np.savez(OUT, *jax.tree.leaves((samples, candidates)))
"""


def test_eight_devices_keep_what_one_keeps(tmp_path):
    found = []
    for devices in (1, 8):
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
        code = SHARDED.replace("OUT", repr(str(tmp_path / f"{devices}.npz")))
        subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | flags)
        found.append(np.load(tmp_path / f"{devices}.npz"))
    for name in found[0].files:
        np.testing.assert_array_equal(found[0][name], found[1][name])


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    proposal = PROPOSALS["mixture"]
    function = jax.jit(lambda key: latent.rejection_sample(key, TARGET, proposal, 100))
    jax.export.export(function, platforms=[platform])(jax.random.key(0))
