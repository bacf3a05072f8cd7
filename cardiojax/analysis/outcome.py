"""Corrected label maps of a loop and what is measured on them, beside the same before any correction."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cardiojax.analysis import pairs
from cardiojax.analysis.sector import Sector
from cardiojax.correction.anatomical import AnatomicalCorrection, CorrectAnatomy
from cardiojax.correction.temporal import TemporalCorrection, assumed_spacing
from cardiojax.labels import LV, MYOCARDIUM
from cardiojax.measurement.motion import Motion, measure_motion
from cardiojax.measurement.volumes import Measurements, measure
from cardiojax.types import Box

#: Fields of `TemporalCorrection` with one value a frame.
_FRAME_FIELDS = ("moved", "replaced", "changed")
#: Makes label maps consistent over time, as `TemporalCorrector` does.
CorrectTemporally = Callable[..., TemporalCorrection]


class Loop(NamedTuple):
    """A recording on the analysis grid: frames ``[t, h, w]``, sector, spacing in mm and times if known."""

    frames: np.ndarray
    sector: Sector
    spacing: tuple[float, float] | None
    frame_time: float | None
    heart_rate: float | None


class Outcome(NamedTuple):
    """Corrected label maps, the corrections, and what is measured on them.

    Attributes:
        labels: The label maps, ``[t, h, w]``.
        anatomical: The anatomical correction; None if there was none.
        temporal: The temporal correction of these label maps; None if there was none. A frame whose label map is
            replaced afterwards counts as not changed by it.
        measurements: Measured on the label maps.
        motion: Strain and consistency of the frames segmented one by one.
        motion_before: The same before the temporal correction.
        temporal_of_frames: The temporal correction of the frames segmented one by one, to which ``motion`` and
            ``motion_before`` belong.
    """

    labels: np.ndarray
    anatomical: AnatomicalCorrection | None
    temporal: TemporalCorrection | None
    measurements: Measurements
    motion: Motion
    motion_before: Motion | None
    temporal_of_frames: TemporalCorrection | None


class Predicted(NamedTuple):
    """A loop as the networks segment it, before any correction.

    Attributes:
        labels: Label maps, int32 ``[t, h, w]``; at end-diastole and end-systole of each beat those of the pair network.
        measurements: What is measured on them at the beats of the corrected loop.
        motion: Strain and consistency of the frames segmented one by one, at the beats of the corrected loop.
    """

    labels: np.ndarray
    measurements: Measurements
    motion: Motion


def correct_and_measure(
    loop: Loop,
    labels: np.ndarray,
    anatomical_corrector: CorrectAnatomy | None,
    temporal_corrector: CorrectTemporally | None,
) -> Outcome:
    """Applies the corrections that are given and measures the loop.

    Args:
        loop: The recording.
        labels: Label maps of the network, ``[t, h, w]``.
        anatomical_corrector: Corrects single frames; none if not given.
        temporal_corrector: Corrects inconsistent frames of a loop; none if not given.

    Returns:
        The corrected loop.
    """
    anatomical = None
    if anatomical_corrector is not None:
        anatomical = _correct_anatomy(labels, anatomical_corrector, loop.sector.box)
        labels = anatomical.labels
    spacing = loop.spacing or assumed_spacing(labels)
    measurements, motion = _measure(labels, loop, spacing)
    temporal = before = None
    if temporal_corrector is not None and not motion.is_consistent.all():
        frame_time, before = measurements.timing.trusted_frame_time, motion
        temporal = temporal_corrector(labels, spacing=spacing, frame_time=frame_time, box=loop.sector.box)
        labels = temporal.labels
        measurements, motion = _measure(labels, loop, spacing)
    return Outcome(labels, anatomical, temporal, measurements, motion, before, temporal)


def measure_phases(
    loop: Loop,
    outcome: Outcome,
    frames: np.ndarray,
    labels: np.ndarray,
    anatomical_corrector: CorrectAnatomy | None,
) -> Outcome:
    """Replaces some frames by other label maps, corrected, and measures again; beats and motion stay the same.

    Args:
        loop: The recording.
        outcome: The corrected loop.
        frames: Frames that are replaced, ``[n]``.
        labels: Their label maps, ``[n, h, w]``.
        anatomical_corrector: Corrects them; none if not given.

    Returns:
        The loop with the frames replaced.
    """
    anatomical, temporal = outcome.anatomical, outcome.temporal
    if anatomical is not None and anatomical_corrector is not None:
        corrected = _correct_anatomy(labels, anatomical_corrector, loop.sector.box)
        anatomical, labels = pairs.with_frames(anatomical, frames, corrected), corrected.labels
    labels_of_loop = pairs.with_frames(outcome.labels, frames, labels)
    if temporal is not None:
        # the label maps of these frames are no longer those that the temporal correction changed
        reset = {name: pairs.with_frames(getattr(temporal, name), frames, 0) for name in _FRAME_FIELDS}
        temporal = temporal._replace(labels=labels_of_loop, **reset)
    measurements = measure(labels_of_loop, loop.spacing, timing=outcome.measurements.timing)
    motion, spacing = outcome.motion, loop.spacing or assumed_spacing(outcome.labels)
    if measurements.end_diastole != outcome.measurements.end_diastole:  # strain is relative to end-diastole
        motion = _measure_motion(outcome.labels, measurements, spacing)
    return outcome._replace(
        labels=labels_of_loop, anatomical=anatomical, temporal=temporal, measurements=measurements, motion=motion
    )


def measure_predicted(
    loop: Loop, labels: np.ndarray, outcome: Outcome, *, frame_labels: np.ndarray | None
) -> Predicted:
    """Measures a loop before any correction, at the beats of the corrected one, so that both can be compared.

    Args:
        loop: The recording.
        labels: Label maps of the networks, ``[t, h, w]``.
        outcome: The corrected loop.
        frame_labels: Label maps of the frames segmented one by one; None if no correction changed them.

    Returns:
        The label maps and what is measured on them, which is that of the corrected loop where nothing was changed.
    """
    measurements, motion = outcome.measurements, outcome.motion
    if (labels != outcome.labels).any():
        measurements = measure(labels, loop.spacing, timing=outcome.measurements.timing)
    if frame_labels is not None:
        spacing = loop.spacing or assumed_spacing(outcome.labels)
        motion = _measure_motion(frame_labels, outcome.measurements, spacing)
    return Predicted(labels, measurements, motion)


def _measure(labels: np.ndarray, loop: Loop, spacing: tuple[float, float]) -> tuple[Measurements, Motion]:
    measurements = measure(labels, loop.spacing, frame_time=loop.frame_time, heart_rate=loop.heart_rate)
    return measurements, _measure_motion(labels, measurements, spacing)


def _measure_motion(labels: np.ndarray, measurements: Measurements, spacing: tuple[float, float]) -> Motion:
    phases = (measurements.end_diastole, measurements.end_systole) if measurements.has_phases else None
    return measure_motion(labels, phases, spacing=spacing, timing=measurements.timing)


def _correct_anatomy(labels: np.ndarray, anatomical_corrector: CorrectAnatomy, box: Box) -> AnatomicalCorrection:
    """Corrects the frames that show a left ventricle and its myocardium; the others stay as they are."""
    has_heart = (labels == LV).any((1, 2)) & (labels == MYOCARDIUM).any((1, 2))
    num = len(labels)
    result = AnatomicalCorrection(
        labels, labels.copy(), has_heart.copy(), has_heart.copy(), np.zeros(num), np.zeros(num)
    )
    if has_heart.any():
        corrected = anatomical_corrector(labels[has_heart], box=box)
        for array, values in zip(result[1:], corrected[1:], strict=True):  # all fields but `before`
            array[has_heart] = values
    return result
