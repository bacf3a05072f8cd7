"""Smoothing: dense systems of NumPy, the published gradient descent, SciPy's filter, gaps and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cardiojax import ops, temporal
from tests.temporal.original import gradient_descent


def dense(series, weight, confidence, periodic):
    size = len(series)
    matrix = np.diag(confidence.astype(float))
    for t in range(size if periodic else size - 1):
        step = np.zeros(size)
        step[t] -= 1
        step[(t + 1) % size] += 1
        matrix += weight / 2 * np.outer(step, step)
    return np.linalg.solve(matrix, confidence * series)


@pytest.mark.parametrize("weight", [0.5, 4.0, 50.0, 128.0])
def test_the_published_gradient_descent_ends_here(weight):
    series = np.random.default_rng(0).normal(size=46)
    expected = gradient_descent(series, weight)
    smoothed = temporal.smooth(jnp.asarray(series, jnp.float32), jnp.array(weight))
    np.testing.assert_allclose(smoothed, expected, atol=1e-5)


@settings(max_examples=40)
@given(st.integers(1, 40), st.floats(0, 200), st.booleans(), st.integers(0, 2**31))
def test_the_dense_system_has_the_same_solution(size, weight, periodic, seed):
    rng = np.random.default_rng(seed)
    series, confidence = rng.normal(size=size), rng.uniform(0.05, 1, size)
    pad = np.full(40 - size, np.nan)  # one shape, one compilation
    smoothed = jax.jit(temporal.smooth)(
        jnp.asarray(np.r_[series, pad], jnp.float32),
        jnp.array(weight, jnp.float32),
        confidence=jnp.asarray(np.r_[confidence, 0 * np.arange(40 - size)], jnp.float32),
        periodic=jnp.array(periodic),
    )
    np.testing.assert_allclose(smoothed[:size], dense(series, weight, confidence, periodic), atol=2e-4)
    np.testing.assert_array_equal(smoothed[size:], smoothed[size - 1])


def test_missing_frames_lie_on_the_way_of_their_neighbours():
    series = jnp.array([0.0, 1.0, jnp.nan, jnp.nan, 4.0, 5.0, jnp.nan])
    known = jnp.isfinite(series)
    assert ops.fill_missing(series, known).tolist() == [0, 1, 2, 3, 4, 5, 5]
    confidence = known.astype(jnp.float32)
    np.testing.assert_allclose(
        temporal.smooth(series, jnp.array(0.0), confidence=confidence), [0, 1, 2, 3, 4, 5, 5], atol=1e-6
    )
    smoothed = temporal.smooth(series, jnp.array(10.0), confidence=confidence)
    expected = dense(np.nan_to_num(np.asarray(series[:6])), 10.0, np.asarray(confidence[:6]), False)
    np.testing.assert_allclose(smoothed[:6], expected, atol=1e-4)
    assert bool(jnp.isnan(temporal.smooth(jnp.ones(4), jnp.array(1.0), confidence=jnp.zeros(4))).all())


def test_a_cycle_may_start_anywhere():
    series = jnp.asarray(np.random.default_rng(1).normal(size=(3, 24)), jnp.float32)
    weight = jnp.array([1.0, 20.0, 100.0])
    rolled = temporal.smooth(jnp.roll(series, 7, -1), weight, periodic=True)
    np.testing.assert_allclose(jnp.roll(rolled, -7, -1), temporal.smooth(series, weight, periodic=True), atol=1e-5)
    np.testing.assert_allclose(rolled.mean(-1), series.mean(-1), atol=1e-5)


def test_gradients_are_those_of_the_dense_system():
    rng = np.random.default_rng(2)
    series, target = (jnp.asarray(rng.normal(size=12), jnp.float32) for _ in range(2))

    def loss(series, weight):
        return jnp.sum((temporal.smooth(series, weight, periodic=True) - target) ** 2)

    by_series, by_weight = jax.grad(loss, argnums=(0, 1))(series, jnp.array(3.0))
    step = 1e-4
    s, t = np.asarray(series, float), np.asarray(target, float)
    numeric = [((dense(s, w, np.ones(12), True) - t) ** 2).sum() for w in (3 - step, 3 + step)]
    assert float(by_weight) == pytest.approx((numeric[1] - numeric[0]) / (2 * step), rel=1e-3)
    inverse = np.stack([dense(e, 3.0, np.ones(12), True) for e in np.eye(12)])
    np.testing.assert_allclose(by_series, 2 * inverse @ (inverse @ s - t), atol=1e-4)
    gap = jax.grad(lambda x: temporal.smooth(x, jnp.array(1.0), confidence=jnp.isfinite(x) * 1.0).sum())(
        series.at[3].set(jnp.nan)
    )
    assert bool(jnp.isfinite(gap).all())


def test_jit_vmap_and_a_batch_are_the_same():
    series = jnp.asarray(np.random.default_rng(3).normal(size=(2, 3, 15)), jnp.float32)
    weight = jnp.arange(6.0).reshape(2, 3)
    together = temporal.smooth(series, weight)
    np.testing.assert_allclose(jax.jit(temporal.smooth)(series, weight), together, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(temporal.smooth)(series, weight), together, atol=1e-6)
    np.testing.assert_allclose(temporal.smooth(series[1, 2], weight[1, 2]), together[1, 2], atol=1e-6)


def test_gaussian_filter_is_scipys():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 4, (2, 24, 6, 5))
    lengths = [24, 17]
    smoothed = temporal.gaussian_filter(jnp.asarray(labels), num_frames=jnp.array(lengths))
    for sequence, length, ours in zip(labels, lengths, smoothed, strict=True):
        one_hot = np.eye(4)[sequence[:length]]
        expected = ndimage.gaussian_filter1d(one_hot, 0.05 * length, axis=0, mode="reflect").argmax(-1)
        np.testing.assert_array_equal(ours[:length], expected)
        np.testing.assert_array_equal(ours[length:], sequence[length:])
