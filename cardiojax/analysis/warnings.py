"""Sentences of a report: what was changed, and what not to trust."""

import numpy as np
from scipy import ndimage

from cardiojax import labels
from cardiojax.analysis.sector import Sector
from cardiojax.correction.anatomical import AnatomicalCorrection
from cardiojax.data import Recording
from cardiojax.measurement.motion import name_frames
from cardiojax.measurement.volumes import Measurements

#: Quality in percent below which the outlines of a frame should not be trusted.
POOR = 5


def anatomical_correction_messages(correction: AnatomicalCorrection | None) -> list[str]:
    """What was replaced because it could not be a heart.

    Args:
        correction: What became of the masks; no message if not given.

    Returns:
        At most one sentence.
    """
    if correction is None or not (correction.changed > 0).any():
        return []
    rows = np.flatnonzero(correction.changed > 0)
    largest = int(rows[correction.changed[rows].argmax()])
    sentence = (
        f"The outlines of {len(rows)} of {len(correction.masks)} frames could not be those of a heart and were "
        f"replaced by the nearest that could; the largest change, in frame {largest}, is "
        f"{100 * correction.changed[largest]:.0f} % of the heart's area."
    )
    return [sentence]


def uncertainty_messages(masks: np.ndarray, uncertainty: np.ndarray, quality: np.ndarray | None) -> list[str]:
    """Which frames not to trust, if they were judged, else whether the model is unsure of them all.

    Args:
        masks: Label maps, ``[t, h, w]``.
        uncertainty: Uncertainty of each pixel, ``[t, h, w]``.
        quality: Of each frame in percent, if they were judged.

    Returns:
        At most one sentence.
    """
    if quality is None:
        inside = (masks == labels.LV) | (masks == labels.MYOCARDIUM)
        mean = float(uncertainty[inside].mean()) if inside.any() else 1.0
        sentence = f"The model is unsure of this recording (mean entropy {mean:.2f}): check the view and the outlines."
        return [sentence] if mean > 0.25 else []
    poor = np.flatnonzero(quality < POOR)
    if not poor.size:
        return []
    return [
        f"The outlines of {name_frames(poor)} should not be trusted: they agree less with the "
        f"hearts that go with such images than those of {100 - POOR} % of the validation images."
    ]


def measurement_messages(recording: Recording, sector: Sector, masks: np.ndarray, found: Measurements) -> list[str]:
    """What the recording and the numbers themselves say against trusting them.

    Args:
        recording: What was read.
        sector: Where the ultrasound is.
        masks: Label maps, ``[t, h, w]``.
        found: The numbers.

    Returns:
        Sentences.
    """
    sentences = []
    num_frames = len(masks)
    if recording.spacing is None:
        sentences.append("The pixel spacing is unknown: lengths and volumes are in pixels, only ratios are meaningful.")
    if num_frames == 1:
        sentences.append("A single frame: no ejection fraction can be measured.")
    missing = [t for t in range(num_frames) if not (masks[t] == labels.LV).any()]
    if missing:
        sentences.append(f"No left ventricle was found in {len(missing)} of {num_frames} frames.")
    no_axis = int(np.isnan(found.lv_length).sum()) - len(missing)
    if no_axis > 0:
        sentences.append(f"The mitral plane was not found in {no_axis} of {num_frames} frames.")
    no_atrium = num_frames - int((masks == labels.LEFT_ATRIUM).any((1, 2)).sum())
    if no_atrium > num_frames / 2:
        sentences.append(
            f"No left atrium was found in {no_atrium} of {num_frames} frames: is it an apical view of the heart?"
        )
    top, bottom, left, right = sector.box
    edge = sector.mask & ~ndimage.binary_erosion(sector.mask)
    cut_off = int((masks[:, top:bottom, left:right][:, edge] == labels.LV).any(1).sum())
    if cut_off:
        sentences.append(f"The left ventricle reaches the edge of the sector in {cut_off} of {num_frames} frames.")
    jumps = _count_jumps(found.lv_volume)
    if jumps:
        sentences.append(
            f"The volume jumps in {jumps} of {num_frames} frames: the outlines are unsteady, or the view is not an "
            "apical two- or four-chamber view."
        )
    apart = abs(found.end_diastole - found.end_systole) * (recording.frame_time or 0.0)
    if found.has_phases and apart > 1.0:
        sentences.append(
            f"End-diastole and end-systole lie {apart:.1f} s apart: they may belong to different beats, or the frame "
            "rate is wrong."
        )
    duration = (recording.frame_time or np.nan) * num_frames
    if num_frames > 1 and duration < 0.6:
        sentences.append(f"The loop lasts {duration:.1f} s, which may be less than a cardiac cycle.")
    return sentences


def _count_jumps(volume: np.ndarray) -> int:
    """Frames whose volume is more than a quarter off the median of the five around them."""
    if len(volume) < 5 or not np.isfinite(volume).all():
        return 0
    steady = ndimage.median_filter(volume, 5, mode="nearest")
    return int((np.abs(volume - steady) > 0.25 * steady).sum())
