"""How the outlines of a loop move: beats, longitudinal strain, and the consistency over time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import anatomy, clinical, labels, temporal
from cardiojax.runtime import aot

ATTRIBUTES = tuple(temporal.PAINCHAUD)

_FRAME_TIME = 0.02  # of the sequences from which the limits were learnt, about 46 frames a beat
_MIN_BEAT = 0.33  # seconds between end-diastoles


class Motion(NamedTuple):
    """What is measured on the whole loop; strain in percent, nan where it cannot be told.

    Attributes:
        endocardial_strain: Strain of the inner border of the wall in each frame, ``[t]``.
        mid_wall_strain: Strain of the middle of the wall in each frame, ``[t]``.
        endocardial_peak: Peak systolic strain of the inner border.
        mid_wall_peak: Peak systolic strain of the middle of the wall.
        heart_rate: Beats a minute; nan without a whole beat or without a frame time.
        ratio: Indicator of temporal consistency over its threshold, ``[t, 7]``; nan where it is not measured.
        is_consistent: Whether a frame is within all thresholds, ``[t]``.
    """

    endocardial_strain: np.ndarray
    mid_wall_strain: np.ndarray
    endocardial_peak: float
    mid_wall_peak: float
    heart_rate: float
    ratio: np.ndarray
    is_consistent: np.ndarray


def min_beat(frame_time: float | None) -> int | None:
    """Frames between end-diastoles at 180 beats a minute; none if the frame time is unknown."""
    return max(1, round(_MIN_BEAT / frame_time)) if frame_time else None


def compile_motion(num_frames: int, height: int, width: int, *, frame_time: float | None) -> None:
    """Begins to compile what `measure_motion` runs.

    Args:
        num_frames: Length of the loop.
        height: Height of its masks.
        width: Their width.
        frame_time: Seconds from frame to frame, or none if unknown.
    """
    masks, phases = (jax.ShapeDtypeStruct(s, jnp.int32) for s in ((num_frames, height, width), (2,)))
    spacing, slowness = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2,), ()))
    _LIMITS.compile(slowness)
    _MEASURE.compile(masks, phases, spacing, slowness, slowness, min_distance=min_beat(frame_time))


def name_frames(frames: np.ndarray) -> str:
    """Frames in words, as ``frames 3 to 5 and 8``.

    Args:
        frames: Their numbers, ascending.
    """
    runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    spans = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    named = f"{', '.join(spans[:-1])} and {spans[-1]}" if len(spans) > 1 else spans[0]
    return f"frame{'s' if len(frames) > 1 else ''} {named}"


def consistency_limits(frame_time: float | None) -> temporal.Limits:
    """What a beating heart keeps to at a frame rate, as `measure_motion` applies it.

    Args:
        frame_time: Seconds from frame to frame, or none if unknown.

    Returns:
        The limits of the attributes in mm.
    """
    return jax.tree.map(np.asarray, _LIMITS(_slowness(frame_time)))


def measure_motion(
    masks: np.ndarray,
    phases: tuple[int, int] | None,
    *,
    spacing: tuple[float, float] | None,
    frame_time: float | None,
) -> Motion:
    """Measures strain, heart rate and consistency.

    The published limits of consistency hold for about 50 frames/s; for a slower loop they are widened with the square
    of the frame time, for a quicker one they are not narrowed, because the noise of outlines does not shrink.

    Args:
        masks: ``[t, h, w]``.
        phases: Frames of end-diastole and end-systole, if there are any.
        spacing: ``(dy, dx)`` in mm, or none if unknown.
        frame_time: Seconds from frame to frame, or none if unknown.

    Returns:
        The numbers.
    """
    strain, rate, ratio, is_consistent = jax.tree.map(
        np.array,
        _MEASURE(
            masks,
            np.asarray(phases or (0, 0), np.int32),
            np.asarray(spacing or (1.0, 1.0), np.float32),
            _slowness(frame_time),
            np.float32(frame_time or np.nan),
            min_distance=min_beat(frame_time),
        ),
    )
    if phases is None:
        strain = strain._replace(curve=strain.curve * np.nan, peak_systolic=strain.peak_systolic * np.nan)
    if spacing is None:
        ratio, is_consistent = ratio * np.nan, np.ones_like(is_consistent)
    inner, middle = strain.curve
    inner_peak, middle_peak = map(float, strain.peak_systolic)
    return Motion(inner, middle, inner_peak, middle_peak, float(rate), ratio, is_consistent)


def _slowness(frame_time: float | None) -> np.float32:
    return np.float32(max(1.0, (frame_time or 0.0) / _FRAME_TIME))


def _scaled_limits(slowness):
    return temporal.scale_to_frame_time(temporal.painchaud_limits(), slowness)


def _measure(masks, phases, spacing, slowness, frame_time, *, min_distance):
    # one frame at a time: blocks that do not divide the loop would compile everything a second time for the rest
    lines = [f(masks, spacing, batch_size=1).length for f in (clinical.endocardial_line, anatomy.midline)]
    strain = clinical.longitudinal_strain(jnp.stack(lines), *(jnp.broadcast_to(p, (2,)) for p in phases))
    beats = clinical.detect_beats(clinical.lv_area(masks, spacing), min_distance=min_distance)
    limits = _scaled_limits(slowness)
    drawn = (masks == labels.LV).any((1, 2))[:, None]  # a frame without a ventricle is missing, not at odds with others
    attributes = jnp.stack(anatomy.attributes(masks, spacing, batch_size=1), -1)
    found = temporal.consistency(jnp.where(drawn, attributes, jnp.nan), *limits)
    rate = clinical.heart_rate(beats, frame_time)
    return strain, rate, jnp.where(found.is_measured, found.ratio, jnp.nan), found.is_frame_consistent


_LIMITS = aot.CompiledFunction(_scaled_limits)
_MEASURE = aot.CompiledFunction(_measure, options=dict, static_argnames="min_distance")
