"""Any folder of images and masks, for data of one's own."""

import dataclasses
import functools
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cardiojax.data.datasets.layouts.pairs import number
from cardiojax.data.datasets.layouts.tables import read_csv
from cardiojax.data.datasets.schema import SPLITS, Defect, Item, Layout, Pixels, Survey
from cardiojax.data.files import read, read_labels
from cardiojax.data.formats.common import UnreadableFileError
from cardiojax.labels import PHASES, Structures

_TABLE = "index.csv"
#: Suffixes of what is no image by itself.
_NO_IMAGES = (".raw", ".zraw", ".img", ".csv", ".xlsx", ".txt", ".json", ".md", ".db", ".ini")
#: Suffixes that are left out of a name; all others may be part of it, as in a DICOM file called 1.2.840.113.
_SUFFIXES = (
    *(".dcm", ".dicom", ".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm"),
    *(".nii", ".mhd", ".mha", ".png", ".jpg", ".jpeg", ".npy", ".npz"),
)
#: Columns of numbers, and those that count frames.
_NUMBERS, _FRAMES = ("dy_mm", "dx_mm", "ejection_fraction"), ("ed_frame", "es_frame")
_UNKNOWN = ("", "nan", "na")
TREE = """images/NAME.png       or .dcm, .avi, .mp4, .nii.gz, .mhd, .npy; in folders, if you like
masks/NAME.png        the same name, whole numbers: 0 background, 1 the first structure, 2 the second, ...; or other
                      values, which --structures lv=255 names
index.csv             optional: image (NAME), and any of patient, view, phase, split, vendor, centre, structures (those
                      annotated, separated by blanks), ed_frame, es_frame (from 0), dy_mm, dx_mm, ejection_fraction"""


def folder_layout(name: str, structures: Structures, *, values: Sequence[int] = ()) -> Layout:
    """The layout of a folder of one's own.

    Args:
        name: What the dataset is called.
        structures: What the labels of the masks mean.
        values: The value of each structure in the masks, that of the background first; 0, 1, 2, ... if not given.

    Returns:
        The layout.

    Raises:
        ValueError: If the name is none of a folder, or the values are not different numbers of 0 to 255.

    Example:
        >>> folder_layout("mine", Structures(("background", "lv", "right_ventricle"))).kinds
        ('frames', 'loops')
    """
    Structures(("background", name))  # the same letters
    values = tuple(values)
    if values and (len({*values}) != len(structures) or not all(0 <= value <= 255 for value in values)):
        raise ValueError(f"expected {len(structures)} different values of 0 to 255, got {', '.join(map(str, values))}")
    return Layout(
        name=name,
        description="images and masks of one's own",
        structures=structures,
        find=functools.partial(_find, structures=structures, values=values or tuple(range(len(structures)))),
        values=values,
        tree=TREE,
        download="Put images and masks of the same names into two folders.",
        citation="",
        licence="the owner's",
    )


def _find(root: Path, kind: str, *, structures: Structures, values: tuple[int, ...]) -> Survey:
    defects: list[Defect] = []
    images, masks = (_by_name(root / folder, defects) for folder in ("images", "masks"))
    if not images or not masks:
        raise ValueError(f"{root}: no images and masks found, expected images/NAME.png and masks/NAME.png")
    table = _read_table(root / _TABLE, defects)
    is_listed = bool(table)
    defects += [Defect(path, "has no image") for name, path in masks.items() if name not in images]
    items = []
    for name, path in images.items():
        row = table.pop(name, None)
        if name not in masks:
            defects.append(Defect(path, "has no mask"))
            continue
        if is_listed and row is None:
            defects.append(Defect(path, f"is not in {_TABLE}: it counts as a patient, in no split"))
        row = row or {}
        problem = next(_faults(row, structures), None)
        if problem is not None:
            defects.append(Defect(root / _TABLE, f"{name} {problem}"))
            continue
        item = _item(name, path, masks[name], row, values)
        if number(row.get("ed_frame")) == number(row.get("es_frame")):
            defects.append(Defect(root / _TABLE, f"{name} has one frame for both phases, which counts as neither"))
        items.append(dataclasses.replace(item, files=(*item.files, root / _TABLE)) if row else item)
    defects += [Defect(root / _TABLE, f"lists {name}, which has no image") for name in table]
    return Survey(items, defects)


