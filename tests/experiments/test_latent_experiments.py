"""The experiments on the latent sampler: densities, tests of distributions, defects and figures, on small inputs."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cardiojax import latent
from cardiojax.data.bank import BankProgress, LatentBank
from experiments.latent import bank_size, damaged_masks, latent_sampling, paper_size, pipeline, rejection_sampling

CODES = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
WINDOW = latent.fit_parzen(jnp.asarray(CODES), bandwidth=0.5)


def test_student_t_is_that_of_scipy():
    normal = latent.fit_gaussian(jnp.asarray(CODES))
    density = latent_sampling.StudentT(normal.mean, normal.scale_tril, jnp.float32(4))
    covariance = np.asarray(normal.scale_tril @ normal.scale_tril.T)
    expected = stats.multivariate_t(np.asarray(normal.mean), covariance, df=4)
    np.testing.assert_allclose(density.log_prob(CODES), expected.logpdf(CODES), rtol=1e-4)
    draws = density.sample(jax.random.key(0), 4000)
    assert stats.ks_2samp(draws[:, 0], expected.rvs(4000, random_state=0)[:, 0]).pvalue > 0.01


def test_a_defensive_mixture_keeps_its_bound():
    widened, normal = WINDOW.widened(1.05), latent.fit_gaussian(jnp.asarray(CODES))
    mixture = latent_sampling.Defensive(widened, normal, jnp.float32(0.1), widened.log_bound - np.log(0.9))
    points = jnp.concatenate([jnp.asarray(CODES), mixture.sample(jax.random.key(0), 500)])
    assert float((WINDOW.log_prob(points) - mixture.log_prob(points)).max()) <= float(mixture.log_bound) + 1e-4


def test_a_setting_is_measured(tmp_path):
    config = latent_sampling.Config(
        data=tmp_path, out=tmp_path, num_pilot=400, num_tested=300, num_timed=300, num_permutations=99
    )
    row = latent_sampling.measure(latent_sampling.Setting(WINDOW.widened(1.1), is_proved=True), WINDOW, config)
    assert row["acceptance"] == pytest.approx(1.1**-3, rel=1e-3)
    assert row["mass_above_k"] == 0
    assert min(row["ks"], row["energy"], row["mmd"]) > 0.01
    assert latent_sampling.table({"window": row}).count("\n") == 3
    shifted = np.asarray(WINDOW.sample(jax.random.key(1), 300))
    other = latent_sampling.two_sample_tests(shifted, shifted + 0.5, 99)
    assert max(other.values()) < 0.05


def test_defects_are_reproducible_and_keep_the_grid():
    mask = np.zeros((48, 64), np.int32)
    mask[8:40, 16:48], mask[16:40, 24:40] = 2, 1
    for seed in range(40):
        once, again = (damaged_masks.damage(np.random.default_rng(seed), mask) for _ in range(2))
        np.testing.assert_array_equal(once, again)
        assert once.shape == mask.shape
        assert set(np.unique(once)) <= {0, 1, 2, 3}
    np.testing.assert_array_equal(damaged_masks.resized(mask, 96, 128)[::2, ::2], mask)


def test_a_bank_is_enlarged_by_draws_of_its_density():
    bank = LatentBank(CODES.astype(np.float16), WINDOW, {"draws": {"widening": 1.05}}, BankProgress(60))
    np.testing.assert_array_equal(bank_size.enlarge(bank, 20), bank.codes[:20])
    more = bank_size.enlarge(bank, 300)
    assert more.shape == (300, 3)
    assert more.dtype == np.float16
    assert np.isfinite(more).all()


def test_the_figures_are_drawn(tmp_path):
    config = rejection_sampling.Config(data=Path(), out=tmp_path, num_points=200, num_shapes=3)
    assert 0.2 < rejection_sampling.draw_1d(CODES[:, 0], config) < 1
    rejection_sampling.draw_2d(CODES, CODES + 0.1, CODES[:, 0] > 0, config)

    def decode(codes):
        return jnp.zeros((len(codes), 8, 8), jnp.int32), jnp.arange(len(codes)) > 0

    ways = rejection_sampling.paths(np.random.default_rng(1).normal(size=(60, 5)).astype(np.float32), 3)
    rejection_sampling.draw_paths(ways, decode, config)
    assert {path.name for path in tmp_path.iterdir()} == {"rejection_1d.png", "rejection_2d.png", "latent_paths.png"}


def test_the_record_adds_the_runs_of_a_command(tmp_path):
    for run in (1, 2):
        record = pipeline.Record(tmp_path / "pipeline.json")
        before = record.values.get("bank", {}).get("wall_seconds", 0)
        with record.stage("bank") as update:
            update()
        record.add("bank", num_codes=run)
        row = pipeline.Record(tmp_path / "pipeline.json").values["bank"]
        assert row["wall_seconds"] > before
        assert row["num_codes"] == run
        assert row["peak_mib"] > 0


def test_widened_windows_accept_what_their_bound_says():
    samples, row = paper_size.draw(WINDOW, 1.1, 2000)
    assert bool(samples.valid.all())
    assert row["k"] == pytest.approx(1.1**3)
    assert row["acceptance"] == pytest.approx(row["expected_acceptance"], abs=0.05)
    assert row["mass_above_k"] == 0
