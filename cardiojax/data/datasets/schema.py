"""One schema for every dataset: what a layout finds in a download, and what an example holds."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cardiojax.data.formats.common import UnreadableFileError, is_spacing
from cardiojax.labels import Structures

#: Stills or annotated frames one by one, and whole loops.
KINDS = ("frames", "loops")
SPLITS = ("train", "validation", "test")


class Pixels(NamedTuple):
    """A recording with its label maps.

    Attributes:
        images: Grey values, uint8 ``[t, h, w]``.
        labels: Label maps, uint8 ``[t, h, w]``; 0 in frames that are not annotated.
        annotated: Which frames have a label map, ``[t]``.
        spacing: ``(dy, dx)`` in mm; None if unknown.
        defects: Sentences about what was repaired while it was read.
    """

    images: np.ndarray
    labels: np.ndarray
    annotated: np.ndarray
    spacing: tuple[float, float] | None
    defects: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """A recording of a dataset, before it is read.

    Attributes:
        files: Its files, the recording first; they decide whether a dataset is the same.
        read: Reads it.
        patient: Name of the patient.
        view: ``"2CH"``, ``"4CH"`` or another name; empty if unknown.
        phases: ``"ED"`` or ``"ES"`` of the frames that show one, by their index in what is read.
        first_frame: Number of the first frame in the original recording, from 0.
        num_frames: Frames of what is read, as a table states them; None if none does.
        is_stack: Whether the first axis of what is read is slices at one time instead of frames.
        structures: Structures that are annotated; all of the dataset if not given. The others are absent, not
            background.
        split: ``"train"``, ``"validation"`` or ``"test"``; empty if the dataset has no official one.
        vendor: Maker of the scanner; empty if unknown.
        centre: Hospital; empty if unknown.
        ejection_fraction: In percent; nan if unknown.
        frame_rate: Frames a second; nan if unknown.
        age: In years; nan if unknown.
        sex: ``"F"`` or ``"M"``; empty if unknown.
        image_quality: A word of the dataset; empty if it has none.
    """

    files: tuple[Path, ...]
    read: Callable[[], Pixels]
    patient: str
    view: str = ""
    phases: Mapping[int, str] = dataclasses.field(default_factory=dict)
    first_frame: int = 0
    num_frames: int | None = None
    is_stack: bool = False
    structures: tuple[str, ...] | None = None
    split: str = ""
    vendor: str = ""
    centre: str = ""
    ejection_fraction: float = math.nan
    frame_rate: float = math.nan
    age: float = math.nan
    sex: str = ""
    image_quality: str = ""


class Defect(NamedTuple):
    """Something wrong with a download: a file or a table, and one sentence."""

    path: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class Survey(NamedTuple):
    """What a layout finds below a folder: recordings, and what is wrong with those that are left out or repaired."""

    items: list[Item]
    defects: list[Defect]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How a public dataset lies on disk.

    Attributes:
        name: Its name on the command line.
        description: One line.
        structures: What its labels mean.
        find: Folder and kind (see `KINDS`) to the recordings; a ValueError if the folder holds none.
        tree: The files below the folder, for people.
        download: Where it is obtained and under which conditions.
        citation: Where it was published.
        licence: Its terms.
        kinds: Which of `KINDS` it has.
        has_spacing: Whether its files state the pixel spacing; where they never do, its absence is no defect.
        has_one_survey: Whether all kinds are made of the same recordings.
        values: The value of each structure in the masks, if that is not its label.
    """

    name: str
    description: str
    structures: Structures
    find: Callable[[Path, str], Survey]
    tree: str
    download: str
    citation: str
    licence: str
    kinds: tuple[str, ...] = KINDS
    has_spacing: bool = True
    has_one_survey: bool = True
    values: tuple[int, ...] = ()


def check_pixels(path: Path, pixels: Pixels, structures: Structures) -> Pixels:
    """Refuses a recording that does not fit the schema.

    Args:
        path: Its file, for the sentence.
        pixels: What was read.
        structures: What the labels mean.

    Returns:
        The same.

    Raises:
        UnreadableFileError: If shapes differ, a label has no meaning, no frame is annotated, or the spacing is none of
            an image.
    """
    images, labels = pixels.images, pixels.labels
    if labels.shape != images.shape:
        raise UnreadableFileError(path, f"has label maps {list(labels.shape)}, expected {list(images.shape)}")
    if not pixels.annotated.any():
        raise UnreadableFileError(path, "has no annotated frame")
    if (highest := int(labels.max())) >= len(structures):
        raise UnreadableFileError(path, f"holds the label {highest}, expected 0 to {len(structures) - 1}")
    if pixels.spacing is not None and not is_spacing(pixels.spacing):
        raise UnreadableFileError(path, f"has a pixel spacing of {pixels.spacing} mm, which is none of an image")
    return pixels


def grey_bytes(path: Path, values: np.ndarray) -> np.ndarray:
    """Grey values of 0 to 255 as bytes.

    Args:
        path: Their file, for the sentence.
        values: ``[t, h, w]``.

    Returns:
        The same rounded, uint8.

    Raises:
        UnreadableFileError: If a value is outside.
    """
    if not values.size or not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        raise UnreadableFileError(path, "holds grey values outside 0 to 255")
    return np.rint(values).astype(np.uint8)
