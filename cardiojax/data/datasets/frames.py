"""Annotated frames of one size for training and evaluation, of one dataset or of several together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cardiojax.data.arrays import ResampledSource, camus_224
from cardiojax.data.datasets.build import describe_dataset, list_built, open_dataset
from cardiojax.labels import CAMUS, Structures

#: Height and width of the arrays that come as an archive, and of the frames of built datasets if none is given.
ARRAY_SIZE = 224


#: Datasets of the same patients, of whom one's training patients may be another's validation patients.
_SAME_PATIENTS = ("camus", "camus_mhd", "ted")


class FrameSource:
    """A random-access source of frames, of several datasets one after another, in one label convention.

    Examples hold ``image`` and ``label`` (uint8 ``[h, w]``), ``spacing`` (mm, nan if unknown), ``patient``, ``view``
    and ``phase``; where some lack the annotation of a structure, also ``present`` (for each structure). With several
    datasets, ``patient`` is ``DATASET/PATIENT``, because different patients may have the same name in two datasets.

    Args:
        parts: Sources of frames, each with the structures of its labels.
        structures: The common convention; the structures of all parts together if not given.
        is_partial: Whether some examples state that they lack the annotation of a structure.
        datasets: What the datasets are called, one name for each part.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Any, Structures]],
        structures: Structures | None = None,
        *,
        is_partial: bool = False,
        datasets: Sequence[str] = (),
    ):
        self.datasets = tuple(datasets)
        self.structures = structures or parts[0][1].union(*(names for _, names in parts[1:]))
        self.is_partial = is_partial or any(set(self.structures.names) - set(names.names) for _, names in parts)
        self._parts = [
            (source, np.array(names.labels_in(self.structures), np.uint8), self._is_annotated(names))
            for source, names in parts
        ]
        self._ends = np.cumsum([len(source) for source, _ in parts])

    def _is_annotated(self, names: Structures) -> np.ndarray:
        """Index of each common structure in a part, -1 if the part lacks it."""
        return np.array([names.names.index(n) if n in names.names else -1 for n in self.structures.names])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self._ends, index, side="right"))
        source, new_labels, old = self._parts[part]
        example = source[index - (int(self._ends[part - 1]) if part else 0)]
        kept = {name: example[name] for name in ("image", "label", "spacing", "patient", "view", "phase")}
        kept["label"] = new_labels[example["label"]]
        if len(self.datasets) > 1:
            kept["patient"] = f"{self.datasets[part]}/{kept['patient']}"
        if self.is_partial:
            present = example.get("present", np.ones(len(new_labels), bool))
            kept["present"] = np.where(old >= 0, present[old], False)
        return kept


def open_frames(
    folder: str | Path,
    split: str,
    *,
    size: int | None = None,
    datasets: Sequence[str] = (),
    structures: Structures | None = None,
) -> FrameSource:
    """Opens annotated frames of one size.

    Args:
        folder: That of ``camus224_train.npz`` and ``camus224_val.npz``, or of ``cardiojax data build``.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        size: Height and width; those of the archive if not given, and 224 for built datasets.
        datasets: Built datasets, such as ``"camus"`` or ``"echonet"``; the only one if not given.
        structures: Label convention that is needed, such as `cardiojax.labels.CAMUS`; that of the data if not given.

    Returns:
        The frames.

    Raises:
        ValueError: If there are no such data, they lack a structure that is needed, or a dataset is given twice, or two
            are of the same patients.
        UnreadableFileError: If a file of a dataset is missing.
    """
    chosen = [name.removesuffix("/frames") for name in datasets]
    if repeated := [name for name in dict.fromkeys(chosen) if chosen.count(name) > 1]:
        raise ValueError(f"the dataset {repeated[0]} is given twice")
    related = [name for name in chosen if name in _SAME_PATIENTS]
    if len(related) > 1:
        raise ValueError(f"{' and '.join(related)} are of the same patients, whose splits differ; choose one of them")
    folder = Path(folder)
    arrays = folder / f"camus224_{'val' if split == 'validation' else split}.npz"
    built = [name for name in list_built(folder) if name.endswith("/frames")]
    if not datasets and (arrays.exists() or not built):
        source = camus_224(arrays)
        is_sized = size is None or source[0]["image"].shape == (size, size)
        part = source if is_sized else ResampledSource(source, size or ARRAY_SIZE)
        return FrameSource([(part, CAMUS)], structures, datasets=("camus",))
    if not datasets and len(built) > 1:
        names = ", ".join(name.removesuffix("/frames") for name in built)
        raise ValueError(f"{folder} holds several datasets, {names}: choose some of them by --datasets")
    names = [f"{name}/frames" for name in chosen] or built
    described = [describe_dataset(folder, name) for name in names]
    parts = [
        (ResampledSource(open_dataset(folder, each.name, split), size or ARRAY_SIZE), each.structures)
        for each in described
    ]
    for each in described:
        needed = () if structures is None else structures.names
        if lacking := [name for name in needed if name not in each.structures.names]:
            raise ValueError(f"{folder}: {each.name} has no {lacking[0]}, which is needed here")
    return FrameSource(
        parts,
        structures,
        is_partial=any(each.is_partial for each in described),
        datasets=[each.name.removesuffix("/frames") for each in described],
    )
