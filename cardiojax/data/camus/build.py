"""Building and opening CAMUS; TensorFlow Datasets is imported only here and in the builder."""

import shutil
from pathlib import Path
from typing import Any

from cardiojax.data.camus.layout import find_release
from cardiojax.data.quiet import quiet_tfds


def build_camus(manual_dir: str | Path, data_dir: str | Path, *, config: str = "nifti") -> dict[str, int]:
    """Writes CAMUS as array_record files.

    Args:
        manual_dir: The unpacked release.
        data_dir: Where datasets are kept. A dataset that is there already is left as it is.
        config: ``"nifti"``, ``"mhd"`` or ``"nifti_sequence"``.

    Returns:
        The number of examples of each split.

    Raises:
        ValueError: If there is no release, no example of this configuration, or no such configuration.
        UnreadableFileError: If a file of the release is damaged; nothing is left behind.
    """
    import tensorflow_datasets as tfds

    find_release(manual_dir)
    builder = _builder(data_dir, config)
    settings = tfds.download.DownloadConfig(manual_dir=str(Path(manual_dir).resolve()), register_checksums=False)
    try:
        with quiet_tfds():
            builder.download_and_prepare(download_config=settings, file_format="array_record")
    except BaseException as error:
        for leftover in Path(builder.data_dir).parent.glob(f"*{builder.version}*incomplete*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if isinstance(error, AssertionError) or "No examples" in str(error):
            raise ValueError(f"{manual_dir}: no annotated frame of the configuration {config!r} was found") from error
        raise
    return {name: split.num_examples for name, split in builder.info.splits.items()}


def open_camus(data_dir: str | Path, split: str, *, config: str = "nifti") -> Any:
    """Opens a split that was built, as a random-access source for `cardiojax.data.loader.make_loader`.

    Args:
        data_dir: Where datasets are kept.
        split: ``"train"``, ``"validation"`` or ``"test"``, or a slice such as ``"train[:10%]"``.
        config: The configuration it was built with.

    Returns:
        A source of examples; text fields are bytes.

    Raises:
        ValueError: If the dataset or the split has not been built.
    """
    builder = _builder(data_dir, config)
    if not builder.is_prepared():
        raise ValueError(f"{data_dir}: camus/{config} has not been built; run cardiojax data build camus first")
    name = split.split("[")[0]
    if name not in builder.info.splits:
        raise ValueError(f"{data_dir}: camus/{config} has no split {name!r}, only {', '.join(builder.info.splits)}")
    with quiet_tfds():
        return builder.as_data_source(split)


def _builder(data_dir: str | Path, config: str) -> Any:  # TFDS hides its signatures from type checkers
    from cardiojax.data.camus.camus_dataset_builder import Builder

    names = [c.name for c in Builder.BUILDER_CONFIGS]
    if config not in names:
        raise ValueError(f"camus has no configuration {config!r}, only {', '.join(names)}")
    return Builder(config=config, data_dir=str(Path(data_dir).resolve()), file_format="array_record")
