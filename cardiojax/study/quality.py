"""Quality of a clip, by which the best of each view is chosen."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cardiojax.analysis import trust
from cardiojax.analysis.recording import Analysis
from cardiojax.labels import LV, MYOCARDIUM

#: Frames a second that the guideline asks for: Lang et al., JASE 2015, and Voigt et al., EHJ-CI 2015 (at least 40).
MIN_FRAME_RATE = 40.0
#: Mean uncertainty inside ventricle and myocardium at which outlines count as not certain at all.
_UNCERTAIN = 0.5
#: Weights of the parts, which sum up to one.
_WEIGHTS = {"certainty": 0.35, "validity": 0.25, "beats": 0.25, "frame_rate": 0.15}


class Rank(NamedTuple):
    """What clips of a view are compared by, in this order: the larger is the better one.

    Attributes:
        is_measured: Whether the clip has an ejection fraction that is not withheld.
        is_length_known: Whether the length of its ventricle is known, so that a foreshortened view can be seen.
        quality: The score, times the length over that of the longest clip if the length is known.
    """

    is_measured: bool
    is_length_known: bool
    quality: float


class Quality(NamedTuple):
    """Quality of a clip and what it is made of; shares in [0, 1].

    The score is the weighted mean of ``certainty`` (0.35), ``validity`` (0.25), ``beats`` (0.25) and ``frame_rate``
    (0.15). Clips of a view are compared by `rank`.

    Attributes:
        score: The weighted mean.
        certainty: 1 for no uncertainty inside ventricle and myocardium, 0 for a mean of 0.5 or more. The uncertainty is
            that of the analysis: the entropy of the probabilities, or the map of CRISP if that is estimated, whose
            values are not on the same scale.
        validity: Share of the frames whose outlines are anatomically valid as the network draws them.
        beats: 1 with a whole beat, 0.6 with end-diastole and end-systole of a beat, 0.3 with two different phases, else
            0.
        frame_rate: Frames a second over 40, at most 1; 0.5 if unknown.
        length: Long axis at end-diastole in mm; nan if unknown or withheld.
        is_measured: Whether the clip has an ejection fraction that is not withheld.
        is_calibrated: Whether its pixel spacing is known.
    """

    score: float
    certainty: float
    validity: float
    beats: float
    frame_rate: float
    length: float
    is_measured: bool
    is_calibrated: bool

    def rank(self, longest: float) -> Rank:
        """What the clip is compared by with others of its view.

        A foreshortened view shows a shorter ventricle. Clips in which the length is known come before the others, and
        clips whose ejection fraction is withheld after all others.

        Args:
            longest: The longest ventricle of the clips, see `longest_of`.

        Returns:
            The rank; the order of clips is the same for any length.

        Example:
            >>> short = Quality(0.8, 1, 1, 1, 1, length=60.0, is_measured=True, is_calibrated=True)
            >>> round(short.rank(80.0).quality, 2), short.rank(80.0) > short._replace(score=0.7).rank(80.0)
            (0.6, True)
        """
        is_length_known = bool(np.isfinite(self.length))
        share = self.length / longest if is_length_known else 1.0
        return Rank(self.is_measured, is_length_known, float(self.score * share))


def longest_of(clips: Iterable[Quality]) -> float:
    """The longest ventricle of some clips in mm; nan if no length is known."""
    return max((clip.length for clip in clips if np.isfinite(clip.length)), default=np.nan)


def reason_of_choice(better: Quality, other: Quality) -> str | None:
    """Why a clip comes after a better one, where its quality does not say so.

    Args:
        better: The chosen clip of a view.
        other: Another clip of it.

    Returns:
        A clause; None if they are compared by the quality.
    """
    longest = longest_of((better, other))
    first, second = better.rank(longest), other.rank(longest)
    if first.is_measured != second.is_measured:
        return "its ejection fraction is withheld"
    if first.is_length_known != second.is_length_known:
        return "its pixel spacing is unknown" if not other.is_calibrated else "the length of its ventricle is unknown"
    return None


def assess_quality(analysis: Analysis) -> Quality:
    """Quality of a clip.

    Args:
        analysis: Its analysis.

    Returns:
        The score and its parts.
    """
    labels, measurements, withdrawn = analysis.predicted.labels, analysis.measurements, analysis.withdrawn
    inside = (labels == LV) | (labels == MYOCARDIUM)
    uncertainty = float(analysis.uncertainty[inside].mean()) if inside.any() else _UNCERTAIN
    parts = {
        "certainty": 1 - min(uncertainty / _UNCERTAIN, 1.0),
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
        is_calibrated=measurements.is_calibrated,
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
