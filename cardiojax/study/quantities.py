"""The quantities that a study reports: name, unit, formula and source of each."""

import math
from typing import NamedTuple

from cardiojax.analysis import trust
from cardiojax.labels import VIEW_NAMES

_LANG = "Lang et al., JASE 2015;28:1-39"
_LV, _LA = f"{_LANG}, LV size and function", f"{_LANG}, left atrial measurements"
_CAMUS = "Leclerc et al., IEEE TMI 2019;38:2198-2210"
_VOIGT = "Voigt et al., EHJ-CI 2015;16:1-11"
_DISKS = "20 elliptic disks from both views, each phase its own length, the longer of the two views"
_CAMUS_RULE = "20 elliptic disks, the longest length of both views and both phases for all"
_PLANE = "20 round disks from one view, each phase its own length"


class Definition(NamedTuple):
    """What a quantity is.

    Attributes:
        name: For the reader.
        unit: Its unit; empty for a ratio.
        method: The formula, in words.
        source: Where the formula is printed.
        quantities: What it depends on, among the names of `cardiojax.analysis.trust`: withheld if one of them is in one
            of the views, the heart rate if it is in all of them.
        needs_scale: Whether it needs the pixel spacing.
        reference: The name of its reference range in `cardiojax.clinical.guidelines.ranges`; None without one.
    """

    name: str
    unit: str
    method: str
    source: str
    quantities: tuple[str, ...] = ()
    needs_scale: bool = True
    reference: str | None = None

    @property
    def possible(self) -> tuple[float, float]:
        """Smallest and largest value that is possible; a strain, which is a relative change of length, has no limit."""
        if trust.STRAIN in self.quantities:
            return -math.inf, math.inf
        return 0.0, 100.0 if self.unit == "%" else math.inf


_EF, _VOLUME, _RATE = (trust.EJECTION_FRACTION,), (trust.VOLUMES,), (trust.HEART_RATE,)
_LENGTH, _STRAIN = (trust.LENGTHS,), (trust.STRAIN,)

_BOTH = {
    "ejection_fraction_biplane": Definition(
        "biplane ejection fraction", "%", _DISKS, _LV, _EF, reference="ejection_fraction"
    ),
    "end_diastolic_volume_biplane": Definition(
        "biplane end-diastolic volume", "ml", _DISKS, _LV, _VOLUME, reference="end_diastolic_volume"
    ),
    "end_systolic_volume_biplane": Definition(
        "biplane end-systolic volume", "ml", _DISKS, _LV, _VOLUME, reference="end_systolic_volume"
    ),
    "ejection_fraction_camus": Definition("biplane ejection fraction, CAMUS rule", "%", _CAMUS_RULE, _CAMUS, _EF),
    "end_diastolic_volume_camus": Definition(
        "biplane end-diastolic volume, CAMUS rule", "ml", _CAMUS_RULE, _CAMUS, _VOLUME
    ),
    "end_systolic_volume_camus": Definition(
        "biplane end-systolic volume, CAMUS rule", "ml", _CAMUS_RULE, _CAMUS, _VOLUME
    ),
    "stroke_volume": Definition(
        "stroke volume", "ml", "biplane end-diastolic less end-systolic volume", _LV, (*_EF, *_VOLUME)
    ),
    "heart_rate": Definition(
        "heart rate", "/min", "as the file states, else from the period of the beats", "", _RATE, needs_scale=False
    ),
    "cardiac_output": Definition(
        "cardiac output", "l/min", "stroke volume times heart rate", _LV, (*_EF, *_VOLUME, *_RATE)
    ),
    "sphericity_index": Definition(
        "sphericity index",
        "",
        "biplane end-diastolic volume over that of a sphere whose diameter is the longer long axis",
        "Mannaerts et al., EHJ 2004;25:680-687",
        (*_VOLUME, *_LENGTH),
    ),
    "myocardial_mass": Definition(
        "myocardial mass",
        "g",
        "1.05 g/ml times the volume between epicardial and endocardial disks of both views at end-diastole",
        "no guideline's method: no reference range, to compare examinations of one patient",
        _VOLUME,
    ),
    "atrial_volume_area_length": Definition(
        "left atrial volume, area-length", "ml", "8/(3 pi) A1 A2 / L at end-systole, the shorter length", _LA, _VOLUME
    ),
    "atrial_volume_disks": Definition(
        "left atrial volume, disks", "ml", "20 elliptic disks at end-systole, the longer length", _LA, _VOLUME
    ),
    "longitudinal_strain_mean": Definition(
        "longitudinal strain, mean of both views",
        "%",
        "mid-wall peak systolic strain, mean of the two views; not the global strain of three views",
        _VOIGT,
        _STRAIN,
        needs_scale=False,
    ),
}


