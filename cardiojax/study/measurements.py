"""The numbers of a patient from the chosen clip of each view."""

import itertools
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import clinical
from cardiojax.analysis.trust import HEART_RATE
from cardiojax.clinical.guidelines.ranges import ReferenceRange
from cardiojax.labels import VIEW_NAMES
from cardiojax.measurement.chambers import Chambers
from cardiojax.study.patient import Patient
from cardiojax.study.precision import SOURCE, interval
from cardiojax.study.quantities import DEFINITIONS, HEADLINES, INDICES, Definition
from cardiojax.study.view import Phases, View, median_of_known

_STRAINS = (operator.attrgetter("strains"), operator.attrgetter("strains_drawn"))


class Quantity(NamedTuple):
    """A number of a patient.

    Attributes:
        key: Its name in files, a key of `cardiojax.study.quantities.DEFINITIONS`.
        name: What it is called.
        unit: Its unit; empty for a ratio.
        value: Median over the beats, after all corrections; nan if it is withheld.
        drawn: The same for the outlines as the networks draw them; nan if it is not measured on them.
        beats: Smallest and largest over the beats, or over the pairs of a beat of one view and a beat of the other; nan
            if it is withheld.
        num_beats: How many those are.
        interval: 95 % interval of the number of an expert's outlines; None if the agreement was not measured.
        interval_source: What the interval rests on; None without one.
        method: The formula, in words.
        source: Where it is printed.
        reference: Reference range of the patient's sex; None without one.
        grade: Where the value lies in it; None without one.
        reason: Why it is withheld, one sentence; None if it is not.
    """

    key: str
    name: str
    unit: str
    value: float
    drawn: float
    beats: tuple[float, float]
    num_beats: int
    interval: tuple[float, float] | None
    interval_source: str | None
    method: str
    source: str
    reference: ReferenceRange | None
    grade: str | None
    reason: str | None


class StudyMeasurements(NamedTuple):
    """The numbers of a patient.

    Attributes:
        quantities: All of them, withheld ones too, in the order of `cardiojax.study.quantities.DEFINITIONS`.
        corrected_frames: Frames of end-diastole and end-systole whose outlines a correction changed, by view.
    """

    quantities: tuple[Quantity, ...]
    corrected_frames: dict[str, tuple[int, ...]]

    def by_key(self, key: str) -> Quantity:
        """A quantity by its name in files."""
        return next(quantity for quantity in self.quantities if quantity.key == key)

    @property
    def headlines(self) -> tuple[Quantity, ...]:
        """The numbers that a report shows first; those of the single views where there is only one."""
        shown = tuple(map(self.by_key, HEADLINES))
        if all(math.isnan(quantity.value) for quantity in shown[:2]):
            single = [f"ejection_fraction_{view.lower()}" for view in self.corrected_frames]
            shown = (*map(self.by_key, single), *shown)
        return shown


class _Values(NamedTuple):
    """A number of each beat after corrections and as drawn, and why it is missing."""

    corrected: np.ndarray
    drawn: np.ndarray | None = None
    reason: str | None = None


def measure_study(
    two_chamber: View | None,
    four_chamber: View | None,
    *,
    patient: Patient = Patient(),
    is_validated: bool = False,
) -> StudyMeasurements:
    """Measures a patient.

    The beats of the two views were recorded apart. A number of both views is measured on every pair of a beat of one
    and a beat of the other; shown are the median and the range.

    Args:
        two_chamber: The two-chamber view; None without one.
        four_chamber: The four-chamber view; None without one.
        patient: Sex, height and weight.
        is_validated: Whether the outlines are those of the networks for which `cardiojax.study.precision` holds.

    Returns:
        The numbers.

    Raises:
        ValueError: If there is no view.

    Example:
        >>> labels = np.zeros((1, 2, 64, 64), np.int32)
        >>> for phase, half in enumerate((12, 8)):
        ...     labels[:, phase, 4:44, 28 - half : 36 + half] = 2
        ...     labels[:, phase, 8:44, 32 - half : 32 + half] = 1
        >>> view = View.of_labels("4CH", labels, (2.0, 2.0))
        >>> measured = measure_study(None, view)
        >>> round(measured.by_key("ejection_fraction_4ch").value, 1)
        56.0
        >>> measured.by_key("ejection_fraction_biplane").reason
        'There is no two-chamber clip.'
    """
    views = {view.name: view for view in (two_chamber, four_chamber) if view is not None}
    if not views:
        raise ValueError("expected at least one view")
    values: dict[str, _Values] = {}
    for view in views.values():
        values |= _single_plane(view)
    values |= _biplane(two_chamber, four_chamber)
    values |= _of_body(values, patient)
    quantities = []
    for key, definition in DEFINITIONS.items():
        found = values.get(key, _Values(np.zeros(0), None, _missing_view(key, views)))
        reason = found.reason or _withheld(key, definition, views)
        quantities.append(_quantity(key, definition, found, reason, patient, is_validated))
    return StudyMeasurements(tuple(quantities), {name: view.corrected_frames for name, view in views.items()})


