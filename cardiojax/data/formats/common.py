"""What every format shares: the error, the limits, printable text and the raw result."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cardiojax.data.formats.layout import Geometry, Region

#: Bytes of the float32 frames above which a file is refused before it is decoded. The peak while reading stays below
#: 1.5 times the frames plus the size of the file; that of pictures, which are smaller, below 3 times.
MAX_DECODED_BYTES = 2 * 2**30
#: Pixel spacings outside this range (mm) are no ultrasound image's.
SPACING_RANGE = (0.001, 20.0)
#: Frame times outside this range (s) are no echo loop's: 2000 and 2 frames per second.
FRAME_TIME_RANGE = (0.0005, 0.5)
#: An interval is irregular if it differs from the median by more than this fraction of it, or this time (s).
_INTERVAL_TOLERANCE = (0.1, 0.0015)
#: Fraction of regular intervals below which no single frame time describes the loop.
_MIN_REGULAR = 0.8

#: Characters of a sentence about a file, most of which may come from its header.
_MAX_SENTENCE = 300
#: Characters of text of a file in a sentence.
_MAX_STATED = 120


def printable(text: object, *, max_length: int | None = None) -> str:
    r"""Makes text from a file name or a header safe to print on a terminal.

    Control characters, escape sequences and marks that reverse the reading direction become escapes like ``\x1b``;
    bytes of a file name that are not UTF-8 are read as Latin-1.

    Args:
        text: Anything; ``str`` of it is taken.
        max_length: Characters of the result after which it is cut short.

    Returns:
        One line of printable characters that any UTF-8 stream can encode.
    """

    def safe(character: str) -> str:
        if 0xDC80 <= ord(character) <= 0xDCFF:  # how Python keeps the bytes 0x80 to 0xff of a file name
            character = chr(ord(character) - 0xDC00)
        return character if character.isprintable() else character.encode("unicode_escape").decode()

    line = "".join(map(safe, str(text)))
    return line if max_length is None or len(line) <= max_length else f"{line[:max_length]}..."


class UnreadableFileError(Exception):
    """A file cannot be read as an echo recording; the message is one sentence that names it.

    Args:
        path: The file.
        problem: What was found and what was expected, without the name of any file; ``{stated}`` stands for what may
            identify a patient.
        stated: Text of the file or the name of another one, which may identify a patient.

    Attributes:
        path: The file.
        problem: The given problem with ``...`` in place of ``{stated}``, for what is written to files.
    """

    def __init__(self, path: str | Path, problem: str, *, stated: str = ""):
        whole = problem.replace("{stated}", printable(stated, max_length=_MAX_STATED))
        super().__init__(f"{printable(path)}: {printable(whole, max_length=_MAX_SENTENCE)}")
        self.path = Path(path)
        self.problem = printable(problem.replace("{stated}", "..."), max_length=_MAX_SENTENCE)


class Decoded(NamedTuple):
    """What a format gives.

    Attributes:
        values: ``[t, h, w]``, upright, as stored.
        spacing: ``(dy, dx)`` in mm where known.
        frame_time: Seconds between frames where known.
        note: Where the spacing comes from, in words.
        notes: Sentences that say what not to trust; they become warnings of a report.
        white: The value that is white; inferred from the values if None.
        geometry: Where the pixels lie in the file and in space, where it says so.
        regions: Ultrasound regions that the file states.
        heart_rate: Beats per minute that the file states.
        burned_in: Whether the file says that text which identifies the patient is part of the frames.
        coloured: Share of the frames looked at in which each pixel has a colour beyond the tint of the image,
            ``[h, w]``; None if the file holds grey values.
    """

    values: np.ndarray
    spacing: tuple[float, float] | None = None
    frame_time: float | None = None
    note: str = ""
    notes: tuple[str, ...] = ()
    white: float | None = None
    geometry: Geometry | None = None
    regions: tuple[Region, ...] = ()
    heart_rate: float | None = None
    burned_in: bool | None = None
    coloured: np.ndarray | None = None


def check_size(path: Path, shape: Sequence[int], itemsize: int = 4) -> None:
    """Refuses an array that has no pixels, or whose float32 frames are larger than `MAX_DECODED_BYTES`.

    Args:
        path: The file.
        shape: Of the array, before anything of its size is allocated.
        itemsize: Bytes of a value while it is decoded, if more than those of a float32.
    """
    if any(int(n) < 1 for n in shape):
        raise UnreadableFileError(
            path, f"declares an array of {' x '.join(map(str, shape))}, expected at least one pixel"
        )
    size = math.prod(int(n) for n in shape) * max(itemsize, 4)
    if size > MAX_DECODED_BYTES:
        raise UnreadableFileError(
            path, f"would decode to {size / 2**30:.1f} GiB, expected at most {MAX_DECODED_BYTES / 2**30:.0f} GiB"
        )


def is_spacing(spacing: Sequence[float]) -> bool:
    """Whether ``(dy, dx)`` in mm can be the pixel spacing of an ultrasound image."""
    low, high = SPACING_RANGE
    return len(spacing) == 2 and all(low <= float(s) <= high for s in spacing)  # NaN fails too


def check_spacing(path: Path, spacing: Sequence[float]) -> tuple[float, float]:
    """Refuses a spacing that cannot be one."""
    dy, dx = (float(s) for s in spacing)
    if not is_spacing((dy, dx)):
        low, high = SPACING_RANGE
        raise UnreadableFileError(path, f"has a pixel spacing of {dy:g} x {dx:g} mm, expected {low:g} to {high:g} mm")
    return dy, dx


def check_frame_time(seconds: float | None) -> float | None:
    """Takes a frame time outside `FRAME_TIME_RANGE` for unknown."""
    low, high = FRAME_TIME_RANGE
    return float(seconds) if seconds is not None and low <= seconds <= high else None


def frame_time_from_stamps(stamps: Sequence[float] | np.ndarray) -> tuple[float | None, tuple[str, ...]]:
    """Reduces the times of frames to one frame time.

    The intervals near the median are regular; their mean is the frame time. It is unknown if fewer than 80 % of the
    intervals are regular or if it lies outside `FRAME_TIME_RANGE`.

    Args:
        stamps: Time of each frame in seconds, in order.

    Returns:
        The frame time in seconds or None, and at most one sentence about what was wrong.
    """
    intervals = np.diff(np.asarray(stamps, float))
    if not intervals.size:
        return None, ()
    if not np.isfinite(intervals).all():
        return None, ("The times of the frames are not finite: the frame time is unknown.",)
    median = float(np.median(intervals))
    relative, absolute = _INTERVAL_TOLERANCE
    is_regular = np.abs(intervals - median) <= max(relative * abs(median), min(absolute, 0.5 * abs(median)))
    irregular = f"{int((~is_regular).sum())} of {len(intervals)} intervals between frames are irregular"
    span = f"({1000 * intervals.min():.4g} to {1000 * intervals.max():.4g} ms)"
    if is_regular.mean() < _MIN_REGULAR:
        return None, (f"{irregular} {span}: the frame time is unknown.",)
    seconds = check_frame_time(float(intervals[is_regular].mean()))
    if seconds is None:
        return None, (
            f"The frames are {1000 * median:.4g} ms apart, which no echo loop is: the frame time is unknown.",
        )
    return seconds, () if is_regular.all() else (f"{irregular} {span}: the frame time is that of the others.",)
