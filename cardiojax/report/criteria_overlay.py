"""Pictures of label maps with the pixels that violate a criterion."""

import io
from collections.abc import Sequence

import numpy as np

#: Background, cavity, myocardium and atrium, pale, so that violations stand out (Okabe and Ito).
_COLOURS = np.array([(20, 20, 24), (86, 180, 233), (230, 200, 140), (0, 158, 115)]) * (0.55, 0.55, 0.55)
_VIOLATION_COLOUR = np.array((255, 70, 0))
#: Longer side of the picture in pixels, at most.
_SIZE = 560


def draw_violations(labels: np.ndarray, violations: np.ndarray, lines: Sequence[str]) -> bytes:
    """Draws a label map with the pixels that make it fail, and the reasons below.

    Args:
        labels: Label map, ``[h, w]``.
        violations: The pixels, ``[h, w]``.
        lines: The reasons.

    Returns:
        A PNG file. Small regions are circled.
    """
    from PIL import Image, ImageDraw
    from scipy import ndimage

    height, width = labels.shape
    zoom = max(_SIZE // max(labels.shape), 1)
    colours = np.where(violations[..., None], _VIOLATION_COLOUR, _COLOURS[np.minimum(labels, 3)]).astype(np.uint8)
    picture = Image.fromarray(colours.repeat(zoom, 0).repeat(zoom, 1))
    page = Image.new("RGB", (max(picture.width, 420), picture.height + 16 * len(lines) + 12), (255, 255, 255))
    page.paste(picture, (0, 0))
    draw = ImageDraw.Draw(page)
    numbers, _ = ndimage.label(violations, np.ones((3, 3)))
    for rows, cols in ndimage.find_objects(numbers):
        if max(rows.stop - rows.start, cols.stop - cols.start) < max(height, width) / 20:
            row, col = (zoom * (s.start + s.stop) / 2 for s in (rows, cols))
            draw.ellipse((col - 14, row - 14, col + 14, row + 14), outline=tuple(_VIOLATION_COLOUR), width=2)
    for i, line in enumerate(lines):
        draw.text((8, picture.height + 6 + 16 * i), line, fill=(20, 20, 24))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
