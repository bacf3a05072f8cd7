"""Temporal correction: which frames change and how, which stay bit-identical, and what the report says of it."""

import json

import numpy as np
import pytest

from cardiojax import analysis, data, labels, report
from cardiojax.analysis.warnings import correction_findings
from cardiojax.correction import anatomical, temporal
from cardiojax.measurement import motion

SIZE, NUM_FRAMES, SPACING, FRAME_TIME = 96, 17, (1.2, 1.2), 0.03


def heart(scale=1.0, shift=0.0):
    """A cavity in its wall over an atrium."""
    rows, cols = np.mgrid[:SIZE, :SIZE] - np.array([46.0, 48 + shift])[:, None, None]
    mask = np.zeros((SIZE, SIZE), np.int32)
    mask[(rows > 14) & (np.hypot((rows - 16) / 18, cols / (10.5 * scale)) < 1)] = labels.LEFT_ATRIUM
    for label, wall in ((labels.MYOCARDIUM, 8), (labels.LV, 0)):
        inside = np.hypot(rows / (30 * scale**0.3 + wall), cols / (13 * scale + 0.8 * wall)) < 1
        mask[inside & (rows <= 16)] = label
    return mask


BEAT = 1 - 0.15 * (1 - np.cos(2 * np.pi * np.arange(NUM_FRAMES) / (NUM_FRAMES - 1)))


@pytest.fixture(scope="module")
def loop():
    return np.stack([heart(scale) for scale in BEAT])


@pytest.fixture(scope="module")
def corrector():
    return anatomical.make_anatomical_corrector(num_neighbours=1, num_bisections=4)


@pytest.fixture(scope="module")
def temporal_corrector(corrector):
    made = temporal.make_temporal_corrector(size=SIZE, anatomical_corrector=corrector)
    return lambda masks: made(masks, spacing=SPACING, frame_time=FRAME_TIME)


def wrong_frames(masks):
    corrected = motion.measure_motion(masks, None, spacing=SPACING, frame_time=FRAME_TIME)
    return np.flatnonzero(~corrected.is_consistent)


def test_a_consistent_loop_is_unchanged(temporal_corrector, loop):
    corrected = temporal_corrector(loop)
    assert corrected.num_inconsistent == (0,)
    np.testing.assert_array_equal(corrected.labels, loop)
    assert not corrected.moved.any()


def test_a_flicker_is_corrected_and_the_other_frames_are_bit_identical(temporal_corrector, loop):
    flickering = loop.copy()
    flickering[8] = heart(0.82)
    assert len(wrong_frames(flickering))
    corrected = temporal_corrector(flickering)
    assert corrected.num_inconsistent[0] > 0
    assert corrected.num_inconsistent[-1] == 0
    assert not len(wrong_frames(corrected.labels))
    assert corrected.moved[8]
    assert not corrected.replaced.any()
    assert 0 < corrected.changed[8] < 0.25
    np.testing.assert_array_equal(corrected.labels[~corrected.moved], flickering[~corrected.moved])
    assert (~corrected.moved).sum() >= 6
    error, raw = ((masks[8] != loop[8]).sum() for masks in (corrected.labels, flickering))
    assert error < raw


@pytest.mark.parametrize("seed", range(4))
def test_noisy_outlines_become_consistent_and_valid_and_no_less_accurate(temporal_corrector, corrector, loop, seed):
    """Properties of every corrected loop, which a smoothing that flattens the beat would not have."""
    noise = np.random.default_rng(seed).normal(0, 0.1, NUM_FRAMES)
    noisy = np.stack([heart(scale) for scale in BEAT * (1 + noise)])
    assert len(wrong_frames(noisy)) >= 2
    corrected = temporal_corrector(noisy)
    assert not len(wrong_frames(corrected.labels))
    assert corrector(corrected.labels).was_valid.all()
    before, after, true = ((masks == labels.LV).sum((1, 2)) for masks in (noisy, corrected.labels, loop))
    assert abs(after - true).mean() < abs(before - true).mean()
    wrong, right = (abs(area[8] / area[0] - true[8] / true[0]) for area in (before, after))
    assert right <= wrong + 0.005
    assert (corrected.labels != loop).mean() < (noisy != loop).mean()


def test_outliers_are_interpolated_and_gaps_stay_gaps(temporal_corrector, loop):
    broken = loop.copy()
    broken[5] = heart(1.0, shift=-30.0)
    broken[12] = 0
    corrected = temporal_corrector(broken)
    assert np.flatnonzero(corrected.replaced).tolist() == [5]
    assert not corrected.labels[12].any()
    overlap = ((corrected.labels[5] > 0) & (loop[5] > 0)).sum() / ((corrected.labels[5] > 0) | (loop[5] > 0)).sum()
    assert overlap > 0.85
    before, after = (
        motion.measure_motion(m, None, spacing=SPACING, frame_time=FRAME_TIME) for m in (broken, corrected.labels)
    )
    said = [finding.reason for finding in correction_findings(None, corrected, before, after)]
    assert any("frame 5 were outliers" in sentence for sentence in said)
    assert correction_findings(None, None, None, after) == []


