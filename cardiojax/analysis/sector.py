"""Where in a frame the ultrasound is: everything the model was not trained on is cut away or blackened."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Sector(NamedTuple):
    """The ultrasound part of a loop.

    Attributes:
        box: First row, row after the last, first column, column after the last.
        mask: Pixels of the box inside the sector, bool ``[h, w]``.
    """

    box: tuple[int, int, int, int]
    mask: np.ndarray


def find_sector(frames: np.ndarray, *, threshold: float = 0.02) -> Sector:
    """Finds the sector as the largest connected region that is lit in some frame; text, scales and ECG are smaller.

    Args:
        frames: Grey values in [0, 1], ``[t, h, w]``.
        threshold: Grey value above which a pixel counts as lit.

    Returns:
        The sector; the whole frame if nothing is lit.
    """
    lit = frames.max(0) > threshold
    region = _largest_region(lit)
    if region.sum() < 0.02 * region.size:
        h, w = region.shape
        return Sector((0, h, 0, w), np.ones((h, w), bool))
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    box = (int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1)
    return Sector(box, ndimage.binary_fill_holes(region[box[0] : box[1], box[2] : box[3]]))


def crop(frames: np.ndarray, sector: Sector) -> np.ndarray:
    """Cuts a loop to its sector and blackens the rest of the box.

    Args:
        frames: Grey values, ``[t, h, w]``.
        sector: What `find_sector` returned.

    Returns:
        The loop inside the box.
    """
    top, bottom, left, right = sector.box
    return frames[:, top:bottom, left:right] * sector.mask


def _largest_region(lit: np.ndarray) -> np.ndarray:
    """Largest region, after a closing that joins its speckle and an opening that breaks thin bridges to overlays."""
    radius = max(1, min(lit.shape) // 200)
    square = np.ones((2 * radius + 1, 2 * radius + 1), bool)
    closed = ndimage.binary_closing(lit, square)
    numbered, count = ndimage.label(ndimage.binary_opening(closed, square))
    if count == 0:
        return np.zeros_like(lit)
    sizes = np.bincount(numbered.ravel())[1:]
    return numbered == 1 + sizes.argmax()
