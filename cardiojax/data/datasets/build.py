"""Building and opening datasets; TensorFlow Datasets is imported only when one of them is called."""

import contextlib
import dataclasses
import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cardiojax.data.datasets.schema import Item, Layout, Survey
from cardiojax.data.formats.common import UnreadableFileError, printable
from cardiojax.data.records import RecordSource, build_records, open_records, quiet_tfds
from cardiojax.labels import Structures
from cardiojax.validation import check_range

_VERSION = "1.0.0"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """How a download becomes a dataset.

    Attributes:
        kind: ``frames``: annotated frames one by one; ``loops``: whole recordings.
        validation_share: Share of the patients that are held out for validation, at least one, if the dataset has no
            official split for it; the same patients in each build. None are for 0.
    """

    kind: str = "frames"
    validation_share: float = 0.1

    def __post_init__(self):
        check_range(self, "validation_share", low=0, high=0.9)


class BuiltDataset(NamedTuple):
    """A dataset that was built.

    Attributes:
        name: Its name and kind, such as ``"camus/frames"``.
        structures: What its labels mean.
        is_partial: Whether some examples lack the annotation of a structure.
        num_examples: Examples of each split.
    """

    name: str
    structures: Structures
    is_partial: bool
    num_examples: dict[str, int]


def find_recordings(layout: Layout, manual_dir: str | Path, kind: str = "frames") -> Survey:
    """Finds the recordings of a download.

    Args:
        layout: The dataset.
        manual_dir: The unpacked download.
        kind: ``"frames"`` or ``"loops"``.

    Returns:
        The recordings, and what is wrong with those that are left out.

    Raises:
        ValueError: If nothing is found, or the dataset has no such kind.
        UnreadableFileError: If a table is damaged.
    """
    if kind not in layout.kinds:
        raise ValueError(f"{layout.name} has no kind {kind!r}, only {', '.join(layout.kinds)}")
    survey = layout.find(Path(manual_dir), kind)
    if not survey.items:
        raise ValueError(f"{manual_dir}: no annotated recording of {layout.name}/{kind} was found")
    return survey


def build_dataset(
    layout: Layout,
    manual_dir: str | Path,
    data_dir: str | Path,
    config: BuildConfig = BuildConfig(),
    *,
    survey: Survey | None = None,
) -> dict[str, int]:
    """Writes a dataset as array_record files.

    Args:
        layout: The dataset, of `cardiojax.data.datasets.LAYOUTS` or `folder_layout`.
        manual_dir: The unpacked download.
        data_dir: Where datasets are kept. A dataset that was built there from the same files is left as it is.
        config: The kind of examples and the held-out patients.
        survey: What `find_recordings` found, if it was asked before.

    Returns:
        The number of examples of each split.

    Raises:
        ValueError: If nothing is found, the dataset has no such kind, no patient can be held out for validation, or the
            folder holds one of other files or lies among the images.
        UnreadableFileError: If a file is damaged; no incomplete dataset is left.
        OSError: If the dataset cannot be written; no incomplete dataset is left.
    """
    _require_apart(Path(manual_dir), Path(data_dir))
    items = (survey or find_recordings(layout, manual_dir, config.kind)).items
    if config.validation_share and (patient := lone_patient(items)) is not None:
        raise ValueError(
            f"{manual_dir} holds one patient, {printable(patient)}, and none can be held out for validation; add "
            "patients, or build it with --validation-share 0"
        )
    splits = _split(items, config.validation_share)
    source = {
        "structures": " ".join(layout.structures.names),
        "is_partial": int(any(item.structures is not None for item in items)),
        "recordings": len(items),
        "checksum": _checksum(splits, layout.values),
    }

    def make() -> Any:
        from cardiojax.data.datasets.builder import Builder

        folder = str(Path(data_dir).resolve())
        return Builder(
            layout=layout, kind=config.kind, splits=splits, source=source, data_dir=folder, file_format="array_record"
        )

    return build_records(make, Path(data_dir), source=source)


def open_dataset(data_dir: str | Path, name: str, split: str) -> RecordSource:
    """Opens a split of a dataset that was built, as a random-access source for `cardiojax.data.loader.make_loader`.

    Args:
        data_dir: Where datasets are kept.
        name: Its name and kind, such as ``"camus/frames"``.
        split: ``"train"``, ``"validation"`` or ``"test"``, or a slice such as ``"train[:10%]"``.

    Returns:
        A source of examples; text fields are bytes.

    Raises:
        ValueError: If the dataset or the split has not been built.
        UnreadableFileError: If a file of it is missing; a damaged one is reported when it is read.
    """
    return open_records(_reader(Path(data_dir), name), Path(data_dir), split)


