"""NPY arrays and NPZ archives of numbers; Python objects are refused."""

import contextlib
import io
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cardiojax.data.formats import common
from cardiojax.data.formats.common import Decoded, UnreadableFileError, is_spacing
from cardiojax.data.formats.volumes.stored import read_frames

_MAGIC = b"\x93NUMPY"
#: Bytes of a header above which an array is refused; NumPy reads all of them before it looks at their number.
_MAX_HEADER_BYTES = 2**16
_MAX_NAMES = 8  # of the arrays of an archive that a message lists


class _Header(NamedTuple):
    shape: tuple[int, ...]
    is_fortran: bool
    dtype: np.dtype


def decode(path: Path) -> Decoded:
    """Decodes ``[h, w]`` or ``[t, h, w]``.

    Of an archive this is ``frames``, ``image``, ``labels`` or ``label``, else its only array; it may also hold the
    ``spacing`` ``(dy, dx)`` in mm. Peak memory: the frames (integers of 8 and 16 bits as they are, else float32) and a
    few blocks of 4 MiB.
    """
    return _decode(path, ("frames", "image", "labels", "label"))


def decode_labels(path: Path) -> Decoded:
    """Decodes as `decode`; of an archive ``labels``, ``label``, ``masks``, ``mask`` or its only array."""
    return _decode(path, ("labels", "label", "masks", "mask"))


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Reads arrays of an archive.

    Args:
        path: An ``.npz``.
        names: Arrays to read; those that the archive lacks are left out.

    Returns:
        Arrays of numbers or text by name. Peak memory: twice the largest beside the others, at most
        `MAX_DECODED_BYTES` in all.

    Raises:
        UnreadableFileError: If an array is damaged, holds Python objects, or they are too large together.
    """
    arrays, total = {}, 0
    with zipfile.ZipFile(path) as archive:
        for name in names:
            if f"{name}.npy" not in archive.namelist():
                continue
            with _member(path, archive, name) as read:
                shape, is_fortran, dtype = _read_header(path, read)
                if dtype.hasobject:
                    raise UnreadableFileError(
                        path, "holds Python objects as {stated}, expected numbers or text", stated=repr(name)
                    )
                size = math.prod(shape) * dtype.itemsize
                total += size
                if total > common.MAX_DECODED_BYTES:
                    raise UnreadableFileError(
                        path,
                        f"holds {total / 2**30:.1f} GiB, expected at most {common.MAX_DECODED_BYTES / 2**30:g} GiB",
                    )
                content = read(size)
                if len(content) < size:
                    raise UnreadableFileError(
                        path, f"holds {len(content)} of the {size} bytes of {{stated}}", stated=repr(name)
                    )
                arrays[name] = np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")
    return arrays


def _decode(path: Path, names: tuple[str, ...]) -> Decoded:
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            file.seek(0)
            return _read_array(path, file.read)
    with zipfile.ZipFile(path) as archive:
        held = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
        known = [name for name in names if name in held] or held
        if not known:
            raise UnreadableFileError(path, "is an archive without arrays, expected an array")
        if len(known) > 1 and known == held:
            listed = ", ".join(held[:_MAX_NAMES]) + (", ..." if len(held) > _MAX_NAMES else "")
            raise UnreadableFileError(
                path, f"holds {{stated}}, expected one named {names[0]!r} or {names[1]!r}", stated=listed
            )
        with _member(path, archive, known[0]) as read:
            decoded = _read_array(path, read)
        spacing, notes = _read_spacing(path, archive) if "spacing" in held else (None, ())
    return decoded._replace(spacing=spacing, notes=notes, note="spacing from the archive" if spacing else decoded.note)


@contextlib.contextmanager
def _member(path: Path, archive: zipfile.ZipFile, name: str) -> Iterator[Callable[[int], bytes]]:
    info = archive.getinfo(f"{name}.npy")
    if info.flag_bits & 1:
        raise UnreadableFileError(
            path, "holds {stated} encrypted, expected an archive without a password", stated=repr(name)
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others take memory that they state
        raise UnreadableFileError(path, "compresses {stated} by a method that NumPy does not use", stated=repr(name))
    with archive.open(info) as file:
        yield file.read
        file.read(1)  # at the end the checksum is compared


def _read_header(path: Path, read: Callable[[int], bytes]) -> _Header:
    head = read(len(_MAGIC) + 2)
    if head[: len(_MAGIC)] != _MAGIC or len(head) < len(_MAGIC) + 2:
        raise UnreadableFileError(path, "holds an array without the header of NumPy")
    is_first = head[len(_MAGIC)] == 1
    length = read(2 if is_first else 4)
    num_bytes = int.from_bytes(length, "little")
    if num_bytes > _MAX_HEADER_BYTES:
        raise UnreadableFileError(path, f"has a header of {num_bytes} bytes, expected at most {_MAX_HEADER_BYTES}")
    content = io.BytesIO(length + read(num_bytes))
    parse = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
    return _Header(*parse(content))


def _read_array(path: Path, read: Callable[[int], bytes]) -> Decoded:
    shape, is_fortran, dtype = _read_header(path, read)
    if dtype.hasobject:
        raise UnreadableFileError(path, "holds Python objects, expected numbers")
    if len(shape) not in (2, 3) or dtype.kind not in "buif":
        raise UnreadableFileError(
            path, f"is {{stated}} {list(shape)}, expected numbers [h, w] or [t, h, w]", stated=str(dtype)
        )
    frames, height, width = (1, *shape)[-3:]
    if not is_fortran:
        stored = read_frames(path, read, (frames, height, width), dtype)
        return Decoded(stored.values, None, None, "spacing unknown", white=stored.white)
    if len(shape) == 2:  # the first axis varies fastest
        stored = read_frames(path, read, (1, width, height), dtype)
        return Decoded(stored.values.swapaxes(1, 2), None, None, "spacing unknown", white=stored.white)
    stored = read_frames(path, read, (width, height, frames), dtype)
    return Decoded(stored.values.T, None, None, "spacing unknown", white=stored.white)


def _read_spacing(path: Path, archive: zipfile.ZipFile) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    with _member(path, archive, "spacing") as read:
        shape, _, dtype = _read_header(path, read)
        is_pair = shape == (2,) and dtype.kind in "uif"
        values = np.frombuffer(read(2 * dtype.itemsize), dtype).astype(float) if is_pair else np.full(2, np.nan)
    if not is_spacing(tuple(values)):
        return None, ("The pixel spacing in the archive is not valid: the spacing is unknown.",)
    return (float(values[0]), float(values[1])), ()
