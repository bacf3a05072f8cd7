"""How the two releases of CAMUS lie on disk."""

import dataclasses
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cardiojax.data.files import read_labels, read_values
from cardiojax.data.formats.common import UnreadableFileError

VIEWS = ("2CH", "4CH")
PHASES = ("ED", "ES")
#: Official split files, by the name of the split.
SPLIT_FILES = {
    "train": "subgroup_training.txt",
    "validation": "subgroup_validation.txt",
    "test": "subgroup_testing.txt",
}
_SUFFIXES = (".nii.gz", ".nii", ".mhd", ".mha")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """A folder of patients.

    Attributes:
        patients: Folder of each patient, by name, sorted.
        splits: Patients of each split.
    """

    patients: dict[str, Path]
    splits: dict[str, tuple[str, ...]]


def find_release(folder: str | Path) -> Release:
    """Finds the patients below a folder, whichever level of a release it is.

    Args:
        folder: The release, its ``database_nifti`` or its ``training`` folder.

    Returns:
        The patients; the official splits where their files are beside them, else all as ``"train"``.

    Raises:
        ValueError: If there are no patients.
    """
    folder = Path(folder)
    for candidate in (
        folder,
        folder / "database_nifti",
        folder / "training",
        folder / "CAMUS_public" / "database_nifti",
    ):
        patients = {p.name: p for p in sorted(candidate.glob("patient*")) if p.is_dir()}
        if patients:
            return Release(patients=patients, splits=_read_splits(candidate, tuple(patients)))
    raise ValueError(
        f"{folder}: no CAMUS release found, expected patient folders in it, in database_nifti/ or in training/"
    )


def describe_release(release: Release) -> dict[str, Any]:
    """Describes a release so that another one, or a changed one, differs.

    Args:
        release: What `find_release` returned.

    Returns:
        Its number of patients and the CRC-32 of the names and sizes of the patients' files and of the splits, as JSON;
        the same wherever the release lies.
    """
    value = zlib.crc32(repr(sorted(release.splits.items())).encode())
    for name, folder in release.patients.items():
        for path in sorted(folder.iterdir()):
            value = zlib.crc32(f"{name}/{path.name} {path.stat().st_size}".encode(), value)
    return {"patients": len(release.patients), "checksum": value}


def _read_splits(folder: Path, patients: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    for parent in (folder, folder.parent):
        files = {split: parent / "database_split" / name for split, name in SPLIT_FILES.items()}
        if any(f.is_file() for f in files.values()):
            listed = {s: set(f.read_text("utf-8").split()) for s, f in files.items() if f.is_file()}
            chosen = {s: tuple(p for p in patients if p in names) for s, names in listed.items()}
            return {s: names for s, names in chosen.items() if names}
    return {"train": patients}


def read_info(path: str | Path) -> dict[str, str]:
    """Reads an ``Info_2CH.cfg`` of either release.

    Args:
        path: The file; it may be missing.

    Returns:
        Values by key, as text; empty if there is no file.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    pairs = (line.partition(":") for line in path.read_text("utf-8", errors="replace").splitlines())
    return {key.strip(): value.strip() for key, separator, value in pairs if separator}


def read_frames(folder: Path, patient: str) -> Iterator[dict[str, Any]]:
    """Reads the annotated frames of a patient; those that a partial release lacks are passed over.

    Args:
        folder: The patient's folder.
        patient: Name of the patient.

    Yields:
        ``image`` and ``label`` (uint8 ``[h, w]``), ``spacing`` (float32 ``(dy, dx)`` in mm) and what is known of them.

    Raises:
        UnreadableFileError: If a file is damaged, or an image and its mask do not fit together.
    """
    for view in VIEWS:
        for phase in PHASES:
            stem = folder / f"{patient}_{view}_{phase}"
            image_path, label_path = _find(stem), _find(stem.with_name(f"{stem.name}_gt"))
            if image_path is None or label_path is None:
                continue
            images, labels, spacing = _read_pair(image_path, label_path)
            if len(images) != 1:
                raise UnreadableFileError(image_path, f"holds {len(images)} frames, expected one")
            yield {
                "image": images[0],
                "label": labels[0],
                "spacing": spacing,
                "patient": patient,
                "view": view,
                "phase": phase,
                **_describe(folder, view),
            }


def read_sequences(folder: Path, patient: str) -> Iterator[dict[str, Any]]:
    """Reads the annotated half cycles of a patient, from end-diastole to end-systole.

    Args:
        folder: The patient's folder.
        patient: Name of the patient.

    Yields:
        ``image`` and ``label`` (uint8 ``[t, h, w]``), ``spacing`` and what is known of them; a sequence that is stored
        from end-systole to end-diastole is reversed.

    Raises:
        UnreadableFileError: If a file is damaged, or a sequence and its masks do not fit together.
    """
    for view in VIEWS:
        stem = folder / f"{patient}_{view}_half_sequence"
        image_path, label_path = _find(stem), _find(stem.with_name(f"{stem.name}_gt"))
        if image_path is None or label_path is None:
            continue
        images, labels, spacing = _read_pair(image_path, label_path)
        info = read_info(folder / f"Info_{view}.cfg")
        is_reversed = _number(info.get("ED"), 1) > _number(info.get("ES"), len(images))
        order = slice(None, None, -1) if is_reversed else slice(None)
        yield {
            "image": np.ascontiguousarray(images[order]),
            "label": np.ascontiguousarray(labels[order]),
            "spacing": spacing,
            "patient": patient,
            "view": view,
            **_describe(folder, view),
        }


def _find(stem: Path) -> Path | None:
    return next((p for s in _SUFFIXES if (p := stem.with_name(stem.name + s)).is_file()), None)


def _read_pair(image_path: Path, label_path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values, spacing = read_values(image_path)
    labels = read_labels(label_path).labels
    if labels.shape != values.shape:
        raise UnreadableFileError(
            label_path, f"is {list(labels.shape)}, expected the shape {list(values.shape)} of {image_path.name}"
        )
    if labels.max() > 3:
        raise UnreadableFileError(label_path, f"holds the label {labels.max()}, expected 0 to 3")
    if values.min() < 0 or values.max() > 255:
        raise UnreadableFileError(image_path, "holds grey values outside 0 to 255")
    if spacing is None:
        raise UnreadableFileError(image_path, "has no pixel spacing")
    return np.rint(values).astype(np.uint8), labels.astype(np.uint8), np.asarray(spacing, np.float32)


def _describe(folder: Path, view: str) -> dict[str, Any]:
    """What the cfg says of a patient; the releases name the ejection fraction differently."""
    info = read_info(folder / f"Info_{view}.cfg")
    return {
        "image_quality": info.get("ImageQuality", ""),
        "sex": info.get("Sex", ""),
        "age": _number(info.get("Age"), math.nan),
        "ejection_fraction": _number(info.get("EF", info.get("LVef")), math.nan),
        "frame_rate": _number(info.get("FrameRate"), math.nan),
    }


def _number(text: str | None, default: float) -> float:
    try:
        return float(text) if text is not None else default
    except ValueError:
        return default
