"""Any echo file in, one structure out. Axes are turned upright in the formats below this door and nowhere else."""

import contextlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cardiojax.data.formats import dicom, stills, video, volumes
from cardiojax.data.formats.common import Decoded, UnreadableFileError, check_size, check_spacing


class Recording(NamedTuple):
    """An echo still or loop.

    Attributes:
        frames: Grey values in [0, 1], float32 ``[t, h, w]``, upright.
        spacing: ``(dy, dx)`` in mm, None if unknown.
        frame_time: Seconds between frames, None if unknown.
        source: Where it came from, in words.
    """

    frames: np.ndarray
    spacing: tuple[float, float] | None
    frame_time: float | None
    source: str


class LabelMaps(NamedTuple):
    """Masks read from a file: int32 ``[t, h, w]`` and ``(dy, dx)`` in mm, None if unknown."""

    labels: np.ndarray
    spacing: tuple[float, float] | None


_KNOWN = "DICOM, MP4, AVI, NIfTI, MetaImage, PNG, JPEG, NPY or NPZ"


def read(path: str | Path) -> Recording:
    """Reads an echo recording; the format is told by the content, not by the suffix.

    Args:
        path: DICOM (single or multi-frame), MP4, AVI, NIfTI, MetaImage (.mhd with its .raw, .mha), PNG, JPEG, NPY or
            NPZ.

    Returns:
        The recording.

    Raises:
        UnreadableFileError: If the file is missing, damaged, too large, or no ultrasound recording.
    """
    path = Path(path)
    name, decoded = _decode(path)
    values = decoded.values
    if not np.isfinite(values).all():
        raise UnreadableFileError(path, "has pixels that are not finite, expected grey values")
    return Recording(
        _to_unit_range(values),
        None if decoded.spacing is None else check_spacing(path, decoded.spacing),
        decoded.frame_time,
        f"{name}, {decoded.note}",
    )


def read_values(path: str | Path) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Reads the pixels as they are stored.

    Args:
        path: A file that `read` reads.

    Returns:
        ``[t, h, w]``, upright, and ``(dy, dx)`` in mm, None if unknown.

    Raises:
        UnreadableFileError: If the file cannot be read.
    """
    _, decoded = _decode(Path(path))
    return decoded.values, decoded.spacing


def read_labels(path: str | Path) -> LabelMaps:
    """Reads masks.

    Args:
        path: NIfTI, MetaImage, PNG, NPY or NPZ with whole numbers.

    Returns:
        The masks.

    Raises:
        UnreadableFileError: If the file cannot be read, or its values are not whole numbers from 0 to 255.
    """
    path = Path(path)
    _, decoded = _decode(path, decode_array=stills.decode_masks)
    labels = np.asarray(decoded.values)
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int32)
    if not np.array_equal(whole, labels) or whole.min() < 0 or whole.max() > 255:
        raise UnreadableFileError(path, "has values that are not whole numbers from 0 to 255, expected a mask")
    return LabelMaps(whole, decoded.spacing)


def write_labels(
    path: str | Path,
    labels: np.ndarray,
    *,
    spacing: tuple[float, float] | None = None,
    frame_time: float | None = None,
) -> None:
    """Writes masks as NIfTI, whole or not at all.

    Args:
        path: Target, ``.nii.gz``.
        labels: ``[t, h, w]``, values 0 to 255.
        spacing: ``(dy, dx)`` in mm.
        frame_time: Seconds between frames.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(volumes.encode_nifti(labels, spacing, frame_time))
    temporary.replace(path)


def _decode(path: Path, *, decode_array: Callable[[Path], Decoded] = stills.decode_array) -> tuple[str, Decoded]:
    if path.is_dir():
        raise UnreadableFileError(path, "is a folder, expected an echo file")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UnreadableFileError(path, f"cannot be opened ({error.strerror or error})") from error
    if not head:
        raise UnreadableFileError(path, f"is empty, expected {_KNOWN}")
    name, decode = _sniff(path, head)
    decode = decode_array if name == "NumPy" else decode
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")  # the decoders' doubts about a file they can read
            decoded = decode(path)
            check_size(path, decoded.values.shape)
    except UnreadableFileError:
        raise
    except Exception as error:  # decoders raise many kinds for a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UnreadableFileError(path, f"is a damaged or unsupported {name} file ({reason})") from error
    return name, decoded


def _sniff(path: Path, head: bytes) -> tuple[str, Callable[[Path], Decoded]]:
    suffix = path.name.lower()
    if head[128:132] == b"DICM":
        return "DICOM", dicom.decode
    if head[4:8] == b"ftyp" or (head[:4] == b"RIFF" and head[8:11] == b"AVI") or head[:4] == b"\x1aE\xdf\xa3":
        return "video", video.decode
    if (
        head[:2] == b"\x1f\x8b"
        or head[344:348] in (b"n+1\0", b"ni1\0")
        or head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c")
    ):
        if not suffix.endswith((".nii", ".nii.gz")):
            raise UnreadableFileError(path, "looks like NIfTI, expected its name to end in .nii or .nii.gz")
        return "NIfTI", volumes.decode_nifti
    if b"ElementDataFile" in head or (b"DimSize" in head and b"=" in head):
        return "MetaImage", volumes.decode_metaimage
    if head[:8] == b"\x89PNG\r\n\x1a\n" or head[:3] == b"\xff\xd8\xff":
        return "picture", stills.decode_picture
    if head[:6] == b"\x93NUMPY" or head[:4] == b"PK\x03\x04":
        return "NumPy", stills.decode_array
    raise UnreadableFileError(path, f"is of no format known here, expected {_KNOWN}")


def _to_unit_range(values: np.ndarray) -> np.ndarray:
    """Integers by their type's range, and reals that reach beyond 1 by 255: CAMUS keeps bytes as reals."""
    if values.dtype.kind == "b":
        return values.astype(np.float32)
    if values.dtype.kind in "ui":
        top = np.iinfo(values.dtype).max if values.dtype.itemsize == 1 or values.max() > 255 else 255
        return (np.clip(values, 0, None) / top).astype(np.float32)
    scale = values.max() if values.max() > 255 else (255 if values.max() > 1 else 1)
    return np.clip(values / scale, 0, 1).astype(np.float32)


@contextlib.contextmanager
def _quiet():
    """Silences libraries that log what this module says in a sentence."""
    import logging

    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def example_path() -> Path:
    """Path of a real apical four-chamber loop that ships inside the pydicom package."""
    from pydicom.data import get_testdata_file

    return Path(str(get_testdata_file("examples_ybr_color.dcm", download=False)))
