"""The left ventricle over a loop: areas, lengths, volumes, and the ejection fraction of every beat."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import clinical
from cardiojax.measurement.timing import Timing, compile_timing, measure_timing
from cardiojax.runtime import aot, map_full_batches

#: Frames in a call of the functions of frames: what is compiled for them does not depend on the length of a loop.
FRAMES_PER_CALL = 8


class BeatMeasurements(NamedTuple):
    """What was measured on each beat whose end-diastole and end-systole the loop holds, in the order of time.

    Attributes:
        end_diastole: Frames of end-diastole, ``[n]``.
        end_systole: Frames of the end-systole that follows, ``[n]``.
        is_whole: Whether the loop also holds the end-diastole of the next beat, ``[n]``.
        ejection_fraction: Single-plane, percent, each phase with its own length, ``[n]``; nan where it cannot be
            measured, and where the volume does not fall.
        ejection_fraction_one_length: The same with the longer length for both phases, ``[n]``.
        area_change: Percent, ``[n]``.
    """

    end_diastole: np.ndarray
    end_systole: np.ndarray
    is_whole: np.ndarray
    ejection_fraction: np.ndarray
    ejection_fraction_one_length: np.ndarray
    area_change: np.ndarray


class Measurements(NamedTuple):
    """What was measured, in the units of ``is_calibrated``: mm and ml, else pixels and pixels cubed / 1000.

    Fractions are medians over the beats. Where no beat can be measured (``beats`` is empty), they are those between the
    two extremes of the loop, which then belong to different beats or to none.

    Attributes:
        lv_area: LV cavity in each frame, mm^2, ``[t]``.
        lv_length: Mid-base to apex in each frame, mm, ``[t]``.
        lv_volume: Single-plane volume by 20 disks in each frame, ml, ``[t]``.
        end_diastole: Its frame, in the beat whose ejection fraction is nearest to the median.
        end_systole: Its frame, in the same beat.
        has_phases: Whether the two differ; a single frame has none.
        ejection_fraction: Single-plane, percent, each phase with its own length; nan where it cannot be measured.
        ejection_fraction_one_length: The same with the longer length for both phases, as the reference of CAMUS does.
        area_change: Percent.
        is_calibrated: Whether the pixel spacing is known.
        ejection_fraction_range: Smallest and largest over the beats; nan without a beat.
        beats: The beats one by one.
        has_whole_beat: Whether the loop holds a beat from one end-diastole to the next.
        findings: Limits that are exceeded at the frames ``end_diastole`` and ``end_systole``; those of lengths and
            volumes mean nothing where the pixel spacing is unknown.
        timing: Beats, heart rate, and whether the frame time can be trusted.
        axis: The long axis in each frame, mm, ``[t]``.
        cavity: Disks of the cavity in each frame, mm, ``[t]``.
    """

    lv_area: np.ndarray
    lv_length: np.ndarray
    lv_volume: np.ndarray
    end_diastole: int
    end_systole: int
    has_phases: bool
    ejection_fraction: float
    ejection_fraction_one_length: float
    area_change: float
    is_calibrated: bool
    ejection_fraction_range: tuple[float, float]
    beats: BeatMeasurements
    has_whole_beat: bool
    findings: clinical.EjectionFindings
    timing: Timing
    axis: clinical.LongAxis
    cavity: clinical.Disks


class _Curves(NamedTuple):
    """Area in mm^2, long axis and disks in mm, and volume in ml of each frame."""

    area: jax.Array
    axis: clinical.LongAxis
    cut: clinical.Disks
    volume: jax.Array


class _Changes(NamedTuple):
    """What changes from end-diastole to end-systole: the two ejection fractions and the area, in percent."""

    by_phase: jax.Array
    one_length: jax.Array
    area: jax.Array


class _LoopChanges(NamedTuple):
    """The changes of each beat ``[k]``, those of the loop, and the two frames that represent them."""

    end_diastole: jax.Array
    end_systole: jax.Array
    of_beats: _Changes
    of_loop: _Changes
    fraction: clinical.BeatSummary
    findings: clinical.EjectionFindings


def compile_measure(num_frames: int, height: int, width: int) -> None:
    """Begins to compile what `measure` runs.

    Args:
        num_frames: Length of the loop.
        height: Height of its label maps.
        width: Their width.
    """
    spacing = jax.ShapeDtypeStruct((2,), jnp.float32)
    block, labels = (jax.ShapeDtypeStruct((num, height, width), jnp.int32) for num in (FRAMES_PER_CALL, num_frames))
    _CURVES.compile(block, spacing)
    beats, phases = compile_timing(num_frames)
    _CHANGES.compile(jax.eval_shape(_curves, labels, spacing), beats, phases)


def measure(
    labels: np.ndarray,
    spacing: tuple[float, float] | None,
    *,
    frame_time: float | None = None,
    heart_rate: float | None = None,
    timing: Timing | None = None,
) -> Measurements:
    """Measures the left ventricle over a loop, one frame at a time, and over each of its beats.

    Args:
        labels: ``[t, h, w]``.
        spacing: ``(dy, dx)`` in mm; pixels are the unit if it is unknown.
        frame_time: Seconds from frame to frame, if known.
        heart_rate: Stated beats a minute, if known.
        timing: The beats, if they are known; measured on the label maps if not given.

    Returns:
        The measurements.

    Example:
        >>> import numpy as np
        >>> labels = np.zeros((1, 64, 64), np.int32)
        >>> labels[:, 4:44, 8:40] = 2
        >>> labels[:, 8:44, 12:36] = 1
        >>> result = measure(labels, (2.0, 1.0))
        >>> float(result.lv_area[0]), result.has_phases
        (1728.0, False)
    """
    size = np.asarray(spacing or (1.0, 1.0), np.float32)
    curves = map_full_batches(lambda block: _CURVES(block, size), labels, batch_size=FRAMES_PER_CALL)
    if timing is None:
        timing = measure_timing(labels, frame_time=frame_time, heart_rate=heart_rate)
    beats, valid = timing.beats, np.asarray(timing.beats.valid)
    changes = jax.tree.map(np.asarray, _CHANGES(curves, beats, timing.phases))
    return Measurements(
        lv_area=np.asarray(curves.area),
        lv_length=np.asarray(curves.cut.length),
        lv_volume=np.asarray(curves.volume),
        end_diastole=int(changes.end_diastole),
        end_systole=int(changes.end_systole),
        has_phases=bool(timing.phases.valid),
        ejection_fraction=float(changes.of_loop.by_phase),
        ejection_fraction_one_length=float(changes.of_loop.one_length),
        area_change=float(changes.of_loop.area),
        is_calibrated=spacing is not None,
        ejection_fraction_range=(float(changes.fraction.low), float(changes.fraction.high)),
        beats=BeatMeasurements(
            *(np.asarray(frames)[valid] for frames in (beats.end_diastole, beats.end_systole, beats.is_whole)),
            *(values[valid] for values in changes.of_beats),
        ),
        has_whole_beat=bool(beats.is_whole.any()),
        findings=changes.findings,
        timing=timing,
        axis=jax.tree.map(np.asarray, curves.axis),
        cavity=jax.tree.map(np.asarray, curves.cut),
    )


def _curves(labels, spacing) -> _Curves:
    def one(frame):
        axis = clinical.long_axis(frame, spacing)
        return axis, clinical.disks(frame, spacing, axis=axis)

    axis, cut = jax.lax.map(one, labels)
    return _Curves(clinical.lv_area(labels, spacing), axis, cut, clinical.single_plane_volume(cut))


def _changes_of_loop(curves: _Curves, beats: clinical.Beats, phases: clinical.Phases) -> _LoopChanges:
    def at(frame):
        return clinical.Disks(curves.cut.diameters[frame], curves.cut.length[frame])

    def changes(end_diastole, end_systole):
        cuts = at(end_diastole), at(end_systole)
        return _Changes(
            clinical.single_plane_ejection(*cuts).fraction,
            clinical.single_plane_ejection(*cuts, rule="camus").fraction,
            clinical.area_change(curves.area[end_diastole], curves.area[end_systole]),
        )

    of_beats = changes(beats.end_diastole, beats.end_systole)
    summaries = [clinical.summarize_beats(values, beats) for values in of_beats]
    fraction, has_beat = summaries[0], beats.num_beats > 0
    end_diastole = jnp.where(has_beat, beats.end_diastole[fraction.nearest], phases.end_diastole)
    end_systole = jnp.where(has_beat, beats.end_systole[fraction.nearest], phases.end_systole)
    shown = changes(end_diastole, end_systole)
    of_loop = [jnp.where(has_beat, summary.median, value) for summary, value in zip(summaries, shown, strict=True)]
    of_loop = _Changes(*(jnp.where(phases.valid, value, jnp.nan) for value in of_loop))
    findings = clinical.check_ejection(at(end_diastole), at(end_systole))
    findings = findings._replace(reversed=findings.reversed & phases.valid)  # one frame is both phases
    return _LoopChanges(end_diastole, end_systole, of_beats, of_loop, fraction, findings)


_CURVES = aot.CompiledFunction(_curves)
_CHANGES = aot.CompiledFunction(_changes_of_loop)
