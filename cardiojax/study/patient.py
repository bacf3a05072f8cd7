"""What is known of a patient: sex, height and weight."""

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

from cardiojax.data import Header

#: Heights (cm) and weights (kg) of adults; others are not used, such as metres in a field for centimetres.
HEIGHT_RANGE, WEIGHT_RANGE = (120.0, 230.0), (30.0, 300.0)


class Patient(NamedTuple):
    """A patient, without identity; None where unknown.

    Attributes:
        sex: ``"F"`` or ``"M"``.
        height_cm: Height in cm.
        weight_kg: Weight in kg.
        notes: Sentences about stated values that were not used.
    """

    sex: Literal["F", "M"] | None = None
    height_cm: float | None = None
    weight_kg: float | None = None
    notes: tuple[str, ...] = ()


def describe_patient(headers: Iterable[Header], *, given: Patient = Patient()) -> Patient:
    """Sex, height and weight as given, else as the files state them.

    Args:
        headers: Headers of the files of one study.
        given: Values that take the place of those of the files.

    Returns:
        The patient. A value of the files that is out of range, or on which they disagree, is unknown, with a note.

    Raises:
        ValueError: If a given height or weight is out of range.

    Example:
        >>> describe_patient([Header("DICOM", sex="F", height_cm=165.0), Header("DICOM", sex="F", weight_kg=6.4)])
        Patient(sex='F', height_cm=165.0, weight_kg=None, notes=('The file states a weight of 6.4 kg: not used.',))
    """
    headers = list(headers)
    notes: list[str] = []
    sex = given.sex or _agreed({header.sex for header in headers} - {None}, "sex", notes)
    values: list[float | None] = []
    for name, unit, (low, high), stated, chosen in (
        ("height", "cm", HEIGHT_RANGE, {header.height_cm for header in headers}, given.height_cm),
        ("weight", "kg", WEIGHT_RANGE, {header.weight_kg for header in headers}, given.weight_kg),
    ):
        if chosen is not None:
            if not low <= chosen <= high:
                raise ValueError(f"a {name} must be {low:.0f} to {high:.0f} {unit}, got {chosen:g}")
            values.append(chosen)
            continue
        in_range = set()
        for value in sorted(v for v in stated if v):  # many scanners write 0 for unknown
            if low <= value <= high:
                in_range.add(value)
            elif math.isfinite(value):
                notes.append(f"The file states a {name} of {value:g} {unit}: not used.")
        values.append(_agreed(in_range, name, notes))
    return Patient(sex, values[0], values[1], tuple(notes))


def _agreed(values: set, name: str, notes: list[str]):
    if len(values) > 1:
        notes.append(f"The files state different values of the {name}: none is used.")
    return values.pop() if len(values) == 1 else None
