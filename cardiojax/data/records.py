"""TFDS datasets in array_record files: built once and whole, opened and read with errors of one sentence."""

import contextlib
import io
import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cardiojax import storage
from cardiojax.data.formats.common import UnreadableFileError

#: The switches below belong to the whole process: overlapping users would restore each other's.
_QUIET = threading.RLock()


class RecordSource:
    """A random-access source over the examples of a split.

    Args:
        source: What TFDS opened.
        folder: The dataset, for messages.
    """

    def __init__(self, source: Any, folder: Path):
        self._source, self._folder = source, folder

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            return self._source[index]
        except Exception as error:  # the reader and the decoder raise many kinds for a damaged file
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise UnreadableFileError(
                self._folder, f"example {index} is damaged ({reason}); delete the folder and build it again"
            ) from error


def build_records(
    make_builder: Callable[[], Any], data_dir: Path, *, source: dict[str, Any], **options: Any
) -> dict[str, int]:
    """Builds a dataset, or accepts one that was built from the same source.

    Args:
        make_builder: Makes the TFDS builder, whose dataset info keeps ``source`` as metadata.
        data_dir: Where datasets are kept.
        source: What decides the content, as JSON.
        **options: For ``download_and_prepare``.

    Returns:
        The number of examples of each split.

    Raises:
        ValueError: If the folder holds files that are no finished dataset, or one of another source.
        OSError: If the dataset cannot be written; no incomplete dataset is left.
        FolderInUseError: If another process builds in the same folder.
    """
    builder = _make(make_builder, data_dir)
    folder = Path(builder.data_dir)
    with storage.lock_folder(data_dir):
        for leftover in folder.parent.glob(f"incomplete*_{folder.name}"):
            shutil.rmtree(leftover, ignore_errors=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            builder = _make(make_builder, data_dir)
        if folder.exists():
            _require_same_source(builder, folder, source)
        else:
            _prepare(builder, folder, options)
    return {name: split.num_examples for name, split in builder.info.splits.items()}


def open_records(make_builder: Callable[[], Any], data_dir: Path, split: str) -> RecordSource:
    """Opens a split.

    Args:
        make_builder: Makes the TFDS builder.
        data_dir: Where datasets are kept.
        split: Its name, or a slice such as ``"train[:10%]"``.

    Returns:
        A source of examples; text fields are bytes.

    Raises:
        ValueError: If the dataset or the split has not been built.
        UnreadableFileError: If a file of it is missing, or its description is damaged.
    """
    builder = _make(make_builder, data_dir)
    folder = Path(builder.data_dir)
    dataset = f"{builder.name}/{builder.builder_config.name}"
    if not (folder / "dataset_info.json").is_file():
        raise ValueError(f"{data_dir}: {dataset} has not been built; run cardiojax data build {builder.name} first")
    name = split.split("[")[0]
    if name not in builder.info.splits:
        raise ValueError(f"{folder}: {dataset} has no split {name!r}, only {', '.join(builder.info.splits)}")
    _require_files(builder, folder, name)
    with quiet_tfds():
        return RecordSource(builder.as_data_source(split), folder)


def _make(make_builder: Callable[[], Any], data_dir: Path) -> Any:
    try:
        with quiet_tfds():
            return make_builder()
    except Exception as error:  # TFDS raises many kinds for a damaged dataset_info.json
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UnreadableFileError(
            data_dir, f"the description of a dataset is damaged ({reason}); delete its folder and build it again"
        ) from error


def _prepare(builder: Any, folder: Path, options: dict[str, Any]) -> None:
    try:
        with quiet_tfds():
            builder.download_and_prepare(file_format="array_record", **options)
    except BaseException as error:
        for leftover in folder.parent.glob(f"incomplete*_{folder.name}"):
            shutil.rmtree(leftover, ignore_errors=True)
        if isinstance(error, RuntimeError):  # array_record's kind for what the system refuses
            raise OSError(f"{folder} could not be written ({error})") from error
        raise


def _require_same_source(builder: Any, folder: Path, source: dict[str, Any]) -> None:
    if not (folder / "dataset_info.json").is_file():
        raise ValueError(f"{folder} holds files but no finished dataset; delete it or choose another folder")
    for name in builder.info.splits:
        _require_files(builder, folder, name)
    built = builder.info.metadata if isinstance(builder.info.metadata, dict) else {}
    for name, value in source.items():
        if built.get(name, value) != value:
            raise ValueError(
                f"{folder} was built from another source: its {name} is {built[name]}, not {value}; "
                "choose another folder or delete it"
            )


def _require_files(builder: Any, folder: Path, split: str) -> None:
    for path in builder.info.splits[split].filepaths:
        if not Path(path).is_file():
            problem = "{stated} is missing; delete the folder and build it again"
            raise UnreadableFileError(folder, problem, stated=Path(path).name)


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Silences the loggers, the progress bars and the standard output of TFDS."""
    import tensorflow_datasets as tfds

    with _QUIET:
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        tfds.disable_progress_bar()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        finally:
            logging.disable(before)
