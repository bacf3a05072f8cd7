"""DICOM ultrasound, single and multi-frame."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cardiojax.data.formats.common import Decoded, UnreadableFileError, check_size, printable
from cardiojax.data.formats.dicom import header
from cardiojax.data.formats.dicom.pixels import Pixels, decode_frames, find_pixels, open_dataset, pixel_options
from cardiojax.data.formats.dicom.scale import read_scale
from cardiojax.data.formats.dicom.time import read_frame_time, read_heart_rate
from cardiojax.data.formats.grey import ColourCounter, infer_white, luma

#: Modalities of ultrasound images.
MODALITIES = ("US", "IVUS")


def starts_dataset(head: bytes) -> bool:
    """Whether these are the first bytes of a DICOM dataset without the preamble: an element of group 2 or 8."""
    group, element, length = (int.from_bytes(head[i : i + n], "little") for i, n in ((0, 2), (2, 2), (4, 4)))
    has_type = head[4:6].isalpha() and head[4:6].isupper()
    return group in (2, 8) and element <= 0x20 and (has_type or 0 < length < 256)


def decode(path: Path) -> Decoded:
    """Decodes the frames that are in the file to grey values, one at a time into the result.

    The scale is that of `read_scale`, the time that of `read_frame_time`. What is missing or
    wrong in the header makes the one thing unknown that it describes, with a note.
    """
    with open_dataset(path) as (dataset, file):
        notes = [*_check_kind(path, dataset)]
        pixels = find_pixels(path, dataset, file)
        num_frames = len(pixels.frames)
        if not num_frames:
            raise UnreadableFileError(path, "holds no whole frame of pixels, expected at least one")
        shape = (num_frames, int(dataset.Rows), int(dataset.Columns))
        check_size(path, shape)
        grey = _decode_grey(path, dataset, pixels, shape)
        frames, white = grey.frames, grey.white
        notes += _count_notes(header.value(dataset, "NumberOfFrames"), num_frames, grey.num_lost)
        scale = read_scale(dataset, frames, white)
        frame_time, time_notes = read_frame_time(dataset, num_frames)
    return Decoded(
        frames,
        scale.spacing,
        frame_time,
        scale.source,
        (*notes, *scale.notes, *time_notes),
        white,
        None,
        scale.regions,
        read_heart_rate(dataset),
        {"YES": True, "NO": False}.get(header.text(dataset, "BurnedInAnnotation").upper()),
        grey.coloured,
    )


def _check_kind(path: Path, dataset: Any) -> list[str]:
    """Refuses what is no ultrasound image; a missing modality is a note."""
    if "DirectoryRecordSequence" in dataset:
        records = header.items(dataset, "DirectoryRecordSequence")
        names = [name for name in (header.value(record, "ReferencedFileID") for record in records) if name]
        first = names[0] if names else "IMAGES/IM0001"
        example = first if isinstance(first, str) else "/".join(map(str, first))
        raise UnreadableFileError(
            path,
            f"is a DICOMDIR, an index of {len(names)} files, expected one of these files, such as {{stated}}",
            stated=example,
        )
    modality = header.text(dataset, "Modality")
    if modality and modality not in MODALITIES:
        modality = printable(modality, max_length=40)
        raise UnreadableFileError(
            path, "is a DICOM file of modality {stated}, expected ultrasound (US)", stated=modality
        )
    return [] if modality else ["The file states no modality: it is taken for ultrasound."]


class _Grey(NamedTuple):
    """Frames in grey values as stored, the value of white, how many could not be decoded, and where colours were."""

    frames: np.ndarray
    white: float
    num_lost: int
    coloured: np.ndarray | None


def _decode_grey(path: Path, dataset: Any, pixels: Pixels, shape: tuple[int, int, int]) -> _Grey:
    from pydicom.pixels import apply_color_lut

    options = pixel_options(dataset)
    interpretation = options["photometric_interpretation"]
    frames = np.empty(shape, np.float32)
    is_byte, count, error = True, 0, None
    colours = ColourCounter(len(frames))
    for frame in decode_frames(path, dataset, pixels):
        if isinstance(frame, Exception):
            error = error or frame
            continue
        if interpretation == "PALETTE COLOR":
            frame = apply_color_lut(frame, dataset)
        is_byte &= frame.dtype.itemsize == 1
        if frame.ndim == 3 and not colours.skips():
            colours.add(frame)
        frames[count] = luma(frame) if frame.ndim == 3 else frame
        count += 1
    if not count:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UnreadableFileError(path, "has no frame that can be decoded ({stated})", stated=reason) from error
    frames = frames[:count]
    white = 255.0 if is_byte else infer_white(frames, at_least=255.0)
    if interpretation == "MONOCHROME1":
        np.subtract(np.float32(white), frames, out=frames)
    return _Grey(frames, white, shape[0] - count, colours.share())


def _count_notes(stated: Any, num_frames: int, lost: int) -> list[str]:
    notes = []
    try:
        expected = int(stated)
    except (TypeError, ValueError):
        expected = 1
    if stated is None and num_frames > 1:
        notes.append(f"The file states no number of frames and holds {num_frames}.")
    elif expected != num_frames:
        number = expected if str(stated).strip().isdecimal() else "an unreadable number of"
        notes.append(f"The file states {number} frames and holds {num_frames}.")
    if lost:
        notes.append(f"{lost} of {num_frames} frames could not be decoded and are left out.")
    return notes
