"""MP4, AVI and Matroska loops, decoded by FFmpeg frame by frame."""

import contextlib
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from cardiojax.data.formats.common import (
    Decoded,
    UnreadableFileError,
    check_frame_time,
    check_size,
    frame_time_from_stamps,
)
from cardiojax.data.formats.grey import ColourCounter

#: Pixels of a frame above which a video is refused, twice those of a 4K screen: it bounds what the decoders hold.
MAX_FRAME_PIXELS = 2**24
#: Samples above which an MP4 is refused: FFmpeg indexes all of them, in about 60 bytes each, before it decodes one.
MAX_SAMPLES = 2**24
#: The tables of an MP4 that state a number of samples, with the bytes from their name to that number.
_SAMPLE_TABLES = {b"stsz": 12, b"trun": 8}
#: Frames that a video is taken to have for the choice of those whose colours are looked at, if it states no number.
_UNKNOWN_LENGTH = 64


class _Frames(NamedTuple):
    """Grey values ``[t, h, w]``, where they are coloured, the times in s that are known, and counts of lost frames."""

    values: np.ndarray
    coloured: np.ndarray | None
    times: np.ndarray
    display_matrix: np.ndarray
    num_damaged: int
    num_other_size: int


def decode(path: Path) -> Decoded:
    """Decodes the first video stream to grey values, turned as the display matrix of the file states.

    Luma of the limited range is expanded to the full range. Frames that cannot be decoded are left out, and a note
    counts them. Spacing is unknown. Peak memory: the grey loop in bytes, half as much again while it grows, and what
    FFmpeg holds (about 20 frames).
    """
    import av

    with path.open("rb") as file:
        demuxer = _demuxer(file.read(4))
        if demuxer == "mov":
            _check_sample_counts(path, file)
        file.seek(0)
        # FFmpeg gets an open file and one demuxer: neither the file's name nor a playlist in it can lead elsewhere.
        with av.open(
            file,
            format=demuxer,
            options={"max_pixels": str(MAX_FRAME_PIXELS)},
            container_options={"protocol_whitelist": "none"},
        ) as container:
            if not container.streams.video:
                raise UnreadableFileError(path, "has no video stream, expected an echo loop")
            stream = container.streams.video[0]
            frames = _decode_stream(path, container, stream)
            num_expected = _num_expected(container, stream, frames.times)
            rate, ratio = stream.average_rate, stream.sample_aspect_ratio
    frame_time, time_notes = frame_time_from_stamps(frames.times.tolist())
    if len(frames.times) < 2 and rate:
        frame_time = check_frame_time(float(1 / rate))
    values, turned = _turn(frames.values, frames.display_matrix)
    coloured = None if frames.coloured is None else _turn(frames.coloured[None], frames.display_matrix)[0][0]
    notes = [*_losses(frames, num_expected), *time_notes, *turned]
    if ratio and ratio != 1:
        notes.append(f"The pixels are not square, the file states {ratio} of width to height.")
    return Decoded(values, None, frame_time, "spacing unknown", tuple(notes), white=255.0, coloured=coloured)


def _demuxer(head: bytes) -> str:
    if head == b"RIFF":
        return "avi"
    return "matroska" if head == b"\x1aE\xdf\xa3" else "mov"


def _check_sample_counts(path: Path, file: BinaryIO) -> None:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        count = sum(_sample_counts(content))
    if count > MAX_SAMPLES:
        raise UnreadableFileError(path, f"states {count} samples, expected at most {MAX_SAMPLES}")


def _sample_counts(content: mmap.mmap) -> Iterator[int]:
    """Numbers of samples that the tables outside the media data state, wherever they are nested."""
    names = re.compile(b"|".join(_SAMPLE_TABLES))
    start = 0
    while start + 8 <= len(content):
        size, kind = int.from_bytes(content[start : start + 4]), content[start + 4 : start + 8]
        if size == 1:  # a size of 64 bits follows
            size = int.from_bytes(content[start + 8 : start + 16])
        end = start + size if size else len(content)
        if kind != b"mdat":
            for match in names.finditer(content, start, min(end, len(content))):
                is_long = content[match.start() - 4 : match.start()] == b"\0\0\0\1"
                at = match.start() + _SAMPLE_TABLES[match.group()] + (8 if is_long else 0)
                yield int.from_bytes(content[at : at + 4])
        if end < start + 8:
            break
        start = end


