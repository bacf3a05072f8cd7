"""Agreement: NumPy, a published table of ratings, and how often the intervals hold the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cardiojax import clinical


def pairs(n=40, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(55, 10, n)
    return truth + rng.normal(2, 4, n), truth


def test_numbers_are_numpys():
    x, y = pairs()
    agreement = clinical.agreement(jnp.asarray(x), jnp.asarray(y))
    assert float(agreement.correlation) == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-5)
    assert float(agreement.bias) == pytest.approx((x - y).mean(), abs=1e-4)
    assert float(agreement.mean_absolute_error) == pytest.approx(np.abs(x - y).mean(), abs=1e-4)
    spread = 1.96 * (x - y).std(ddof=1)
    assert float(agreement.lower_limit) == pytest.approx((x - y).mean() - spread, abs=1e-3)
    assert float(agreement.upper_limit) == pytest.approx((x - y).mean() + spread, abs=1e-3)


def test_icc_is_the_analysis_of_variance_and_shrout_and_fleiss():
    def icc(table):  # two-way mean squares, written out
        n, k = table.shape
        grand = table.mean()
        rows = k * ((table.mean(1) - grand) ** 2).sum() / (n - 1)
        columns = n * ((table.mean(0) - grand) ** 2).sum() / (k - 1)
        rest = ((table - table.mean(1, keepdims=True) - table.mean(0) + grand) ** 2).sum() / ((n - 1) * (k - 1))
        return (rows - rest) / (rows + (k - 1) * rest + k * (columns - rest) / n)

    ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
    assert icc(ratings) == pytest.approx(0.29, abs=0.005)  # their ICC(2,1), table 4
    for table in (ratings[:, :2], ratings[:, 1:3], np.stack(pairs(), 1)):
        agreement = clinical.agreement(*(jnp.asarray(column) for column in table.T))
        assert float(agreement.icc) == pytest.approx(icc(table), abs=1e-4)


def test_missing_pairs_are_left_out_and_too_few_are_nan():
    x, y = pairs(20)
    whole = clinical.agreement(jnp.asarray(x), jnp.asarray(y))
    gaps = clinical.agreement(jnp.asarray(np.r_[x, np.nan, 3]), jnp.asarray(np.r_[y, 4, np.nan]))
    np.testing.assert_allclose(jnp.stack(whole), jnp.stack(gaps), rtol=1e-5)
    assert bool(jnp.isnan(jnp.stack(clinical.agreement(jnp.ones(1), jnp.ones(1)))).all())
    assert bool(jnp.isnan(clinical.agreement(jnp.ones(5), jnp.arange(5.0)).correlation))


def test_batch_jit_and_vmap_are_the_same():
    x, y = (jnp.asarray(np.stack(v)) for v in zip(*(pairs(12, s) for s in range(3)), strict=True))
    together = jax.jit(clinical.agreement)(x, y)
    for a, b in zip(together, jax.vmap(clinical.agreement)(x, y), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(together.icc[1], clinical.agreement(x[1], y[1]).icc, rtol=1e-5)


def test_intervals_are_scipys_and_ignore_missing_pairs():
    x, y = pairs(30)
    key = jax.random.key(0)
    intervals = jax.jit(clinical.agreement_intervals)
    agreement = intervals(key, jnp.asarray(np.r_[x, np.nan]), jnp.asarray(np.r_[y, 1.0]))
    expected = stats.bootstrap(
        (x, y),
        lambda a, b: np.abs(a - b).mean(),
        paired=True,
        vectorized=False,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert float(agreement.low.mean_absolute_error) == pytest.approx(expected.low, abs=0.08)
    assert float(agreement.high.mean_absolute_error) == pytest.approx(expected.high, abs=0.08)
    again = intervals(key, jnp.asarray(np.r_[x, np.nan]), jnp.asarray(np.r_[y, 1.0]))
    np.testing.assert_array_equal(jnp.stack(agreement.low), jnp.stack(again.low))


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    x, y = (jnp.asarray(np.stack(v)) for v in zip(*(pairs(40, s) for s in range(60)), strict=True))
    call = jax.vmap(lambda key, a, b: clinical.agreement_intervals(key, a, b, num_samples=300, level=0.9))
    agreement = jax.jit(call)(jax.random.split(jax.random.key(1), 60), x, y)
    held = ((agreement.low.bias < 2) & (agreement.high.bias > 2)).mean()
    assert 0.78 < float(held) <= 1


def test_level_must_be_a_share():
    with pytest.raises(ValueError, match="level"):
        clinical.agreement_intervals(jax.random.key(0), jnp.ones(3), jnp.ones(3), level=95)
