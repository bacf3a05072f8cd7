"""Reasons not to rely on a measurement, and the rules by which measurements are withdrawn."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cardiojax.analysis.sector import Sector
from cardiojax.clinical import limits
from cardiojax.correction.temporal import TemporalCorrection
from cardiojax.labels import LV, MYOCARDIUM
from cardiojax.measurement.motion import name_frames
from cardiojax.measurement.volumes import Measurements

EJECTION_FRACTION = "ejection fraction"
VOLUMES = "volumes"
LENGTHS = "lengths"
AREAS = "areas"
AREA_CHANGE = "LV area change"
STRAIN = "longitudinal strain"
HEART_RATE = "heart rate"
#: Quantities that depend on the outlines; the heart rate depends on the frame time alone.
_OUTLINE_QUANTITIES = (EJECTION_FRACTION, VOLUMES, LENGTHS, AREAS, AREA_CHANGE, STRAIN)

#: Fraction of the heart's area by which a corrected outline may differ from the predicted one. Beyond it, a measurement
#: describes the correction rather than the image.
MAX_CHANGED = 0.3
#: Degrees between the downward direction and that from the centre of the cavity to its base. True apical views stay
#: within 45.
_MAX_TILT = 60.0
#: Area of a fan-shaped sector in the last quarter of its rows (or columns) less that in the first, over their sum.
#: Upright fans of CAMUS and three scanners: at least 0.29 by rows. A fan that lies on its side: about 0 by rows, and by
#: columns what an upright one has by rows.
_UPRIGHT_FAN, _SIDEWAYS_FAN = 0.2, 0.3


class Finding(NamedTuple):
    """A reason not to rely on some quantities.

    Attributes:
        quantities: The quantities concerned, among the names of this module; none for a general warning.
        reason: One sentence for the reader.
        is_withdrawn: Whether the quantities must not be shown.
    """

    quantities: tuple[str, ...]
    reason: str
    is_withdrawn: bool = False


class Outlines(NamedTuple):
    """Label maps of a loop on the analysis grid.

    Attributes:
        predicted: As the network predicts them, ``[t, h, w]``.
        corrected: After all corrections, ``[t, h, w]``.
        sector: The ultrasound sector.
        spacing: ``(dy, dx)`` in mm; None if unknown.
    """

    predicted: np.ndarray
    corrected: np.ndarray
    sector: Sector
    spacing: tuple[float, float] | None


def unique(*findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Joins lists of findings: each sentence once, those that withdraw quantities first."""
    by_reason = {finding.reason: finding for group in findings for finding in group}
    return tuple(sorted(by_reason.values(), key=lambda finding: not finding.is_withdrawn))


def withdrawn(findings: Iterable[Finding]) -> dict[str, str]:
    """The quantities that must not be shown.

    Args:
        findings: All findings.

    Returns:
        The first reason for each quantity.

    Example:
        >>> withdrawn([Finding((VOLUMES,), "Too large.", True), Finding((LENGTHS,), "Perhaps too long.")])
        {'volumes': 'Too large.'}
    """
    reasons: dict[str, str] = {}
    for finding in findings:
        if finding.is_withdrawn:
            reasons = dict.fromkeys(finding.quantities, finding.reason) | reasons
    return reasons


