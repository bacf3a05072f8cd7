"""Which numbers are withdrawn, and what is said about the others."""

import jax
import numpy as np
import pytest

from cardiojax import clinical, labels
from cardiojax.analysis import trust
from cardiojax.analysis.sector import Sector
from cardiojax.correction.temporal import TemporalCorrection
from cardiojax.measurement import BeatMeasurements, Measurements, Timing

NUM = 12


def measured(**changes):
    """A loop of one whole beat without findings."""
    nothing = np.zeros(0)
    beats = BeatMeasurements(
        np.array([0]), np.array([5]), np.array([True]), np.array([60.0]), np.array([55.0]), nothing
    )
    timing = Timing(
        beats=jax.tree.map(np.asarray, clinical.Beats(*[np.zeros(1)] * 7)),
        phases=clinical.Phases(*[np.zeros(1)] * len(clinical.Phases._fields)),
        heart_rate=70.0,
        measured_heart_rate=70.0,
        systole=0.3,
        is_heart_rate_in_range=True,
        findings=clinical.TimingFindings(*[np.bool_(False)] * 3),
        trusted_frame_time=0.05,
    )
    whole = Measurements(
        lv_area=np.full(NUM, 3000.0),
        lv_length=np.full(NUM, 80.0),
        lv_volume=np.full(NUM, 100.0),
        end_diastole=0,
        end_systole=5,
        has_phases=True,
        ejection_fraction=60.0,
        ejection_fraction_one_length=55.0,
        area_change=40.0,
        is_calibrated=True,
        ejection_fraction_range=(60.0, 60.0),
        beats=beats,
        has_whole_beat=True,
        findings=clinical.EjectionFindings(*[np.bool_(False)] * 6),
        timing=timing,
        axis=clinical.LongAxis(*[np.zeros(NUM)] * len(clinical.LongAxis._fields)),
        cavity=clinical.Disks(np.full((NUM, 20), 40.0), np.full(NUM, 80.0)),
    )
    return whole._replace(**changes)


def flag(**flags):
    return {"findings": measured().findings._replace(**{name: np.bool_(True) for name in flags})}


@pytest.mark.parametrize(
    ("changes", "withdrawn", "reason"),
    [
        ({}, [], ""),
        ({"ejection_fraction": 3.0}, ["ejection fraction", "volumes"], "outside 5 to 85 %"),
        ({"ejection_fraction": 91.0}, ["ejection fraction", "volumes"], "outside 5 to 85 %"),
        ({"ejection_fraction_one_length": 4.0}, ["ejection fraction", "volumes"], "outside 5 to 85 %"),
        ({"ejection_fraction_one_length": 44.0}, ["ejection fraction", "volumes"], "more than 15 points"),
        ({"ejection_fraction": np.nan, **flag(reversed=True)}, ["ejection fraction", "volumes"], "not below"),
        (flag(fraction_out_of_range=True), ["ejection fraction", "volumes"], "outside 5 to 85 %"),
        (flag(contradictory=True), ["ejection fraction", "volumes"], "more than 15 points"),
        (flag(length_out_of_range=True), ["areas", "lengths", "volumes"], "outside 40 to 130 mm"),
        (flag(volume_out_of_range=True), ["areas", "lengths", "volumes"], "above 500 ml"),
        ({**flag(length_out_of_range=True), "is_calibrated": False}, [], ""),
        (flag(foreshortened=True), [], "shortens by more than 25 %"),
    ],
)
def test_limits_withdraw_numbers_or_are_reported(changes, withdrawn, reason):
    findings = trust.unique(trust.measurement_findings(measured(**changes)))
    assert sorted(trust.withdrawn(findings)) == withdrawn
    assert any(reason in finding.reason for finding in findings) == bool(reason)


