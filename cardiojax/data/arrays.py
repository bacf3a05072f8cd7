"""Random-access sources over arrays on disk."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

_KEYS = ("image", "label", "patient", "view", "phase", "spacing_rc_mm")


class ArraySource:
    """A Grain source over arrays that share their first axis.

    Args:
        arrays: Array ``[n, ...]`` by name.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"arrays must have one length, got {lengths}")
        self._arrays = arrays

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: array[index] for name, array in self._arrays.items()}


class ResampledSource:
    """A source whose images and masks are brought to one size, as the 224 x 224 arrays of CAMUS were made.

    The corners stay where they are; images are interpolated linearly and masks take the nearest value.

    Args:
        source: Examples with ``image``, ``label`` (``[h, w]``) and ``spacing`` (mm).
        size: Height and width of the result.
    """

    def __init__(self, source: Any, size: int = 224):
        self._source, self._size = source, size

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = dict(self._source[index])
        shape = np.array(example["image"].shape)
        grid = np.meshgrid(*(np.linspace(0, n - 1, self._size) for n in shape), indexing="ij")
        image = ndimage.map_coordinates(example["image"].astype(np.float32), grid, order=1)
        example["image"] = np.rint(image).astype(np.uint8)
        example["label"] = ndimage.map_coordinates(example["label"], grid, order=0)
        example["spacing"] = (example["spacing"] * (shape - 1) / (self._size - 1)).astype(np.float32)
        return {k: v.decode() if isinstance(v, bytes) else v for k, v in example.items()}


def camus_224(path: str | Path) -> ArraySource:
    """Opens CAMUS frames resampled to 224 x 224.

    Args:
        path: An ``.npz`` with ``image`` and ``label`` (uint8 ``[n, 224, 224]``), ``patient``, ``view``, ``phase`` and
            ``spacing_rc_mm`` (``[n, 2]``).

    Returns:
        A source of examples ``image``, ``label`` (uint8 ``[h, w]``), ``spacing`` (float32 ``(dy, dx)``, mm),
        ``patient``, ``view`` and ``phase``.

    Raises:
        ValueError: If the file is no such archive; the sentence names the file and what is wrong.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in _KEYS if key in archive}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; expected an .npz of CAMUS frames") from None
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path}: not a readable .npz of plain arrays ({error})") from error
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise ValueError(f"{path}: expected the arrays {', '.join(_KEYS)}; {', '.join(missing)} missing")
    shape = arrays["image"].shape
    if len(shape) != 3 or arrays["label"].shape != shape or arrays["image"].dtype != np.uint8:
        raise ValueError(
            f"{path}: expected uint8 images [n, h, w] and labels of their shape, "
            f"got {arrays['image'].dtype}{list(shape)} and {list(arrays['label'].shape)}"
        )
    arrays["spacing"] = arrays.pop("spacing_rc_mm").astype(np.float32)
    return ArraySource(arrays)
