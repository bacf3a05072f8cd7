"""Any folder of images and masks, for data of one's own."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cardiojax.data.datasets.layouts.pairs import number
from cardiojax.data.datasets.layouts.tables import read_csv
from cardiojax.data.datasets.schema import PHASES, SPLITS, Defect, Item, Layout, Pixels, Survey
from cardiojax.data.files import read, read_labels
from cardiojax.data.formats.common import UnreadableFileError
from cardiojax.labels import Structures

_TABLE = "index.csv"
#: Suffixes that belong to another file, and the double one.
_NO_IMAGES = (".raw", ".zraw", ".img", ".csv", ".txt", ".json", ".md")
TREE = """images/NAME.png       or .dcm, .avi, .mp4, .nii.gz, .mhd, .npy; in folders, if you like
masks/NAME.png        the same name, whole numbers: 0 background, 1 the first structure, 2 the second, ...
index.csv             optional: image (NAME), and any of patient, view, phase, split, vendor, centre, structures (those
                      annotated, separated by blanks), ed_frame, es_frame (from 0), dy_mm, dx_mm, ejection_fraction"""


def folder_layout(name: str, structures: Structures) -> Layout:
    """The layout of a folder of one's own.

    Args:
        name: What the dataset is called.
        structures: What the labels of the masks mean.

    Returns:
        The layout.

    Raises:
        ValueError: If the name is none of a folder.

    Example:
        >>> folder_layout("mine", Structures(("background", "lv", "right_ventricle"))).kinds
        ('frames', 'loops')
    """
    Structures(("background", name))  # the same letters
    return Layout(
        name=name,
        description="images and masks of one's own",
        structures=structures,
        find=functools.partial(_find, structures=structures),
        tree=TREE,
        download="Put images and masks of the same names into two folders.",
        citation="",
        licence="the owner's",
    )


def _find(root: Path, kind: str, *, structures: Structures) -> Survey:
    images, masks = (_by_name(root / folder) for folder in ("images", "masks"))
    if not images or not masks:
        raise ValueError(f"{root}: no images and masks found, expected images/NAME.png and masks/NAME.png")
    table, defects = _read_table(root / _TABLE)
    defects += [Defect(path, "has no image") for name, path in masks.items() if name not in images]
    if not table:
        defects.append(Defect(root / _TABLE, "is missing: each file counts as a patient, in no split"))
    items = []
    for name, path in images.items():
        if name not in masks:
            defects.append(Defect(path, "has no mask"))
            continue
        row = table.pop(name, {})
        problem = next(_faults(row, structures), None)
        if problem is not None:
            defects.append(Defect(root / _TABLE, f"{name} {problem}"))
            continue
        items.append(_item(name, path, masks[name], row))
    defects += [Defect(root / _TABLE, f"lists {name}, which has no image") for name in table]
    return Survey(items, defects)


def _by_name(folder: Path) -> dict[str, Path]:
    """Files by their path below a folder without suffix."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {_name(p.relative_to(folder).as_posix()): p for p in files if p.suffix.lower() not in _NO_IMAGES}


def _name(text: str) -> str:
    return str(Path(text.removesuffix(".gz")).with_suffix("").as_posix())


def _read_table(path: Path) -> tuple[dict[str, dict[str, str]], list[Defect]]:
    if not path.is_file():
        return {}, []
    table, defects = {}, []
    for row in read_csv(path, ("image",)):
        name = row["image"] if Path(row["image"]).suffix == "" else _name(row["image"])
        if name in table:
            defects.append(Defect(path, f"lists {name} twice"))
        table[name] = row
    return table, defects


def _faults(row: dict[str, str], structures: Structures) -> Iterator[str]:
    """Reasons to leave a row of the table out."""
    if row.get("phase", "") not in ("", *PHASES):
        yield f"has the phase {row['phase']!r}, expected {' or '.join(PHASES)}"
    if row.get("split", "") not in ("", *SPLITS):
        yield f"has the split {row['split']!r}, expected {', '.join(SPLITS)}"
    unknown = [name for name in row.get("structures", "").split() if name not in structures.names]
    if unknown:
        yield f"has the structure {unknown[0]!r}, expected some of {', '.join(structures.names[1:])}"


def _item(name: str, image: Path, mask: Path, row: dict[str, str]) -> Item:
    frames = {phase: number(row.get(f"{phase.lower()}_frame")) for phase in PHASES}
    phases = {int(frame): phase for phase, frame in frames.items() if frame >= 0}
    if row.get("phase"):
        phases[0] = row["phase"]
    spacing = number(row.get("dy_mm")), number(row.get("dx_mm"))
    return Item(
        files=(image, mask),
        read=functools.partial(_read, image, mask, spacing=spacing if np.isfinite(spacing).all() else None),
        patient=row.get("patient") or name,
        view=row.get("view", ""),
        phases=phases,
        structures=tuple(row["structures"].split()) if row.get("structures") else None,
        split=row.get("split", ""),
        vendor=row.get("vendor", ""),
        centre=row.get("centre", ""),
        ejection_fraction=number(row.get("ejection_fraction")),
    )


def _read(image_path: Path, mask_path: Path, *, spacing: tuple[float, float] | None) -> Pixels:
    """Of a loop, the frames whose mask shows something are annotated; of a still, the still."""
    recording, masks = read(image_path), read_labels(mask_path)
    if masks.labels.shape != recording.frames.shape:
        raise UnreadableFileError(
            mask_path, f"is {list(masks.labels.shape)}, expected {list(recording.frames.shape)} of {image_path.name}"
        )
    images = np.rint(255 * recording.frames).astype(np.uint8)
    labels = masks.labels.astype(np.uint8)
    annotated = np.asarray(labels.any((1, 2))) if len(labels) > 1 else np.ones(1, bool)
    return Pixels(images, labels, annotated, spacing or recording.spacing or masks.spacing)
