"""Beats: SciPy's peak finder as oracle, cut loops, missing frames, other frame rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import signal

from cardiojax import clinical

SIZE = 60


def by_scipy(area, distance):
    """The published clipping, on our smoothed curve."""
    curve = np.asarray(clinical.smooth_curve(jnp.asarray(area, jnp.float32)), float)
    low, span = curve.min(), np.ptp(curve)
    padded = np.pad(curve, distance, mode="reflect")
    padded[:distance] -= 1e-3 * span
    padded[-distance:] -= 1e-3 * span
    summits = padded[signal.find_peaks(padded)[0]]
    peaks, _ = signal.find_peaks(padded, height=low + 0.5 * span, distance=distance, prominence=0.15 * span)
    peaks = peaks[(peaks >= distance) & (peaks < distance + len(curve))] - distance
    pair = np.argmin(np.abs(np.diff(curve[peaks]))) if len(peaks) > 1 else None
    return summits, peaks, None if pair is None else tuple(peaks[pair : pair + 2])


detect = jax.jit(clinical.detect_beats, static_argnames="min_distance")


@settings(max_examples=60)
@given(st.floats(12, 45), st.floats(0, 6.3), st.floats(0, 40), st.integers(0, 2**31))
def test_scipy_finds_the_same_peaks_and_cycle(period, phase, noise, seed):
    rng = np.random.default_rng(seed)
    area = 1000 + 200 * np.cos(2 * np.pi * np.arange(SIZE) / period + phase) + rng.normal(0, noise + 1, SIZE)
    area = 4 * np.rint(16 * area)  # so that smoothing is exact in both precisions
    summits, peaks, pair = by_scipy(area, 20)
    assume(len(np.unique(summits)) == len(summits))  # SciPy leaves open which of two equals goes first
    found = detect(jnp.asarray(area, jnp.float32))
    np.testing.assert_array_equal(np.flatnonzero(found.is_end_diastole), peaks)
    assert bool(found.valid) == (pair is not None)
    if pair is not None:
        assert (int(found.start), int(found.end)) == pair
        assert float(found.period) == pytest.approx((peaks[-1] - peaks[0]) / (len(peaks) - 1))


def test_plateaus_have_one_middle():
    area = np.array([5, 4, 3, 2, 3, 5, 5, 5, 5, 3, 2, 2, 3, 4, 5, 5, 4, 3], float)
    _, peaks, _ = by_scipy(area, 4)
    assert np.flatnonzero(detect(jnp.asarray(area, jnp.float32), min_distance=4).is_end_diastole).tolist() == [*peaks]


def test_a_half_cycle_has_no_beat_and_nothing_is_no_error():
    half = 100 + 20 * jnp.cos(jnp.pi * jnp.arange(SIZE) / (SIZE - 1))
    nothing = (jnp.zeros(SIZE), jnp.full(SIZE, jnp.nan), jnp.full(SIZE, 7.0))
    found = detect(jnp.stack([half, *nothing]))
    assert not found.valid.any()
    assert bool(jnp.isnan(clinical.heart_rate(found, 0.02)).all())
    assert not bool(detect(jnp.ones(1)).valid)


def test_missing_frames_do_not_make_beats():
    time = jnp.arange(SIZE)
    area = (100 + 20 * jnp.cos(2 * jnp.pi * time / 27)).at[jnp.array([10, 11, 40])].set(jnp.nan).at[30].set(0)
    found = detect(area)
    assert np.flatnonzero(found.is_end_diastole).tolist() == [0, 27, 54]
    assert int(found.end_systole - found.start) in (13, 14)


@pytest.mark.parametrize(("rate", "frame_time"), [(60, 0.02), (75, 1 / 30), (140, 1 / 80)])
def test_heart_rate(rate, frame_time):
    period = 60 / rate / frame_time
    area = 100 + 20 * jnp.cos(2 * jnp.pi * jnp.arange(round(4.2 * period)) / period)
    found = detect(area, min_distance=max(1, round(0.33 / frame_time)))
    assert int(found.num_beats) == 4
    assert float(clinical.heart_rate(found, frame_time)) == pytest.approx(rate, rel=0.02)


def test_jit_vmap_and_a_batch_are_the_same():
    rng = np.random.default_rng(0)
    phases = rng.uniform(0, 6, (2, 2, 1))
    area = jnp.asarray(100 + 20 * np.cos(2 * np.pi * np.arange(SIZE) / 24 + phases), jnp.float32)
    together = detect(area)
    for a, b in zip(together, jax.jit(jax.vmap(jax.vmap(clinical.detect_beats)))(area), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(together.is_end_diastole[1, 0], detect(area[1, 0]).is_end_diastole)


def test_distance_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        clinical.detect_beats(jnp.ones(5), min_distance=0)
