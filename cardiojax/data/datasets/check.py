"""Every defect of a download, in one pass."""

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cardiojax.data.datasets.build import lone_patient
from cardiojax.data.datasets.layouts import LAYOUTS
from cardiojax.data.datasets.schema import Defect, Item, Layout, Pixels, Survey, check_pixels
from cardiojax.data.formats.common import UnreadableFileError, printable

#: Suffixes of files that describe several recordings.
_TABLES = (".cfg", ".csv", ".xlsx")


def recognise(root: str | Path) -> tuple[Layout, Survey]:
    """Finds which public dataset a folder holds.

    Args:
        root: The unpacked download.

    Returns:
        Its layout, and what there is of its first kind.

    Raises:
        ValueError: If it holds none.
        UnreadableFileError: If a table of it is damaged.
    """
    for layout in LAYOUTS.values():
        try:
            return layout, layout.find(Path(root), layout.kinds[0])
        except ValueError:
            continue
    known = ", ".join(LAYOUTS)
    raise ValueError(
        f"{root} holds none of the datasets {known}; a folder of your own needs the names of its structures"
    )


def check_download(
    layout: Layout,
    root: str | Path,
    *,
    survey: Survey | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Defect]:
    """Reads every recording of a download and lists what is wrong: all of it, not the first.

    Args:
        layout: The dataset.
        root: The unpacked download.
        survey: What there is of its first kind, if `recognise` has found it.
        on_progress: Called with the number of recordings read so far and of all.

    Yields:
        Missing and surplus files, tables that contradict them, patients in several splits, a patient alone, files that
        cannot be read, pairs of different shapes, labels without a meaning, structures that are missing, unknown
        spacings, tracings outside the image, recordings that occur twice.

    Raises:
        ValueError: If the folder holds no such dataset.
    """
    others = () if layout.has_one_survey else layout.kinds[1:]
    surveys = [survey or layout.find(Path(root), layout.kinds[0]), *(layout.find(Path(root), kind) for kind in others)]
    yield from dict.fromkeys(defect for survey in surveys for defect in survey.defects)
    items = list({item.files: item for survey in surveys for item in survey.items}.values())
    if not items:
        yield Defect(Path(root), f"holds no annotated recording of {layout.name}")
    if (patient := lone_patient(items)) is not None:
        yield Defect(Path(root), f"holds one patient, {patient}, and none can be held out for validation")
    yield from _split_defects(items)
    yield from _repeated(items)
    seen: dict[int, Path] = {}
    unknown_spacing = 0
    for done, item in enumerate(items, 1):
        path = item.files[0]
        try:
            pixels = check_pixels(path, item.read(), layout.structures)
        except UnreadableFileError as error:
            yield Defect(error.path, str(error).removeprefix(f"{printable(error.path)}: "))
            continue
        unknown_spacing += pixels.spacing is None
        yield from (Defect(path, problem) for problem in _pixel_defects(item, pixels, layout))
        checksum = zlib.crc32(np.ascontiguousarray(pixels.images).data)
        if checksum in seen:
            yield Defect(path, f"has the same pixels as {seen[checksum].name}")
        seen.setdefault(checksum, path)
        on_progress(done, len(items))
    if layout.has_spacing and unknown_spacing:
        yield Defect(Path(root), f"has no pixel spacing in {unknown_spacing} of {len(items)} recordings")


def _pixel_defects(item: Item, pixels: Pixels, layout: Layout) -> Iterator[str]:
    yield from pixels.defects
    names = layout.structures.names
    occurring = set(np.unique(pixels.labels).tolist())
    annotated = item.structures or names[1:]
    if missing := [name for label, name in enumerate(names) if name in annotated and label not in occurring]:
        yield f"shows no {', '.join(missing)}"
    if unstated := [name for label, name in enumerate(names) if label and label in occurring and name not in annotated]:
        yield f"shows {', '.join(unstated)}, which it states as not annotated"
    num_frames = len(pixels.images)
    if item.num_frames is not None and item.num_frames != num_frames:
        yield f"has {num_frames} frames, its table states {item.num_frames}"
    for index, phase in item.phases.items():
        if not -num_frames <= index < num_frames:
            yield f"states {phase} in frame {index} of {num_frames}"
    if pixels.images.min() == pixels.images.max():
        yield "is blank"


def _split_defects(items: list[Item]) -> Iterator[Defect]:
    """Patients whose recordings are in more than one split."""
    splits: dict[str, set[str]] = {}
    for item in items:
        splits.setdefault(item.patient, set()).add(item.split)
    for item in {item.patient: item for item in items}.values():
        if len(splits[item.patient]) > 1:
            names = " and ".join(sorted(splits[item.patient]))
            yield Defect(item.files[0], f"is of the patient {item.patient}, who is in the splits {names or 'none'}")


def _repeated(items: list[Item]) -> Iterator[Defect]:
    """Files that belong to two recordings: of names that differ in case or blanks alone."""
    counts = Counter(path for item in items for path in set(item.files) if path.suffix not in _TABLES)
    yield from (Defect(path, f"belongs to {count} recordings") for path, count in counts.items() if count > 1)