def _decode_stream(path: Path, container: Any, stream: Any) -> _Frames:
    from av.video.reformatter import VideoReformatter

    _check_frame(path, stream.height, stream.width)
    reformatter = VideoReformatter()
    values = np.empty((0, stream.height, stream.width), np.uint8)
    times: list[float] = []
    matrix = np.eye(2)
    num_frames = num_damaged = num_other_size = 0
    colours = ColourCounter(stream.frames or _UNKNOWN_LENGTH)
    for frame in _decodable(container, stream):
        if num_frames == 0:
            _check_frame(path, frame.height, frame.width)
            values = np.empty((min(max(stream.frames, 1), 64), frame.height, frame.width), np.uint8)
            matrix = _display_matrix(frame)
        if (frame.height, frame.width) != values.shape[1:]:
            num_other_size += 1
            continue
        check_size(path, (num_frames + 1, frame.height, frame.width))
        if num_frames == len(values):
            values.resize((len(values) + len(values) // 2 + 1, *values.shape[1:]), refcheck=False)
        # swscale expands the limited range, which "gray" has not, and weighs colours by ITU-R BT.601
        values[num_frames] = reformatter.reformat(frame, format="gray").to_ndarray()
        if not colours.skips() and not frame.format.name.startswith("gray"):
            colours.add(reformatter.reformat(frame, format="rgb24").to_ndarray())
        num_damaged += frame.is_corrupt
        num_frames += 1
        if frame.time is not None:
            times.append(frame.time)
    if num_frames == 0:
        raise UnreadableFileError(path, "has no frame that can be decoded, expected at least one")
    values.resize((num_frames, *values.shape[1:]), refcheck=False)
    # sorted, since AVI gives the times of the packets, whose order is not that of the frames
    return _Frames(values, colours.share(), np.sort(times), matrix, num_damaged, num_other_size)


def _decodable(container: Any, stream: Any) -> Iterator[Any]:
    """Yields what can be decoded, passing over what is damaged."""
    import av

    with contextlib.suppress(av.FFmpegError):  # the container ends where it is damaged
        for packet in container.demux(stream):
            with contextlib.suppress(av.FFmpegError):
                yield from packet.decode()
    with contextlib.suppress(av.FFmpegError):  # what the decoder holds if the container did not end well
        yield from stream.codec_context.decode(None)


def _check_frame(path: Path, height: int, width: int) -> None:
    if not 0 < height * width <= MAX_FRAME_PIXELS:  # FFmpeg makes some of the larger ones 0 x 0
        raise UnreadableFileError(
            path, f"states frames of {width} x {height} pixels, expected at least one and at most {MAX_FRAME_PIXELS}"
        )


def _num_expected(container: Any, stream: Any, times: np.ndarray) -> int:
    """Number of frames that the file states, directly or by its duration; 0 if unknown."""
    import av

    if stream.frames and container.format.name.startswith("mov") and stream.duration and stream.average_rate:
        presented = round(stream.duration * stream.time_base * stream.average_rate)
        return presented if presented < 0.95 * stream.frames else stream.frames  # an edit list may cut the loop
    if stream.frames or not container.duration or not len(times):
        return stream.frames
    steps = np.diff(times)
    if len(steps) == 0:
        step = float(1 / stream.average_rate) if stream.average_rate else np.inf
    else:
        step = np.median(steps)
        if not step > 0 or np.mean(np.abs(steps - step) < 0.2 * step) < 0.8:
            return 0
    return round((container.duration / av.time_base - times[0]) / step)


def _losses(frames: _Frames, num_expected: int) -> Iterator[str]:
    num_read = len(frames.values)
    num_missing = num_expected - num_read - frames.num_other_size
    if num_missing > 0:
        yield f"{num_missing} of the {num_expected} frames that the file states are missing."
    if frames.num_damaged:
        yield f"{frames.num_damaged} of {num_read} frames are damaged."
    if frames.num_other_size:
        yield f"{frames.num_other_size} frames of another size than the first are left out."


def _display_matrix(frame: Any) -> np.ndarray:
    """The linear part of the display matrix, which takes ``(x, y)`` as stored to ``(x, y)`` as shown."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return np.eye(2)
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5] / 2**16  # 16.16 fixed point
    return np.array([[a, c], [b, d]])


def _turn(values: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turns ``[t, h, w]`` as a display matrix states, as far as that is by right angles."""
    signs = np.sign(np.round(matrix, 1))
    if np.array_equal(signs, np.eye(2)):
        return values, ()
    if np.any(np.abs(signs).sum(0) != 1) or np.any(np.abs(signs).sum(1) != 1):
        return values, ("The file states a rotation that is not by right angles, which is not applied.",)
    if signs[0, 0] == 0:
        values = values.swapaxes(1, 2)
    rows, columns = (slice(None, None, int(sign)) for sign in (signs[1].sum(), signs[0].sum()))
    return values[:, rows, columns], ()
