"""Calibration against scikit-learn's figures and NumPy's histograms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from cardiojax import metrics


def predictions(seed=0, n=3000):
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 1, n).astype(np.float32)
    return confidence, rng.random(n) < confidence**2


def test_reliability_equals_numpy_histograms():
    confidence, correct = predictions()
    result = jax.jit(metrics.reliability)(jnp.asarray(confidence), jnp.asarray(correct))
    count, edges = np.histogram(confidence, bins=20, range=(0, 1))
    index = np.clip(np.digitize(confidence, edges) - 1, 0, 19)
    np.testing.assert_array_equal(result.count, count)
    for k in range(20):
        expected = (confidence[index == k].mean(), correct[index == k].mean()) if count[k] else (np.nan, np.nan)
        np.testing.assert_allclose((result.confidence[k], result.accuracy[k]), expected, atol=1e-5)


def test_reliability_equals_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration")
    confidence, correct = predictions()
    accuracy, mean = calibration.calibration_curve(correct, confidence, n_bins=20)
    result = metrics.reliability(jnp.asarray(confidence), jnp.asarray(correct))
    filled = np.asarray(result.count) > 0
    np.testing.assert_allclose(result.accuracy[filled], accuracy, atol=1e-5)
    np.testing.assert_allclose(result.confidence[filled], mean, atol=1e-5)
    accuracy, mean = calibration.calibration_curve(correct, confidence, n_bins=20, strategy="quantile")
    result = metrics.adaptive_reliability(jnp.asarray(confidence), jnp.asarray(correct))
    np.testing.assert_allclose(result.confidence, mean, atol=2e-3)  # its quantiles lie between two values
    np.testing.assert_allclose(result.accuracy, accuracy, atol=2e-2)


def ece_of_the_authors(confidence, correct, bins=20):
    edges = np.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence < high)
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    return total


def test_calibration_error_with_open_edges_is_that_of_the_paper():
    confidence, correct = predictions()
    confidence[:500], correct[:500] = 1.0, False  # in no bin
    confidence[500:600] = 1.1
    diagram = metrics.reliability(jnp.asarray(confidence), jnp.asarray(correct), open_edges=True)
    expected = ece_of_the_authors(confidence, correct)
    np.testing.assert_allclose(metrics.calibration_error(diagram), expected, atol=1e-5)
    closed = metrics.reliability(jnp.asarray(confidence), jnp.asarray(correct))
    assert float(metrics.calibration_error(closed)) > expected + 0.1


def test_adaptive_bins_hold_equally_many_of_those_that_count():
    confidence, correct = predictions(n=997)
    where = np.random.default_rng(1).random(997) < 0.7
    confidence[5] = np.nan
    result = metrics.adaptive_reliability(*map(jnp.asarray, (confidence, correct)), where=jnp.asarray(where))
    assert int(result.count.sum()) == int(result.total) == (where & ~np.isnan(confidence)).sum()
    assert int(result.count.max()) - int(result.count.min()) <= 1
    known = np.sort(confidence[where & ~np.isnan(confidence)])
    parts = np.array_split(known, 20)
    np.testing.assert_allclose(result.confidence, [p.mean() for p in parts], atol=1e-5)


def test_sums_stay_exact_over_millions_of_pixels():
    confidence = jnp.full(3_000_000, 0.9731)
    diagram = metrics.reliability(confidence, jnp.ones(3_000_000, bool))
    np.testing.assert_allclose(metrics.calibration_error(diagram), 1 - 0.9731, rtol=1e-5)


def test_perfect_promises_have_no_error():
    rng = np.random.default_rng(0)
    confidence = rng.random(200_000).astype(np.float32)
    correct = rng.random(200_000) < confidence
    for make in (metrics.reliability, metrics.adaptive_reliability):
        assert float(metrics.calibration_error(make(jnp.asarray(confidence), jnp.asarray(correct)))) < 0.005


def test_correlation_equals_scipy_and_drops_what_is_not_finite():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50).astype(np.float32) + 100
    y = (x + rng.normal(size=50)).astype(np.float32)
    expected = scipy.stats.pearsonr(x, y).statistic
    np.testing.assert_allclose(metrics.correlation(jnp.asarray(x), jnp.asarray(y)), expected, atol=1e-5)
    x, y = np.append(x, [np.inf, 1]), np.append(y, [1, np.nan])
    np.testing.assert_allclose(metrics.correlation(jnp.asarray(x), jnp.asarray(y)), expected, atol=1e-5)
    assert jnp.isnan(metrics.correlation(jnp.ones(4), jnp.arange(4.0)))


def information_of_the_authors(values, wrong):
    joint = np.histogram2d(wrong.ravel().astype(float), values.ravel())[0] / values.size
    product = joint.sum(1, keepdims=True) * joint.sum(0)
    return np.sum(joint[joint > 0] * np.log(joint[joint > 0] / product[joint > 0]))


def test_mutual_information_is_that_of_the_papers_histogram():
    rng = np.random.default_rng(0)
    maps = rng.random((2, 3, 20, 30)).astype(np.float32) ** 2
    errors = rng.random(maps.shape) < 0.5 * maps
    result = metrics.mutual_information(jnp.asarray(maps), jnp.asarray(errors))
    expected = [[information_of_the_authors(maps[i, j], errors[i, j]) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_mutual_information_of_a_perfect_and_of_a_constant_map():
    errors = jnp.arange(16).reshape(4, 4) % 4 == 0
    perfect = metrics.mutual_information(errors.astype(jnp.float32), errors)
    np.testing.assert_allclose(perfect, scipy.stats.entropy([0.25, 0.75]), atol=1e-6)
    assert float(metrics.mutual_information(jnp.full((4, 4), 0.3), errors)) == 0
    assert float(metrics.mutual_information(errors.astype(jnp.float32), jnp.zeros((4, 4), bool))) == 0
