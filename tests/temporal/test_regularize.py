"""Weights found as the original finds them, and as few as are needed; sequences with gaps, glitches and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import temporal
from tests.temporal.original import bisection, gradient_descent

BOUNDS = jnp.array([[0.0, 1.0]] * 3)
LIMITS = temporal.Limits(BOUNDS, jnp.array([0.016, 0.03, 0.01]))
_compiled = jax.jit(temporal.regularize, static_argnames=("rule",))


def regularize(series, *, rule="minimal", periodic=False, valid=None):
    """One shape for all tests, so that each rule is compiled once."""
    batch, size = series.reshape(-1, *series.shape[-2:]), series.shape[-2]
    shape = (24, 40, 5)
    padding = [(0, n - m) for n, m in zip(shape, batch.shape, strict=True)]
    valid = jnp.ones((len(batch), size), bool) if valid is None else valid
    smoothed = _compiled(
        jnp.pad(batch, padding), *LIMITS, rule=rule, periodic=jnp.array(periodic), valid=jnp.pad(valid, padding[:2])
    )
    smoothed = jax.tree.map(lambda x: x[: len(batch)].reshape(*series.shape[:-2], *x.shape[1:]), smoothed)
    return smoothed._replace(series=smoothed.series[..., :size, :])


def beats(num_frames=40, seed=0, noise=0.015, num_dims=5, glitches=()):
    """A cycle from end-diastole over end-systole back, in every dimension, with noise."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, num_frames, endpoint=False)[:, None]
    curve = 0.6 + 0.12 * np.cos(2 * np.pi * time) * np.linspace(0.6, 1.2, num_dims)
    series = curve + noise * rng.normal(size=curve.shape)
    for t in glitches:
        series[t] += 0.2
    return jnp.asarray(series, jnp.float32), curve


def test_original_rule_has_the_original_weights_and_result():
    series, _ = beats()
    smoothed = regularize(series, rule="original")
    for k in range(3):
        value, weight = bisection(np.asarray(series[:, k], float), (0, 1), float(LIMITS.thresholds[k]))
        assert float(smoothed.weight[k]) == weight
        np.testing.assert_allclose(smoothed.series[:, k], value, atol=1e-5)
    np.testing.assert_allclose(
        smoothed.series[:, 4], gradient_descent(np.asarray(series[:, 4], float), 50.0), atol=1e-5
    )
    assert smoothed.weight[3:].tolist() == [50.0, 50.0]


def test_original_rule_smooths_what_is_fine_and_the_minimal_one_does_not():
    series, _ = beats(noise=0.0)
    original = regularize(series, rule="original")
    assert original.weight[:3].tolist() == [4.0, 4.0, 4.0]
    ours = regularize(series)
    assert ours.weight.tolist() == [0.0] * 5
    np.testing.assert_allclose(ours.series, series, atol=1e-6)


def test_the_minimal_weight_is_enough_and_no_smaller_one_is():
    series, _ = beats(seed=1)
    smoothed = regularize(series, periodic=True)
    assert bool(smoothed.is_satisfied.all())
    smooth = jax.jit(temporal.smooth)
    assert bool(temporal.consistency(smoothed.series[:, :3], *LIMITS).is_sequence_consistent)
    for k in range(3):
        first = smooth(series[:, k], 0.98 * smoothed.weight[k], periodic=jnp.array(True))
        less = first + smooth(series[:, k] - first, 0.98 * smoothed.weight[k], periodic=jnp.array(True))
        one = temporal.Limits(BOUNDS[k : k + 1], LIMITS.thresholds[k : k + 1])
        assert not bool(temporal.consistency(less[:, None], *one).is_sequence_consistent)
    assert float(smoothed.weight[3]) == pytest.approx(min(50.0, float(smoothed.weight[:3].max())))


@pytest.mark.parametrize("glitches", [(), (7,), (7, 23)])
def test_the_minimal_rule_keeps_the_extremes_and_survives_glitches(glitches):
    """Against noise alone the original's heavier hand comes nearer to this smooth truth; ours comes nearer than raw."""
    batch, curves = zip(*(beats(seed=seed, glitches=glitches, noise=0.01) for seed in range(24)), strict=True)
    truth = curves[0][:, 0]
    shrink, error = {}, {}
    for rule in ("original", "minimal"):
        smoothed = regularize(jnp.stack(batch), rule=rule, periodic=rule == "minimal")
        assert bool(smoothed.is_satisfied.all())
        value = np.asarray(smoothed.series[..., 0])
        shrink[rule] = abs((value[:, 0] - value[:, 20]).mean() / (truth[0] - truth[20]) - 1)
        error[rule] = np.sqrt(np.mean((value - truth) ** 2))
    assert shrink["minimal"] < 0.04
    raw = np.sqrt(np.mean((np.stack(batch)[..., 0] - truth) ** 2))
    assert error["minimal"] < (error["original"] if glitches else 0.8 * raw)
    assert shrink["minimal"] < shrink["original"]


