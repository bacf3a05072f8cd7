"""One view of a patient: what is measured on each of its beats, as drawn and after corrections."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int
from scipy import ndimage

from cardiojax import clinical
from cardiojax.analysis.pairs import frames_of_beats
from cardiojax.analysis.recording import Analysis
from cardiojax.analysis.trust import HEART_RATE, withdrawn
from cardiojax.labels import LEFT_ATRIUM
from cardiojax.measurement.chambers import Chambers, measure_chambers
from cardiojax.measurement.motion import Motion
from cardiojax.measurement.volumes import Measurements

#: Share of the outline of the atrium that may lie at the edge of the sector: up to it, at most 3 % of the volume are
#: missing in 95 % of true outlines that are cut (`experiments.segmentation.atrial_cut`).
_MAX_AT_EDGE = 0.15


class Phases(NamedTuple):
    """The ventricle at end-diastole and end-systole of each beat, ``[n, 2]``.

    Attributes:
        cavity: Disks of the cavity.
        area: Its area, mm².
    """

    cavity: clinical.Disks
    area: np.ndarray


class Strains(NamedTuple):
    """Peak systolic longitudinal strain of each beat in percent, ``[n]``.

    Attributes:
        mid_wall: Of the middle of the wall.
        endocardial: Of its inner border.
    """

    mid_wall: np.ndarray
    endocardial: np.ndarray


class View(NamedTuple):
    """One view of a patient; lengths in mm, or in pixels where the spacing is unknown.

    Attributes:
        name: ``"2CH"`` or ``"4CH"``.
        corrected: The ventricle after all corrections.
        drawn: The ventricle as the networks draw it.
        chambers: Wall and atrium, ``[n, 2]``.
        strains: Strain after the corrections.
        strains_drawn: Strain as the network draws the outlines.
        has_phases: Whether end-diastole and end-systole differ.
        heart_rate: Beats a minute; nan if unknown or withheld.
        frame_time: Seconds from frame to frame; None if unknown.
        is_calibrated: Whether the spacing is known.
        is_atrium_cut_off: Whether the atrium reaches the edge of the sector at end-systole.
        corrected_frames: Frames of end-diastole and end-systole whose outlines were changed by a correction.
        withdrawn: Quantities of `cardiojax.analysis.trust` that are withheld, and why.
    """

    name: str
    corrected: Phases
    drawn: Phases
    chambers: Chambers
    strains: Strains
    strains_drawn: Strains
    has_phases: bool = True
    heart_rate: float = np.nan
    frame_time: float | None = None
    is_calibrated: bool = True
    is_atrium_cut_off: bool = False
    corrected_frames: tuple[int, ...] = ()
    withdrawn: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def of_analysis(cls, name: str, analysis: Analysis) -> "View":
        """What an analysis holds of its view.

        Args:
            name: ``"2CH"`` or ``"4CH"``.
            analysis: The analysis.
        """
        measurements, motion, reasons = analysis.measurements, analysis.motion, withdrawn(analysis.findings)
        beats = frames_of_beats(measurements).reshape(-1, 2)
        spacing = analysis.recording.spacing
        spacing = None if spacing is None else analysis.grid.spacing(spacing)
        drawn, changed = analysis.predicted, (analysis.predicted.labels != analysis.labels).any((1, 2))
        axis = jax.tree.map(lambda values: values[beats], measurements.axis)
        return cls(
            name=name,
            corrected=_phases(measurements, beats),
            drawn=_phases(drawn.measurements, beats),
            chambers=measure_chambers(analysis.labels[beats], spacing, axis),
            strains=_strains(motion),
            strains_drawn=_strains(drawn.motion),
            has_phases=measurements.has_phases,
            heart_rate=np.nan if HEART_RATE in reasons else motion.heart_rate,
            frame_time=analysis.recording.frame_time,
            is_calibrated=measurements.is_calibrated,
            is_atrium_cut_off=_is_cut_off(analysis, beats[:, 1]),
            corrected_frames=tuple(np.unique(beats[changed[beats]]).tolist()),
            withdrawn=reasons,
        )

    @classmethod
    def of_labels(cls, name: str, labels: np.ndarray, spacing: tuple[float, float] | None) -> "View":
        """What label maps hold of a view.

        Args:
            name: ``"2CH"`` or ``"4CH"``.
            labels: End-diastole and end-systole of each beat, ``[n, 2, h, w]``.
            spacing: ``(dy, dx)`` in mm; None if unknown.
        """
        size = jnp.asarray(spacing or (1.0, 1.0), jnp.float32)
        axis, cavity, area = jax.tree.map(np.asarray, _ventricle(jnp.asarray(labels, jnp.int32), size))
        phases = Phases(cavity, area)
        nothing = Strains(*[np.full(len(labels), np.nan)] * 2)
        chambers = measure_chambers(labels, spacing, axis)
        return cls(
            name=name,
            corrected=phases,
            drawn=phases,
            chambers=chambers,
            strains=nothing,
            strains_drawn=nothing,
            is_calibrated=spacing is not None,
        )


def median_of_known(values: np.ndarray) -> float:
    """Median of the values that were measured.

    Args:
        values: One of each beat; nan or infinite where it could not be measured.

    Returns:
        The median of the finite values; nan if there are none.

    Example:
        >>> median_of_known(np.array([-18.0, np.nan, -19.0])), median_of_known(np.array([np.nan]))
        (-18.5, nan)
    """
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan


def _phases(measurements: Measurements, beats: np.ndarray) -> Phases:
    cavity = jax.tree.map(lambda values: values[beats], measurements.cavity)
    return Phases(cavity, measurements.lv_area[beats])


def _strains(motion: Motion) -> Strains:
    if not len(motion.mid_wall_peaks):
        return Strains(np.array([motion.mid_wall_peak]), np.array([motion.endocardial_peak]))
    return Strains(motion.mid_wall_peaks, motion.endocardial_peaks)


def edge_share(labels: Int[np.ndarray, "h w"], sector: Bool[np.ndarray, "h w"]) -> float:
    """Share of the outline of the left atrium that lies at the edge of the sector.

    Args:
        labels: Label map.
        sector: The pixels of the sector.

    Returns:
        0 to 1; 0 without an atrium.

    Example:
        >>> labels = np.zeros((20, 20), int)
        >>> labels[10:, 5:15] = 3
        >>> round(edge_share(labels, np.ones((20, 20), bool)), 2)
        0.33
    """
    atrium = labels == LEFT_ATRIUM
    outline = atrium & ~ndimage.binary_erosion(atrium)
    inside = ndimage.binary_erosion(sector, iterations=2)
    return float((outline & ~inside).sum() / max(outline.sum(), 1))


def _is_cut_off(analysis: Analysis, frames: np.ndarray) -> bool:
    """Whether more of the atrium's outline than a small share lies at the edge of the sector in most of the frames."""
    sector = np.zeros(analysis.labels.shape[1:], bool)
    top, bottom, left, right = analysis.sector.box
    sector[top:bottom, left:right] = analysis.sector.mask
    return float(np.median([edge_share(labels, sector) for labels in analysis.labels[frames]])) > _MAX_AT_EDGE


@jax.jit
def _ventricle(labels, spacing):
    axis = clinical.long_axis(labels, spacing)
    return axis, clinical.disks(labels, spacing, axis=axis), clinical.lv_area(labels, spacing)
