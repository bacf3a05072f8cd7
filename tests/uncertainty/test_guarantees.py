"""Temperature scaling against SciPy, and the guarantee of conformal risk control by simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiojax import uncertainty


def calibrated(seed, n, temperature, k=4):
    """Labels drawn from the softmax of logits, which then come multiplied by the temperature."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, k))
    labels = (rng.random((n, 1)) > np.cumsum(scipy.special.softmax(logits, -1), -1)).sum(-1)
    return (temperature * logits).astype(np.float32), np.minimum(labels, k - 1)


@given(seed=st.integers(0, 100), temperature=st.floats(0.1, 10))
@settings(max_examples=20)
def test_temperature_equals_scipy(seed, temperature):
    logits, labels = calibrated(seed, 2000, temperature)

    def loss(log_t):
        return -scipy.special.log_softmax(logits / np.exp(log_t), -1)[np.arange(2000), labels].mean()

    oracle = scipy.optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-7})
    fitted = jax.jit(uncertainty.fit_temperature)(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(fitted.value, np.exp(oracle.x), rtol=2e-3)
    np.testing.assert_allclose(fitted.loss, oracle.fun, rtol=1e-4)
    assert bool(fitted.is_interior)
    assert float(fitted.loss) <= float(fitted.loss_before) + 1e-6


@pytest.mark.parametrize(("labels", "low", "high"), [(0, 0.05, 0.2), (1, 19.0, 20.0)])
def test_temperature_stays_in_its_range_when_all_is_right_or_all_is_wrong(labels, low, high):
    logits = jnp.tile(jnp.array([3.0, 0.0, -1.0]), (4, 5, 1))
    fitted = uncertainty.fit_temperature(logits, jnp.full((4, 5), labels))
    assert low <= float(fitted.value) <= high + 1e-4  # the slope of the loss vanishes in float32 before the end
    assert not bool(fitted.is_interior)


def frames(seed, n):
    """Small maps of which some miss their errors."""
    rng = np.random.default_rng(seed)
    maps = rng.random((n, 8, 8)).astype(np.float32)
    quality = rng.random((n, 1, 1))
    return jnp.asarray(maps), jnp.asarray(rng.random((n, 8, 8)) < 0.4 * quality * maps + 0.02)


def test_missed_errors_equal_their_definition():
    maps, errors = frames(0, 5)
    thresholds = jnp.array([0.0, 0.25, 0.5, 1.0, 1.1])
    maps = maps.at[0, 0, :3].set(jnp.array([0.25, 0.5, 1.0]))
    errors = errors.at[0, 0, :3].set(True).at[4].set(False)
    expected = [
        [np.sum((m < t) & e) / max(e.sum(), 1) for t in np.asarray(thresholds)]
        for m, e in zip(np.asarray(maps), np.asarray(errors), strict=True)
    ]
    np.testing.assert_allclose(uncertainty.missed_errors(maps, errors, thresholds), expected, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_the_risk_of_a_new_image_is_what_was_stated(alpha):
    """Over many calibrations of 40 images: at most alpha, and not much less."""
    thresholds = jnp.linspace(0, 1, 501)
    losses = uncertainty.missed_errors(*frames(1, 41 * 400), thresholds).reshape(400, 41, 501)

    def one(losses):
        chosen = uncertainty.control_risk(losses[:-1], thresholds, alpha=alpha)
        return losses[-1, jnp.searchsorted(thresholds, chosen.value)], chosen.bound, chosen.is_valid

    missed, bounds, valid = jax.jit(jax.vmap(one))(losses)
    assert bool(valid.all())
    assert float(bounds.max()) <= alpha
    deviation = 3 * float(missed.std()) / np.sqrt(len(missed))
    assert float(missed.mean()) <= alpha + deviation
    assert float(missed.mean()) >= alpha - 2 / 41 - deviation - 0.01  # steps of the loss and of the thresholds


def test_too_few_images_are_said_to_be_too_few():
    thresholds = jnp.array([0.0, 0.5])
    chosen = uncertainty.control_risk(jnp.zeros((5, 2)), thresholds, alpha=0.1)
    assert not bool(chosen.is_valid)
    assert float(chosen.value) == 0
    assert bool(uncertainty.control_risk(jnp.zeros((9, 2)), thresholds, alpha=0.1).is_valid)


def test_an_interval_holds_the_truth_as_often_as_was_stated():
    """Over 2,000 calibrations of 39 examples with a spread that is only loosely right."""
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.5, 2, (2000, 40))
    residuals = jnp.asarray(np.abs(rng.standard_t(3, (2000, 40)) * spread**0.5) / spread, jnp.float32)
    bounds = jax.jit(jax.vmap(uncertainty.conformal_quantile))(residuals[:, :-1])
    coverage = float((residuals[:, -1] <= bounds).mean())
    assert abs(coverage - 0.9) < 3 * np.sqrt(0.09 / 2000) + 1 / 40
    assert jnp.isinf(uncertainty.conformal_quantile(jnp.ones(8)))
    assert jnp.isinf(uncertainty.conformal_quantile(jnp.array([1.0, jnp.nan, jnp.nan]), alpha=0.4))
