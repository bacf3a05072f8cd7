"""Motion of the outlines of a loop: heart rate, longitudinal strain and temporal consistency."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import anatomy, clinical, temporal
from cardiojax.labels import LV
from cardiojax.measurement.timing import Timing, compile_timing, measure_timing
from cardiojax.measurement.volumes import FRAMES_PER_CALL
from cardiojax.runtime import aot, map_full_batches

#: Names of the attributes whose temporal consistency is measured.
ATTRIBUTES = tuple(temporal.PAINCHAUD)
#: Seconds between frames of the sequences from which the published limits were learnt, about 46 frames a beat.
_LIMITS_FRAME_TIME = 0.02


class Motion(NamedTuple):
    """Motion of a whole loop; strain in percent, nan where it cannot be measured.

    Attributes:
        endocardial_strain: Strain of the inner border of the wall in each frame, ``[t]``.
        mid_wall_strain: Strain of the middle of the wall in each frame, ``[t]``.
        endocardial_peak: Peak systolic strain of the inner border, the median over the beats; where no beat can be
            measured, that of the given phases.
        mid_wall_peak: The same for the middle of the wall.
        heart_rate: Beats a minute, as stated or from the period of the beats; nan if unknown.
        ratio: Indicator of temporal consistency over its threshold, for each of `ATTRIBUTES`, ``[t, 7]``; nan where it
            is not measured.
        is_consistent: Whether a frame is within all thresholds, ``[t]``.
        endocardial_peaks: Peak systolic strain of the inner border in each beat, relative to its own end-diastole,
            ``[n]``.
        mid_wall_peaks: The same for the middle of the wall, ``[n]``.
    """

    endocardial_strain: np.ndarray
    mid_wall_strain: np.ndarray
    endocardial_peak: float
    mid_wall_peak: float
    heart_rate: float
    ratio: np.ndarray
    is_consistent: np.ndarray
    endocardial_peaks: np.ndarray
    mid_wall_peaks: np.ndarray


class _Strains(NamedTuple):
    """Strain of the inner border and of the middle of the wall.

    Attributes:
        curve: Of each frame, ``[2, t]``.
        peak: Of the loop, ``[2]``.
        peaks: Of each beat, ``[2, k]``.
    """

    curve: jax.Array
    peak: jax.Array
    peaks: jax.Array


class _Frames(NamedTuple):
    """Lengths of the inner border and of the middle of the wall, ``[t, 2]``, and the attributes, ``[t, 7]``."""

    lines: jax.Array
    attributes: jax.Array


def compile_motion(num_frames: int, height: int, width: int) -> None:
    """Begins to compile what `measure_motion` runs.

    Args:
        num_frames: Length of the loop.
        height: Height of its label maps.
        width: Their width.
    """
    labels, phases = (jax.ShapeDtypeStruct(s, jnp.int32) for s in ((FRAMES_PER_CALL, height, width), (2,)))
    spacing, relative_frame_time = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2,), ()))
    _FRAMES.compile(labels, spacing)
    _LIMITS.compile(relative_frame_time)
    beats, _ = compile_timing(num_frames)
    frames = jax.eval_shape(_frames, jax.ShapeDtypeStruct((num_frames, height, width), jnp.int32), spacing)
    _MEASURE.compile(frames, phases, beats, relative_frame_time)


def name_frames(frames: np.ndarray) -> str:
    """Writes frame numbers as text, such as ``frames 3 to 5 and 8``.

    Args:
        frames: Their numbers, ascending.
    """
    runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    spans = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    named = f"{', '.join(spans[:-1])} and {spans[-1]}" if len(spans) > 1 else spans[0]
    return f"frame{'s' if len(frames) > 1 else ''} {named}"


def consistency_limits(frame_time: float | None) -> temporal.Limits:
    """Limits of temporal consistency at a frame time, as `measure_motion` applies them.

    Args:
        frame_time: Seconds from frame to frame, or none if unknown.

    Returns:
        The limits of the attributes in mm.
    """
    return jax.tree.map(np.asarray, _LIMITS(_relative_frame_time(frame_time)))


def measure_motion(
    labels: np.ndarray,
    phases: tuple[int, int] | None,
    *,
    spacing: tuple[float, float] | None,
    frame_time: float | None = None,
    heart_rate: float | None = None,
    timing: Timing | None = None,
) -> Motion:
    """Measures strain, heart rate and consistency.

    The published limits of consistency hold for about 50 frames/s; for a slower loop they are widened with the square
    of the frame time; for a faster one they are not narrowed, because the noise of outlines does not decrease. A frame
    time that fails the checks of `measure_timing` is not used for them.

    Args:
        labels: ``[t, h, w]``.
        phases: Frames of end-diastole and end-systole, if there are any; the first is the reference of the curves.
        spacing: ``(dy, dx)`` in mm, or none if unknown.
        frame_time: Seconds from frame to frame, or none if unknown; not used if ``timing`` is given.
        heart_rate: Stated beats a minute, or none if unknown; not used if ``timing`` is given.
        timing: Beats, heart rate and frame time, if they are known; measured on the label maps if not given.

    Returns:
        Strain, heart rate and consistency.

    Example:
        >>> import numpy as np
        >>> labels = np.zeros((4, 64, 64), np.int32)
        >>> labels[:, 4:44, 8:40] = 2
        >>> labels[:, 8:44, 12:36] = 1
        >>> motion = measure_motion(labels, None, spacing=(1.0, 1.0), frame_time=1 / 30)
        >>> motion.is_consistent.all().item()
        True
    """
    if timing is None:
        timing = measure_timing(labels, frame_time=frame_time, heart_rate=heart_rate)
    size = np.asarray(spacing or (1.0, 1.0), np.float32)
    strain, ratio, is_consistent = jax.tree.map(
        np.array,
        _MEASURE(
            map_full_batches(lambda block: _FRAMES(block, size), labels, batch_size=FRAMES_PER_CALL),
            np.asarray(phases or (0, 0), np.int32),
            timing.beats,
            _relative_frame_time(timing.trusted_frame_time),
        ),
    )
    if phases is None:
        strain = strain._replace(curve=strain.curve * np.nan, peak=strain.peak * np.nan)
    if spacing is None:
        ratio, is_consistent = ratio * np.nan, np.ones_like(is_consistent)
    of_beats = strain.peaks[:, np.asarray(timing.beats.valid)]
    return Motion(
        endocardial_strain=strain.curve[0],
        mid_wall_strain=strain.curve[1],
        endocardial_peak=float(strain.peak[0]),
        mid_wall_peak=float(strain.peak[1]),
        heart_rate=timing.heart_rate,
        ratio=ratio,
        is_consistent=is_consistent,
        endocardial_peaks=of_beats[0],
        mid_wall_peaks=of_beats[1],
    )


def _relative_frame_time(frame_time: float | None) -> np.float32:
    return np.float32(max(1.0, (frame_time or 0.0) / _LIMITS_FRAME_TIME))


def _scaled_limits(relative_frame_time):
    return temporal.scale_to_frame_time(temporal.painchaud_limits(), relative_frame_time)


def _strains(lines, phases, beats) -> _Strains:
    # the given phases and each beat are one batch, so that it is compiled once
    end_diastole, end_systole = (
        jnp.append(given, of_beats)
        for given, of_beats in zip(phases, (beats.end_diastole, beats.end_systole), strict=True)
    )
    shape = (2, len(end_diastole))
    strain = clinical.longitudinal_strain(
        jnp.broadcast_to(lines[:, None], (*shape, lines.shape[-1])),
        jnp.broadcast_to(end_diastole, shape),
        jnp.broadcast_to(end_systole, shape),
    )
    shown, peaks = strain.peak_systolic[:, 0], strain.peak_systolic[:, 1:]
    median = jax.vmap(lambda values: clinical.summarize_beats(values, beats).median)(peaks)
    return _Strains(strain.curve[:, 0], jnp.where(beats.num_beats > 0, median, shown), peaks)


def _frames(labels, spacing) -> _Frames:
    # one frame at a time: blocks that do not divide the loop would compile everything a second time for the rest
    lines = [f(labels, spacing, batch_size=1).length for f in (clinical.endocardial_line, anatomy.midline)]
    has_lv = (labels == LV).any((1, 2))[:, None]  # a frame without a ventricle is missing, not inconsistent
    attributes = jnp.stack(anatomy.attributes(labels, spacing, batch_size=1), -1)
    return _Frames(jnp.stack(lines, -1), jnp.where(has_lv, attributes, jnp.nan))


def _measure(frames: _Frames, phases, beats, relative_frame_time):
    strain = _strains(frames.lines.T, phases, beats)
    result = temporal.consistency(frames.attributes, *_scaled_limits(relative_frame_time))
    return strain, jnp.where(result.is_measured, result.ratio, jnp.nan), result.is_frame_consistent


_FRAMES = aot.CompiledFunction(_frames)
_LIMITS = aot.CompiledFunction(_scaled_limits)
_MEASURE = aot.CompiledFunction(_measure)