def measurement_findings(measurements: Measurements) -> list[Finding]:
    """Checks the ejection fraction, the lengths and the volumes against the limits of `cardiojax.clinical.limits`.

    Args:
        measurements: The measurements.

    Returns:
        Findings.
    """
    findings: list[Finding] = []
    flags = measurements.findings
    both = (EJECTION_FRACTION, VOLUMES)
    if measurements.is_calibrated:
        sizes = (LENGTHS, AREAS, VOLUMES)
        if flags.length_out_of_range:
            low, high = limits.LENGTH_RANGE
            reason = f"The length of the left ventricle is outside {low:.0f} to {high:.0f} mm"
            findings.append(Finding(sizes, f"{reason}: the pixel spacing or the outlines are wrong.", True))
        if flags.volume_out_of_range:
            reason = f"The volume of the left ventricle is above {limits.MAX_VOLUME:.0f} ml"
            findings.append(Finding(sizes, f"{reason}: the pixel spacing or the outlines are wrong.", True))
    if not measurements.has_phases:
        return findings
    if flags.reversed:
        findings.append(Finding(both, "The volume at end-systole is not below that at end-diastole.", True))
    fractions = np.array([measurements.ejection_fraction, measurements.ejection_fraction_one_length])
    low, high = limits.EJECTION_FRACTION_RANGE
    if flags.fraction_out_of_range or ((fractions < low) | (fractions > high)).any():
        findings.append(Finding(both, f"The ejection fraction is outside {low:.0f} to {high:.0f} %.", True))
    if flags.contradictory or np.ptp(fractions) > limits.MAX_EJECTION_FRACTION_DIFFERENCE:
        points = limits.MAX_EJECTION_FRACTION_DIFFERENCE
        reason = f"The ejection fractions by the two rules for the length differ by more than {points:.0f} points."
        findings.append(Finding(both, reason, True))
    if flags.foreshortened:
        percent = limits.MAX_SHORTENING
        reason = f"The long axis shortens by more than {percent:.0f} %: the view may be foreshortened at end-systole."
        findings.append(Finding(both, reason))
    return findings


def timing_findings(measurements: Measurements, frame_time: float | None) -> list[Finding]:
    """Checks the heart rate, the duration of systole, and whether the loop holds a whole beat.

    Args:
        measurements: The measurements.
        frame_time: Seconds from frame to frame, or none if unknown.

    Returns:
        Findings.
    """
    if not measurements.has_phases:
        return []
    timing, findings = measurements.timing, []
    low, high = limits.HEART_RATE_RANGE
    if timing.findings.heart_rate_out_of_range or not timing.is_heart_rate_in_range:
        reason = f"The heart rate is outside {low:.0f} to {high:.0f} per minute: the frame rate may be wrong."
        findings.append(Finding((HEART_RATE,), reason, True))
    if timing.findings.contradictory_heart_rate:
        percent = 100 * limits.MAX_HEART_RATE_DIFFERENCE
        reason = f"The heart rate of the loop differs from the stated one by more than {percent:.0f} %"
        findings.append(Finding((HEART_RATE,), f"{reason}: the frame rate may be wrong."))
    if timing.findings.systole_out_of_range:
        reason = f"End-systole follows end-diastole by more than {limits.MAX_SYSTOLE:.1f} s"
        findings.append(Finding((EJECTION_FRACTION, HEART_RATE), f"{reason}: the frame rate may be wrong."))
    if not len(measurements.beats.end_diastole):
        apart = abs(measurements.end_diastole - measurements.end_systole) * (frame_time or 0.0)
        reason = "The loop shows no beat from end-diastole to end-systole: the phases are its largest and its smallest "
        reason += f"outline{f', {apart:.1f} s apart' if apart else ''}."
        findings.append(Finding((EJECTION_FRACTION,), reason))
    elif not measurements.has_whole_beat:
        findings.append(Finding((EJECTION_FRACTION,), "The loop is shorter than a whole beat."))
    return findings


class ReplacedFrames(NamedTuple):
    """Which outlines a correction replaced.

    Attributes:
        is_replaced: Whether an outline was replaced, ``[t]``: more than `MAX_CHANGED` of the heart's area changed, or
            the outline is interpolated between its neighbours.
        changed: Pixels that the corrections changed, as a fraction of those of the heart, ``[t]``.
    """

    is_replaced: np.ndarray
    changed: np.ndarray


