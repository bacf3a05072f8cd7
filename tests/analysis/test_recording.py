"""From a recording to numbers, with a model whose answer is known."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import anatomy, data, report
from cardiojax.analysis import recording as analysis
from cardiojax.analysis import sector
from cardiojax.cli import analyze as command
from cardiojax.measurement import motion

SIZE = 224


def test_sector_is_found_and_text_is_cut_away(recording):
    where = sector.find_sector(recording.frames)
    assert where.box == (20, 170, 40, 220)
    assert where.mask.all()
    assert sector.crop(recording.frames, where).shape == (17, 150, 180)


def test_black_loop_is_all_sector():
    assert sector.find_sector(np.zeros((2, 40, 50), np.float32)).box == (0, 40, 0, 50)


def test_masks_lie_where_the_model_saw_them(analyzed, draw):
    assert analyzed.labels.shape == (17, 200, 260)
    expected = draw.heart(150, 180, draw.beat(0))
    inside = analyzed.labels[0, 20:170, 40:220]
    assert (inside == expected).mean() > 0.985
    assert analyzed.labels[0, :20].max() == 0


def test_numbers_are_those_of_the_drawn_heart(analyzed, draw):
    numbers = analyzed.measurements
    assert numbers.end_diastole in (0, 1, 15, 16)
    assert numbers.end_systole in (7, 8, 9)

    def volume(t):  # half an ellipsoid of revolution, in ml
        long, wide = draw.beat(t)
        return 2 / 3 * np.pi * (long * 150 * 0.8) * (wide * 180 * 0.5) ** 2 / 1000

    assert numbers.lv_volume[0] == pytest.approx(volume(0), rel=0.05)
    assert numbers.lv_volume[8] == pytest.approx(volume(8), rel=0.05)
    assert numbers.ejection_fraction == pytest.approx(100 * (1 - volume(8) / volume(0)), abs=3)
    assert analyzed.warnings == ()


def test_the_loop_has_beats_strain_and_is_consistent(analyzed, draw):
    moved = analyzed.motion
    assert np.isnan(moved.heart_rate)  # one beat from the first frame to the last: its period is not seen
    angle = np.linspace(0, np.pi, 2001)

    def border(t):  # of the drawn half ellipse, in mm
        long, wide = draw.beat(t)
        return np.hypot(np.diff(long * 150 * 0.8 * np.sin(angle)), np.diff(wide * 180 * 0.5 * np.cos(angle))).sum()

    assert moved.endocardial_peak == pytest.approx(100 * (border(8) / border(0) - 1), abs=1.5)
    assert moved.endocardial_peak < moved.mid_wall_peak < 0
    assert moved.ratio.shape == (17, 7)
    assert moved.is_consistent.all()
    both = analyzed.measurements.ejection_fraction, analyzed.measurements.ejection_fraction_one_length
    assert both[0] - both[1] > 5


def test_a_frame_that_jumps_is_inconsistent(analyzed):
    masks = analyzed.labels.copy()
    masks[8] = np.roll(masks[8], 12, axis=0)
    moved = motion.measure_motion(masks, (0, 8), spacing=(0.8, 0.5), frame_time=0.05)
    assert np.flatnonzero(~moved.is_consistent).tolist() == [7, 8, 9]
    missing = motion.measure_motion(masks * 0, None, spacing=(0.8, 0.5), frame_time=0.05)
    assert np.isnan(missing.ratio).all()
    assert np.isnan([missing.heart_rate, missing.mid_wall_peak]).all()


def test_certain_and_uncertain_pixels(analyzed):
    entropy = analyzed.uncertainty
    certain = -(0.97 * np.log(0.97) + 3 * 0.01 * np.log(0.01)) / np.log(4)
    assert entropy[0, 100, 130] == pytest.approx(certain, abs=1e-3)
    assert entropy[:, :15].max() == 0


def test_without_spacing_there_are_no_millilitres(recording, beating):
    bare = analysis.analyze(recording._replace(spacing=None, frames=recording.frames[:, :, :]), beating())
    values = report.to_dict(bare, config=analysis.AnalyzeConfig(), name="x")
    assert values["end_diastolic_volume_ml"] is None
    assert values["ejection_fraction_percent"] > 30
    assert any("spacing is unknown" in w for w in bare.warnings)


def test_an_empty_prediction_is_said_in_words(recording):
    nothing = analysis.analyze(recording, lambda images: np.eye(4, dtype=np.float32)[np.zeros(images.shape[:3], int)])
    assert any("No left ventricle was found in 17 of 17 frames" in w for w in nothing.warnings)
    values = report.to_dict(nothing, config=analysis.AnalyzeConfig(), name="x")
    assert values["ejection_fraction_percent"] is None
    json.dumps(values, allow_nan=False)


def test_a_lost_frame_is_empty_and_its_neighbours_are_not_at_odds_with_it(recording, beating):
    lost = recording.frames.copy()
    lost[5] = 0
    analyzed = analysis.analyze(recording._replace(frames=lost), beating())
    assert np.flatnonzero(~analyzed.labels.any((1, 2))).tolist() == [5]
    assert any("No left ventricle was found in 1 of 17 frames" in w for w in analyzed.warnings)
    assert analyzed.motion.is_consistent.all()
    assert np.flatnonzero(np.isnan(analyzed.motion.ratio).any(1)).tolist() == [4, 5, 6]


def test_only_the_largest_region_of_a_structure_is_kept(recording, draw):
    def noisy(images):
        labels = np.stack([draw.heart(SIZE, SIZE, draw.beat(0)) for _ in images])
        labels[:, 2:8, 2:8] = 1
        return np.eye(4, dtype=np.float32)[labels]

    kept = analysis.analyze(recording, noisy)
    raw = analysis.analyze(recording, noisy, config=analysis.AnalyzeConfig(largest_component=False))
    assert (raw.labels[0, 20:30, 40:60] == 1).any()
    assert not (kept.labels[0, 20:30, 40:60] == 1).any()


def test_myocardium_is_separated_from_the_atrium(recording, draw):
    def touching(images):
        labels = np.stack([draw.heart(SIZE, SIZE, draw.beat(0)) for _ in images])
        labels[:, -30:-20, 90:120], labels[:, -30:-20, 120:150] = 3, 2  # below the heart, away from its cavity
        return np.eye(4, dtype=np.float32)[labels]

    config = analysis.AnalyzeConfig(largest_component=False)
    separated = analysis.analyze(recording, touching, config=config)
    drawn = analysis.analyze(recording, touching, config=dataclasses.replace(config, separate_atrium=False))
    assert (separated.labels != drawn.labels).any()
    expected = anatomy.separate_atrium(jnp.asarray(drawn.labels), max_contact=anatomy.MAX_EXPERT_CONTACT)
    np.testing.assert_array_equal(separated.labels, expected)


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"batch_size": -3}, {"size": 0}, {"size": 10**9}, {"max_size": 0}]
)
def test_sizes_below_one_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        analysis.AnalyzeConfig(**wrong)


def test_a_ventricle_at_the_edge_or_without_atrium_is_said_in_words(recording, draw):
    drawn = draw.heart(SIZE, SIZE, draw.beat(0))
    assert analysis.analyze(recording, draw.answer(drawn)).warnings == ()
    shifted = np.roll(drawn, -SIZE // 2, axis=1)
    shifted[:, SIZE // 2 :] = 0
    said = analysis.analyze(recording, draw.answer(shifted)).warnings
    assert any("reaches the edge of the sector in 17 of 17" in w for w in said)
    said = analysis.analyze(recording, draw.answer(np.where(drawn == 3, 0, drawn))).warnings
    assert any("No left atrium was found in 17 of 17" in w for w in said)


def test_a_volume_that_jumps_is_said_in_words(recording, draw):
    clock = iter(range(100))

    def jumping(images):
        drawn = np.stack([draw.heart(SIZE, SIZE, (0.25, 0.1) if next(clock) == 8 else draw.beat(0)) for _ in images])
        return np.eye(4, dtype=np.float32)[drawn]

    assert any("jumps in 1 of 17" in w for w in analysis.analyze(recording, jumping).warnings)


def test_a_frame_time_that_makes_systole_too_long_is_reported(recording, beating):
    slow = analysis.analyze(recording._replace(frame_time=0.2), beating())
    assert any("follows end-diastole by more than 0.5 s" in w for w in slow.warnings)


def test_an_unmeasured_ejection_fraction_is_not_printed_as_nan(recording, draw):
    drawn = draw.heart(SIZE, SIZE, draw.beat(0))
    lines = command._summary(analysis.analyze(recording, draw.answer(np.where(drawn == 2, 0, drawn))), "4CH")
    assert "ejection fraction not measured" in lines
    assert not any("nan" in line for line in lines)


def test_large_frames_are_analysed_on_a_coarser_grid(recording, analyzed, beating):
    coarse = analysis.analyze(recording, beating(), config=analysis.AnalyzeConfig(max_size=128))
    assert coarse.grid.stride == 2
    assert coarse.labels.shape[1:] == coarse.grid.shape
    assert any("2 x 2" in w for w in coarse.warnings)
    full = coarse.labels_of_frames()
    assert full.shape == analyzed.labels.shape
    overlap = ((full == 1) & (analyzed.labels == 1)).sum() / ((full == 1) | (analyzed.labels == 1)).sum()
    assert overlap > 0.95
    fine, rough = analyzed.measurements, coarse.measurements
    assert rough.ejection_fraction == pytest.approx(fine.ejection_fraction, abs=3)
    assert rough.lv_volume[0] == pytest.approx(fine.lv_volume[0], rel=0.05)


def test_of_two_stated_scales_that_of_the_sector_is_taken(recording):
    regions = [
        data.Region(box, data_type=1, spatial_format=1, spacing=spacing)
        for box, spacing in (((15, 175, 35, 225), (0.8, 0.5)), ((0, 14, 0, 260), (3.0, 3.0)))
    ]
    config, black = analysis.AnalyzeConfig(), np.eye(4, dtype=np.float32)[np.zeros((8, SIZE, SIZE), int)]
    stated = recording._replace(spacing=(3.0, 3.0), regions=tuple(regions), frames=recording.frames[:2])
    analyzed = analysis.analyze(stated, lambda images: black[: len(images)], config=config)
    assert analyzed.recording.spacing == (0.8, 0.5)
    moved = stated._replace(spacing=(0.8, 0.5), regions=(regions[0]._replace(box=(60, 175, 120, 260)),))
    analyzed = analysis.analyze(moved, lambda images: black[: len(images)], config=config)
    assert analyzed.recording.spacing is None
    assert any("not within the ultrasound regions" in sentence for sentence in analyzed.warnings)


def test_progress_is_reported(recording, draw):
    seen = []
    analysis.analyze(recording, draw.answer(draw.heart(SIZE, SIZE, draw.beat(0))), on_progress=seen.append)
    assert seen == [8, 16, 17]


def test_a_model_may_use_its_buffer_for_each_batch(recording, beating, analyzed):
    segment, buffer = beating(), np.zeros((8, 224, 224, 4), np.float32)

    def reusing(images):
        buffer[: len(images)] = segment(images)
        return buffer[: len(images)]

    np.testing.assert_array_equal(analysis.analyze(recording, reusing).labels, analyzed.labels)


def test_a_model_that_loses_frames_is_refused(recording, draw):
    segment = draw.answer(draw.heart(224, 224, draw.beat(0)))
    with pytest.raises(ValueError, match=r"returned probabilities \[7, "):
        analysis.analyze(recording, lambda images: segment(images)[:7])
