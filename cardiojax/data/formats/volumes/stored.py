"""Values stored one after the other in a stream: read and converted in blocks, whatever the file states of its size."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Num

from cardiojax.data.formats.common import UnreadableFileError, check_size
from cardiojax.data.formats.grey import infer_white, luma

#: Bytes that are read at once.
BLOCK_BYTES = 2**22


class ZlibStream:
    """Decompresses a zlib or gzip stream piece by piece, so that it never holds more than what is asked for."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: the header selects zlib or gzip

    def read(self, size: int, /) -> bytes:
        """Reads up to so many decompressed bytes; fewer only at the end."""
        pieces: list[bytes] = []
        while size > 0 and not self._decoder.eof:
            source = self._decoder.unconsumed_tail or self._file.read(2**16)
            if not source:
                break
            pieces.append(self._decoder.decompress(source, size))
            size -= len(pieces[-1])
        return b"".join(pieces)


class Frames(NamedTuple):
    """Frames ``[t, h, w]`` and the value of white, None where it has to be inferred."""

    values: Num[np.ndarray, "t h w"]
    white: float | None


def frames_shape(path: Path, shape: Sequence[int]) -> tuple[int, int, int]:
    """Finds ``(t, h, w)`` of an array whose first axis varies fastest.

    Args:
        path: The file, for messages.
        shape: ``(width, height)``, ``(width, height, time)`` or ``(width, height, 1, time)``, and any axes of one.

    Returns:
        Number of frames, height and width.

    Raises:
        UnreadableFileError: If it is an array of another kind.
    """
    times = [n for n in shape[2:4] if n != 1]
    if len(shape) < 2 or len(times) > 1 or any(n != 1 for n in shape[4:]):
        raise UnreadableFileError(
            path, f"is an array of {' x '.join(map(str, shape))}, expected width x height [x time]"
        )
    return (times[0] if times else 1, shape[1], shape[0])


def read_frames(
    path: Path,
    read: Callable[[int], bytes],
    shape: tuple[int, int, int],
    dtype: np.dtype,
    *,
    num_channels: int = 1,
    slope: float = 1.0,
    intercept: float = 0.0,
) -> Frames:
    """Reads frames from where a stream is.

    Integers of 8 and 16 bits stay what they are, unless they are scaled, and truth values become 0 and 1 of 8 bits; all
    else becomes float32. Peak memory: the result and a few blocks of 4 MiB.

    Args:
        path: The file, for messages.
        read: Reads so many bytes, from the first value on, such as ``file.read``.
        shape: ``(t, h, w)``; it is checked before anything is allocated.
        dtype: Of a stored value, with its byte order.
        num_channels: Values of a pixel; 3 or 4 are a colour and become its luma.
        slope: Each value is multiplied by this,
        intercept: and this is added.

    Returns:
        The frames.

    Raises:
        UnreadableFileError: If they would be too large, are no grey values, or the stream ends before them.
    """
    if dtype.kind not in "buif" or num_channels not in (1, 3, 4):
        raise UnreadableFileError(path, f"holds {num_channels} x {dtype} a pixel, expected grey values or a colour")
    check_size(path, shape)
    is_scaled = (slope, intercept) != (1.0, 0.0)
    is_truth = dtype.kind == "b"
    dtype = np.dtype(np.uint8) if is_truth else dtype
    is_kept = dtype.kind in "ui" and dtype.itemsize <= 2 and num_channels == 1 and not is_scaled
    frames = np.empty(shape, dtype.newbyteorder("=") if is_kept else np.float32)
    flat = frames.reshape(-1)
    pixel_bytes = dtype.itemsize * num_channels
    step = max(1, BLOCK_BYTES // pixel_bytes)
    for start in range(0, flat.size, step):
        target = flat[start : start + step]
        block = read(target.size * pixel_bytes)
        if len(block) < target.size * pixel_bytes:
            num_bytes = start * pixel_bytes + len(block)
            raise UnreadableFileError(path, f"has {num_bytes} bytes of pixels, expected {flat.size * pixel_bytes}")
        values = np.frombuffer(block, dtype)
        if num_channels > 1:
            values = luma(values.reshape(-1, num_channels))
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 becomes infinite: not grey values
            target[:] = values != 0 if is_truth else values
            if is_scaled:
                target *= np.float32(slope)
                target += np.float32(intercept)
    if is_truth:
        return Frames(frames, 1.0)
    if num_channels > 1 and not is_scaled and dtype.kind in "ui":
        return Frames(frames, float(np.iinfo(dtype).max))
    is_converted = dtype.kind in "ui" and not is_kept and not is_scaled
    return Frames(frames, infer_white(frames, at_least=255.0) if is_converted else None)
