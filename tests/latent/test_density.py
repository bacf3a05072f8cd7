"""Densities against SciPy's and against sums done one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.special import logsumexp

from cardiojax import latent

RNG = np.random.default_rng(0)
MIXED = RNG.normal(size=(3, 3))


def draw(num, dim, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(num, dim)) @ rng.normal(size=(dim, dim)) + 5, jnp.float32)


@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_rules_equal_scipy(rule):
    codes, points = draw(300, 3), draw(50, 3, seed=1)
    ours = jax.jit(latent.fit_parzen(codes, bandwidth=rule).log_prob)(points)
    np.testing.assert_allclose(ours, stats.gaussian_kde(codes.T, bw_method=rule).logpdf(points.T), rtol=1e-4, atol=1e-4)


@jax.jit
def evaluate(codes, width, points):
    return latent.fit_parzen(codes, bandwidth=width).log_prob(points)


def kernels(points, codes, width):
    points, codes = np.asarray(points, np.float64), np.asarray(codes, np.float64)
    squared = np.square(points[:, None] - codes).sum(-1)
    dim = codes.shape[1]
    return logsumexp(-squared / (2 * width**2), axis=-1) - np.log(len(codes)) - dim * np.log(width * np.sqrt(2 * np.pi))


@given(hnp.arrays(np.float32, (6, 3), elements=st.floats(-1e4, 1e4, width=32)), st.sampled_from([0.1, 0.6, 10.0]))
def test_equals_a_sum_of_kernels(points, width):
    codes = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    np.testing.assert_allclose(evaluate(codes, width, points), kernels(points, codes, width), rtol=1e-4, atol=1e-3)


def test_many_points_in_blocks_far_and_near():
    """Some points so far from the probed codes that the quick sum overflows, others beyond any exponent."""
    codes = np.zeros((3000, 4), np.float32)
    codes[1::2] += 60.0
    codes[17] = -500.0
    points = (
        jnp.asarray(RNG.normal(size=(2, 4500, 4)), jnp.float32).at[0, :3].set(jnp.array([-500.0, 60.0, 1e5])[:, None])
    )
    ours = evaluate(codes, 0.5, points)
    assert ours.shape == (2, 4500)
    np.testing.assert_allclose(ours.reshape(-1), kernels(points.reshape(-1, 4), codes, 0.5), rtol=1e-5, atol=3e-3)


def test_gradient_points_to_the_codes():
    codes, width = draw(2100, 3), 0.7  # two chunks, the last filled up
    x = jnp.array([4.0, 5.0, 7.0])
    density = latent.fit_parzen(codes, bandwidth=width)
    weights = jax.nn.softmax(-jnp.square(x - codes).sum(-1) / (2 * width**2))
    expected = (weights[:, None] * (codes - x)).sum(0) / width**2
    np.testing.assert_allclose(jax.grad(density.log_prob)(x), expected, rtol=1e-3, atol=1e-3)


def test_gaussian_equals_scipy():
    codes, points = draw(200, 3), draw(40, 3, seed=1)
    density = latent.fit_gaussian(codes)
    peer = stats.multivariate_normal(np.mean(codes, 0), np.cov(codes.T))
    np.testing.assert_allclose(density.log_prob(points), peer.logpdf(points), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fit", [latent.fit_gaussian, lambda c: latent.fit_parzen(c, bandwidth="scott")])
def test_samples_have_the_moments_of_the_density(fit):
    codes = draw(500, 3)
    density = fit(codes)
    samples = density.sample(jax.random.key(1), 40_000)
    extra = density.scale_tril @ density.scale_tril.T if isinstance(density, latent.Parzen) else 0.0
    np.testing.assert_allclose(samples.mean(0), codes.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(samples.T), np.cov(codes.T) + extra, rtol=0.05, atol=0.2)


def test_cross_validation_maximises_the_likelihood_held_out():
    codes, key = draw(60, 2), jax.random.key(3)
    widths = np.logspace(-1, 1, 20)
    found = latent.select_bandwidth(key, codes, jnp.asarray(widths, jnp.float32), num_splits=4, held_out=0.25)
    scores = np.zeros(20)
    for split in jax.random.split(key, 4):
        order = np.asarray(jax.random.permutation(split, 60))
        test, train = codes[order[:15]], codes[order[15:]]
        scores += [kernels(test, train, width).sum() for width in widths]
    assert float(found) == pytest.approx(widths[scores.argmax()], rel=1e-5)


def test_cross_validation_finds_a_sensible_width():
    """For 400 normal points in two dimensions the best width is near Silverman's rule, 0.37."""
    codes = jnp.asarray(RNG.normal(size=(400, 2)), jnp.float32)
    density = jax.jit(latent.fit_parzen)(codes)
    assert 0.2 < float(density.scale_tril[0, 0]) < 0.6


