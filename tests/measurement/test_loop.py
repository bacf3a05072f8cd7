"""Measurements of drawn loops: every beat, stated and impossible rates, volumes that grow in systole."""

import numpy as np
import pytest

from cardiojax.measurement import measure, measure_motion, measure_timing
from tests.helpers.shapes import apical_view

SIZE, NUM_FRAMES, PERIOD, SPACING, FRAME_TIME = 96, 45, 16, (1.2, 1.2), 0.05


def draw(long, wide):
    """Half an ellipse of cavity with half axes in mm, in a wall of 9 mm over an atrium."""
    rows, cols = (np.mgrid[:SIZE, :SIZE] - np.array([75, 48])[:, None, None]) * 1.2
    return apical_view(rows, cols, cavity=(long, wide), wall=(9, 9), atrium=(8, 12, 12), has_base=True)


def loop(narrowing, shortening=0.9):
    """Three beats; the half axes at end-systole as shares of those at end-diastole, at frames 8, 24 and 40."""
    time = np.arange(NUM_FRAMES)
    systole = (1 - np.cos(2 * np.pi * time / PERIOD)) / 2
    of_beat = np.asarray(narrowing)[np.minimum(time // PERIOD, 2)]
    return np.stack(
        [draw(72 * (1 - s * (1 - shortening)), 24 * (1 - s * (1 - n))) for s, n in zip(systole, of_beat, strict=True)]
    )


@pytest.fixture(scope="module")
def beating():
    return loop((0.9, 0.7, 0.8))


def test_every_beat_is_measured_and_the_median_beat_is_shown(beating):
    measurements = measure(beating, SPACING, frame_time=FRAME_TIME)
    expected = 100 * (1 - np.array([0.9, 0.7, 0.8]) ** 2 * 0.9)
    assert np.abs(measurements.beats.end_diastole - [0, 16, 32]).max() <= 1
    assert np.abs(measurements.beats.end_systole - [8, 24, 40]).max() <= 1
    assert measurements.beats.is_whole.tolist() == [True, True, False]
    np.testing.assert_allclose(measurements.beats.ejection_fraction, expected, atol=2)
    np.testing.assert_allclose(
        measurements.beats.ejection_fraction_one_length, expected - 10 * (1 - expected / 100) / 0.9, atol=2.5
    )
    np.testing.assert_allclose(measurements.beats.area_change, 100 * (1 - np.array([0.9, 0.7, 0.8]) * 0.9), atol=2)
    assert (
        measurements.ejection_fraction
        == np.median(measurements.beats.ejection_fraction)
        == measurements.beats.ejection_fraction[2]
    )
    assert measurements.ejection_fraction_range == (
        measurements.beats.ejection_fraction[0],
        measurements.beats.ejection_fraction[1],
    )
    assert (measurements.end_diastole, measurements.end_systole) == (
        measurements.beats.end_diastole[2],
        measurements.beats.end_systole[2],
    )
    assert measurements.has_whole_beat
    assert not any(measurements.findings)
    assert measurements.timing.heart_rate == pytest.approx(60 / (PERIOD * FRAME_TIME), rel=0.01)
    assert measurements.timing.systole == pytest.approx(8 * FRAME_TIME, abs=FRAME_TIME)
    assert measurements.timing.trusted_frame_time == FRAME_TIME


def test_strain_of_every_beat(beating):
    measurements = measure_motion(beating, (32, 40), spacing=SPACING, frame_time=FRAME_TIME)
    angle = np.linspace(0, np.pi, 2001)

    def border(long, wide):
        return np.hypot(np.diff(long * np.sin(angle)), np.diff(wide * np.cos(angle))).sum()

    expected = [100 * (border(72 * 0.9, 24 * n) / border(72, 24) - 1) for n in (0.9, 0.7, 0.8)]
    np.testing.assert_allclose(measurements.endocardial_peaks, expected, atol=1.2)
    assert measurements.endocardial_peak == np.median(measurements.endocardial_peaks)
    assert measurements.mid_wall_peak == np.median(measurements.mid_wall_peaks)
    assert measurements.heart_rate == pytest.approx(75, rel=0.01)


def test_a_stated_heart_rate_is_used_and_compared(beating):
    stated = measure_motion(beating, (0, 8), spacing=SPACING, frame_time=FRAME_TIME, heart_rate=80.0)
    assert stated.heart_rate == 80
    for rate, is_trusted in ((80.0, True), (150.0, False)):
        timing = measure_timing(beating, frame_time=FRAME_TIME, heart_rate=rate)
        assert timing.heart_rate == rate
        assert timing.measured_heart_rate == pytest.approx(75, rel=0.01)
        assert (timing.trusted_frame_time == FRAME_TIME) is is_trusted
        assert bool(timing.findings.contradictory_heart_rate) is not is_trusted
    for rate in (None, 0.0, float("nan")):
        assert measure_timing(beating, frame_time=FRAME_TIME, heart_rate=rate).heart_rate == pytest.approx(75, rel=0.01)
    unknown = measure_timing(beating, frame_time=None)
    assert np.isnan([unknown.heart_rate, unknown.systole]).all()
    assert unknown.trusted_frame_time is None


def test_a_frame_time_that_makes_the_heart_beat_impossibly_widens_no_limits(beating):
    """Three times the frame time: 25 beats a minute, and a systole of 1.2 s."""
    timing = measure_timing(beating, frame_time=3 * FRAME_TIME)
    assert timing.measured_heart_rate == pytest.approx(25, rel=0.01)
    assert not timing.is_heart_rate_in_range
    assert [bool(x) for x in timing.findings] == [True, True, False]
    assert timing.trusted_frame_time is None
    slow, trusted, unknown = (
        measure_motion(beating, (0, 8), spacing=SPACING, frame_time=t).ratio for t in (3 * FRAME_TIME, FRAME_TIME, None)
    )
    np.testing.assert_array_equal(slow, unknown)
    assert np.nanmax(trusted) < np.nanmax(unknown)


def test_a_loop_without_a_beat_is_measured_between_its_extremes_and_says_so(beating):
    """It begins in systole and ends in diastole before the next: the end-systole precedes the end-diastole."""
    masks = np.repeat(beating[4:21], 3, axis=0)[:NUM_FRAMES]
    measurements = measure(masks, SPACING, frame_time=FRAME_TIME / 3)
    assert measurements.beats.ejection_fraction.shape == (0,)
    assert not measurements.has_whole_beat
    assert measurements.has_phases
    assert measurements.end_systole < measurements.end_diastole
    assert measurements.ejection_fraction == pytest.approx(100 * (1 - 0.9**3), abs=3)
    assert np.isnan([measurements.timing.heart_rate, *measurements.ejection_fraction_range]).all()
    motion = measure_motion(
        masks, (measurements.end_diastole, measurements.end_systole), spacing=SPACING, frame_time=FRAME_TIME / 3
    )
    assert motion.endocardial_peaks.shape == (0,)
    assert motion.endocardial_peak == pytest.approx(motion.endocardial_strain[measurements.end_systole], abs=1)


def test_a_volume_that_grows_in_systole_has_no_ejection_fraction():
    """The area falls by 9 %, but the length by 30 %: the volume is the square of the one over the other."""
    measurements = measure(loop((1.3, 1.3, 1.3), shortening=0.7), SPACING, frame_time=FRAME_TIME)
    assert measurements.lv_volume[measurements.end_systole] > measurements.lv_volume[measurements.end_diastole]
    assert np.isnan(measurements.ejection_fraction)
    assert np.isnan(measurements.beats.ejection_fraction).all()
    assert measurements.area_change > 0
    findings = {name for name, value in measurements.findings._asdict().items() if value}
    assert findings == {"reversed", "foreshortened"}


def test_sizes_that_no_ventricle_has_are_findings(beating):
    small, large = (measure(beating, spacing).findings for spacing in ((0.5, 0.5), (3.0, 3.0)))
    assert bool(small.length_out_of_range)
    assert not bool(small.volume_out_of_range)
    assert bool(large.length_out_of_range)
    assert bool(large.volume_out_of_range)
    nothing = measure(beating * 0, SPACING)
    assert not any(nothing.findings)
    assert not nothing.has_phases
    assert np.isnan(nothing.ejection_fraction)
