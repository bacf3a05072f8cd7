"""Building and opening a simulated dataset; TensorFlow Datasets is imported only when one of them is called."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cardiojax.data.phantom.patients import PhantomSet
from cardiojax.data.records import RecordSource, build_records, open_records


def build_phantom(data_dir: str | Path, config: PhantomSet = PhantomSet()) -> dict[str, int]:
    """Simulates a dataset and writes it as array_record files.

    Args:
        data_dir: Where datasets are kept. A dataset of this configuration that is there already is left as it is.
        config: What is simulated.

    Returns:
        The number of loops of each split.

    Raises:
        ValueError: If the folder holds a dataset of the same name and another configuration.
        OSError: If the dataset cannot be written; no incomplete dataset is left.
    """
    return build_records(_builder(data_dir, config), Path(data_dir), source=config.metadata)


def open_phantom(data_dir: str | Path, split: str, config: PhantomSet = PhantomSet()) -> RecordSource:
    """Opens a split that was built, as a random-access source for `cardiojax.data.loader.make_loader`.

    Args:
        data_dir: Where datasets are kept.
        split: ``"train"`` or ``"validation"``, or a slice such as ``"train[:10%]"``.
        config: What it was built with.

    Returns:
        A source of loops; text fields are bytes.

    Raises:
        ValueError: If the dataset or the split has not been built.
        UnreadableFileError: If a file of it is missing; a damaged one is reported when it is read.
    """
    return open_records(_builder(data_dir, config), Path(data_dir), split)


def _builder(data_dir: str | Path, config: PhantomSet) -> Callable[[], Any]:
    from cardiojax.data.phantom.phantom_dataset_builder import Builder

    folder = str(Path(data_dir).resolve())
    return lambda: Builder(phantom=config, data_dir=folder, file_format="array_record")
