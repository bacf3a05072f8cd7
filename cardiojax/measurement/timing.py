"""Beats of a loop, its heart rate, and whether its frame time can be trusted."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import clinical
from cardiojax.labels import LV
from cardiojax.runtime import aot


class Timing(NamedTuple):
    """Beats, heart rate and frame time of a loop, as NumPy arrays and Python numbers.

    Attributes:
        beats: Beats, from the area of the cavity.
        phases: Frames of the largest and the smallest area of the whole loop, for a loop without a measurable beat.
        heart_rate: The stated heart rate, or else the measured one; beats a minute, nan if unknown.
        measured_heart_rate: From the period of the beats; nan for less than about two beats, or without a frame time.
        systole: Median time from end-diastole to end-systole in s; nan if unknown.
        is_heart_rate_in_range: Whether ``heart_rate`` is within the limits, or unknown.
        findings: Limits that the heart rate and the duration of systole exceed: the frame time may be wrong.
        trusted_frame_time: Seconds from frame to frame; None if unknown, or if a check of it failed.
    """

    beats: clinical.Beats
    phases: clinical.Phases
    heart_rate: float
    measured_heart_rate: float
    systole: float
    is_heart_rate_in_range: bool
    findings: clinical.TimingFindings
    trusted_frame_time: float | None


def compile_timing(num_frames: int) -> tuple[clinical.Beats, clinical.Phases]:
    """Begins to compile what `measure_timing` runs.

    Args:
        num_frames: Length of the loop.

    Returns:
        Shapes and types of the beats and of the phases.
    """
    area, distance, scalar = (
        jax.ShapeDtypeStruct(*shape) for shape in (((num_frames,), jnp.float32), ((), jnp.int32), ((), jnp.float32))
    )
    _DETECT.compile(area, distance, scalar, scalar)
    return jax.eval_shape(_detect, area, distance, scalar, scalar)[:2]


def measure_timing(labels: np.ndarray, *, frame_time: float | None, heart_rate: float | None = None) -> Timing:
    """Detects the beats of a loop and checks its frame time by them.

    Args:
        labels: ``[t, h, w]``.
        frame_time: Seconds from frame to frame, or none if unknown.
        heart_rate: Stated beats a minute, as in a DICOM file, or none if unknown.

    Returns:
        Beats, heart rate and the checked frame time.

    Example:
        >>> import numpy as np
        >>> time = np.arange(60) / 30  # two seconds at 30 frames/s, one beat a second
        >>> labels = np.zeros((60, 64, 64), np.int32)
        >>> for frame, radius in zip(labels, 18 + 5 * np.cos(2 * np.pi * time), strict=True):
        ...     frame[32 - int(radius) : 32 + int(radius), 20:44] = 1
        >>> round(float(measure_timing(labels, frame_time=1 / 30).heart_rate))
        60
    """
    area = np.count_nonzero(labels == LV, axis=(1, 2)).astype(np.float32)
    stated = heart_rate if heart_rate and np.isfinite(heart_rate) and heart_rate > 0 else np.nan
    detected = _DETECT(
        area,
        np.int32(clinical.min_beat_distance(len(labels), frame_time=frame_time)),
        np.float32(frame_time or np.nan),
        np.float32(stated),
    )
    beats, phases, measured, systole, is_in_range, findings = jax.tree.map(np.asarray, detected)
    rate = float(measured) if np.isnan(stated) else float(stated)
    is_trusted = frame_time is not None and not any(findings)
    trusted = frame_time if is_trusted else None
    return Timing(beats, phases, rate, float(measured), float(systole), bool(is_in_range), findings, trusted)


def _detect(area, min_distance, frame_time, stated_rate):
    beats = clinical.detect_beats(area, min_distance=min_distance)
    measured = clinical.heart_rate(beats, frame_time)
    systole = clinical.summarize_beats((beats.end_systole - beats.end_diastole) * frame_time, beats).median
    findings = clinical.check_timing(measured, systole, stated_rate=stated_rate)
    is_in_range = clinical.is_heart_rate_in_range(jnp.where(jnp.isnan(stated_rate), measured, stated_rate))
    return beats, clinical.detect_phases(area), measured, systole, is_in_range, findings


_DETECT = aot.CompiledFunction(_detect)
