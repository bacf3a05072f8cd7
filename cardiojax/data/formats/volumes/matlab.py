"""Arrays of numbers of MATLAB files, versions 4 to 7.2.

They are read here because the reader of SciPy 1.17 crashes on damaged files.
"""

import io
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from cardiojax.data.formats.common import UnreadableFileError, check_size
from cardiojax.data.formats.volumes.stored import BLOCK_BYTES, ZlibStream

#: Reads up to so many bytes.
Read = Callable[[int], bytes]

#: Types of the elements of version 5 that hold numbers, and of those that hold others.
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
#: Classes of arrays of version 5: those of numbers, and the others by name.
_NUMBERS, _OPAQUE = range(6, 16), 17
_CLASSES = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 16: "function"}
_COMPLEX = 0x800
#: Types of the numbers of version 4, and its kinds of arrays.
_OLD_TYPES = ("f8", "f4", "i4", "i2", "u2", "u1")
_OLD_KINDS = ("", "char", "sparse")
#: Bytes by which an element is filled up.
_PADDING = 7
#: Bytes of a name, of the sizes of an array or of its flags.
_MAX_FIELD = 4096


class _DamagedError(Exception):
    """What is wrong with a file."""


class _Stored(NamedTuple):
    """What is stated of an array whose numbers come next; no kind if it holds real numbers.

    Attributes:
        read: Reads the numbers.
        rest: Reads what follows them, of a compressed array.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Read
    rest: Read | None = None


def read_array(path: Path, name: str) -> np.ndarray:
    """Reads an array of numbers.

    Peak memory: the array and a few blocks of 4 MiB.

    Args:
        path: The file.
        name: The array.

    Returns:
        The array, of the type in which it is stored.

    Raises:
        UnreadableFileError: If the file is damaged, or holds no such array of a size within the limit.
    """
    try:
        with path.open("rb") as file:
            for stored in _arrays(file, path.stat().st_size):
                if stored.name == name:
                    return _numbers(path, stored)
    except (_DamagedError, zlib.error) as error:
        raise UnreadableFileError(path, "is no readable MATLAB file ({stated})", stated=str(error)) from error
    raise UnreadableFileError(path, f"holds no array {name!r}")


def _numbers(path: Path, stored: _Stored) -> np.ndarray:
    name, kind, shape, dtype, read, rest = stored
    if kind:
        raise UnreadableFileError(path, f"holds {name!r} as {kind}, expected numbers")
    check_size(path, shape, itemsize=dtype.itemsize)
    array = np.empty(math.prod(shape), dtype.newbyteorder("="))
    step = BLOCK_BYTES // dtype.itemsize
    for start in range(0, array.size, step):  # memory is touched only where there are bytes
        target = array[start : start + step]
        target[:] = np.frombuffer(_exactly(read, target.nbytes), dtype)
    if rest is not None and len(rest(_PADDING + 1)) > _PADDING:  # at the end the checksum is compared
        raise _DamagedError("more is compressed than the array")
    return array.reshape(shape, order="F")


def _arrays(file: BinaryIO, size: int) -> Iterator[_Stored]:
    head = file.read(128)
    order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
    if order is None:
        yield from _old_arrays(file, size)
        return
    if 2 in head[124:126]:
        raise _DamagedError("it is of version 7.3, expected 4 to 7.2: save it with -v7")
    position = 128
    while position < size:
        file.seek(position)
        kind, length = (int(n) for n in np.frombuffer(_exactly(file.read, 8), f"{order}u4"))
        position += 8 + length
        if position > size:
            raise _DamagedError(f"an element states {length} bytes, of which {position - size} are missing")
        read = file.read
        if kind == _COMPRESSED:
            read = ZlibStream(file).read
            kind = int(np.frombuffer(_exactly(read, 8), f"{order}u4")[0])
        if kind != _MATRIX:
            raise _DamagedError(f"an element is of type {kind}, expected an array")
        stored = _describe(read, order)
        if stored is not None:
            yield stored if read == file.read else stored._replace(rest=read)


def _describe(read: Read, order: str) -> _Stored | None:
    """An array of version 5; None for one that is described otherwise."""
    flags = _field(read, order, "u4")
    class_ = int(flags[0]) & 0xFF if len(flags) else 0
    if class_ == _OPAQUE:
        return None
    shape = tuple(int(n) for n in _field(read, order, "i4"))
    name = _field(read, order, "u1").tobytes().decode("latin-1")
    kind = "" if class_ in _NUMBERS else _CLASSES.get(class_, "an unknown class")
    if not kind and int(flags[0]) & _COMPLEX:
        kind = "complex numbers"
    if kind:
        return _Stored(name, kind, shape, np.dtype("u1"), read)
    type_, length, read = _element(read, order)
    dtype = np.dtype(f"{order}{_TYPES[type_]}") if type_ in _TYPES else None
    if dtype is None or len(shape) < 2 or min(shape) < 0 or length != math.prod(shape) * dtype.itemsize:
        sizes = " x ".join(map(str, shape[:8]))
        raise _DamagedError(f"{length} bytes of type {type_} are stated for {sizes} numbers")
    return _Stored(name, kind, shape, dtype, read)


def _field(read: Read, order: str, dtype: str) -> np.ndarray:
    """A short element of version 5, whatever type it states, and what fills it up to eight bytes."""
    _, length, body = _element(read, order)
    if length > _MAX_FIELD:
        raise _DamagedError(f"{length} bytes are stated for a name or sizes, expected at most {_MAX_FIELD}")
    content = _exactly(body, length)
    if body is read:
        _exactly(read, -length % 8)
    dtype_ = np.dtype(f"{order}{dtype}")
    return np.frombuffer(content[: length // dtype_.itemsize * dtype_.itemsize], dtype_)


def _element(read: Read, order: str) -> tuple[int, int, Read]:
    """Type and bytes of an element of version 5, and what reads it; up to four bytes may be part of its head."""
    head = _exactly(read, 8)
    kind, length = (int(n) for n in np.frombuffer(head, f"{order}u4"))
    if kind >> 16 == 0:
        return kind, length, read
    if kind >> 16 > 4:
        raise _DamagedError(f"{kind >> 16} bytes are stated for an element of four")
    return kind & 0xFFFF, kind >> 16, io.BytesIO(head[4:]).read


def _old_arrays(file: BinaryIO, size: int) -> Iterator[_Stored]:
    """Arrays of version 4."""
    position = 0
    while position < size:
        file.seek(position)
        head = _exactly(file.read, 20)
        order = "<" if 0 <= int(np.frombuffer(head[:4], "<i4")[0]) < 5000 else ">"
        type_, rows, cols, is_complex, length = (int(n) for n in np.frombuffer(head, f"{order}i4"))
        machine, number, kind = type_ // 1000, type_ // 10 % 100, type_ % 10
        if machine != "<>".index(order) or number >= len(_OLD_TYPES) or kind >= len(_OLD_KINDS):
            raise _DamagedError("it has the head of no version")
        if min(rows, cols) < 0 or is_complex not in (0, 1) or not 0 < length <= _MAX_FIELD:
            raise _DamagedError(f"{rows} x {cols} numbers and a name of {length} bytes are stated")
        dtype = np.dtype(f"{order}{_OLD_TYPES[number]}")
        position += 20 + length + rows * cols * dtype.itemsize * (1 + is_complex)
        if position > size:
            raise _DamagedError(f"{rows} x {cols} numbers are stated, of which {position - size} bytes are missing")
        name = _exactly(file.read, length).rstrip(b"\0").decode("latin-1")
        yield _Stored(name, "complex numbers" if is_complex else _OLD_KINDS[kind], (rows, cols), dtype, file.read)


def _exactly(read: Read, size: int) -> bytes:
    content = read(size)
    if len(content) < size:
        raise _DamagedError("it ends within an array")
    return content
