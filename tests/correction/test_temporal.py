"""Temporal correction: which frames change and how, which stay bit-identical, and what the report says of it."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import analysis, anatomy, data, labels, report
from cardiojax.analysis.warnings import correction_findings
from cardiojax.correction import anatomical, iteration, signed_distance, temporal
from cardiojax.measurement import motion
from cardiojax.study.analyzer import Analyzer
from cardiojax.temporal import consistency, nearest_consistent

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


def test_noisy_outlines_become_consistent_and_valid_and_more_accurate(temporal_corrector, corrector, loop):
    """A smoothing that flattens the beat would not have these properties; single loops may gain no accuracy."""
    errors = []
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(0, 0.1, NUM_FRAMES)
        noisy = np.stack([heart(scale) for scale in BEAT * (1 + noise)])
        assert len(wrong_frames(noisy)) >= 2
        corrected = temporal_corrector(noisy)
        assert not len(wrong_frames(corrected.labels))
        assert corrector(corrected.labels).was_valid.all()
        before, after, true = ((masks == labels.LV).sum((1, 2)) for masks in (noisy, corrected.labels, loop))
        wrong, right = (abs(area[8] / area[0] - true[8] / true[0]) for area in (before, after))
        assert right <= wrong + 0.005
        errors.append([abs(area - true).mean() for area in (before, after)])
        errors[-1] += [(masks != loop).mean() for masks in (noisy, corrected.labels)]
        assert errors[-1][1] < 1.02 * errors[-1][0]
    area_before, area_after, pixels_before, pixels_after = np.mean(errors, 0)
    assert area_after < 0.85 * area_before
    assert pixels_after < 0.95 * pixels_before


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


def linear_methods(num_attributes, bounds):
    """A network whose attributes are the first dimensions of the code; one more dimension hides the second of them."""

    def measure(masks):
        codes = masks[:, 0]
        attributes = codes[:, :num_attributes].copy()
        attributes[codes[:, -1] > 0, 1] = np.nan
        return attributes

    return iteration.Methods(
        encode=lambda masks: masks[:, 0],
        measure=measure,
        distances=lambda masks: np.zeros((len(masks), 1, 1, labels.NUM_CLASSES), np.float32),
        move=lambda distances, keeps_outline, start, end: (distances, end[:, None]),
        consistency=lambda series, limits: consistency(jnp.asarray(series), bounds, jnp.asarray(limits)),
        project=lambda series, limits: np.asarray(nearest_consistent(jnp.asarray(series), bounds, jnp.asarray(limits))),
    )


def test_an_attribute_that_the_first_frame_lacks_is_corrected_in_the_others():
    codes = np.zeros((9, 4), np.float32)
    codes[:, :3] = 5.0
    codes[0, 3] = 1.0  # hides its second attribute
    codes[4, 1] = 5.3
    thresholds, bounds = np.full(3, 0.01, np.float32), jnp.array([[0.0, 10.0]] * 3)
    methods = linear_methods(3, bounds)
    loop = iteration.Loop(
        codes[:, None], methods.measure(codes[:, None]), codes, np.ones(9, bool), thresholds, 10 * thresholds
    )
    config = iteration.TemporalConfig(outlier_median=99, outlier_change=99, outlier_pixels=99)
    state = iteration.iterate(loop, methods, config)
    assert state.num_inconsistent[0] > 0
    assert state.num_inconsistent[-1] == 0
    assert state.attributes[4, 1] < 5.2
    np.testing.assert_allclose(state.attributes[:, [0, 2]], 5.0)


@pytest.mark.parametrize(("columns", "is_separated"), [(slice(58, 62), True), (slice(30, 62), False)])
def test_myocardium_is_separated_from_the_atrium_unless_their_contact_is_long(columns, is_separated):
    touching = heart()
    touching[touching == labels.LEFT_ATRIUM] = labels.BACKGROUND
    touching[64:72, 30:62] = labels.MYOCARDIUM  # below the heart, away from its cavity
    touching[72:80, columns] = labels.LEFT_ATRIUM
    distances, box = jnp.eye(4)[touching][None], jnp.array([0, SIZE, 0, SIZE])
    drawn, separated = (
        np.asarray(signed_distance.to_labels(distances, box, SIZE, SIZE, separate_atrium=chosen))[0]
        for chosen in (False, True)
    )
    np.testing.assert_array_equal(drawn, touching)
    assert (separated != touching).any() == is_separated
    expected = anatomy.separate_atrium(jnp.asarray(touching), max_contact=anatomy.MAX_EXPERT_CONTACT)
    np.testing.assert_array_equal(separated, expected)


def test_the_analysis_says_whether_the_temporal_correction_separates_the_atrium():
    for chosen in (True, False):
        made = Analyzer(analysis.AnalyzeConfig(separate_atrium=chosen), anatomical_correction=False)
        assert made._temporal_corrector._separate_atrium == chosen