def test_loops_with_little_in_them_are_unchanged(temporal_corrector, loop):
    """No frame, one, two, none drawn, all but one or two drawn not, every second one missing."""
    for few in (loop[:0], loop[:1], loop[:2], np.zeros_like(loop)):
        corrected = temporal_corrector(few)
        np.testing.assert_array_equal(corrected.labels, few)
        assert corrected.changed.shape == (len(few),)
    for kept in ([8], [3, 9], range(0, NUM_FRAMES, 2)):
        gaps = np.zeros_like(loop)
        gaps[kept] = loop[kept]
        np.testing.assert_array_equal(temporal_corrector(gaps).labels, gaps)
        assert not len(wrong_frames(gaps))


def test_where_most_frames_are_outliers_none_is_replaced(temporal_corrector):
    """No loop is made of the few frames that happen to agree."""
    shifts = np.random.default_rng(0).uniform(-25, 25, NUM_FRAMES)
    wild = np.stack([heart(scale, shift) for scale, shift in zip(BEAT, shifts, strict=True)])
    corrected = temporal_corrector(wild)
    np.testing.assert_array_equal(corrected.labels, wild)
    motions = (motion.measure_motion(m, None, spacing=SPACING, frame_time=FRAME_TIME) for m in (wild, corrected.labels))
    assert correction_findings(None, corrected, *motions)[0].reason.endswith(
        "not corrected: too few other frames agree with each other."
    )


def test_where_no_frame_is_corrected_the_reason_is_that_of_the_iteration(loop):
    flickering = loop.copy()
    flickering[8] = heart(0.82)
    inconsistent = motion.measure_motion(flickering, None, spacing=SPACING, frame_time=FRAME_TIME)
    nothing = np.zeros(NUM_FRAMES, bool)
    for num_inconsistent, reason in (
        ((), "too few other frames agree with each other."),
        ((0,), "on the grid of the correction they are consistent."),
        ((2, 2), "no small change of the outlines makes them consistent."),
    ):
        unchanged = temporal.TemporalCorrection(loop, loop, nothing, nothing, np.zeros(NUM_FRAMES), num_inconsistent)
        (found,) = correction_findings(None, unchanged, inconsistent, inconsistent)
        assert found.reason.endswith(f"were temporally inconsistent and were not corrected: {reason}")


def test_the_report_shows_it_before_and_after(loop, tmp_path):
    drawn = loop.copy()
    drawn[8] = heart(0.82)
    clock = iter(drawn)

    def temporal_correction(masks, *, spacing, frame_time, box):
        assert (spacing, frame_time, box) == (SPACING, FRAME_TIME, (0, SIZE, 0, SIZE))
        moved = np.arange(NUM_FRAMES) == 8
        return temporal.TemporalCorrection(masks, loop, moved, moved & False, 0.1 * moved, (1, 0))

    frames = np.zeros(loop.shape, np.float32)
    frames[:, 48, 48] = 1.0  # too small for a sector, enough for a frame that is not lost
    recording = data.Recording(frames, SPACING, FRAME_TIME, "drawn")
    corrected = analysis.analyze(
        recording,
        lambda images: np.eye(4, dtype=np.float32)[[next(clock) for _ in images]],
        config=analysis.AnalyzeConfig(size=SIZE),
        temporal_corrector=temporal_correction,
    )
    np.testing.assert_array_equal(corrected.labels, loop)
    assert corrected.motion_before is not None
    assert not corrected.motion_before.is_consistent.all()
    assert corrected.motion.is_consistent.all()
    assert any("none remains inconsistent" in sentence for sentence in corrected.warnings)
    page = report.write_report(corrected, tmp_path / "r", config=analysis.AnalyzeConfig(), name="x")
    assert "before the temporal correction: " in page.read_text()
    assert f"as measured: 0 of {NUM_FRAMES} frames are inconsistent" in page.read_text()
    values = json.loads((page.parent / "measurements.json").read_text())
    assert values["temporal_correction"]["moved"] == [8]
    assert values["temporal_correction"]["inconsistent_before"] >= 1
    assert values["inconsistent_frames"] == 0


def test_an_unknown_spacing_is_that_of_a_heart_of_usual_size(loop):
    spacing = temporal.assumed_spacing(loop)
    height = np.ptp(np.flatnonzero((loop[0] == labels.LV).any(1))) + 1
    assert spacing[0] * height == pytest.approx(80.0, rel=0.02)
    assert temporal.assumed_spacing(loop * 0) == (80.0, 80.0)