def _of_one_view(words: str) -> dict[str, Definition]:
    axis, peak = "middle of the mitral plane to the apex", "peak systolic strain of the"
    return {
        "ejection_fraction": Definition(f"ejection fraction, {words}", "%", _PLANE, _LV, _EF, needs_scale=False),
        "end_diastolic_volume": Definition(f"end-diastolic volume, {words}", "ml", _PLANE, _LV, _VOLUME),
        "end_systolic_volume": Definition(f"end-systolic volume, {words}", "ml", _PLANE, _LV, _VOLUME),
        "length_end_diastolic": Definition(f"LV length at end-diastole, {words}", "mm", axis, _LV, _LENGTH),
        "length_end_systolic": Definition(f"LV length at end-systole, {words}", "mm", axis, _LV, _LENGTH),
        "area_change": Definition(
            f"LV area change, {words}", "%", "decrease of the cavity area", _LV, (trust.AREA_CHANGE,), needs_scale=False
        ),
        "longitudinal_strain": Definition(
            f"longitudinal strain, {words}", "%", f"{peak} middle of the wall", _VOIGT, _STRAIN, needs_scale=False
        ),
        "longitudinal_strain_endocardial": Definition(
            f"endocardial longitudinal strain, {words}", "%", f"{peak} inner border of the wall", _VOIGT, _STRAIN,
            needs_scale=False,
        ),
        "atrial_volume": Definition(
            f"left atrial volume, {words}", "ml", "8/(3 pi) A^2 / L at end-systole, one view", _LA, _VOLUME
        ),
    }  # fmt: skip


def _index(name: str, unit: str, quantities: tuple[str, ...], reference: str | None = None) -> Definition:
    return Definition(name, unit, "divided by the body surface area", _LV, quantities, reference=reference)


_BODY = {
    "body_surface_area": Definition(
        "body surface area",
        "m²",
        "0.007184 weight^0.425 height^0.725, kg and cm",
        "Du Bois and Du Bois, Arch Intern Med 1916;17:863-871",
        needs_scale=False,
    ),
    "end_diastolic_volume_index": _index("end-diastolic volume index", "ml/m²", _VOLUME, "end_diastolic_volume_index"),
    "end_systolic_volume_index": _index("end-systolic volume index", "ml/m²", _VOLUME, "end_systolic_volume_index"),
    "stroke_volume_index": _index("stroke volume index", "ml/m²", (*_EF, *_VOLUME)),
    "cardiac_index": _index("cardiac index", "l/min/m²", (*_EF, *_VOLUME, *_RATE)),
    "atrial_volume_index": _index("left atrial volume index, disks", "ml/m²", _VOLUME, "atrial_volume_index"),
    "myocardial_mass_index": _index("myocardial mass index", "g/m²", _VOLUME),
}
#: Quantities of both views together, then of each view, then of the body.
DEFINITIONS: dict[str, Definition] = {
    **_BOTH,
    **{
        f"{key}_{view.lower()}": definition
        for view, words in VIEW_NAMES.items()
        for key, definition in _of_one_view(words).items()
    },
    **_BODY,
}
#: The numbers that a report shows first.
HEADLINES = (
    "ejection_fraction_biplane",
    "end_diastolic_volume_biplane",
    "end_systolic_volume_biplane",
    "ejection_fraction_camus",
    "stroke_volume",
    "cardiac_output",
    "longitudinal_strain_mean",
    "atrial_volume_index",
)
#: What is indexed, and what it is then called.
INDICES = {
    "end_diastolic_volume_biplane": "end_diastolic_volume_index",
    "end_systolic_volume_biplane": "end_systolic_volume_index",
    "stroke_volume": "stroke_volume_index",
    "cardiac_output": "cardiac_index",
    "atrial_volume_disks": "atrial_volume_index",
    "myocardial_mass": "myocardial_mass_index",
}