def describe_dataset(data_dir: str | Path, name: str) -> BuiltDataset:
    """Describes a dataset that was built.

    Args:
        data_dir: Where datasets are kept.
        name: Its name and kind.

    Returns:
        What it holds.

    Raises:
        ValueError: If it has not been built.
        UnreadableFileError: If its description is damaged.
    """
    folder = _folder(Path(data_dir), name)
    make = _reader(Path(data_dir), name)
    try:
        with quiet_tfds():
            info = make().info
        metadata: Any = info.metadata or {}
        structures = Structures(tuple(metadata["structures"].split()))
        is_partial = bool(metadata["is_partial"])
    except Exception as error:  # TFDS raises many kinds for a damaged description
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnreadableFileError(
            folder, "has no readable description ({stated}); delete it and build it again", stated=reason
        ) from error
    return BuiltDataset(name, structures, is_partial, {s: split.num_examples for s, split in info.splits.items()})


def list_built(data_dir: str | Path) -> list[str]:
    """Names and kinds of the datasets that were built in a folder.

    Args:
        data_dir: Where datasets are kept.

    Returns:
        Names such as ``"camus/frames"``, sorted; those that `build_dataset` did not make are left out.
    """
    names = []
    for path in sorted(Path(data_dir).glob(f"*/*/{_VERSION}/metadata.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            if "structures" in json.loads(path.read_text("utf-8")):
                names.append("/".join(path.parts[-4:-2]))
    return names


def _folder(data_dir: Path, name: str) -> Path:
    parts = name.split("/")
    if len(parts) != 2 or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"a dataset is named as camus/frames, got {name!r}")
    folder = data_dir / name / _VERSION
    if not (folder / "dataset_info.json").is_file():
        built = list_built(data_dir)
        others = f"; there are {', '.join(built)}" if built else ""
        raise ValueError(f"{data_dir}: {name} has not been built; run cardiojax data build {parts[0]} first{others}")
    return folder


def _reader(data_dir: Path, name: str) -> Callable[[], Any]:
    folder = _folder(data_dir, name)

    def make() -> Any:
        import tensorflow_datasets as tfds

        return tfds.builder_from_directory(str(folder.resolve()))

    return make


def _require_apart(manual_dir: Path, data_dir: Path) -> None:
    """Refuses a folder whose files would count as images or masks of the download."""
    for name in ("images", "masks"):
        if data_dir.resolve().is_relative_to((manual_dir / name).resolve()):
            raise ValueError(f"{data_dir} lies in {name} of the download; choose another folder for the dataset")


def _split(items: Iterable[Item], validation_share: float) -> dict[str, list[Item]]:
    """Items by split; without an official validation split, some patients of the training split are held out."""
    splits: dict[str, list[Item]] = {}
    for item in items:
        splits.setdefault(item.split or "train", []).append(item)
    train = splits.get("train", [])
    if "validation" not in splits and train:
        names = sorted({item.patient for item in train}, key=lambda name: (zlib.crc32(name.encode()), name))
        at_least = 1 if validation_share else 0
        held_out = set(names[: max(at_least, round(validation_share * len(names)))])
        chosen = {
            "train": [item for item in train if item.patient not in held_out],
            "validation": [item for item in train if item.patient in held_out],
        }
        splits |= chosen
    return {split: splits[split] for split in ("train", "validation", "test") if splits.get(split)}


def lone_patient(items: Iterable[Item]) -> str | None:
    """The patient of a training split without a validation split, if there is only one.

    Args:
        items: The recordings.
    """
    items = list(items)
    patients = {item.patient for item in items if item.split in ("", "train")}
    is_split = any(item.split == "validation" for item in items)
    return patients.pop() if len(patients) == 1 and not is_split else None


def _checksum(splits: dict[str, list[Item]], values: tuple[int, ...]) -> int:
    """A number that differs for other recordings, or changed ones, wherever they lie, and other values in the masks."""
    value = zlib.crc32(bytes(values)) if values else 0
    checksums: dict[Path, int] = {}
    for split, items in splits.items():
        for item in items:
            names = [field.name for field in dataclasses.fields(item) if field.name not in ("files", "read")]
            fields = {name: getattr(item, name) for name in names} | {"phases": sorted(item.phases.items())}
            for path in [*item.files, *(pixels for file in item.files for pixels in _pixel_files(file))]:
                if path not in checksums:
                    checksums[path] = _file_checksum(path)
                value = zlib.crc32(f"{path.name} {checksums[path]}".encode(), value)
            value = zlib.crc32(f"{split} {fields}".encode(), value)
    return value


def _pixel_files(path: Path) -> list[Path]:
    """The pixels of a MetaImage beside its head."""
    beside = (path.with_suffix(suffix) for suffix in (".raw", ".zraw")) if path.suffix.lower() == ".mhd" else ()
    return [each for each in beside if each.is_file()]


def _file_checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            value = zlib.crc32(block, value)
    return value
