"""NIfTI and MetaImage: arrays stored column first, turned upright here and nowhere else."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cardiojax.data.formats.common import Decoded, UnreadableFileError, check_frame_time, check_size, check_spacing
from cardiojax.data.formats.layout import Geometry

_TIME_UNITS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_LENGTH_UNITS = {"mm": 1.0, "unknown": 1.0, "meter": 1e3, "micron": 1e-3}
_META_TYPES = {
    "MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_UINT": "u4", "MET_INT": "i4",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip


def decode_nifti(path: Path) -> Decoded:
    """Decodes ``(width, height[, time])`` to ``[t, h, w]``, values as stored."""
    import nibabel

    image: Any = nibabel.load(path)
    shape = tuple(n for i, n in enumerate(image.shape) if i < 2 or n != 1)
    if len(shape) not in (2, 3):
        raise UnreadableFileError(path, f"is a NIfTI array of {image.shape}, expected width x height [x time]")
    check_size(path, shape, image.get_data_dtype().itemsize)
    values = np.asanyarray(image.dataobj).reshape(shape)
    length, time = image.header.get_xyzt_units()
    zooms = np.array(image.header.get_zooms(), float)
    scale = _LENGTH_UNITS.get(length, 1.0)
    spacing = check_spacing(path, (zooms[1] * scale, zooms[0] * scale))
    frame_time = check_frame_time(zooms[-1] * _TIME_UNITS[time]) if len(zooms) > 2 and time in _TIME_UNITS else None
    frames = values.T if values.ndim == 3 else values.T[None]
    return Decoded(frames, spacing, frame_time, "spacing from the header")


def encode_nifti(
    labels: np.ndarray, spacing: tuple[float, float] | None, frame_time: float | None, geometry: Geometry | None = None
) -> bytes:
    """Encodes ``[t, h, w]`` as a compressed NIfTI file of unsigned bytes.

    The geometry of the input, if given, decides its axes, shape and affine; else they are those of CAMUS.
    """
    import gzip

    import nibabel

    labels = np.asarray(labels, np.uint8)
    dy, dx = spacing or (1.0, 1.0)
    if geometry is None:
        geometry = Geometry(np.diag([-dx, -dy, 1.0, 1.0]), labels.shape[::-1])
    stored = geometry.stored(labels)
    image = nibabel.Nifti1Image(stored, geometry.affine)
    zooms = [*nibabel.affines.voxel_sizes(geometry.affine), 1.0, 1.0, 1.0, 1.0][: stored.ndim]
    if len(labels) > 1 or stored.ndim == 3:  # the last axis is time
        zooms[-1] = frame_time or 1.0
    image.header.set_zooms(zooms)
    image.header.set_xyzt_units("mm" if spacing else "unknown", "sec" if frame_time else "unknown")
    return gzip.compress(image.to_bytes(), mtime=0)


def decode_metaimage(path: Path) -> Decoded:
    """Decodes a ``.mhd`` with its ``.raw``, or a ``.mha``, to ``[t, h, w]``."""
    content = path.read_bytes()
    header, offset = _parse_header(path, content)
    shape = [int(n) for n in header["DimSize"].split()]
    spacing = [float(s) for s in header.get("ElementSpacing", header.get("ElementSize", "")).split()] or None
    kind = header["ElementType"]
    if kind not in _META_TYPES or int(header.get("ElementNumberOfChannels", 1)) != 1:
        raise UnreadableFileError(path, f"holds {kind} elements, expected one of {', '.join(_META_TYPES)}")
    if len(shape) not in (2, 3):
        raise UnreadableFileError(path, f"is an array of {len(shape)} axes, expected 2 or 3")
    is_big_endian = header.get("BinaryDataByteOrderMSB", header.get("ElementByteOrderMSB", "False")) == "True"
    dtype = np.dtype(_META_TYPES[kind]).newbyteorder(">" if is_big_endian else "<")
    check_size(path, shape, dtype.itemsize)
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    raw = content[offset:] if header["ElementDataFile"] == "LOCAL" else _read_sibling(path, header["ElementDataFile"])
    if header.get("CompressedData", "False") == "True":
        raw = zlib.decompressobj().decompress(raw, num_bytes + 1)
    if len(raw) != num_bytes:
        raise UnreadableFileError(path, f"has {len(raw)} bytes of pixels, expected {num_bytes}")
    values = np.frombuffer(raw, dtype).reshape(shape[::-1]).astype(dtype.newbyteorder("="))
    frames = values if values.ndim == 3 else values[None]
    known = None if spacing is None else check_spacing(path, spacing[1::-1])
    return Decoded(frames, known, None, "spacing from the header")


def _parse_header(path: Path, content: bytes) -> tuple[dict[str, str], int]:
    header: dict[str, str] = {}
    offset = 0
    for line in content[:65536].split(b"\n"):
        offset += len(line) + 1
        name, separator, value = line.decode("latin-1").partition("=")
        if separator:
            header[name.strip()] = value.strip()
        if name.strip() == "ElementDataFile":
            break
    missing = [key for key in ("DimSize", "ElementType", "ElementDataFile") if not header.get(key)]
    if missing:
        raise UnreadableFileError(path, f"is a MetaImage header without {', '.join(missing)}")
    return header, offset


def _read_sibling(path: Path, name: str) -> bytes:
    if Path(name).name != name:  # a header must not read other folders
        raise UnreadableFileError(path, f"keeps its pixels in {name!r}, expected a file beside the header")
    sibling = path.with_name(name)
    if not sibling.is_file():
        raise UnreadableFileError(path, f"needs its pixels in {name}, which is not beside it")
    return sibling.read_bytes()