def _single_plane(view: View) -> dict[str, _Values]:
    """What one view gives by itself."""
    corrected, drawn = (_of_plane(phases, view.chambers) for phases in (view.corrected, view.drawn))
    suffix = view.name.lower()
    found = {
        f"{key}_{suffix}": _Values(np.asarray(values), np.asarray(drawn[key])) for key, values in corrected.items()
    }
    middle, inner = zip(view.strains, view.strains_drawn, strict=True)
    found[f"longitudinal_strain_{suffix}"] = _Values(*middle)
    found[f"longitudinal_strain_endocardial_{suffix}"] = _Values(*inner)
    atrium = f"atrial_volume_{suffix}"
    found[atrium] = found[atrium]._replace(drawn=None, reason=_atrium_reason([view]))
    return found


def _of_plane(phases: Phases, chambers: Chambers) -> dict[str, np.ndarray]:
    beats = [_measure_plane(*_beat((phases, chambers), i)) for i in range(len(phases.area))]
    return _stack(beats)


@jax.jit  # for one beat, so that nothing is compiled for each number of beats
def _measure_plane(phases: Phases, chambers: Chambers) -> dict[str, jax.Array]:
    end_diastole, end_systole = (_beat(phases, i) for i in (0, 1))
    ejection = clinical.single_plane_ejection(end_diastole.cavity, end_systole.cavity)
    return {
        "ejection_fraction": ejection.fraction,
        "end_diastolic_volume": ejection.end_diastolic,
        "end_systolic_volume": ejection.end_systolic,
        "length_end_diastolic": end_diastole.cavity.length,
        "length_end_systolic": end_systole.cavity.length,
        "area_change": clinical.area_change(end_diastole.area, end_systole.area),
        "atrial_volume": clinical.area_length_volume(chambers.atrial_area[1], chambers.atrium.length[1]),
    }


def _beat(tree, index: int):
    """What belongs to one index of the first axis."""
    return jax.tree.map(lambda x: x[index], tree)


def _stack(beats: Sequence[dict[str, jax.Array]]) -> dict[str, np.ndarray]:
    return {key: np.array([float(beat[key]) for beat in beats]) for key in beats[0]}


def _biplane(two_chamber: View | None, four_chamber: View | None) -> dict[str, _Values]:
    """What needs both views, and what rests on one of them where the other is missing."""
    views = [view for view in (two_chamber, four_chamber) if view is not None]
    rate, reason = _heart_rate(views)
    found = {"heart_rate": _Values(np.array([rate]), None, reason)}
    if two_chamber is None or four_chamber is None:
        return found
    both = [
        _of_both(*phases, two_chamber.chambers, four_chamber.chambers)
        for phases in ((two_chamber.corrected, four_chamber.corrected), (two_chamber.drawn, four_chamber.drawn))
    ]
    found |= {key: _Values(values, both[1][key]) for key, values in both[0].items()}
    for key in ("atrial_volume_area_length", "atrial_volume_disks"):
        found[key] = found[key]._replace(drawn=None, reason=_atrium_reason(views))
    found["myocardial_mass"] = found["myocardial_mass"]._replace(drawn=None)
    outputs = [
        clinical.cardiac_output(jnp.asarray(volume), jnp.full(volume.shape, rate))
        for volume in (values["stroke_volume"] for values in both)
    ]
    found["cardiac_output"] = _Values(np.asarray(outputs[0]), np.asarray(outputs[1]), reason)
    corrected, drawn = (np.mean([median_of_known(each(view).mid_wall) for view in views]) for each in _STRAINS)
    found["longitudinal_strain_mean"] = _Values(np.array([corrected]), np.array([drawn]))
    return found


def _heart_rate(views: Sequence[View]) -> tuple[float, str | None]:
    """Mean heart rate of the views that give one; if none does, why."""
    reasons = [_withheld_in(view, (HEART_RATE,)) for view in views]
    rates = [
        view.heart_rate
        for view, reason in zip(views, reasons, strict=True)
        if reason is None and math.isfinite(view.heart_rate)
    ]
    if rates:
        return float(np.mean(rates)), None
    unknown = "The files state no heart rate and no loop holds two beats."
    return math.nan, next((reason for reason in reasons if reason is not None), unknown)


def _of_both(two: Phases, four: Phases, two_chambers: Chambers, four_chambers: Chambers) -> dict[str, np.ndarray]:
    pairs = itertools.product(range(len(two.area)), range(len(four.area)))
    return _stack([_measure_both(*_beat((two, two_chambers), i), *_beat((four, four_chambers), j)) for i, j in pairs])


