"""Ranking figures against scikit-learn and their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from cardiojax import metrics

#: `sklearn.metrics.roc_auc_score` on these.
SCORES = np.array([0.1, 0.8, 0.35, 0.35, 0.8, 0.35, 0.9, 0.05, 0.6, 0.6], np.float32)
FAILURES = np.array([0, 1, 0, 1, 0, 0, 1, 0, 1, 0], bool)
SKLEARN_AUROC = 0.7916666666666666


def test_auroc_equals_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    assert sklearn.roc_auc_score(FAILURES, SCORES) == SKLEARN_AUROC
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 30, 500).astype(np.float32)
    failures = rng.random(500) < scores / 40
    np.testing.assert_allclose(
        metrics.auroc(jnp.asarray(scores), jnp.asarray(failures)), sklearn.roc_auc_score(failures, scores), atol=1e-6
    )


def test_auroc_of_stored_values():
    np.testing.assert_allclose(metrics.auroc(jnp.asarray(SCORES), jnp.asarray(FAILURES)), SKLEARN_AUROC, atol=1e-6)


@given(seed=st.integers(0, 10_000), levels=st.integers(2, 30))
def test_auroc_equals_the_rank_sum_test(seed, levels):
    rng = np.random.default_rng(seed)
    scores, failures = rng.integers(0, levels, 40).astype(np.float32), rng.random(40) < 0.3
    failures[:2] = True, False
    scores[scores == levels - 1] = np.inf
    statistic = scipy.stats.mannwhitneyu(scores[failures], scores[~failures]).statistic
    expected = statistic / failures.sum() / (~failures).sum()
    np.testing.assert_allclose(jax.jit(metrics.auroc)(jnp.asarray(scores), jnp.asarray(failures)), expected, atol=1e-5)


def test_auroc_needs_both_and_counts_nan_as_the_highest():
    assert jnp.isnan(metrics.auroc(jnp.arange(3.0), jnp.zeros(3, bool)))
    assert jnp.isnan(metrics.auroc(jnp.arange(3.0), jnp.ones(3, bool)))
    assert float(metrics.auroc(jnp.array([jnp.nan, 0.5, 0.2]), jnp.array([True, False, False]))) == 1


def test_risk_coverage_by_hand_and_with_ties():
    rng = np.random.default_rng(0)
    scores, risks = rng.random(30).astype(np.float32), rng.random(30).astype(np.float32)
    curve = metrics.risk_coverage(jnp.asarray(scores), jnp.asarray(risks))
    order = np.argsort(scores)
    expected = [risks[order[:k]].mean() for k in range(1, 31)]
    np.testing.assert_allclose(curve.risk, expected, atol=1e-5)
    np.testing.assert_allclose(curve.area, np.mean(expected), atol=1e-5)
    tied = metrics.risk_coverage(jnp.zeros(30), jnp.asarray(risks))
    np.testing.assert_allclose(tied.risk, risks.mean(), atol=1e-5)


def test_sparsification_of_a_perfect_and_of_a_useless_order():
    rng = np.random.default_rng(0)
    errors = rng.random((8, 8, 8)) < 0.2
    perfect = metrics.sparsification(jnp.asarray(errors, jnp.float32), jnp.asarray(errors, jnp.float32))
    np.testing.assert_allclose(perfect.risk, 0, atol=1e-5)
    np.testing.assert_allclose(perfect.area, 0, atol=1e-5)
    useless = metrics.sparsification(jnp.zeros((8, 8, 8)), jnp.asarray(errors, jnp.float32))
    # what remains stays at 1, the best falls linearly to 0 at the share of the errors
    rate = errors.mean()
    share = np.arange(20) / 20
    np.testing.assert_allclose(useless.risk, 1 - np.maximum(rate - share, 0) / (1 - share) / rate, atol=0.01)
    assert float(metrics.sparsification(jnp.arange(9.0), jnp.zeros(9)).area) == 0
