"""CAMUS: the NIfTI release and the older one of the challenge."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cardiojax.data.datasets.layouts.pairs import (
    MHD,
    NIFTI,
    find_pair,
    find_volume,
    frame_index,
    number,
    read_info,
    read_pair,
    read_text,
    reversed_pixels,
)
from cardiojax.data.datasets.schema import Defect, Item, Layout, Pixels, Survey, grey_bytes
from cardiojax.data.files import read_values
from cardiojax.data.formats.common import UnreadableFileError
from cardiojax.labels import CAMUS as STRUCTURES
from cardiojax.labels import MEASURED_VIEWS, PHASES

#: Official split files, by the name of the split.
_SPLIT_FILES = {
    "train": "subgroup_training.txt",
    "validation": "subgroup_validation.txt",
    "test": "subgroup_testing.txt",
}
_ORIGIN = {"vendor": "GE", "centre": "Saint-Etienne"}


def _find(root: Path, kind: str, *, mhd: bool) -> Survey:
    patients, folder = _find_patients(root, MHD if mhd else NIFTI)
    splits = _read_splits(folder)
    items: list[Item] = []
    defects: list[Defect] = []
    seen: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if seen.setdefault(name, split) != split:
                defects.append(Defect(folder / name, f"is in the splits {seen[name]} and {split}; the latter counts"))
            seen[name] = split  # so no patient of the test is trained on
    for name, place in patients.items():
        if splits and name not in seen:
            defects.append(Defect(place, "is in no split file and left out"))
            continue
        for view in MEASURED_VIEWS:
            parts = (_loops if kind == "loops" else _stills)(place, name, view, mhd=mhd)
            for part in parts:
                if isinstance(part, Defect):
                    defects.append(part)
                else:
                    items.append(_described(part, place, name, view, seen.get(name, "")))
            defects += _phase_defects(place / f"Info_{view}.cfg")
    absent = {name: split for name, split in seen.items() if name not in patients}
    defects += [Defect(folder / name, f"is in the {split} split but missing") for name, split in absent.items()]
    return Survey(items, defects)


def _find_patients(root: Path, suffixes: tuple[str, ...]) -> tuple[dict[str, Path], Path]:
    for folder in (root, *(root / name for name in ("database_nifti", "training", "CAMUS_public/database_nifti"))):
        patients = {p.name: p for p in sorted(folder.glob("patient*")) if p.is_dir()}
        if any(any(p.glob(f"{name}_*CH_*{s}")) for name, p in patients.items() for s in suffixes):
            return patients, folder
    raise ValueError(
        f"{root}: no CAMUS release found, expected patient folders with {suffixes[0]} files in it, in database_nifti/ "
        "or in training/"
    )


def _read_splits(folder: Path) -> dict[str, list[str]]:
    for parent in (folder, folder.parent):
        files = {split: parent / "database_split" / name for split, name in _SPLIT_FILES.items()}
        if any(f.is_file() for f in files.values()):
            return {split: read_text(f).split() for split, f in files.items() if f.is_file()}
    return {}


def _stills(folder: Path, patient: str, view: str, *, mhd: bool) -> Iterator[Item | Defect]:
    info = read_info(folder / f"Info_{view}.cfg")
    for phase in PHASES:
        stem = folder / f"{patient}_{view}_{phase}"
        pair = find_pair(stem, MHD if mhd else NIFTI)
        if isinstance(pair, Defect):
            yield pair
        else:
            yield Item(
                files=pair,
                read=functools.partial(_read_still, *pair),
                patient=patient,
                phases={0: phase},
                first_frame=frame_index(info.get(phase)) or 0,
            )


def _read_still(image_path: Path, label_path: Path) -> Pixels:
    pixels = read_pair(image_path, label_path)
    if len(pixels.images) != 1:
        raise UnreadableFileError(image_path, f"holds {len(pixels.images)} frames, expected one")
    return pixels


def _loops(folder: Path, patient: str, view: str, *, mhd: bool) -> Iterator[Item | Defect]:
    stem = folder / f"{patient}_{view}_{'sequence' if mhd else 'half_sequence'}"
    info = read_info(folder / f"Info_{view}.cfg")
    is_reversed = number(info.get("ED"), 1) > number(info.get("ES"), 2)
    if mhd:
        loop = find_volume(stem, MHD)
        ends = [find_pair(folder / f"{patient}_{view}_{phase}", MHD) for phase in PHASES]
        wrong = [Defect(stem, "is missing")] if loop is None else [end for end in ends if isinstance(end, Defect)]
        files = [loop, *(path for end in ends if not isinstance(end, Defect) for path in end)]
        read = functools.partial(_read_ends, *files, is_reversed=is_reversed)
    else:
        pair = find_pair(stem, NIFTI)
        wrong, files = ([pair], ()) if isinstance(pair, Defect) else ([], pair)
        read = functools.partial(_read_half_cycle, *files, is_reversed=is_reversed)
    yield from wrong
    if not wrong:
        yield Item(files=tuple(files), read=read, patient=patient, phases={0: "ED", -1: "ES"})


def _read_half_cycle(image_path: Path, label_path: Path, *, is_reversed: bool) -> Pixels:
    """From end-diastole to end-systole, in whichever order it is stored."""
    pixels = read_pair(image_path, label_path)
    return reversed_pixels(pixels) if is_reversed else pixels


def _read_ends(image_path: Path, *ends: Path, is_reversed: bool) -> Pixels:
    """A loop of the challenge release, of which only the first and the last frame are annotated."""
    values, spacing = read_values(image_path)
    images = grey_bytes(image_path, values)[:: -1 if is_reversed else 1]
    labels, annotated = np.zeros(images.shape, np.uint8), np.zeros(len(images), bool)
    for frame, pair in zip((0, -1), (ends[:2], ends[2:]), strict=True):
        still = _read_still(*pair)
        if still.labels.shape[1:] != images.shape[1:]:
            raise UnreadableFileError(pair[1], f"is {list(still.labels.shape[1:])}, expected {list(images.shape[1:])}")
        labels[frame], annotated[frame] = still.labels[0], True
    return Pixels(np.ascontiguousarray(images), labels, annotated, spacing)


def _described(item: Item, folder: Path, patient: str, view: str, split: str) -> Item:
    """An item with what the cfg says; the releases name the ejection fraction differently."""
    path = folder / f"Info_{view}.cfg"
    info = read_info(path)
    fields = {
        **_ORIGIN,
        "view": view,
        "split": split,
        "files": (*item.files, *([path] if path.is_file() else [])),
        "image_quality": info.get("ImageQuality", ""),
        "sex": info.get("Sex", ""),
        "age": number(info.get("Age")),
        "ejection_fraction": number(info.get("EF", info.get("LVef"))),
        "frame_rate": number(info.get("FrameRate")),
    }
    return dataclasses.replace(item, **fields)


def _phase_defects(path: Path) -> Iterator[Defect]:
    """What the cfg of a view says of its phases that cannot be, or is unusual."""
    if not path.is_file():
        yield Defect(path, "is missing")
        return
    info = read_info(path)
    diastole, systole, count = (frame_index(info.get(key)) for key in ("ED", "ES", "NbFrame"))
    if diastole is None or systole is None:
        yield Defect(path, "states no frame of end-diastole or end-systole")
    elif diastole == systole:
        yield Defect(path, "states one frame for both phases")
    elif diastole > systole:
        frames = f"{diastole + 1} after that of end-systole, {systole + 1}"
        yield Defect(path, f"states frame {frames}, for end-diastole; the loop is reversed")
    elif count is not None and max(diastole, systole) > count:
        yield Defect(path, f"states the frames {diastole + 1} and {systole + 1} of {count + 1}")


_CITATION = (
    "Leclerc et al., Deep Learning for Segmentation using an Open Large-Scale Dataset in 2D Echocardiography, IEEE "
    "Transactions on Medical Imaging 38(9):2198-2210, 2019, doi:10.1109/TMI.2019.2900516"
)
_DOWNLOAD = "Register at https://humanheart-project.creatis.insa-lyon.fr/database/ and unpack the {}. Not for commerce."
LAYOUTS = (
    Layout(
        name="camus",
        description="apical views of 500 patients, half cycles, the NIfTI release",
        structures=STRUCTURES,
        find=functools.partial(_find, mhd=False),
        tree="""database_nifti/patient0001/Info_{2CH,4CH}.cfg
database_nifti/patient0001/patient0001_{2CH,4CH}_{ED,ES,half_sequence}{,_gt}.nii.gz
database_split/subgroup_{training,validation,testing}.txt""",
        download=_DOWNLOAD.format("NIfTI release"),
        citation=_CITATION,
        licence="CC BY-NC-SA 4.0",
        has_one_survey=False,
    ),
    Layout(
        name="camus_mhd",
        description="apical views of 450 patients, the release of the challenge",
        structures=STRUCTURES,
        find=functools.partial(_find, mhd=True),
        tree="""training/patient0001/Info_{2CH,4CH}.cfg
training/patient0001/patient0001_{2CH,4CH}_{ED,ES}{,_gt}.{mhd,raw}
training/patient0001/patient0001_{2CH,4CH}_sequence.{mhd,raw}""",
        download=_DOWNLOAD.format("release of the challenge (.mhd)"),
        citation=_CITATION,
        licence="CC BY-NC-SA 4.0",
        has_one_survey=False,
    ),
)
