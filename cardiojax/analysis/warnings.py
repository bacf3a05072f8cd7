"""Warnings of a report, which withdraw no measurement: what is missing, what was corrected, what is uncertain."""

import numpy as np
from scipy import ndimage

from cardiojax.analysis.grid import Grid
from cardiojax.analysis.privacy import visible_part
from cardiojax.analysis.sector import Sector, colour_reason
from cardiojax.analysis.trust import AREAS, EJECTION_FRACTION, LENGTHS, VOLUMES, Finding, Outlines
from cardiojax.correction.anatomical import AnatomicalCorrection
from cardiojax.correction.temporal import TemporalCorrection
from cardiojax.data import Recording
from cardiojax.labels import LEFT_ATRIUM, LV, MYOCARDIUM
from cardiojax.measurement.motion import Motion, name_frames
from cardiojax.measurement.volumes import Measurements

#: Quality in percent below which the outlines of a frame should not be trusted.
POOR_QUALITY = 5
#: Mean entropy inside the left ventricle and its myocardium above which a recording is reported as uncertain.
_HIGH_ENTROPY = 0.25


def recording_findings(recording: Recording, sector: Sector, grid: Grid) -> list[Finding]:
    """Notes on the recording: limits of the file, the sector, the spacing and the number of frames.

    Args:
        recording: The recording.
        sector: The ultrasound sector.
        grid: The analysis grid.

    Returns:
        Findings.
    """
    sentences = [*recording.notes, *sector.notes]
    if recording.burned_in and sector.is_found:
        sentences.append("The frames hold text that identifies the patient: pictures show the sector only.")
    elif not sector.is_found:
        frames = grid.reduce(recording.frames)
        if not visible_part(frames, sector, burned_in=recording.burned_in).any():
            sentences.append("Pictures are black: text in the frames may identify the patient, and no sector is found.")
    if grid.stride > 1:
        sentences.append(
            "The frames are large: outlines are measured on a coarser grid, "
            f"each pixel of which is {grid.stride} x {grid.stride} pixels of the frames."
        )
    findings = [Finding((), sentence) for sentence in sentences]
    coloured = None if recording.coloured is None else grid.reduce(recording.coloured)
    if (reason := colour_reason(coloured, sector)) is not None:
        findings.append(Finding((), reason))
    if recording.spacing is None:
        reason = "The pixel spacing is unknown: lengths, areas and volumes are in pixels, only ratios are meaningful."
        findings.append(Finding((LENGTHS, AREAS, VOLUMES), reason))
    if len(recording.frames) == 1:
        findings.append(Finding((EJECTION_FRACTION,), "A single frame: no ejection fraction can be measured."))
    return findings


def outline_findings(outlines: Outlines, measurements: Measurements) -> list[Finding]:
    """Structures that are missing or cut off by the sector, and volumes that jump from frame to frame.

    Args:
        outlines: The label maps.
        measurements: What was measured on them.

    Returns:
        Findings.
    """
    labels, sector, num_frames = outlines.corrected, outlines.sector, len(outlines.corrected)
    has_lv = (labels == LV).any((1, 2))
    no_axis = int(np.isnan(measurements.lv_length)[has_lv].sum())
    no_atrium = num_frames - int((labels == LEFT_ATRIUM).any((1, 2)).sum())
    top, bottom, left, right = sector.box
    edge = sector.mask & ~ndimage.binary_erosion(sector.mask)
    cut_off = int((labels[:, top:bottom, left:right][:, edge] == LV).any(1).sum())
    jumps = _count_jumps(measurements.lv_volume)
    sentences = (
        (num_frames - has_lv.sum(), "No left ventricle was found in {} frames."),
        (no_axis, "The mitral plane was not found in {} frames."),
        (
            no_atrium if no_atrium > num_frames / 2 else 0,
            "No left atrium was found in {} frames: the view may not be an apical one.",
        ),
        (cut_off, "The left ventricle reaches the edge of the sector in {} frames."),
        (
            jumps,
            "The volume jumps in {} frames: the outlines are unstable, or the view is not an apical two- or "
            "four-chamber view.",
        ),
    )
    return [Finding((), sentence.format(f"{num} of {num_frames}")) for num, sentence in sentences if num]


