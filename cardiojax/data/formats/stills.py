"""PNG and JPEG pictures, and masks in them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cardiojax.data.formats.common import Decoded, UnreadableFileError, check_size
from cardiojax.data.formats.grey import is_coloured

#: Pixels above which a picture is refused, those of an 8K screen: Pillow holds it whole, in four bytes a pixel.
MAX_PICTURE_PIXELS = 2**25
_DEEP_MODES = ("I;16", "I;16B", "I", "F")  # grey values of more than 8 bits
#: Bytes of a PNG that give the bits of a sample and its kind: of grey, Pillow stretches 2 and 4 bits to 8.
_PNG_DEPTH, _PNG_KIND, _PNG_GREY = 24, 25, 0


def decode(path: Path) -> Decoded:
    """Decodes a picture to grey values ``[1, h, w]``, turned as its EXIF orientation states.

    Colours, those of a palette too, become luma. Spacing is unknown. Peak memory: 11 bytes a pixel.
    """
    with _open(path) as picture:
        notes = ()
        if picture.format == "PNG" and getattr(picture, "n_frames", 1) > 1:
            notes = (f"The picture is the first of {picture.n_frames} in an animation; the others are not read.",)
        _turn(picture)
        if picture.mode in _DEEP_MODES:
            return Decoded(np.asarray(picture)[None], None, None, "spacing unknown", notes)
        colour = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
        grey = colour if colour.mode == "L" else colour.convert("L")  # ITU-R BT.601
        coloured = None if colour.mode == "L" else is_coloured(np.asarray(colour)).astype(np.float32)
        values = np.asarray(grey)[None]
        return Decoded(values, None, None, "spacing unknown", notes, white=255.0, coloured=coloured)


def decode_labels(path: Path) -> Decoded:
    """Decodes a mask ``[1, h, w]``: of a palette its indices, of a colour picture its channels if they are equal.

    The colours of a palette say how a mask is shown, not what it is; so the indices are the labels.
    """
    with _open(path) as picture:
        depth = _grey_depth(path)
        _turn(picture)
        if picture.mode in ("1", "L", "P", *_DEEP_MODES):
            values = np.asarray(picture)
            return Decoded((values // (255 // (2**depth - 1)) if depth in (2, 4) else values)[None])
        channels = [np.asarray(picture.getchannel(band)) for band in picture.getbands() if band != "A"]
        if picture.mode not in ("LA", "PA", "RGB", "RGBA") or any((c != channels[0]).any() for c in channels):
            raise UnreadableFileError(path, "is a colour picture, expected a mask of grey values or with a palette")
        return Decoded(channels[0][None])


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    from PIL import Image

    try:
        picture = Image.open(path, formats=("PNG", "JPEG"))
    except Image.DecompressionBombError as error:
        raise UnreadableFileError(
            path, f"has more pixels than {MAX_PICTURE_PIXELS}, the most that are expected of a picture"
        ) from error
    with picture:
        check_size(path, (1, picture.height, picture.width))
        if picture.height * picture.width > MAX_PICTURE_PIXELS:
            raise UnreadableFileError(
                path, f"has {picture.width} x {picture.height} pixels, expected at most {MAX_PICTURE_PIXELS} pixels"
            )
        yield picture


def _turn(picture: Any) -> None:
    from PIL import ImageOps

    picture.load()
    # Damaged EXIF data, of which Pillow makes exceptions of many kinds, state no orientation.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(picture, in_place=True)


def _grey_depth(path: Path) -> int | None:
    """Bits of a grey sample of a PNG."""
    with path.open("rb") as file:
        head = file.read(_PNG_KIND + 1)
    is_grey = head[1:4] == b"PNG" and head[_PNG_KIND] == _PNG_GREY
    return head[_PNG_DEPTH] if is_grey else None
