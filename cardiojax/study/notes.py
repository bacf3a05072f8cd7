"""What limits the numbers of a study, in words."""

from collections.abc import Mapping

import numpy as np

from cardiojax.analysis.trust import EJECTION_FRACTION, HEART_RATE, VOLUMES, Finding
from cardiojax.analysis.view import ViewEstimate
from cardiojax.labels import VIEW_NAMES
from cardiojax.measurement.volumes import Measurements
from cardiojax.study.patient import Patient
from cardiojax.study.quality import MIN_FRAME_RATE
from cardiojax.study.view import View, median_of_known

#: Difference of the two heart rates, and of the two lengths, as a share of the larger.
_MAX_RATE_DIFFERENCE, _MAX_LENGTH_DIFFERENCE = 0.1, 0.1
#: What apical grey-scale loops of two views cannot show.
NOT_MEASURABLE = (
    "Not measurable from two-dimensional apical two- and four-chamber loops: E/e' and other Doppler numbers, global "
    "longitudinal strain of three views and its bull's-eye display, the right ventricle, valves."
)
#: The difference between the two biplane ejection fractions.
_TWO_RULES = (
    "The CAMUS rule takes one length for both phases: its ejection fraction is lower than the textbook's, by about 8 "
    "points in CAMUS, because the shortening of the ventricle does not count."
)


def clip_findings(
    stated: str | None, recognised: ViewEstimate, measurements: Measurements, *, is_pair: bool
) -> tuple[Finding, ...]:
    """Where the outlines or the images of a clip contradict what is stated of it.

    Args:
        stated: The view that is stated by hand; None if it was recognised.
        recognised: The view that the images show.
        measurements: Those of the clip.
        is_pair: Whether it is two stills, of which the name of the first says end-diastole.

    Returns:
        Findings; none withdraws a number.
    """
    findings = []
    if stated is not None and recognised.view != stated:
        seen = recognised.reason or f"The images look like an apical {VIEW_NAMES[recognised.view]} view."
        findings.append(Finding((), f"The {VIEW_NAMES[stated]} view was stated by hand. {seen}"))
    if is_pair and measurements.has_phases and measurements.end_diastole != 0:
        reason = "By its outlines the still that is named end-systole shows the larger ventricle, and is taken for "
        findings.append(
            Finding((VOLUMES, EJECTION_FRACTION), f"{reason}end-diastole: the names or the outlines are wrong.")
        )
    return tuple(findings)


def study_findings(views: Mapping[str, View], patient: Patient) -> tuple[Finding, ...]:
    """Limits of the numbers of a study.

    Args:
        views: The chosen views.
        patient: Sex, height and weight.

    Returns:
        Findings; none withdraws a number, since a number that is withheld says so itself.
    """
    findings = [*_view_findings(views)]
    if len(views) == 2:
        findings += _pair_findings(*(views[name] for name in VIEW_NAMES))
    findings += [Finding((), note) for note in patient.notes]
    if patient.sex is None:
        findings.append(Finding((), "The patient's sex is unknown: there is no reference range."))
    if patient.height_cm is None or patient.weight_kg is None:
        findings.append(Finding((), "Height or weight is unknown: nothing is indexed by the body surface area."))
    return (*findings, Finding((), NOT_MEASURABLE))


def _view_findings(views: Mapping[str, View]) -> list[Finding]:
    findings = []
    if len(views) == 1:
        (name,) = views
        reason = (
            f"Only the {VIEW_NAMES[name]} view was measured: ejection fraction and volumes are from a single plane."
        )
        findings.append(Finding((EJECTION_FRACTION, VOLUMES), reason))
    for name, view in views.items():
        rate = 1 / view.frame_time if view.frame_time else np.inf
        if rate < 0.995 * MIN_FRAME_RATE:
            reason = f"The frame rate of the {VIEW_NAMES[name]} clip is {rate:.0f}/s, below {MIN_FRAME_RATE:.0f}/s"
            findings.append(Finding((), f"{reason}: the smallest volume and the peak strain may be missed."))
        if view.corrected_frames:
            num = len(view.corrected_frames)
            reason = (
                f"In the {VIEW_NAMES[name]} clip {num} outline{'s' if num > 1 else ''} of end-diastole or end-systole "
            )
            findings.append(Finding((), f"{reason}{'were' if num > 1 else 'was'} changed by a correction."))
    return findings


def _pair_findings(two_chamber: View, four_chamber: View) -> list[Finding]:
    findings = [Finding((EJECTION_FRACTION,), _TWO_RULES)]
    rates = np.array([two_chamber.heart_rate, four_chamber.heart_rate])
    if np.ptp(rates) > _MAX_RATE_DIFFERENCE * rates.max():
        reason = f"The heart rates of the two clips differ: {rates[0]:.0f}/min (two-chamber) and {rates[1]:.0f}/min."
        findings.append(Finding((HEART_RATE,), reason))
    if two_chamber.is_calibrated and four_chamber.is_calibrated:
        lengths = np.array(
            [median_of_known(np.asarray(v.corrected.cavity.length)[:, 0]) for v in (two_chamber, four_chamber)]
        )
        if np.ptp(lengths) > _MAX_LENGTH_DIFFERENCE * lengths.max():
            short, long = (list(VIEW_NAMES.values())[i] for i in (lengths.argmin(), lengths.argmax()))
            reason = (
                f"The left ventricle is {lengths.min():.0f} mm long in the {short} clip and {lengths.max():.0f} mm "
            )
            reason += f"in the {long} clip at end-diastole: the {short} view may be foreshortened."
            findings.append(Finding((VOLUMES, EJECTION_FRACTION), reason))
    return findings
