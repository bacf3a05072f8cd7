"""What every format shares: the error, the limits and the raw result."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

#: Decoded bytes above which a file is refused before it is decoded.
MAX_DECODED_BYTES = 2 * 2**30
#: Pixel spacings outside this range (mm) are no ultrasound image's.
SPACING_RANGE = (0.001, 20.0)


class UnreadableFileError(Exception):
    """A file cannot be read as an echo recording; the message is one sentence that names it."""

    def __init__(self, path: str | Path, found: str):
        super().__init__(f"{path}: {found}")


class Decoded(NamedTuple):
    """What a format gives: values as stored, spacing ``(dy, dx)`` in mm and frame time in s where known."""

    values: np.ndarray
    spacing: tuple[float, float] | None = None
    frame_time: float | None = None
    note: str = ""


def check_size(path: Path, shape: Sequence[int], itemsize: int = 1) -> None:
    """Refuses an array that would not fit in memory, or that has no pixels."""
    if any(int(n) < 1 for n in shape):
        raise UnreadableFileError(
            path, f"declares an array of {' x '.join(map(str, shape))}, expected at least one pixel"
        )
    size = math.prod(int(n) for n in shape) * itemsize
    if size > MAX_DECODED_BYTES:
        raise UnreadableFileError(
            path, f"would decode to {size / 2**30:.1f} GiB, expected at most {MAX_DECODED_BYTES / 2**30:.0f} GiB"
        )


def check_spacing(path: Path, spacing: Sequence[float]) -> tuple[float, float]:
    """Refuses a spacing that cannot be one."""
    dy, dx = (float(s) for s in spacing)
    low, high = SPACING_RANGE
    if not (low <= dy <= high and low <= dx <= high):  # NaN fails too
        raise UnreadableFileError(path, f"has a pixel spacing of {dy:g} x {dx:g} mm, expected {low:g} to {high:g} mm")
    return dy, dx


def check_frame_time(seconds: float | None) -> float | None:
    """Takes a nonsensical frame time for unknown: no figure but the heart rate depends on it."""
    return float(seconds) if seconds is not None and math.isfinite(seconds) and 1e-4 < seconds < 10 else None
