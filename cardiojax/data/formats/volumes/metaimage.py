"""MetaImage: a text header, and the pixels behind it or in a file beside it."""

import math
from pathlib import Path

import numpy as np

from cardiojax.data.formats.common import Decoded, UnreadableFileError, check_size, is_spacing
from cardiojax.data.formats.volumes.orientation import Placement, place
from cardiojax.data.formats.volumes.stored import ZlibStream, frames_shape, read_frames

_VALUE_TYPES = {
    "MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_UINT": "u4", "MET_INT": "i4",
    "MET_ULONG": "u4", "MET_LONG": "i4", "MET_ULONG_LONG": "u8", "MET_LONG_LONG": "i8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_MAX_HEADER_BYTES = 2**16
#: MetaImage counts to the left, posterior and superior of the patient; geometries to the right and anterior.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def decode(path: Path) -> Decoded:
    """Decodes a ``.mhd`` with its ``.raw``, or a ``.mha``, to ``[t, h, w]``, turned upright as TransformMatrix states.

    The header states no frame time. Colours become luma. Peak memory: the frames (integers of 8 and 16 bits as they
    are, else float32) and a few blocks of 4 MiB.
    """
    header, header_bytes = _read_header(path)
    shape = tuple(int(n) for n in header["DimSize"].split())
    dtype = _value_type(path, header)
    num_channels = int(header.get("ElementNumberOfChannels", 1))
    size = frames_shape(path, shape)
    check_size(path, size)
    source, offset = path, header_bytes
    if header["ElementDataFile"].upper() != "LOCAL":
        source, offset = _sibling(path, header["ElementDataFile"]), max(0, int(header.get("HeaderSize", 0)))
    num_bytes = math.prod(size) * dtype.itemsize * num_channels
    if header.get("HeaderSize", "").strip() == "-1":
        offset = max(0, source.stat().st_size - num_bytes)  # the pixels are the end of the file
    is_compressed = _is_true(header.get("CompressedData", "False"))
    if not is_compressed and (stored_bytes := source.stat().st_size - offset) != num_bytes:
        raise UnreadableFileError(path, f"has {stored_bytes} bytes of pixels, expected {num_bytes}")
    with source.open("rb") as file:
        file.seek(offset)
        stream = ZlibStream(file) if is_compressed else file
        stored = read_frames(path, stream.read, size, dtype, num_channels=num_channels)
    geometry, spacing, notes = _place(header, shape)
    frames = stored.values if geometry is None else geometry.upright(stored.values.T)
    note = "spacing from the header" if spacing else "spacing unknown"
    return Decoded(frames, spacing, None, note, notes, white=stored.white, geometry=geometry)


def _read_header(path: Path) -> tuple[dict[str, str], int]:
    """The fields, and the number of bytes to the end of the last one."""
    with path.open("rb") as file:
        content = file.read(_MAX_HEADER_BYTES)
    header: dict[str, str] = {}
    num_bytes = 0
    for line in content.split(b"\n"):
        num_bytes += len(line) + 1
        name, separator, value = line.decode("latin-1").partition("=")
        if separator:
            header[name.strip()] = value.strip()
        if name.strip() == "ElementDataFile":
            break
    missing = [key for key in ("DimSize", "ElementType", "ElementDataFile") if not header.get(key)]
    if missing:
        raise UnreadableFileError(path, f"is a MetaImage header without {', '.join(missing)}")
    return header, num_bytes


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")


def _value_type(path: Path, header: dict[str, str]) -> np.dtype:
    kind = header["ElementType"].removesuffix("_ARRAY")
    if kind not in _VALUE_TYPES:
        raise UnreadableFileError(
            path, f"holds {{stated}} elements, expected one of {', '.join(_VALUE_TYPES)}", stated=kind
        )
    if not _is_true(header.get("BinaryData", "True")):
        raise UnreadableFileError(path, "holds its pixels as text, expected BinaryData = True")
    is_big_endian = _is_true(header.get("BinaryDataByteOrderMSB", header.get("ElementByteOrderMSB", "False")))
    return np.dtype(_VALUE_TYPES[kind]).newbyteorder(">" if is_big_endian else "<")


def _sibling(path: Path, name: str) -> Path:
    if Path(name).name != name:  # a header must not read other folders
        raise UnreadableFileError(
            path, "keeps its pixels in {stated}, expected a file beside the header", stated=repr(name)
        )
    sibling = path.with_name(name)
    if not sibling.is_file():
        raise UnreadableFileError(path, "needs its pixels in {stated}, which is not beside it", stated=name)
    return sibling


def _vector(header: dict[str, str], *names: str) -> np.ndarray | None:
    """The numbers of the first of these fields that there is."""
    text = next((header[name] for name in names if header.get(name)), None)
    return None if text is None else np.array([float(number) for number in text.split()])


def _place(header: dict[str, str], shape: tuple[int, ...]) -> Placement:
    steps = _vector(header, "ElementSpacing", "ElementSize")
    matrix = _vector(header, "TransformMatrix", "Rotation", "Orientation")
    origin = _vector(header, "Offset", "Position", "Origin")
    num_axes, n = len(shape), min(len(shape), 3)
    affine = np.eye(4)
    if matrix is not None and len(matrix) == num_axes**2:
        affine[:n, :n] = matrix.reshape(num_axes, num_axes)[:n, :n].T  # a row is the direction of an axis
    if steps is not None and is_spacing(tuple(steps[:2])):
        affine[:3, : len(steps[:n])] *= steps[:n]
    if origin is not None and len(origin) == num_axes:
        affine[:n, 3] = origin[:n]
    return place(_LPS_TO_RAS @ affine, shape, steps)
