"""NIfTI-1 and NIfTI-2, plain or compressed, in one file or as a header with its pixels beside it."""

import contextlib
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cardiojax.data.formats.common import Decoded, UnreadableFileError, check_frame_time, is_spacing
from cardiojax.data.formats.layout import Geometry
from cardiojax.data.formats.volumes.orientation import Placement, place
from cardiojax.data.formats.volumes.stored import Frames, frames_shape, read_frames

_TIME_UNITS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_LENGTH_UNITS = {"mm": 1.0, "meter": 1e3, "micron": 1e-3}
_GZIP = b"\x1f\x8b"
#: Bytes of the headers, which are also the value of their first field.
_HEADER_BYTES = (348, 540)
#: Bytes before the pixels above which a file is refused; extensions of the header are there.
_MAX_OFFSET = 2**26
#: Bytes that are read behind the pixels of a compressed file to get to its checksum.
_MAX_TRAILING_BYTES = 2**20


def starts_file(head: bytes) -> bool:
    """Whether these are the first bytes of a NIfTI or Analyze header, which may be compressed."""
    if head[:2] == _GZIP:
        try:
            head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 4)
        except zlib.error:
            return False
    return any(int.from_bytes(head[:4], order) in _HEADER_BYTES for order in ("little", "big"))


def decode(path: Path) -> Decoded:
    """Decodes ``(width, height[, time])`` or ``(width, height, 1, time)`` to ``[t, h, w]``, values as scaled.

    The frames are turned upright as the sform, else the qform, states. The frame time is ``pixdim[4]`` where there is a
    fourth axis and a unit of time; ``pixdim[3]`` is a length, even if the third axis holds frames. Colours become luma.
    Peak memory: the frames (integers of 8 and 16 bits as they are, else float32) and a few blocks of 4 MiB.
    """
    with _open(path) as stream:
        header, offset = _read_header(path, stream.read)
        if header["magic"].item()[:2] == b"ni":
            with _open(path.with_suffix(".img"), needed_by=path) as pixels:
                _skip(path, pixels.read, offset)
                stored = _read_pixels(path, pixels.read, header)
        else:
            _skip(path, stream.read, offset)
            stored = _read_pixels(path, stream.read, header)
    geometry, spacing, notes = _place(header)
    frames = stored.values if geometry is None else geometry.upright(stored.values.T)
    note = "spacing from the header" if spacing else "spacing unknown"
    return Decoded(frames, spacing, _frame_time(header), note, notes, white=stored.white, geometry=geometry)


@contextlib.contextmanager
def _open(path: Path, *, needed_by: Path | None = None) -> Iterator[BinaryIO | gzip.GzipFile]:
    if needed_by and not path.is_file():
        raise UnreadableFileError(needed_by, "needs its pixels in {stated}, which is not beside it", stated=path.name)
    with path.open("rb") as file:
        is_compressed = file.read(2) == _GZIP
        file.seek(0)
        if not is_compressed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as stream:
            yield stream
            stream.read(_MAX_TRAILING_BYTES)  # at the end of the file the checksum is compared


def _read_header(path: Path, read: Callable[[int], bytes]) -> tuple[Any, int]:
    """The header, and the bytes between it and the pixels."""
    import nibabel
    from nibabel.nifti1 import Nifti1PairHeader
    from nibabel.nifti2 import Nifti2PairHeader

    content = read(_HEADER_BYTES[0])
    is_second = _HEADER_BYTES[1] in (int.from_bytes(content[:4], order) for order in ("little", "big"))
    if is_second:
        content += read(_HEADER_BYTES[1] - _HEADER_BYTES[0])
    magic = content[4:7] if is_second else content[344:347]
    kinds = {
        b"n+1": nibabel.Nifti1Header, b"ni1": Nifti1PairHeader, b"n+2": nibabel.Nifti2Header, b"ni2": Nifti2PairHeader,
    }  # fmt: skip
    if magic not in kinds:
        raise UnreadableFileError(path, "is an Analyze or damaged header, expected that of NIfTI-1 or NIfTI-2")
    header = kinds[magic](content, check=False)  # a check would replace a spacing of zero by one millimetre
    offset = int(header["vox_offset"])
    if magic.startswith(b"n+"):
        offset = max(offset - len(content), 4)  # four bytes announce extensions
    return header, offset


