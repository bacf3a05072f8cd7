"""Pictures of the viewer: frames, uncertainty maps and outlines, small enough to lie in one page."""

import io
from collections.abc import Sequence
from typing import Any

import contourpy
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from cardiojax.labels import NUM_CLASSES
from cardiojax.report.figures import OUTLINES

#: Units of a path in a pixel: coordinates are whole numbers.
PATH_SCALE = 4
_BLUR = 0.8  # of a mask in pixels, so that its outline has no steps
_MARGIN = 3  # pixels around a mask, beyond the reach of the blur
_POINT_STEP = 3  # every third point of an outline is kept, about one in two pixels
_UNCERTAINTY_SIZE = 240  # longer side of an uncertainty map, at most
_QUALITY = 85
#: Colours of an uncertainty of 0, 0.25, 0.5, 0.75 and 1: the colour map inferno, which rises in lightness.
_INFERNO = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)


def outline_paths(labels: Int[np.ndarray, "t h w"]) -> list[list[str]]:
    """Outlines of the structures as paths of SVG, in units of 1 / `PATH_SCALE` pixels.

    Args:
        labels: Label maps.

    Returns:
        For each frame one path for each of `cardiojax.report.figures.OUTLINES`; empty where there is no such structure.

    Example:
        >>> labels = np.zeros((1, 9, 9), np.int32)
        >>> labels[0, 3:6, 3:6] = 3
        >>> [path[:1] for path in outline_paths(labels)[0]]
        ['', '', 'M']
    """
    structures = []
    for members, _ in OUTLINES.values():
        is_member = np.isin(np.arange(NUM_CLASSES), members)
        structures.append(mask_paths(is_member[labels]))
    return [list(paths) for paths in zip(*structures, strict=True)]


def mask_paths(masks: Bool[np.ndarray, "t h w"]) -> list[str]:
    """Outlines of one structure as paths of SVG, in units of 1 / `PATH_SCALE` pixels.

    Args:
        masks: The structure in each frame.

    Returns:
        A path for each frame; empty where there is none.
    """
    paths = [""] * len(masks)
    somewhere: np.ndarray = np.asarray(masks.any(0))
    rows, cols = np.flatnonzero(somewhere.any(1)), np.flatnonzero(somewhere.any(0))
    if not len(rows):
        return paths
    inside = masks[:, rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1].astype(np.float32)
    padded = np.pad(inside, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))
    soft = ndimage.gaussian_filter(padded, (0, _BLUR, _BLUR), mode="constant", truncate=3)
    _, height, width = soft.shape
    column = soft.reshape(-1, width)  # the frames below each other, so that one call finds all outlines
    for line in map(np.asarray, contourpy.contour_generator(z=column).lines(0.5)):
        frame = int(line[0, 1] // height)
        points = line[:-1:_POINT_STEP] if len(line) > 4 * _POINT_STEP else line[:-1]
        origin = np.array([cols[0], rows[0] - frame * height]) - _MARGIN + 0.5  # from the centres of pixels
        points = np.rint(PATH_SCALE * (points + origin)).astype(int)
        (x, y), steps = points[0], np.diff(points, axis=0).ravel().tolist()
        paths[frame] += f"M{x} {y}l{' '.join(map(str, steps))}z".replace(" -", "-")
    return paths


def encode_frame(frame: Float[np.ndarray, "h w"]) -> bytes:
    """Encodes a frame of grey values in [0, 1] as WebP."""
    from PIL import Image

    return _webp(Image.fromarray((frame * 255).clip(0, 255).astype(np.uint8)))


def encode_uncertainty(uncertainty: Float[np.ndarray, "h w"]) -> bytes:
    """Encodes an uncertainty map in [0, 1] as WebP in colour on black, to be added to the frame, at a smaller size."""
    from PIL import Image

    stride = -(-max(uncertainty.shape) // _UNCERTAINTY_SIZE)
    padded = np.pad(uncertainty, [(0, -n % stride) for n in uncertainty.shape], mode="edge")
    rows, cols = (n // stride for n in padded.shape)
    small = padded.reshape(rows, stride, cols, stride).mean((1, 3)).clip(0, 1)
    colours = np.stack([np.interp(small, np.linspace(0, 1, len(_INFERNO)), channel) for channel in _INFERNO.T], -1)
    return _webp(Image.fromarray(colours.astype(np.uint8)))


def choose_frames(num_frames: int, always: Sequence[int], *, most: int) -> list[int]:
    """The frames that a page shows: all, or of a long loop every second one or fewer, beside those that must be shown.

    Args:
        num_frames: Length of the loop.
        always: Frames that are shown in any case.
        most: Number of frames from which a loop is thinned out.

    Returns:
        Their numbers, ascending.

    Example:
        >>> choose_frames(9, [3], most=5)
        [0, 2, 3, 4, 6, 8]
    """
    return sorted({*range(0, num_frames, -(-num_frames // most)), *always})


def _webp(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY, method=2)
    return buffer.getvalue()