@jax.jit
def _measure_both(two: Phases, two_chambers: Chambers, four: Phases, four_chambers: Chambers) -> dict[str, jax.Array]:
    (two_ed, two_es), (four_ed, four_es) = ([_beat(phases.cavity, i) for i in (0, 1)] for phases in (two, four))
    textbook, camus = (
        clinical.biplane_ejection((two_ed, two_es), (four_ed, four_es), rule=rule) for rule in ("textbook", "camus")
    )
    atria = [_beat(chambers, 1) for chambers in (two_chambers, four_chambers)]
    walls = [_beat(chambers.wall, 0) for chambers in (two_chambers, four_chambers)]
    length = jnp.maximum(two_ed.length, four_ed.length)
    return {
        "ejection_fraction_biplane": textbook.fraction,
        "end_diastolic_volume_biplane": textbook.end_diastolic,
        "end_systolic_volume_biplane": textbook.end_systolic,
        "ejection_fraction_camus": camus.fraction,
        "end_diastolic_volume_camus": camus.end_diastolic,
        "end_systolic_volume_camus": camus.end_systolic,
        "stroke_volume": clinical.stroke_volume(textbook.end_diastolic, textbook.end_systolic),
        "sphericity_index": clinical.sphericity_index(textbook.end_diastolic, length),
        "myocardial_mass": clinical.shell_mass(clinical.biplane_volume(*walls), textbook.end_diastolic),
        "atrial_volume_area_length": clinical.biplane_area_length_volume(
            atria[0].atrial_area, atria[1].atrial_area, atria[0].atrium.length, atria[1].atrium.length
        ),
        "atrial_volume_disks": clinical.biplane_volume(atria[0].atrium, atria[1].atrium),
    }


def _of_body(values: Mapping[str, _Values], patient: Patient) -> dict[str, _Values]:
    """Body surface area and what is divided by it."""
    if patient.height_cm is None or patient.weight_kg is None:
        unknown = [name for name, v in (("height", patient.height_cm), ("weight", patient.weight_kg)) if v is None]
        reason = f"The patient's {' and '.join(unknown)} {'are' if len(unknown) > 1 else 'is'} unknown."
        return dict.fromkeys(("body_surface_area", *INDICES.values()), _Values(np.zeros(0), None, reason))
    area = float(clinical.body_surface_area(jnp.array(patient.height_cm), jnp.array(patient.weight_kg)))
    found = {"body_surface_area": _Values(np.array([area]))}
    for key, name in INDICES.items():
        if key in values:
            corrected, drawn, reason = values[key]
            found[name] = _Values(corrected / area, None if drawn is None else drawn / area, reason)
    return found


def _missing_view(key: str, views: Mapping[str, View]) -> str:
    wanted = key[-3:].upper()
    missing = [wanted] if wanted in VIEW_NAMES else [name for name in VIEW_NAMES if name not in views]
    return f"There is no {' and no '.join(VIEW_NAMES[name] for name in missing)} clip."


def _atrium_reason(views: Iterable[View]) -> str | None:
    cut = [VIEW_NAMES[view.name] for view in views if view.is_atrium_cut_off]
    if not cut:
        return None
    return f"The left atrium reaches the edge of the sector in the {' and the '.join(cut)} view."


def _withheld(key: str, definition: Definition, views: Mapping[str, View]) -> str | None:
    """Why the views do not give a quantity, if they do not."""
    wanted = key[-3:].upper()
    quantities = [quantity for quantity in definition.quantities if quantity != HEART_RATE]  # one view suffices for it
    for view in [views[wanted]] if wanted in views else views.values():
        if definition.needs_scale and not view.is_calibrated:
            return f"The pixel spacing of the {VIEW_NAMES[view.name]} clip is unknown."
        reason = _withheld_in(view, quantities, needs_phases=not key.startswith("length_end_diastolic"))
        if reason is not None:
            return reason
    return None


def _withheld_in(view: View, quantities: Sequence[str], *, needs_phases: bool = True) -> str | None:
    """Why a view does not give what depends on some quantities of `cardiojax.analysis.trust`, if it does not."""
    if quantities and needs_phases and not view.has_phases:
        return f"The {VIEW_NAMES[view.name]} clip is a single frame."
    withdrawn = [view.withdrawn[quantity] for quantity in quantities if quantity in view.withdrawn]
    return f"{VIEW_NAMES[view.name].capitalize()} clip: {withdrawn[0]}" if withdrawn else None


def _quantity(
    key: str, definition: Definition, values: _Values, reason: str | None, patient: Patient, is_validated: bool
) -> Quantity:
    corrected = values.corrected[np.isfinite(values.corrected)]
    if reason is None and not len(corrected):
        reason = "It cannot be measured on the outlines."
    is_shown = reason is None
    value = median_of_known(corrected) if is_shown else math.nan
    drawn = math.nan if values.drawn is None or not is_shown else median_of_known(values.drawn)
    limits = (
        clinical.reference_range(definition.reference, patient.sex) if definition.reference and patient.sex else None
    )
    expected = interval(key, value) if is_shown and is_validated else None
    return Quantity(
        key=key,
        name=definition.name,
        unit=definition.unit,
        value=value,
        drawn=drawn,
        beats=(float(corrected.min()), float(corrected.max())) if is_shown else (math.nan, math.nan),
        num_beats=len(corrected) if is_shown else 0,
        interval=expected,
        interval_source=None if expected is None else SOURCE,
        method=definition.method,
        source=definition.source,
        reference=limits,
        grade=None if limits is None else clinical.grade(value, limits),
        reason=reason,
    )