def _skip(path: Path, read: Callable[[int], bytes], num_bytes: int) -> None:
    if not 0 <= num_bytes <= _MAX_OFFSET:
        raise UnreadableFileError(path, f"has {num_bytes} bytes before its pixels, expected at most {_MAX_OFFSET}")
    while num_bytes > 0 and (skipped := read(min(num_bytes, 2**20))):
        num_bytes -= len(skipped)


def _read_pixels(path: Path, read: Callable[[int], bytes], header: Any) -> Frames:
    """The array with its axes reversed: ``[time, j, i]``."""
    dtype, num_channels = header.get_data_dtype(), 1
    if dtype.names:  # RGB24 and RGBA32
        dtype, num_channels = dtype[0], len(dtype.names)
    slope, intercept = header.get_slope_inter()
    return read_frames(
        path,
        read,
        frames_shape(path, header.get_data_shape()),
        dtype,
        num_channels=num_channels,
        slope=1.0 if slope is None else float(slope),
        intercept=float(intercept or 0.0),
    )


def _units(header: Any) -> tuple[float | None, float | None]:
    """Millimetres of the unit of length and seconds of the unit of time that are stated."""
    try:
        length, time = header.get_xyzt_units()
    except KeyError:
        return None, None
    return _LENGTH_UNITS.get(length), _TIME_UNITS.get(time)


def _frame_time(header: Any) -> float | None:
    _, unit = _units(header)
    if unit is None or len(header.get_data_shape()) < 4:
        return None
    return check_frame_time(float(header["pixdim"][4]) * unit)


def _place(header: Any) -> Placement:
    stated, _ = _units(header)
    unit = stated or 1.0
    steps = np.abs(header["pixdim"][1:4].astype(float)) * unit
    affine = np.diag([*steps, 1.0])
    if header["sform_code"] > 0 or header["qform_code"] > 0:
        if abs(header["pixdim"][0]) != 1:
            header["pixdim"][0] = 1  # as the standard says of all other values
        try:
            affine = header.get_best_affine().astype(float)
        except Exception:  # an invalid quaternion
            affine = np.full((4, 4), np.nan)
        affine[:3] *= unit
    if not is_spacing(tuple(steps[:2])) and np.isfinite(affine).all():
        steps = np.linalg.norm(affine[:3, :3], axis=0)
    return place(affine, header.get_data_shape(), steps, has_unit=stated is not None)


def encode(
    labels: np.ndarray, spacing: tuple[float, float] | None, frame_time: float | None, geometry: Geometry | None = None
) -> bytes:
    """Encodes ``[t, h, w]`` as a compressed NIfTI file of unsigned bytes.

    The geometry of the input, if given, decides its axes, shape and affine; else the affine is that of CAMUS, and the
    shape is ``(width, height)`` of one frame, ``(width, height, 1, time)`` of a loop.
    """
    import nibabel
    from nibabel.affines import voxel_sizes

    labels = np.asarray(labels, np.uint8)
    if geometry is None:
        dy, dx = spacing or (1.0, 1.0)
        height, width = labels.shape[1:]
        shape = (width, height) if len(labels) == 1 else (width, height, 1, len(labels))
        geometry = Geometry(np.diag([-dx, -dy, 1.0, 1.0]), shape)
    stored = geometry.stored(labels)
    image = nibabel.Nifti1Image(stored, geometry.affine)
    zooms = [*voxel_sizes(geometry.affine), frame_time or 1.0, 1.0, 1.0, 1.0]
    image.header.set_zooms(zooms[: stored.ndim])
    has_time = frame_time and stored.ndim >= 4
    image.header.set_xyzt_units("mm" if spacing else "unknown", "sec" if has_time else "unknown")
    return gzip.compress(image.to_bytes(), mtime=0)