def test_gaps_and_padding_share_a_batch():
    series, _ = beats(seed=3)
    alone = regularize(series)
    short = series[:25].at[0].set(jnp.nan).at[11:13].set(jnp.nan)
    batch = jnp.stack([series, jnp.pad(short, [(0, 15), (0, 0)], constant_values=7.0), jnp.full_like(series, jnp.nan)])
    valid = jnp.arange(40) < jnp.array([40, 25, 40])[:, None]
    for rule in ("original", "minimal"):
        smoothed = regularize(batch, rule=rule, valid=valid)
        assert bool(jnp.isfinite(smoothed.series[:2]).all())
        assert bool(jnp.isnan(smoothed.series[2]).all())
        checked = temporal.consistency(smoothed.series[:2, :, :3], *LIMITS, valid=valid[:2])
        assert checked.is_sequence_consistent.tolist() == [True, True]
    np.testing.assert_allclose(smoothed.series[0], alone.series, atol=1e-5)
    separate = regularize(short)
    np.testing.assert_allclose(smoothed.series[1, :25], separate.series, atol=1e-4)


def test_eager_and_vmap_are_the_same_and_a_short_sequence_is_no_error():
    batch = jnp.stack([beats(seed=s, num_frames=8)[0] for s in range(2)])
    together = regularize(batch)
    np.testing.assert_allclose(
        together.series[0], temporal.regularize(batch[0], *LIMITS, rule="minimal").series, atol=1e-5
    )
    mapped = jax.jit(jax.vmap(lambda x: temporal.regularize(x, *LIMITS, rule="minimal")))(batch)
    np.testing.assert_allclose(together.series, mapped.series, atol=1e-5)
    for size in (1, 2):
        assert bool(jnp.isfinite(regularize(batch[:, :size]).series).all())
    with pytest.raises(ValueError, match="3 thresholds for 2"):
        temporal.regularize(batch[..., :2], *LIMITS, rule="minimal")


def test_gradients_reach_the_trajectory():
    series, _ = beats(num_frames=12)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(temporal.regularize(x, *LIMITS, rule="minimal").series)))(series)
    assert bool(jnp.isfinite(slope).all())
    np.testing.assert_allclose(slope[:, 3], 1, atol=0.2)  # smoothing keeps the sum


def bars(heights, size=24):
    """Label maps whose code is the height of a bar of cavity."""
    rows = jnp.arange(size)[:, None] < jnp.asarray(heights)[..., None, None]
    return jnp.broadcast_to(rows, (*rows.shape[:-2], size, size)).astype(jnp.int32)


def test_a_sequence_of_outlines_is_smoothed_filled_and_guaranteed():
    heights = jnp.array([20.0, 18, 16, 14, 4, 10, 10, 12, 14, 16, 18])
    labels = jnp.stack([bars(heights).at[7].set(0), jnp.zeros((11, 24, 24), jnp.int32)])
    options = {
        "encode": lambda x: (x == 1).sum((-2, -1), dtype=jnp.float32)[..., None] / 24,
        "decode": lambda z: bars(jnp.round(z[..., 0])),
        "rule": "minimal",
    }
    limits = jnp.array([[0.0, 20.0]]), jnp.array([0.08])
    smoothed = jax.jit(lambda x: temporal.consistent_sequence(x, *limits, **options))(labels)
    assert not bool(smoothed.before.is_sequence_consistent[0])
    assert smoothed.after.is_sequence_consistent.tolist() == [True, True]
    assert smoothed.is_filled[0].tolist() == [t == 7 for t in range(11)]
    assert bool(smoothed.is_changed[0, 4])
    assert smoothed.labels[0, 7].any()
    assert not smoothed.labels[1].any()
    assert not smoothed.is_changed[1].any()
    valid = jnp.arange(11) < jnp.array([9, 11])[:, None]
    guaranteed = jax.jit(
        lambda x, v: temporal.consistent_sequence(x, *limits, guarantee=lambda m: 2 * m, valid=v, **options)
    )(labels, valid)
    assert set(np.unique(guaranteed.labels[0, :9])) == {0, 2}
    np.testing.assert_array_equal(guaranteed.labels[0, 9:], labels[0, 9:])
