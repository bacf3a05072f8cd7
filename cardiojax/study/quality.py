"""Quality of a clip, by which the best of each view is chosen."""

from typing import NamedTuple

import numpy as np

from cardiojax.analysis import trust
from cardiojax.analysis.recording import Analysis
from cardiojax.labels import LV, MYOCARDIUM

#: Frames a second that the guideline asks for: Lang et al., JASE 2015, and Voigt et al., EHJ-CI 2015 (at least 40).
MIN_FRAME_RATE = 40.0
#: Mean entropy inside ventricle and myocardium at which outlines count as not certain at all.
_UNCERTAIN = 0.5
#: Weights of the parts, which sum up to one.
_WEIGHTS = {"certainty": 0.35, "validity": 0.25, "beats": 0.25, "frame_rate": 0.15}


class Quality(NamedTuple):
    """Quality of a clip and what it is made of; shares in [0, 1].

    The score is the weighted mean of ``certainty`` (0.35), ``validity`` (0.25), ``beats`` (0.25) and ``frame_rate``
    (0.15). Among clips of a view it is multiplied by the length of the ventricle over that of the longest one, because
    a foreshortened view shows a shorter one; a clip whose ejection fraction is withheld comes after all others.

    Attributes:
        score: The weighted mean.
        certainty: 1 for no entropy inside ventricle and myocardium, 0 for a mean of 0.5 or more.
        validity: Share of the frames whose outlines are anatomically valid as the network draws them.
        beats: 1 with a whole beat, 0.6 with end-diastole and end-systole of a beat, 0.3 with two different phases, else
            0.
        frame_rate: Frames a second over 40, at most 1; 0.5 if unknown.
        length: Long axis at end-diastole in mm; nan if unknown or withheld.
        is_measured: Whether the clip has an ejection fraction that is not withheld.
    """

    score: float
    certainty: float
    validity: float
    beats: float
    frame_rate: float
    length: float
    is_measured: bool

    @property
    def rank(self) -> tuple[bool, float]:
        """What clips of a view are compared by: the larger is the better one."""
        return self.is_measured, self.score * (self.length if np.isfinite(self.length) else 1.0)


def assess_quality(analysis: Analysis) -> Quality:
    """Quality of a clip.

    Args:
        analysis: Its analysis.

    Returns:
        The score and its parts.
    """
    labels, measurements, withdrawn = analysis.predicted.labels, analysis.measurements, analysis.withdrawn
    inside = (labels == LV) | (labels == MYOCARDIUM)
    entropy = float(analysis.uncertainty[inside].mean()) if inside.any() else _UNCERTAIN
    parts = {
        "certainty": 1 - min(entropy / _UNCERTAIN, 1.0),
        "validity": 1.0 if analysis.correction is None else float(analysis.correction.was_valid.mean()),
        "beats": _beats(analysis),
        "frame_rate": _frame_rate(analysis),
    }
    length = float(measurements.lv_length[measurements.end_diastole])
    is_length_known = measurements.is_calibrated and trust.LENGTHS not in withdrawn
    is_measured = np.isfinite(measurements.ejection_fraction) and trust.EJECTION_FRACTION not in withdrawn
    return Quality(
        score=sum(weight * parts[name] for name, weight in _WEIGHTS.items()),
        **parts,
        length=length if is_length_known else np.nan,
        is_measured=bool(is_measured),
    )


def _beats(analysis: Analysis) -> float:
    measurements = analysis.measurements
    if measurements.has_whole_beat:
        return 1.0
    if len(measurements.beats.end_diastole):
        return 0.6
    return 0.3 if measurements.has_phases else 0.0


def _frame_rate(analysis: Analysis) -> float:
    frame_time = analysis.recording.frame_time
    return 0.5 if not frame_time else min(1 / frame_time / MIN_FRAME_RATE, 1.0)
