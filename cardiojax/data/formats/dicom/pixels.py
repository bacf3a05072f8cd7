"""Pixel data of DICOM files, one frame at a time: what is in the file counts, not what its header announces."""

import contextlib
import io
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cardiojax.data.formats.common import MAX_DECODED_BYTES, UnreadableFileError, check_size
from cardiojax.data.formats.dicom import header
from cardiojax.data.formats.volumes.stored import BLOCK_BYTES

#: Elements larger than this (bytes) other than the pixels are not read.
_MAX_ELEMENT_BYTES = 2**20
_DEFLATED = "1.2.840.10008.1.2.1.99"
_IMPLICIT, _EXPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
_JPEG_BASELINE, _JPEG_2000, _RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.5"
#: First bytes of a compressed image; another fragment goes on with the image before it.
_STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
_ITEM, _UNDEFINED = 0xFFFEE000, 0xFFFFFFFF


class Pixels(NamedTuple):
    """Where the frames of a file are.

    Attributes:
        file: The file or its inflated content.
        syntax: UID of the transfer syntax.
        vr: OB or OW: whether the values are bytes or words.
        frames: Offset and length of the fragments of each frame.
    """

    file: io.BufferedIOBase
    syntax: str
    vr: str
    frames: list[list[tuple[int, int]]]


@contextlib.contextmanager
def open_dataset(path: Path) -> Iterator[tuple[Any, io.BufferedIOBase]]:
    """Opens a file and reads its elements up to the pixels.

    Args:
        path: The file, with or without preamble and file meta information.

    Yields:
        The dataset and the file, which stands at the element of the pixels or at its end.
    """
    import pydicom

    with path.open("rb") as opened, _inflated(path, opened) as file:
        yield pydicom.dcmread(file, stop_before_pixels=True, force=True, defer_size=_MAX_ELEMENT_BYTES), file


@contextlib.contextmanager
def _inflated(path: Path, file: io.BufferedReader) -> Iterator[io.BufferedReader | io.BufferedRandom]:
    """The dataset of a deflated file in a temporary file, whose size is bounded; any other file as it is."""
    from pydicom.filereader import read_file_meta_info

    meta = read_file_meta_info(path) if file.read(132)[128:] == b"DICM" else {}
    if meta.get("TransferSyntaxUID") != _DEFLATED:
        file.seek(0)
        yield file
        return
    # The group starts with its own length, an element of 12 bytes.
    file.seek(144 + int(meta.FileMetaInformationGroupLength))  # type: ignore[union-attr]
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    with tempfile.TemporaryFile() as target:  # in memory, a small file could take 2 GiB
        while source := decompressor.unconsumed_tail or file.read(BLOCK_BYTES):
            target.write(decompressor.decompress(source, BLOCK_BYTES))
            if target.tell() > MAX_DECODED_BYTES:
                raise UnreadableFileError(
                    path, f"inflates to more than {MAX_DECODED_BYTES / 2**30:.0f} GiB, expected at most that"
                )
            if decompressor.eof:
                break
        target.write(decompressor.flush())
        target.seek(0)
        yield target


def find_pixels(path: Path, dataset: Any, file: io.BufferedIOBase) -> Pixels:
    """Finds the frames in a file that stands at the element of its pixels.

    The frames are counted from the bytes that are there: neither NumberOfFrames nor a table of offsets is used. A frame
    of native pixel data has a fixed size; one that is compressed begins with the marker of its format.

    Args:
        path: Named in errors.
        dataset: Elements before the pixels.
        file: The file.

    Returns:
        The frames.

    Raises:
        UnreadableFileError: If there are no pixels.
    """
    _, is_little = dataset.original_encoding
    order = "<" if is_little else ">"
    head = file.read(8)
    if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) != (0x7FE0, 0x0010):
        raise UnreadableFileError(path, "is a DICOM file without pixel data, expected an image or a loop")
    for name in ("Rows", "Columns"):
        if not isinstance(header.value(dataset, name), int):
            raise UnreadableFileError(path, f"states no {name}, expected the size of its frames")
    is_implicit = head[4:6] not in (b"OB", b"OW", b"UN")  # some files are not encoded as they say
    length = struct.unpack(f"{order}L", head[4:] if is_implicit else file.read(4))[0]
    start = file.tell()
    here = file.seek(0, os.SEEK_END) - start
    syntax = str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", ""))
    if length == _UNDEFINED:
        return _encapsulated(file, start, order, syntax)
    size = _native_frame_size(path, dataset)
    if not is_little and head[4:6] == b"OW" and size % 2 and header.value(dataset, "BitsAllocated") == 8:
        raise UnreadableFileError(path, "keeps frames of an odd number of bytes in big-endian words, which is not read")
    count = min(length, here) // size
    syntax = (_IMPLICIT if is_implicit else _EXPLICIT) if is_little else _BIG_ENDIAN
    vr = "OB" if head[4:6] == b"OB" else "OW"
    return Pixels(file, syntax, vr, [[(start + i * size, size)] for i in range(count)])


