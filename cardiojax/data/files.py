"""Reads any echo file into one structure. The modules of `formats` turn frames upright; no other code does."""

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cardiojax import storage
from cardiojax.data.formats import dicom, stills, video
from cardiojax.data.formats.common import Decoded, UnreadableFileError, check_size, check_spacing, printable
from cardiojax.data.formats.grey import infer_range, to_unit_range
from cardiojax.data.formats.layout import Geometry, Region
from cardiojax.data.formats.quiet import quiet_decoders
from cardiojax.data.formats.volumes import metaimage, nifti, npy


class Recording(NamedTuple):
    """An echo still or loop.

    Attributes:
        frames: Grey values in [0, 1], float32 ``[t, h, w]``, upright.
        spacing: ``(dy, dx)`` in mm, None if unknown.
        frame_time: Seconds between frames, None if unknown.
        source: Format and origin of the spacing, in words.
        notes: Sentences that say what not to trust, such as frames that could not be decoded.
        geometry: How the pixels lie in the file and in space; None where the file does not say so.
        regions: Ultrasound regions that the file states; `spacing_of_box` chooses the spacing of one sector.
        heart_rate: Beats per minute that the file states.
        burned_in: Whether the file says that text which identifies the patient is part of the frames; None if it says
            nothing.
        coloured: Share of the frames looked at in which each pixel has a colour beyond the tint of the image, as in
            colour Doppler, ``[h, w]``; None if the file holds grey values.
    """

    frames: np.ndarray
    spacing: tuple[float, float] | None
    frame_time: float | None
    source: str
    notes: tuple[str, ...] = ()
    geometry: Geometry | None = None
    regions: tuple[Region, ...] = ()
    heart_rate: float | None = None
    burned_in: bool | None = None
    coloured: np.ndarray | None = None


class LabelMaps(NamedTuple):
    """Label maps read from a file: int32 ``[t, h, w]``, and ``(dy, dx)`` in mm, None if unknown."""

    labels: np.ndarray
    spacing: tuple[float, float] | None


_DECODERS: Mapping[str, Callable[[Path], Decoded]] = {
    "DICOM": dicom.decode,
    "video": video.decode,
    "NIfTI": nifti.decode,
    "MetaImage": metaimage.decode,
    "picture": stills.decode,
    "NumPy": npy.decode,
}
_LABEL_DECODERS = {**_DECODERS, "picture": stills.decode_labels, "NumPy": npy.decode_labels}
_KNOWN = "DICOM, MP4, AVI, Matroska, NIfTI, MetaImage, PNG, JPEG, NPY or NPZ"


def read(path: str | Path) -> Recording:
    """Reads an echo recording; the content decides the format, not the suffix.

    The frames take 4 bytes a pixel and at most `formats.common.MAX_DECODED_BYTES`; larger files are refused before they
    are decoded. Recordings may be read in several threads at once.

    Args:
        path: DICOM (single or multi-frame), MP4, AVI, Matroska, NIfTI, MetaImage (.mhd with its .raw, .mha), PNG, JPEG,
            NPY or NPZ.

    Returns:
        The recording.

    Raises:
        UnreadableFileError: If the file is missing, damaged, too large, or no ultrasound recording.

    Example:
        >>> recording = read(example_path())
        >>> recording.frames.shape, round(recording.frame_time, 3)
        ((30, 240, 320), 0.033)
    """
    path = Path(path)
    name, decoded = _decode(path)
    if not all(np.isfinite(frame).all() for frame in decoded.values):
        raise UnreadableFileError(path, "has pixels that are not finite, expected grey values")
    black, white, notes = 0.0, decoded.white, decoded.notes
    shifted = infer_range(decoded.values)
    if shifted is not None:
        black, white = shifted
        notes = (*notes, f"The grey values are negative in part: they are taken from {black:.4g} to {white:.4g}.")
    return Recording(
        to_unit_range(decoded.values, white, black=black),
        None if decoded.spacing is None else check_spacing(path, decoded.spacing),
        decoded.frame_time,
        printable(f"{name}, {decoded.note}"),
        tuple(printable(note) for note in notes),
        decoded.geometry,
        decoded.regions,
        decoded.heart_rate,
        decoded.burned_in,
        decoded.coloured,
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
    """Reads label maps.

    Args:
        path: NIfTI, MetaImage, PNG, NPY or NPZ with whole numbers; of a palette PNG the indices are the labels.

    Returns:
        The label maps.

    Raises:
        UnreadableFileError: If the file cannot be read, or its values are not whole numbers from 0 to 255.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "mask.npy"
        ...     np.save(path, np.ones((8, 6), np.uint8))
        ...     print(read_labels(path).labels.shape)
        (1, 8, 6)
    """
    path = Path(path)
    _, decoded = _decode(path, _LABEL_DECODERS)
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
    geometry: Geometry | None = None,
) -> None:
    """Writes label maps as NIfTI, whole or not at all.

    With the geometry of a NIfTI or MetaImage recording they have its array's shape, affine and axes, so that a
    viewer lays them over the input. Without one, as for DICOM and videos, they have the pixel grid and the spacing of
    the frames, their origin is zero, and rows run to posterior and columns to the left.

    Args:
        path: Target, ``.nii.gz``.
        labels: ``[t, h, w]``, values 0 to 255.
        spacing: ``(dy, dx)`` in mm.
        frame_time: Seconds between frames.
        geometry: That of the recording.

    Raises:
        OSError: If the target cannot be written; what was there before is unchanged.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> labels = np.zeros((1, 8, 6), np.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_labels(Path(folder) / "masks.nii.gz", labels, spacing=(0.5, 0.25))
        ...     masks = read_labels(Path(folder) / "masks.nii.gz")
        >>> masks.labels.shape, masks.spacing
        ((1, 8, 6), (0.5, 0.25))
    """
    storage.write_atomic(path, nifti.encode(labels, spacing, frame_time, geometry))