FITS = {
    "gaussian": latent.fit_gaussian,
    "scott": lambda codes: latent.fit_parzen(codes, bandwidth="scott"),
    "cv": latent.fit_parzen,
    "mixture": lambda codes: latent.fit_mixture(jax.random.key(0), codes, 2, num_steps=5),
}


@pytest.mark.parametrize("name", FITS)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["few", "constant", "repeated", "duplicates"]))
@settings(max_examples=8)
def test_codes_without_spread_in_some_directions_have_a_density(name, seed, kind):
    """Five codes in 8 dimensions, a constant dimension, one that repeats another, every code twice."""
    rng = np.random.default_rng(seed)
    codes = (rng.normal(size=(20, 8)) * 10 ** rng.uniform(-2, 2) + rng.normal(0, 10)).astype(np.float32)
    codes = {
        "few": codes[:5],
        "constant": np.concatenate([codes[:, :7], np.full_like(codes[:, :1], 5.3)], 1),
        "repeated": np.concatenate([codes[:, :7], codes[:, :1]], 1),
        "duplicates": np.repeat(codes[:10], 2, 0),
    }[kind]
    density = FITS[name](jnp.asarray(codes))
    assert np.isfinite(density.log_prob(jnp.asarray(codes))).all()
    samples = density.sample(jax.random.key(1), 100)
    assert np.isfinite(density.log_prob(samples)).all()
    assert np.abs(samples - codes.mean(0)).max() < 20 * np.ptp(codes, 0).max()


@given(st.integers(0, 2**32 - 1), st.integers(-12, 12))
@settings(max_examples=15)
def test_the_bandwidth_scales_with_the_codes(seed, power):
    codes = jnp.asarray(np.random.default_rng(seed).normal(size=(40, 3)), jnp.float32)
    width = latent.select_bandwidth(jax.random.key(0), codes)
    scaled = latent.select_bandwidth(jax.random.key(0), codes * 2.0**power)
    assert float(scaled) == pytest.approx(float(width) * 2.0**power, rel=0.05)  # one step of the grid


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_codes_without_any_spread_are_refused(fit):
    with pytest.raises(ValueError, match="the 10 codes are all the same"):
        fit(jnp.ones((10, 3)))
    with pytest.raises(ValueError, match="1 of the 30 codes are not finite"):
        fit(draw(30, 3).at[4, 1].set(jnp.nan))
    with pytest.raises(ValueError, match=r"at least 2, got 1|between 1 and the 1 codes"):
        fit(jnp.ones((1, 3)))


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("nan")])
def test_a_bandwidth_must_be_positive(bandwidth):
    with pytest.raises(ValueError, match="bandwidth must be positive"):
        latent.fit_parzen(draw(10, 2), bandwidth=bandwidth)


@pytest.mark.parametrize("held_out", [0.0, 1.0])
def test_some_codes_are_held_out_and_some_are_left(held_out):
    with pytest.raises(ValueError, match="held_out must leave"):
        latent.select_bandwidth(jax.random.key(0), draw(10, 2), held_out=held_out)


def test_a_single_draw_is_mapped_at_full_precision():
    """As a proposal is judged: one point a time, mapped; and in half precision, as banks are kept."""
    density = latent.fit_parzen(draw(700, 3).astype(jnp.float16), bandwidth=0.5)
    points = draw(20, 3, seed=2)
    np.testing.assert_allclose(jax.vmap(density.log_prob)(points), density.log_prob(points), rtol=1e-5, atol=1e-4)
    assert density.codes.dtype == jnp.float32


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="bandwidth must be"):
        latent.fit_parzen(draw(10, 2), bandwidth="box")
