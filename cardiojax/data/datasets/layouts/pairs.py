"""What several layouts share: pairs of an image and a mask, and files of ``key: value`` lines."""

import math
from pathlib import Path

import numpy as np

from cardiojax.data.datasets.schema import Defect, Pixels, grey_bytes
from cardiojax.data.files import read_labels, read_values
from cardiojax.data.formats.common import UnreadableFileError

#: Characters of a text file beyond which it is refused.
_MAX_TEXT = 2**20
#: Suffixes of a volume; some programs unpack what is compressed.
NIFTI, MHD = (".nii.gz", ".nii"), (".mhd", ".mha")


def find_volume(stem: Path, suffixes: tuple[str, ...]) -> Path | None:
    """The file of a volume.

    Args:
        stem: Its path without the suffix.
        suffixes: `NIFTI` or `MHD`.

    Returns:
        The file; None if there is none.
    """
    return next((p for s in suffixes if (p := stem.with_name(stem.name + s)).is_file()), None)


def find_pair(stem: Path, suffixes: tuple[str, ...]) -> tuple[Path, Path] | Defect:
    """The files of an image and of its mask, which has ``_gt`` added to the name.

    Args:
        stem: The path of the image without the suffix.
        suffixes: `NIFTI` or `MHD`.

    Returns:
        Both, or what is missing.
    """
    image, label = find_volume(stem, suffixes), find_volume(stem.with_name(f"{stem.name}_gt"), suffixes)
    if image is None:
        return Defect(stem, "is missing" if label is None else "has a mask but no image")
    return (image, label) if label is not None else Defect(image, "has no mask")


def read_pair(image_path: Path, label_path: Path) -> Pixels:
    """Reads an image or a loop and its label maps.

    Args:
        image_path: Grey values of 0 to 255.
        label_path: Label maps of the same shape.

    Returns:
        All frames, annotated.

    Raises:
        UnreadableFileError: If a file is damaged or they do not fit together.
    """
    values, spacing = read_values(image_path)
    labels = read_labels(label_path).labels
    if labels.shape != values.shape:
        problem = f"is {list(labels.shape)}, expected the shape {list(values.shape)} of {{stated}}"
        raise UnreadableFileError(label_path, problem, stated=image_path.name)
    return Pixels(grey_bytes(image_path, values), labels.astype(np.uint8), np.ones(len(labels), bool), spacing)


def reversed_pixels(pixels: Pixels) -> Pixels:
    """The frames in reverse order."""
    images, labels, annotated = (np.ascontiguousarray(each[::-1]) for each in pixels[:3])
    return pixels._replace(images=images, labels=labels, annotated=annotated)


def read_text(path: Path) -> str:
    """Reads a small text file.

    Raises:
        UnreadableFileError: If it is too long.
    """
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        text = file.read(_MAX_TEXT + 1)
    if len(text) > _MAX_TEXT:
        raise UnreadableFileError(path, f"has over {_MAX_TEXT} characters, expected a short text")
    return text


def read_info(path: Path) -> dict[str, str]:
    """Reads lines of ``key: value``.

    Args:
        path: The file; it may be missing.

    Returns:
        Values by key, as text; empty if there is no file.
    """
    if not path.is_file():
        return {}
    pairs = (line.partition(":") for line in read_text(path).splitlines())
    return {key.strip(): value.strip() for key, separator, value in pairs if separator}


def number(text: str | None, default: float = math.nan) -> float:
    """A finite number in a text, else the default."""
    try:
        value = float(text) if text is not None else default
    except ValueError:
        return default
    return value if math.isfinite(value) else default


def frame_index(text: str | None) -> int | None:
    """The frame of a number that counts from 1, from 0; None if it is no such number.

    Example:
        >>> frame_index("1"), frame_index("0"), frame_index(None), frame_index("2.5")
        (0, None, None, None)
    """
    value = number(text)
    return int(value) - 1 if value >= 1 and value == int(value) else None