def _encapsulated(file: io.BufferedIOBase, start: int, order: str, syntax: str) -> Pixels:
    """Groups fragments into frames."""
    fragments = _list_fragments(file, start, order)
    heads = [_read(file, offset, 8) for offset, _ in fragments]
    is_marked = bool(heads) and heads[0].startswith(_STARTS) and syntax != _RLE
    if syntax in ("", _IMPLICIT, _EXPLICIT, _BIG_ENDIAN, _DEFLATED):
        syntax = _JPEG_2000 if is_marked and not heads[0].startswith(_STARTS[0]) else _JPEG_BASELINE
    frames: list[list[tuple[int, int]]] = []
    for fragment, head in zip(fragments, heads, strict=True):
        if not is_marked or head.startswith(_STARTS):
            frames.append([])
        frames[-1].append(fragment)
    return Pixels(file, syntax, "OB", frames)


def _list_fragments(file: io.BufferedIOBase, start: int, order: str) -> list[tuple[int, int]]:
    """Offsets and lengths of the fragments after the table of offsets; a damaged end is left out."""
    end = file.seek(0, os.SEEK_END)
    fragments, offset, is_table = [], start, True
    while offset + 8 <= end:
        file.seek(offset)
        group, element, length = struct.unpack(f"{order}HHL", file.read(8))
        if (group << 16 | element) != _ITEM or length == _UNDEFINED:
            break
        offset += 8
        if not is_table and length:
            fragments.append((offset, min(length, end - offset)))
        is_table = False
        offset += length
    return [fragment for fragment in fragments if fragment[1] > 0]


def _native_frame_size(path: Path, dataset: Any) -> int:
    options = pixel_options(dataset)
    num_values = options["rows"] * options["columns"] * options["samples_per_pixel"]
    if options["photometric_interpretation"] == "YBR_FULL_422":
        num_values = num_values * 2 // 3
    check_size(path, (options["rows"], options["columns"]))
    return max(1, math.ceil(num_values * options["bits_allocated"] / 8))


def pixel_options(dataset: Any) -> dict[str, Any]:
    """The elements that describe a frame, completed where the file leaves out what follows from the others.

    Args:
        dataset: Elements before the pixels.

    Returns:
        Options of a decoder of pydicom for one frame.
    """
    from pydicom.pixels.common import PhotometricInterpretation

    def whole(name: str, default: int) -> int:
        return int(header.number(dataset, name) or default)

    stated = header.text(dataset, "PhotometricInterpretation").upper()
    samples = whole("SamplesPerPixel", 3 if stated.startswith(("RGB", "YBR")) else 1)
    known = {str(p.value) for p in PhotometricInterpretation} | {"PALETTE COLOR"}
    if stated not in known or (samples == 3) != stated.startswith(("RGB", "YBR")):
        stated = "RGB" if samples == 3 else "MONOCHROME2"
    bits = whole("BitsAllocated", 8)
    bits_stored = whole("BitsStored", bits)
    return {
        "rows": int(dataset.Rows),
        "columns": int(dataset.Columns),
        "samples_per_pixel": samples,
        "photometric_interpretation": stated,
        "bits_allocated": bits,
        "bits_stored": bits_stored if 1 <= bits_stored <= bits else bits,
        "pixel_representation": whole("PixelRepresentation", 0),
        "planar_configuration": whole("PlanarConfiguration", 0),
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }


def decode_frames(path: Path, dataset: Any, pixels: Pixels) -> Iterator[np.ndarray | Exception]:
    """Decodes one frame after the other.

    Args:
        path: Named in errors.
        dataset: Elements before the pixels.
        pixels: Where the frames are.

    Yields:
        Each frame, ``[h, w]`` or ``[h, w, 3]`` in red, green and blue, or the exception of one that is damaged.

    Raises:
        UnreadableFileError: If no decoder for the compression is installed.
    """
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    name = UID(pixels.syntax).name
    try:
        decoder = get_decoder(pixels.syntax)
    except NotImplementedError:
        raise UnreadableFileError(
            path, f"is compressed as {name}, expected JPEG, JPEG 2000, RLE or no compression"
        ) from None
    if decoder.is_encapsulated and not decoder.is_available:
        raise UnreadableFileError(
            path, f"is compressed as {name}, which needs another decoder: run `pip install python-gdcm`"
        )
    options: dict[str, Any] = {**pixel_options(dataset), "pixel_vr": pixels.vr}
    for fragments in pixels.frames:
        content = b"".join(_read(pixels.file, *fragment) for fragment in fragments)
        buffer = encapsulate([content]) if decoder.is_encapsulated else content
        try:
            yield decoder.as_array(buffer, index=0, **options)[0]
        except Exception as error:  # decoders raise many kinds for a damaged frame
            yield error


def _read(file: io.BufferedIOBase, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