@pytest.mark.parametrize(
    ("changes", "withdrawn", "reason"),
    [
        ({}, [], ""),
        ({"is_heart_rate_in_range": False}, ["heart rate"], "outside 40 to 180"),
        ({"heart_rate_out_of_range": True}, ["heart rate"], "outside 40 to 180"),
        ({"systole_out_of_range": True}, [], "more than 0.5 s"),
        ({"contradictory_heart_rate": True}, [], "differs from the stated one by more than 25 %"),
    ],
)
def test_findings_on_times_are_sentences(changes, withdrawn, reason):
    timing = measured().timing
    flags = {name: np.bool_(value) for name, value in changes.items() if name in timing.findings._fields}
    timing = timing._replace(findings=timing.findings._replace(**flags))
    timing = timing._replace(**{name: value for name, value in changes.items() if name not in flags})
    findings = trust.timing_findings(measured(timing=timing), 0.05)
    assert sorted(trust.withdrawn(findings)) == withdrawn
    assert any(reason in finding.reason for finding in findings) == bool(reason)


def test_a_loop_without_a_beat_is_reported():
    findings = measured(has_whole_beat=False)
    assert "shorter than a whole beat" in trust.timing_findings(findings, 0.05)[0].reason
    none = findings._replace(beats=BeatMeasurements(*[np.zeros(0)] * 6))
    assert "no beat from end-diastole to end-systole" in trust.timing_findings(none, 0.05)[0].reason
    assert trust.timing_findings(none._replace(has_phases=False), 0.05) == []


def outlines(changed, *, num=NUM):
    """Hearts of 100 pixels; in each frame some of them differ in the prediction."""
    final = np.zeros((num, 20, 20), np.int32)
    final[:, :10, :10] = labels.LV
    drawn = final.copy()
    for t, percent in changed.items():
        drawn[t].ravel()[np.flatnonzero(final[t].ravel())[:percent]] = labels.MYOCARDIUM
    return trust.Outlines(drawn, final, Sector((0, 20, 0, 20), np.ones((20, 20), bool)), None)


@pytest.mark.parametrize(
    ("changed", "replaced", "is_withdrawn"),
    [
        (dict.fromkeys(range(NUM), 98), [], True),
        (dict.fromkeys(range(NUM), 10), [], False),
        ({5: 60}, [], True),  # end-systole
        ({3: 60}, [], False),
        (dict.fromkeys((1, 2, 3, 4, 6, 7, 8), 60), [], True),  # more than half of all
        ({}, [0], True),  # end-diastole is interpolated
        ({}, [9], False),
    ],
)
def test_numbers_that_rest_on_replaced_outlines_are_withdrawn(changed, replaced, is_withdrawn):
    maps = outlines(changed)
    is_replaced = np.isin(np.arange(NUM), replaced)
    correction = TemporalCorrection(maps.predicted, maps.corrected, is_replaced, is_replaced, np.zeros(NUM), (1, 0))
    findings = trust.replacement_findings(maps, measured(), correction)
    assert bool(findings) == is_withdrawn
    if findings:
        assert {"ejection fraction", "volumes", "lengths", "longitudinal strain"} <= set(trust.withdrawn(findings))
        assert f"of {NUM} frames" in findings[0].reason
    if len(changed) == NUM and is_withdrawn:
        assert "12 of 12 frames, frames 0 to 11, by up to 98 %" in findings[0].reason


def heart(turns):
    """A cavity that opens downwards, in its wall, turned by quarters."""
    mask = np.zeros((40, 40), np.int32)
    mask[5:35, 8:32] = labels.MYOCARDIUM
    mask[10:35, 13:27] = labels.LV
    return np.rot90(mask, turns)[None].repeat(3, 0)


@pytest.mark.parametrize("turns", range(4))
def test_the_apex_must_be_above_the_base(turns):
    square = Sector((0, 40, 0, 40), np.ones((40, 40), bool))
    rows, cols = np.mgrid[:40, :40]
    fan = Sector((0, 40, 0, 40), np.rot90(np.abs(cols - 20) < rows * 0.6, turns))
    upright = heart(0)
    for masks, sector in ((heart(turns), square), (upright, fan)):
        findings = trust.orientation_findings(trust.Outlines(masks, masks, sector, (0.5, 0.5)))
        assert bool(findings) == bool(turns)
        assert all("ejection fraction" in trust.withdrawn([finding]) for finding in findings)
    empty = upright * 0
    assert trust.orientation_findings(trust.Outlines(empty, empty, square, None)) == []


def test_each_sentence_is_said_once_and_withdrawals_come_first():
    first, second = trust.Finding((), "One."), trust.Finding(("volumes",), "Two.", True)
    assert trust.unique([first, second], [first]) == (second, first)
