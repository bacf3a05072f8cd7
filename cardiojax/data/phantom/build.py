"""Building and opening a simulated dataset; TensorFlow Datasets is imported only when one of them is called."""

import shutil
from pathlib import Path
from typing import Any

from cardiojax.data.phantom.patients import PhantomSet
from cardiojax.data.quiet import quiet_tfds


def build_phantom(data_dir: str | Path, config: PhantomSet = PhantomSet()) -> dict[str, int]:
    """Simulates a dataset and writes it as array_record files.

    Args:
        data_dir: Where datasets are kept. A dataset that is there already is left as it is.
        config: What is simulated.

    Returns:
        The number of loops of each split.
    """
    builder = _builder(data_dir, config)
    try:
        with quiet_tfds():
            builder.download_and_prepare(file_format="array_record")
    except BaseException:
        for leftover in Path(builder.data_dir).parent.glob(f"*{builder.version}*incomplete*"):
            shutil.rmtree(leftover, ignore_errors=True)
        raise
    return {name: split.num_examples for name, split in builder.info.splits.items()}


def open_phantom(data_dir: str | Path, split: str, config: PhantomSet = PhantomSet()) -> Any:
    """Opens a split that was built, as a random-access source for `cardiojax.data.loader.make_loader`.

    Args:
        data_dir: Where datasets are kept.
        split: ``"train"`` or ``"validation"``, or a slice such as ``"train[:10%]"``.
        config: What it was built with.

    Returns:
        A source of loops; text fields are bytes.

    Raises:
        ValueError: If the dataset has not been built.
    """
    builder = _builder(data_dir, config)
    if not builder.is_prepared():
        raise ValueError(
            f"{data_dir}: phantom/{config.name} has not been built; run cardiojax data build phantom first"
        )
    with quiet_tfds():
        return builder.as_data_source(split)


def _builder(data_dir: str | Path, config: PhantomSet) -> Any:  # TFDS hides its signatures from type checkers
    from cardiojax.data.phantom.phantom_dataset_builder import Builder

    return Builder(phantom=config, data_dir=str(Path(data_dir).resolve()), file_format="array_record")