def replaced_frames(
    predicted: np.ndarray, corrected: np.ndarray, temporal_correction: TemporalCorrection | None
) -> ReplacedFrames:
    """Compares label maps before and after the corrections.

    Args:
        predicted: As the network predicts them, ``[t, h, w]``.
        corrected: After all corrections, ``[t, h, w]``.
        temporal_correction: The temporal correction, if there was one.

    Returns:
        Which frames were replaced, and how much of each was changed.
    """
    heart = np.maximum(((predicted > 0) | (corrected > 0)).sum((1, 2)), 1)
    changed = (predicted != corrected).sum((1, 2)) / heart
    is_replaced = changed > MAX_CHANGED
    if temporal_correction is not None:
        is_replaced |= temporal_correction.replaced
    return ReplacedFrames(is_replaced, changed)


def replacement_findings(
    outlines: Outlines, measurements: Measurements, temporal_correction: TemporalCorrection | None
) -> list[Finding]:
    """Whether measurements rest on outlines that a correction replaced.

    They do if an outline at end-diastole or end-systole was replaced, or if more than half of all outlines were. An
    outline counts as replaced if more than `MAX_CHANGED` of the heart's area changed, or if it was interpolated between
    its neighbours.

    Args:
        outlines: The label maps before and after.
        measurements: What was measured on them.
        temporal_correction: The temporal correction, if there was one.

    Returns:
        At most one finding.
    """
    is_replaced, changed = replaced_frames(outlines.predicted, outlines.corrected, temporal_correction)
    ends = sorted({measurements.end_diastole, measurements.end_systole})
    frames = np.flatnonzero(is_replaced)
    if not is_replaced[ends].any() and not is_replaced.mean() > 0.5:
        return []
    reason = (
        f"The measurements rest on outlines that were replaced: those of {len(frames)} of {len(changed)} frames, "
        f"{name_frames(frames)}, by up to {100 * changed[frames].max():.0f} % of the heart's area."
    )
    return [Finding(_OUTLINE_QUANTITIES, reason, True)]


def orientation_findings(outlines: Outlines) -> list[Finding]:
    """Whether the apex is above the base, as in the images that the models were trained on.

    Two checks: the direction from the centre of the cavity to its base, which is the part of its border that does not
    touch the myocardium; and the shape of the sector, which is narrow at the top.

    Args:
        outlines: The label maps.

    Returns:
        At most one finding.
    """
    angles = [angle for labels in outlines.corrected if (angle := _tilt(labels, outlines.spacing)) is not None]
    tilt = float(np.median(np.abs(angles))) if angles else 0.0
    down, across = _widening(outlines.sector.mask), _widening(outlines.sector.mask.T)
    is_fan_rotated = down < -_UPRIGHT_FAN or (abs(down) < _UPRIGHT_FAN and abs(across) > _SIDEWAYS_FAN)
    if tilt <= _MAX_TILT and not is_fan_rotated:
        return []
    reason = "The image is upside down or lies on its side: the apex must be above the base."
    return [Finding((*_OUTLINE_QUANTITIES, HEART_RATE), reason, True)]


def _widening(mask: np.ndarray) -> float:
    """Area of a mask in the last quarter of its rows less that in the first, over their sum: -1 to 1."""
    num = max(1, len(mask) // 4)
    first, last = int(mask[:num].sum()), int(mask[-num:].sum())
    return (last - first) / max(last + first, 1)


def _tilt(labels: np.ndarray, spacing: tuple[float, float] | None) -> float | None:
    """Degrees between downward and the direction from the centre of the cavity to its base; None if none is found."""
    lv = labels == LV
    wall = labels == MYOCARDIUM
    border = lv & ~ndimage.binary_erosion(lv)
    base = border & ~ndimage.binary_dilation(wall, np.ones((3, 3), bool))
    if not base.any() or base.sum() > border.sum() / 2:  # without myocardium around the cavity the base is unknown
        return None
    scale = np.array(spacing or (1.0, 1.0))
    down, across = (np.argwhere(base).mean(0) - np.argwhere(lv).mean(0)) * scale
    return float(np.degrees(np.arctan2(across, down)))
