"""Elements of a DICOM header: one that is missing, damaged or of another type is None and costs nothing else."""

import math
from typing import Any


def value(dataset: Any, name: str) -> Any:
    """The value of an element, None where it is missing, empty or cannot be decoded."""
    try:
        element = dataset.get(name)
    except Exception:  # values are decoded on access, and a damaged one may raise anything
        return None
    return None if element is None or element == "" else element


def number(dataset: Any, name: str) -> float | None:
    """A finite number, None where the element is anything else."""
    try:
        element = float(value(dataset, name))
    except (TypeError, ValueError, OverflowError):
        return None
    return element if math.isfinite(element) else None


def numbers(dataset: Any, name: str) -> list[float]:
    """The numbers of an element of one or several values, empty where one of them is anything else."""
    element = value(dataset, name)
    try:
        return [float(item) for item in (element if _is_multiple(element) else [element])]
    except (TypeError, ValueError, OverflowError):
        return []


def items(dataset: Any, name: str) -> list[Any]:
    """The datasets of a sequence, empty where it is missing or anything else."""
    from pydicom.dataset import Dataset

    element = value(dataset, name)
    try:
        return [item for item in element if isinstance(item, Dataset)] if _is_multiple(element) else []
    except Exception:  # items are decoded on access too
        return []


def text(dataset: Any, name: str) -> str:
    """The value as text without surrounding spaces, empty where it is missing."""
    element = value(dataset, name)
    return "" if element is None else str(element).strip()


def _is_multiple(element: Any) -> bool:
    return hasattr(element, "__iter__") and not isinstance(element, str | bytes)