def _by_name(folder: Path, defects: list[Defect]) -> dict[str, Path]:
    """Files by their path below a folder without suffix; what is hidden is none of them."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if any(part.startswith(".") for part in below.parts) or path.suffix.lower() in _NO_IMAGES or not path.is_file():
            continue
        first = files.setdefault(_name(below.as_posix()), path)
        if first is not path:
            defects.append(Defect(path, f"has the name of {first.name} and is left out"))
    return files


def _name(text: str) -> str:
    """A name as it is compared: systems differ in how they compose letters and separate folders."""
    name = unicodedata.normalize("NFC", text).replace("\\", "/")
    for suffixes in ((".gz",), _SUFFIXES):
        name = next((name[: -len(s)] for s in suffixes if name.lower().endswith(s)), name)
    return name


def _read_table(path: Path, defects: list[Defect]) -> dict[str, dict[str, str]]:
    rows = read_csv(path, ("image",)) if path.is_file() else []
    if not rows:
        problem = "lists no image" if path.is_file() else "is missing"
        defects.append(Defect(path, f"{problem}: each file counts as a patient, in no split"))
    elif "patient" not in rows[0]:
        defects.append(Defect(path, "has no column patient: each file counts as a patient"))
    table: dict[str, dict[str, str]] = {}
    for line, row in enumerate(rows, 1):
        name = _name(row["image"])
        if not name:
            defects.append(Defect(path, f"names no image in row {line}"))
            continue
        if name in table:
            defects.append(Defect(path, f"lists {name} twice"))
        table[name] = row
    return table


def _faults(row: dict[str, str], structures: Structures) -> Iterator[str]:
    """Reasons to leave a row of the table out."""
    if row.get("phase", "") not in ("", *PHASES):
        yield f"has the phase {row['phase']!r}, expected {' or '.join(PHASES)}"
    if row.get("split", "") not in ("", *SPLITS):
        yield f"has the split {row['split']!r}, expected {', '.join(SPLITS)}"
    unknown = [name for name in row.get("structures", "").split() if name not in structures.names]
    if unknown:
        yield f"has the structure {unknown[0]!r}, expected some of {', '.join(structures.names[1:])}"
    stated = {name: row.get(name, "") for name in (*_NUMBERS, *_FRAMES) if row.get(name, "").lower() not in _UNKNOWN}
    for name, text in stated.items():
        value = number(text)
        if not np.isfinite(value):
            yield f"has the {name} {text!r}, expected a number"
        elif name in _FRAMES and (value < 0 or value != int(value)):
            yield f"has the {name} {text!r}, expected a whole number from 0"
    if ("dy_mm" in stated) != ("dx_mm" in stated):
        yield "has one of dy_mm and dx_mm, expected both or none"


def _item(name: str, image: Path, mask: Path, row: dict[str, str], values: tuple[int, ...]) -> Item:
    frames = {phase: number(row.get(f"{phase.lower()}_frame")) for phase in PHASES}
    is_one = frames["ED"] == frames["ES"]
    phases = {int(frame): phase for phase, frame in frames.items() if frame >= 0 and not is_one}
    if row.get("phase"):
        phases[0] = row["phase"]
    spacing = number(row.get("dy_mm")), number(row.get("dx_mm"))
    return Item(
        files=(image, mask),
        read=functools.partial(_read, image, mask, values, spacing=spacing if np.isfinite(spacing).all() else None),
        patient=row.get("patient") or name,
        view=row.get("view", ""),
        phases=phases,
        structures=tuple(row["structures"].split()) if row.get("structures") else None,
        split=row.get("split", ""),
        vendor=row.get("vendor", ""),
        centre=row.get("centre", ""),
        ejection_fraction=number(row.get("ejection_fraction")),
    )


def _read(image_path: Path, mask_path: Path, values: tuple[int, ...], *, spacing: tuple[float, float] | None) -> Pixels:
    """Of a loop, the frames whose mask shows something are annotated; of a still, the still."""
    recording, masks = read(image_path), read_labels(mask_path)
    if masks.labels.shape != recording.frames.shape:
        problem = f"is {list(masks.labels.shape)}, expected {list(recording.frames.shape)} of {{stated}}"
        raise UnreadableFileError(mask_path, problem, stated=image_path.name)
    images = np.rint(255 * recording.frames).astype(np.uint8)
    labels = _labels(mask_path, masks.labels, values)
    annotated = np.asarray(labels.any((1, 2))) if len(labels) > 1 else np.ones(1, bool)
    return Pixels(images, labels, annotated, spacing or recording.spacing or masks.spacing)


def _labels(path: Path, stored: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """The label of each pixel, by the value of each structure."""
    found = np.unique(stored)
    unknown = found[~np.isin(found, values)]
    if unknown.size:
        hint = "; --structures NAME=255 says what 255 is" if found.tolist() == [0, 255] else ""
        expected = f"0 to {len(values) - 1}" if values == (*range(len(values)),) else ", ".join(map(str, values))
        raise UnreadableFileError(path, f"holds the label {unknown[-1]}, expected {expected}{hint}")
    table = np.zeros(256, np.uint8)
    table[list(values)] = np.arange(len(values))
    return table[stored]
