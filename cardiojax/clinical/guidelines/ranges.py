"""Reference ranges of the guidelines by sex, and the grades of what lies outside."""

import math
from typing import NamedTuple

_SOURCE = "Lang et al., JASE 2015;28:1-39"
_TABLE_2, _TABLE_4 = f"{_SOURCE}, table 2", f"{_SOURCE}, table 4"
_APPENDIX = f"{_TABLE_2}; grades by experience, appendix"
_TABLE_6 = f"{_SOURCE}, table 6 (2D method)"


class ReferenceRange(NamedTuple):
    """A reference range and the limits of its grades.

    Attributes:
        low: Lower end of the reference range.
        high: Upper end.
        grades: Limits of the mildly, moderately and severely abnormal grade in this order: the nearest to the range of
            each, so that a value beyond the first is mildly abnormal. Empty where the source has no grades.
        is_low_abnormal: Whether the grades lie below the range, as for the ejection fraction; else above.
        source: Where the numbers are printed.
    """

    low: float
    high: float
    grades: tuple[float, ...]
    is_low_abnormal: bool
    source: str


#: By quantity and sex. Whole numbers are printed: a value is rounded before it is graded.
RANGES: dict[str, dict[str, ReferenceRange]] = {
    "ejection_fraction": {
        "M": ReferenceRange(52, 72, (51, 40, 29), True, _TABLE_4),
        "F": ReferenceRange(54, 74, (53, 40, 29), True, _TABLE_4),
    },
    "end_diastolic_volume": {
        "M": ReferenceRange(62, 150, (151, 175, 201), False, _APPENDIX),
        "F": ReferenceRange(46, 106, (107, 121, 131), False, _APPENDIX),
    },
    "end_systolic_volume": {
        "M": ReferenceRange(21, 61, (62, 74, 86), False, _APPENDIX),
        "F": ReferenceRange(14, 42, (43, 56, 68), False, _APPENDIX),
    },
    "end_diastolic_volume_index": {
        "M": ReferenceRange(34, 74, (75, 90, 101), False, _APPENDIX),
        "F": ReferenceRange(29, 61, (62, 71, 81), False, _APPENDIX),
    },
    "end_systolic_volume_index": {
        "M": ReferenceRange(11, 31, (32, 39, 46), False, _APPENDIX),
        "F": ReferenceRange(8, 24, (25, 33, 41), False, _APPENDIX),
    },
    "atrial_volume_index": {
        "M": ReferenceRange(16, 34, (35, 42, 49), False, _TABLE_4),
        "F": ReferenceRange(16, 34, (35, 42, 49), False, _TABLE_4),
    },
    "mass_index": {
        "M": ReferenceRange(50, 102, (103, 117, 131), False, _TABLE_6),
        "F": ReferenceRange(44, 88, (89, 101, 113), False, _TABLE_6),
    },
}

_GRADES = ("mildly abnormal", "moderately abnormal", "severely abnormal")


def reference_range(quantity: str, sex: str) -> ReferenceRange:
    """The reference range of a quantity.

    Args:
        quantity: A name of `RANGES`; indices are by body surface area in m².
        sex: ``"F"`` or ``"M"``.

    Returns:
        The range.

    Raises:
        ValueError: If there is no such quantity or sex.

    Example:
        >>> reference_range("ejection_fraction", "F")[:2]
        (54, 74)
    """
    if quantity not in RANGES:
        raise ValueError(f"quantity must be one of {', '.join(RANGES)}, got {quantity!r}")
    if sex not in RANGES[quantity]:
        raise ValueError(f"sex must be 'F' or 'M', got {sex!r}")
    return RANGES[quantity][sex]


def rounded(value: float) -> int:
    """Rounds a number as it is graded: to the nearest whole number, halves up.

    Args:
        value: A finite number.

    Returns:
        The whole number.

    Example:
        >>> rounded(72.4), rounded(72.5), rounded(73.5)
        (72, 73, 74)
    """
    return math.floor(value + 0.5)


def grade(value: float, limits: ReferenceRange) -> str | None:
    """Grades a value by a reference range, after it is rounded to a whole number as the limits are.

    Args:
        value: In the unit of the range.
        limits: The range.

    Returns:
        ``"within the reference range"``; ``"mildly abnormal"``, ``"moderately abnormal"`` or ``"severely abnormal"``;
        ``"above the reference range"`` or ``"below the reference range"`` on the side without grades; None for nan.

    Example:
        >>> [grade(value, reference_range("ejection_fraction", "M")) for value in (60.0, 51.4, 29.0)]
        ['within the reference range', 'mildly abnormal', 'severely abnormal']
    """
    if not math.isfinite(value):
        return None
    whole, sign = rounded(value), -1 if limits.is_low_abnormal else 1
    beyond = sum(sign * whole >= sign * limit for limit in limits.grades)
    if beyond:
        return _GRADES[beyond - 1]
    if limits.low <= whole <= limits.high:
        return "within the reference range"
    return f"{'below' if whole < limits.low else 'above'} the reference range"
