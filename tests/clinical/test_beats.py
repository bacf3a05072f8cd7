"""Beats: SciPy's peak finder as oracle, thousands of loops of known beats, cut loops, missing frames, frame rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import signal

from cardiojax import clinical

SIZE = 60


def by_scipy(curve, distance):
    """Maxima by the documented rules, on a smoothed curve: those kept, and those of them inside the loop."""
    low, span = curve.min(), np.ptp(curve)
    limits = {"height": low + 0.5 * span, "prominence": 0.25 * span}
    interior = signal.find_peaks(curve, **limits)[0]
    # beyond the ends lies the lowest ground, so that no rise is asked for towards them
    padded = np.pad(curve, 1, constant_values=low - span)
    outermost = signal.find_peaks(padded, **limits | {"height": low + 0.9 * span})[0] - 1
    left, kept = sorted({*interior, *outermost}, key=lambda i: (-curve[i], i)), []
    while left:
        kept.append(left.pop(0))
        left = [i for i in left if abs(i - kept[-1]) >= distance]
    return sorted(kept), sorted({*kept} & {*interior})


detect = jax.jit(clinical.detect_beats)


@settings(max_examples=80)
@given(st.floats(12, 90), st.floats(0, 6.3), st.floats(0, 40), st.integers(1, 25), st.integers(0, 2**31))
def test_scipy_finds_the_same_beats(period, phase, noise, distance, seed):
    rng = np.random.default_rng(seed)
    area = 1000 + 200 * np.cos(2 * np.pi * np.arange(SIZE) / period + phase) + rng.normal(0, noise + 1, SIZE)
    area = 4 * np.rint(16 * area)  # so that smoothing is exact in both precisions
    curve = np.asarray(clinical.smooth_curve(jnp.asarray(area, jnp.float32)), float)
    assume(len(np.unique(curve)) == SIZE)  # SciPy leaves open which of two equals goes first
    (maxima, _), (minima, _) = by_scipy(curve, distance), by_scipy(-curve, distance)
    expected = []
    for start, end in zip(maxima, [*maxima[1:], SIZE], strict=True):
        if end < SIZE or any(start <= i < end for i in minima):
            expected.append((start, start + np.argmin(curve[start:end]), end < SIZE))
    beats = detect(jnp.asarray(area, jnp.float32), min_distance=jnp.int32(distance))
    num = int(beats.num_beats)
    assert num == int(beats.valid.sum()) == int(beats.valid[:num].sum())
    assert [
        *zip(*(np.asarray(x)[:num] for x in (beats.end_diastole, beats.end_systole, beats.is_whole)), strict=True)
    ] == expected
    np.testing.assert_array_equal(beats.next_end_diastole[: max(num - 1, 0)], beats.end_diastole[1 : max(num, 1)])


def loops(rng, num, num_frames, frame_time, noise, num_beats):
    """Areas with noise and without, in mm^2, the true change in percent, and beats since the first end-diastole.

    Systole takes the time of Weissler's formula, the ventricle fills early, rests, and fills again with the atrium.
    Beats differ in length by 2 %.
    """

    def ease(x):
        x = np.clip(x, 0, 1)
        return x * x * (3 - 2 * x)

    lowest, highest = (60 * n / (num_frames * frame_time) for n in num_beats)
    rate = rng.uniform(max(40, lowest), min(180, highest), (num, 1))
    systole = np.clip((0.546 - 0.0021 * rate) * rate / 60 * rng.uniform(0.85, 1.05, (num, 1)), 0.25, 0.62)
    early, kick, change = (rng.uniform(*ends, (num, 1)) for ends in ((0.5, 0.9), (0.25, 0.45), (0.15, 0.6)))
    lengths = 60 / rate * (1 + 0.02 * rng.normal(size=(num, 8)))
    starts = np.concatenate([np.zeros((num, 1)), np.cumsum(lengths, 1)], 1)
    time = rng.uniform(0, 1, (num, 1)) * lengths[:, :1] + np.arange(num_frames) * frame_time
    beat = (time[..., None] >= starts[:, None, 1:]).sum(-1)
    phase = (time - np.take_along_axis(starts, beat, 1)) / np.take_along_axis(lengths, beat, 1)
    diastole = (phase - systole) / (1 - systole)
    filled = early * ease(diastole / 0.4) + (1 - early) * ease(1 - (1 - diastole) / kick)
    size = np.where(phase < systole, 1 - ease((phase / systole - 0.08) / 0.92), filled)
    clean = 3000 * (1 - change * (1 - size))
    noisy = clean + 3000 * change * noise * rng.normal(size=clean.shape)
    return noisy.astype(np.float32), clean, 100 * change[:, 0], beat + phase


@jax.jit
def measure_loops(area, min_distance):
    beats = clinical.detect_beats(area, min_distance=min_distance)
    return beats, clinical.detect_phases(area), clinical.heart_rate(beats, 1.0)


@pytest.mark.parametrize(
    ("noise", "max_wrong_change", "max_wrong_rate"), [(0.0, 0.004, 0.0), (0.02, 0.006, 0.01), (0.05, 0.01, 0.06)]
)
@pytest.mark.parametrize(
    ("num_frames", "frame_time", "num_beats"), [(48, 0.02, (1, 1.2)), (48, 0.02, (1, 4)), (48, 0.06, (1, 4))]
)
def test_loops_of_known_beats(num_frames, frame_time, num_beats, noise, max_wrong_change, max_wrong_rate):
    """2,000 loops a case. An error of the area change over 5 points, or of the rate over 5/min, is a wrong one."""
    rng = np.random.default_rng(num_frames)
    area, clean, change, place = loops(rng, 2000, num_frames, frame_time, noise, num_beats)
    distance = jnp.int32(clinical.min_beat_distance(num_frames, frame_time=frame_time))
    beats, phases, rate = jax.tree.map(np.asarray, measure_loops(jnp.asarray(area), distance))

    def change_between(end_diastole, end_systole):
        first, last = (np.take_along_axis(clean, frames, 1) for frames in (end_diastole, end_systole))
        return 100 * (1 - last / first)

    has_beat = beats.num_beats > 0
    assert has_beat.mean() > (0.75 if num_beats[1] < 2 else 0.95)
    of_beats = np.where(beats.valid, change_between(beats.end_diastole, beats.end_systole), np.nan)
    of_beats[~has_beat, 0] = change_between(phases.end_diastole[:, None], phases.end_systole[:, None])[~has_beat, 0]
    assert (np.abs(np.nanmedian(of_beats, 1) - change) > 5).mean() <= max_wrong_change

    # end-systole follows its end-diastole and belongs to the same beat, which is named by its end-diastole
    starts, ends = (
        np.take_along_axis(place, frames, 1)[beats.valid] for frames in (beats.end_diastole, beats.end_systole)
    )
    assert (beats.end_diastole < beats.end_systole)[beats.valid].all()
    assert ((ends - np.rint(starts) > 0) & (ends - np.rint(starts) < 1)).mean() > 0.995
    assert np.abs(starts - np.rint(starts)).max() < 0.5

    seconds = (num_frames - 1) * frame_time
    true_rate = 60 * (place[:, -1] - place[:, 0]) / seconds
    difference = rate / frame_time - true_rate
    if num_beats[1] < 2:
        assert np.isfinite(difference).mean() < 0.01
    else:
        assert abs(np.nanmean(difference)) < 0.3
        is_long = place[:, -1] - place[:, 0] >= 2
        assert (~(np.abs(difference[is_long]) <= 5)).mean() <= max_wrong_rate


def test_a_loop_that_begins_in_systole_does_not_begin_with_end_diastole():
    """1.2 beats from 15 % of a cycle on: the area falls from the first frame."""
    time = (0.15 + 1.2 * np.arange(60) / 59) % 1
    area = 1000 - 400 * np.where(
        time < 0.35, np.sin(np.pi / 2 * time / 0.35) ** 2, np.cos(np.pi / 2 * (time - 0.35) / 0.65) ** 2
    )
    beats = detect(jnp.asarray(area, jnp.float32))
    assert int(beats.num_beats) == 1
    assert int(beats.end_diastole[0]) in (41, 42, 43)
    assert int(beats.end_systole[0]) >= 57
    assert not bool(beats.is_whole.any())
    assert bool(jnp.isnan(beats.period))


def test_plateaus_have_one_middle():
    area = jnp.array([5, 4, 3, 2, 3, 5, 5, 5, 5, 3, 2, 2, 3, 4, 5, 5, 4, 3], jnp.float32)
    beats = detect(area, min_distance=4)
    assert beats.valid[:3].tolist() == beats.is_whole[:3].tolist() == [True, True, False]
    assert beats.end_diastole[:2].tolist() == [0, 6]
    assert beats.next_end_diastole[:2].tolist() == [6, 14]


def test_a_half_cycle_is_no_whole_beat_and_nothing_is_no_error():
    half = 100 + 20 * jnp.cos(jnp.pi * jnp.arange(SIZE) / (SIZE - 1))
    nothing = (jnp.zeros(SIZE), jnp.full(SIZE, jnp.nan), jnp.full(SIZE, 7.0))
    beats = detect(jnp.stack([half, half[::-1], *nothing]))
    assert beats.num_beats.tolist() == [1, 0, 0, 0, 0]
    assert (int(beats.end_diastole[0, 0]), int(beats.end_systole[0, 0])) == (0, SIZE - 1)
    assert not bool(beats.is_whole.any())
    assert bool(jnp.isnan(clinical.heart_rate(beats, 0.02)).all())
    assert not bool(detect(jnp.ones(1)).valid.any())


def test_missing_frames_are_no_phases():
    time = jnp.arange(SIZE)
    area = (100 + 20 * jnp.cos(2 * jnp.pi * time / 27)).at[jnp.array([0, 10, 11, 40])].set(jnp.nan).at[27].set(0)
    beats = detect(area)
    assert beats.end_diastole[0] == 1
    assert beats.end_diastole[1] in (26, 28)
    assert beats.end_systole[:2].tolist() in ([13, 41], [14, 41])


@pytest.mark.parametrize(("rate", "frame_time"), [(60, 0.02), (75, 1 / 30), (140, 1 / 80)])
def test_heart_rate(rate, frame_time):
    period = 60 / rate / frame_time
    num_frames = round(4.2 * period)
    area = 100 + 20 * jnp.cos(2 * jnp.pi * jnp.arange(num_frames) / period)
    beats = detect(area, min_distance=clinical.min_beat_distance(num_frames, frame_time=frame_time))
    assert int(beats.is_whole.sum()) == 4
    assert float(clinical.heart_rate(beats, frame_time)) == pytest.approx(rate, rel=0.005)


def test_summary_of_beats_leaves_out_what_was_not_measured():
    beats = detect(100 + 20 * jnp.cos(2 * jnp.pi * jnp.arange(SIZE) / 14), min_distance=7)
    assert int(beats.num_beats) == 4
    values = jnp.full(30, 99.0).at[:4].set(jnp.array([50.0, jnp.nan, 70.0, 58.0]))
    summary = clinical.summarize_beats(values, beats)
    assert [float(x) for x in summary] == [58, 50, 70, 3, 3]
    two = clinical.summarize_beats(values.at[2].set(jnp.nan), beats)
    assert (float(two.median), int(two.nearest)) == (54, 0)
    none = clinical.summarize_beats(values * jnp.nan, beats)
    assert np.isnan([none.median, none.low, none.high]).all()
    assert int(none.nearest) == 0
    with pytest.raises((ValueError, TypeError)):
        clinical.summarize_beats(values[:4], beats)


def test_jit_vmap_and_a_batch_are_the_same():
    rng = np.random.default_rng(0)
    phases = rng.uniform(0, 6, (2, 2, 1))
    area = jnp.asarray(100 + 20 * np.cos(2 * np.pi * np.arange(SIZE) / 24 + phases), jnp.float32)
    together = detect(area)
    for a, b in zip(together, jax.jit(jax.vmap(jax.vmap(clinical.detect_beats)))(area), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(together.end_diastole[1, 0], detect(area[1, 0]).end_diastole)


def test_distance_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        clinical.detect_beats(jnp.ones(5), min_distance=0)