def correction_findings(
    anatomical: AnatomicalCorrection | None,
    temporal: TemporalCorrection | None,
    before: Motion | None,
    after: Motion,
    *,
    pair_frames: np.ndarray | None = None,
) -> list[Finding]:
    """Which frames were corrected, and by how much.

    Args:
        anatomical: The anatomical correction, if there was one.
        temporal: The temporal correction of the frames segmented one by one, if there was one.
        before: Motion before the temporal correction.
        after: Motion after it.
        pair_frames: Frames whose outlines were replaced by those of the pair network after it; None if there are none.

    Returns:
        Findings.
    """
    sentences = []
    rows = np.flatnonzero(anatomical.changed > 0) if anatomical is not None else np.zeros(0, int)
    if anatomical is not None and rows.size:
        largest = int(rows[anatomical.changed[rows].argmax()])
        sentences.append(
            f"The outlines of {len(rows)} of {len(anatomical.labels)} frames were anatomically invalid and were "
            f"replaced by the nearest valid ones; the largest change, in frame {largest}, is "
            f"{100 * anatomical.changed[largest]:.0f} % of the heart's area."
        )
    if temporal is not None and before is not None:
        sentences.append(_temporal_sentence(temporal, before, after))
        shown = np.setdiff1d(np.flatnonzero(temporal.replaced), [] if pair_frames is None else pair_frames)
        if shown.size:
            sentences.append(f"The outlines of {name_frames(shown)} were outliers and are interpolated over time.")
    return [Finding((), sentence) for sentence in sentences]


def _temporal_sentence(temporal: TemporalCorrection, before: Motion, after: Motion) -> str:
    num, left = (int((~motion.is_consistent).sum()) for motion in (before, after))
    inconsistent = f"The outlines of {num} of {len(temporal.labels)} frames were temporally inconsistent"
    if temporal.moved.any():
        return (
            f"{inconsistent}; {int(temporal.moved.sum())} were corrected, by at most "
            f"{100 * temporal.changed.max():.0f} % of the heart's area, and {left or 'none'} "
            f"{'remain' if left > 1 else 'remains'} inconsistent (--no-temporal-correction turns this off)."
        )
    if not temporal.num_inconsistent:  # the iteration did not begin
        return f"{inconsistent} and were not corrected: too few other frames agree with each other."
    if not temporal.num_inconsistent[-1]:
        return f"{inconsistent} and were not corrected: on the grid of the correction they are consistent."
    return f"{inconsistent} and were not corrected: no small change of the outlines makes them consistent."


def uncertainty_findings(labels: np.ndarray, uncertainty: np.ndarray, quality: np.ndarray | None) -> list[Finding]:
    """Frames of poor quality; without a quality, whether the mean uncertainty of the recording is high.

    Args:
        labels: Label maps, ``[t, h, w]``.
        uncertainty: Uncertainty of each pixel, ``[t, h, w]``.
        quality: Quality of each frame in percent; None if it was not estimated.

    Returns:
        At most one finding.
    """
    if quality is None:
        inside = (labels == LV) | (labels == MYOCARDIUM)
        mean = float(uncertainty[inside].mean()) if inside.any() else 1.0
        reason = f"The model is unsure of this recording (mean entropy {mean:.2f}): check the view and the outlines."
        return [Finding((), reason)] if mean > _HIGH_ENTROPY else []
    poor = np.flatnonzero(quality < POOR_QUALITY)
    if not poor.size:
        return []
    reason = (
        f"The outlines of {name_frames(poor)} should not be trusted: they agree less with the training shapes that "
        f"match such images than those of {100 - POOR_QUALITY} % of the validation images."
    )
    return [Finding((), reason)]


def _count_jumps(volume: np.ndarray) -> int:
    """Frames whose volume is more than a quarter off the median of the five around them."""
    if len(volume) < 5 or not np.isfinite(volume).all():
        return 0
    median = ndimage.median_filter(volume, 5, mode="nearest")
    return int((np.abs(volume - median) > 0.25 * median).sum())
