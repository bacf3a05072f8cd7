"""The left ventricle over a loop: areas, lengths, volumes, phases and the ejection fraction."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import clinical
from cardiojax.measurement.motion import min_beat
from cardiojax.runtime import aot


class Measurements(NamedTuple):
    """What was measured, in the units of ``is_calibrated``: mm and ml, else pixels and pixels cubed / 1000.

    Attributes:
        lv_area: LV cavity in each frame, mm^2, ``[t]``.
        lv_length: Mid-base to apex in each frame, mm, ``[t]``.
        lv_volume: Single-plane volume by 20 disks in each frame, ml, ``[t]``.
        end_diastole: Its frame.
        end_systole: Its frame.
        has_phases: Whether the two could be told apart; a single frame has none.
        ejection_fraction: Single-plane, percent, each phase with its own length; nan where it cannot be measured.
        ejection_fraction_one_length: The same with the longer length for both phases, as the reference of CAMUS does.
        fractional_area_change: Percent.
        is_calibrated: Whether the pixel spacing is known.
    """

    lv_area: np.ndarray
    lv_length: np.ndarray
    lv_volume: np.ndarray
    end_diastole: int
    end_systole: int
    has_phases: bool
    ejection_fraction: float
    ejection_fraction_one_length: float
    fractional_area_change: float
    is_calibrated: bool


def compile_measure(num_frames: int, height: int, width: int, *, frame_time: float | None) -> None:
    """Begins to compile what `measure` runs.

    Args:
        num_frames: Length of the loop.
        height: Height of its masks.
        width: Their width.
        frame_time: Seconds from frame to frame, or none if unknown.
    """
    masks = jax.ShapeDtypeStruct((num_frames, height, width), jnp.int32)
    _CURVES.compile(masks, jax.ShapeDtypeStruct((2,), jnp.float32), min_distance=min_beat(frame_time))


def measure(masks: np.ndarray, spacing: tuple[float, float] | None, *, frame_time: float | None = None) -> Measurements:
    """Measures the left ventricle over a loop, one frame at a time.

    End-diastole and end-systole are those of the most regular beat, or the extremes of a loop without a whole one.

    Args:
        masks: ``[t, h, w]``.
        spacing: ``(dy, dx)`` in mm; pixels are the unit if it is unknown.
        frame_time: Seconds from frame to frame, if known.

    Returns:
        The numbers.
    """
    found, ends, has_phases, changes = jax.tree.map(
        np.asarray, _CURVES(masks, np.asarray(spacing or (1.0, 1.0), np.float32), min_distance=min_beat(frame_time))
    )
    (area, length, volume), (end_diastole, end_systole) = found, map(int, ends)
    by_phase, one_length, area_change = map(float, changes)
    return Measurements(
        area,
        length,
        volume,
        end_diastole,
        end_systole,
        bool(has_phases),
        by_phase,
        one_length,
        area_change,
        spacing is not None,
    )


def _curves(masks, spacing, min_distance):
    cut = jax.lax.map(lambda mask: clinical.disks(mask, spacing), masks)
    area, volume = clinical.lv_area(masks, spacing), clinical.single_plane_volume(cut)
    phases, beats = clinical.detect_phases(area), clinical.detect_beats(area, min_distance=min_distance)
    end_diastole = jnp.where(beats.valid, beats.start, phases.end_diastole)
    end_systole = jnp.where(beats.valid, beats.end_systole, phases.end_systole)
    ends = [clinical.Disks(cut.diameters[frame], cut.length[frame]) for frame in (end_diastole, end_systole)]
    changes = (
        clinical.single_plane_ejection(*ends).fraction,
        clinical.single_plane_ejection(*ends, rule="camus").fraction,
        clinical.fractional_area_change(area[end_diastole], area[end_systole]),
    )
    changes = [jnp.where(phases.valid, change, jnp.nan) for change in changes]
    return (area, cut.length, volume), (end_diastole, end_systole), phases.valid, changes


_CURVES = aot.CompiledFunction(_curves, options=dict, static_argnames="min_distance")
