"""Building and opening CAMUS; TensorFlow Datasets is imported only when one of them is called."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cardiojax.data.camus.layout import describe_release, find_release
from cardiojax.data.records import RecordSource, build_records, open_records


def build_camus(manual_dir: str | Path, data_dir: str | Path, *, config: str = "nifti") -> dict[str, int]:
    """Writes CAMUS as array_record files.

    Args:
        manual_dir: The unpacked release.
        data_dir: Where datasets are kept. A dataset that was built there from this release is left as it is.
        config: ``"nifti"``, ``"mhd"`` or ``"nifti_sequence"``.

    Returns:
        The number of examples of each split.

    Raises:
        ValueError: If there is no release, no example of this configuration, no such configuration, or the folder holds
            a dataset of another release.
        UnreadableFileError: If a file of the release is damaged; no incomplete dataset is left.
        OSError: If the dataset cannot be written; no incomplete dataset is left.
    """
    import tensorflow_datasets as tfds

    source = describe_release(find_release(manual_dir))
    settings = tfds.download.DownloadConfig(manual_dir=str(Path(manual_dir).resolve()), register_checksums=False)
    try:
        builder = _builder(data_dir, config, source=source)
        return build_records(builder, Path(data_dir), source=source, download_config=settings)
    except Exception as error:
        if isinstance(error, AssertionError) or "No examples" in str(error):
            raise ValueError(f"{manual_dir}: no annotated frame of the configuration {config!r} was found") from error
        raise


def open_camus(data_dir: str | Path, split: str, *, config: str = "nifti") -> RecordSource:
    """Opens a split that was built, as a random-access source for `cardiojax.data.loader.make_loader`.

    Args:
        data_dir: Where datasets are kept.
        split: ``"train"``, ``"validation"`` or ``"test"``, or a slice such as ``"train[:10%]"``.
        config: The configuration it was built with.

    Returns:
        A source of examples; text fields are bytes.

    Raises:
        ValueError: If the dataset or the split has not been built.
        UnreadableFileError: If a file of it is missing; a damaged one is reported when it is read.
    """
    return open_records(_builder(data_dir, config), Path(data_dir), split)


def _builder(data_dir: str | Path, config: str, *, source: dict[str, Any] | None = None) -> Callable[[], Any]:
    from cardiojax.data.camus.camus_dataset_builder import Builder

    names = [c.name for c in Builder.BUILDER_CONFIGS]
    if config not in names:
        raise ValueError(f"camus has no configuration {config!r}, only {', '.join(names)}")
    folder = str(Path(data_dir).resolve())
    return lambda: Builder(source=source, config=config, data_dir=folder, file_format="array_record")