def _open_head(path: Path) -> bytes:
    """Reads the first bytes of what must be a file: a named pipe would block and a device would not end."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableFileError(path, "is a folder, expected an echo file")
        if not stat.S_ISREG(mode):
            raise UnreadableFileError(path, "is a pipe, socket or device, expected an echo file")
        with path.open("rb") as file:
            return file.read(4096)
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise UnreadableFileError(path, f"cannot be opened ({reason})") from error


def identify(path: str | Path) -> str:
    """The format of a file, by its first bytes.

    Args:
        path: The file.

    Returns:
        ``"DICOM"``, ``"video"``, ``"NIfTI"``, ``"MetaImage"``, ``"picture"`` or ``"NumPy"``.

    Raises:
        UnreadableFileError: If it cannot be opened or is of another format.

    Example:
        >>> identify(example_path())
        'DICOM'
    """
    path = Path(path)
    head = _open_head(path)
    if not head:
        raise UnreadableFileError(path, f"is empty, expected {_KNOWN}")
    return _sniff(path, head)


def _decode(path: Path, decoders: Mapping[str, Callable[[Path], Decoded]] = _DECODERS) -> tuple[str, Decoded]:
    name = identify(path)
    try:
        with quiet_decoders():
            decoded = decoders[name](path)
            check_size(path, decoded.values.shape)
    except UnreadableFileError:
        raise
    except MemoryError as error:
        raise UnreadableFileError(path, "does not fit in the memory that is free") from error
    except Exception as error:  # decoders raise many kinds for a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UnreadableFileError(
            path, f"is a damaged or unsupported {name} file ({{stated}})", stated=reason
        ) from error
    return name, decoded


def _sniff(path: Path, head: bytes) -> str:
    if head[128:132] == b"DICM" or dicom.starts_dataset(head):
        return "DICOM"
    if (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide")
        or (head[:4] == b"RIFF" and head[8:11] == b"AVI")
        or head[:4] == b"\x1aE\xdf\xa3"
    ):
        return "video"
    if nifti.starts_file(head):
        return "NIfTI"
    if head[:2] == b"\x1f\x8b":
        raise UnreadableFileError(path, "is gzip-compressed but holds no NIfTI header, or is damaged")
    if b"ElementDataFile" in head or (b"DimSize" in head and b"=" in head):
        return "MetaImage"
    if head[:8] == b"\x89PNG\r\n\x1a\n" or head[:3] == b"\xff\xd8\xff":
        return "picture"
    if head[:6] == b"\x93NUMPY" or head[:4] == b"PK\x03\x04":
        return "NumPy"
    raise UnreadableFileError(path, f"is of no format known here, expected {_KNOWN}")


def example_path() -> Path:
    """Path of a real apical four-chamber loop that ships inside the pydicom package.

    Example:
        >>> example_path().name
        'examples_ybr_color.dcm'
    """
    from pydicom.data import get_testdata_file

    return Path(str(get_testdata_file("examples_ybr_color.dcm", download=False)))
