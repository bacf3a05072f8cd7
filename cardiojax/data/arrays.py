"""Random-access sources over arrays on disk."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cardiojax import labels
from cardiojax.data.formats.common import SPACING_RANGE, UnreadableFileError
from cardiojax.data.formats.volumes import npy

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


def stack_examples(source: Any, *, limit: int | None = None) -> dict[str, np.ndarray]:
    """Reads a source whose examples are of one shape into memory: the inverse of `ArraySource`.

    Args:
        source: ``len(source)`` examples, ``source[i]`` a dictionary of arrays and text.
        limit: Examples that are read, from the first on; all if not given.

    Returns:
        Array ``[n, ...]`` by name; bytes become text.

    Raises:
        ValueError: If there is no example, or the examples differ in shape.

    Example:
        >>> stack_examples(ArraySource({"x": np.arange(3)}), limit=2)
        {'x': array([0, 1])}
    """
    examples = [source[i] for i in range(min(len(source), limit or len(source)))]
    if not examples:
        raise ValueError("the source holds no example")
    arrays = {name: np.stack([np.asarray(example[name]) for example in examples]) for name in examples[0]}
    return {name: np.char.decode(a, "utf-8") if a.dtype.kind == "S" else a for name, a in arrays.items()}


def source_checksum(source: Any, *, num_examples: int = 8) -> int:
    """Computes a number that identifies a dataset, wherever it lies.

    Args:
        source: ``len(source)`` examples, ``source[i]`` a dictionary of arrays and text.
        num_examples: Examples that are read, evenly spaced, besides their number.

    Returns:
        A CRC-32.

    Example:
        >>> source_checksum(ArraySource({"x": np.arange(3)})) == source_checksum(ArraySource({"x": np.arange(4)}))
        False
    """
    num = len(source)
    value = zlib.crc32(str(num).encode())
    for index in np.unique(np.linspace(0, num - 1, num_examples).astype(int)) if num else ():
        for name, array in sorted(source[int(index)].items()):
            value = zlib.crc32(np.ascontiguousarray(array).tobytes(), zlib.crc32(name.encode(), value))
    return value


def camus_224(path: str | Path) -> ArraySource:
    """Opens CAMUS frames resampled to 224 x 224.

    Args:
        path: An ``.npz`` with ``image`` and ``label`` (uint8 ``[n, 224, 224]``), ``patient``, ``view``, ``phase`` and
            ``spacing_rc_mm`` (``[n, 2]``).

    Returns:
        A source of examples ``image``, ``label`` (uint8 ``[h, w]``), ``spacing`` (float32 ``(dy, dx)``, mm),
        ``patient``, ``view`` and ``phase``.

    Raises:
        ValueError: If the file is no such archive, would take more than 2 GiB, or holds labels other than 0 to 3,
            spacings that are none of an ultrasound image, or other phases; the sentence names the file and the fault.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a named pipe would block
        raise ValueError(f"{path}: is a folder, pipe or device, expected an .npz of CAMUS frames")
    try:
        arrays = npy.read_arrays(path, _KEYS)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; expected an .npz of CAMUS frames") from None
    except UnreadableFileError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for a damaged archive
        raise ValueError(f"{path}: not a readable .npz of plain arrays ({error})") from error
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise ValueError(f"{path}: expected the arrays {', '.join(_KEYS)}; {', '.join(missing)} missing")
    _check_frames(path, arrays)
    arrays["label"] = arrays["label"].astype(np.uint8)
    arrays["spacing"] = arrays.pop("spacing_rc_mm").astype(np.float32)
    for key in ("patient", "view", "phase"):
        arrays[key] = arrays[key].astype(str)
    return ArraySource(arrays)


def _check_frames(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Requires what training and evaluation take for granted of each frame."""
    shape, label = arrays["image"].shape, arrays["label"]
    if len(shape) != 3 or 0 in shape or label.shape != shape or arrays["image"].dtype != np.uint8:
        raise ValueError(
            f"{path}: expected uint8 images [n, h, w] and labels of their shape, "
            f"got {arrays['image'].dtype}{list(shape)} and {list(label.shape)}"
        )
    expected = {"patient": (shape[0],), "view": (shape[0],), "phase": (shape[0],), "spacing_rc_mm": (shape[0], 2)}
    for name, size in expected.items():
        if arrays[name].shape != size:
            raise ValueError(f"{path}: expected {name} of shape {list(size)}, got {list(arrays[name].shape)}")
    if label.dtype.kind not in "buif":
        raise ValueError(f"{path}: expected whole numbers as labels, got {label.dtype}")
    is_label = (label >= 0) & (label < labels.NUM_CLASSES)
    if label.dtype.kind == "f":
        is_label &= label == np.floor(label)
    if not is_label.all():
        frame = int(np.argmin(is_label.all((1, 2))))
        value, highest = label[frame][~is_label[frame]][0], labels.NUM_CLASSES - 1
        raise ValueError(f"{path}: label {value} in frame {frame}, expected 0 to {highest}")
    spacing = arrays["spacing_rc_mm"]
    low, high = SPACING_RANGE
    is_spacing = (spacing >= low) & (spacing <= high) if spacing.dtype.kind in "uif" else np.zeros(spacing.shape, bool)
    if not is_spacing.all():
        frame = int(np.argmin(is_spacing.all(1)))
        raise ValueError(f"{path}: spacing {spacing[frame].tolist()} of frame {frame}, expected {low:g} to {high:g} mm")
    unknown = set(arrays["phase"].astype(str)) - set(labels.PHASES)
    if unknown:
        raise ValueError(f"{path}: phase {str(min(unknown))!r}, expected {' or '.join(labels.PHASES)}")
