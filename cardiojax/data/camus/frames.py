"""The annotated frames of CAMUS for training, from either form of the data."""

from pathlib import Path
from typing import Any

from cardiojax.data.arrays import ResampledSource, camus_224
from cardiojax.data.camus.build import open_camus

#: Height and width of the arrays that come as an archive.
ARRAY_SIZE = 224


def open_frames(folder: str | Path, split: str, *, size: int | None = None) -> Any:
    """Opens CAMUS frames of one size.

    Args:
        folder: That of ``camus224_train.npz`` and ``camus224_val.npz``, or of ``cardiojax data build camus`` (its
            NIfTI frames if there are any, else those of the challenge release).
        split: ``"train"`` or ``"validation"``.
        size: Height and width; those of the archive if not given, and 224 for a built dataset.

    Returns:
        A random-access source of examples ``image``, ``label`` (uint8 ``[h, w]``), ``spacing``, ``patient``,
        ``view`` and ``phase``.

    Raises:
        ValueError: If there are no such data.
        UnreadableFileError: If a file of the dataset is missing.
    """
    folder = Path(folder)
    arrays = folder / f"camus224_{'val' if split == 'validation' else split}.npz"
    if arrays.exists() or not (folder / "camus").is_dir():
        source = camus_224(arrays)
        return source if size is None or source[0]["image"].shape == (size, size) else ResampledSource(source, size)
    built = [config for config in ("nifti", "mhd") if (folder / "camus" / config).is_dir()]
    return ResampledSource(open_camus(folder, split, config=(built or ["nifti"])[0]), size or ARRAY_SIZE)
