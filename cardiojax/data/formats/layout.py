"""Where the pixels of a file lie: its array, space, and the regions of an ultrasound screen."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: Part of a box that its region holds; the boxes of regions are tight, and those of sectors are measured.
_MIN_SHARE = 0.75


class Region(NamedTuple):
    """An ultrasound region that the file states.

    Attributes:
        box: Top, bottom, left and right in pixels of the frames; bottom and right are the first beyond it.
        data_type: 1 tissue, 2 colour flow, 3 and 4 pulsed and continuous Doppler, others as in DICOM C.8.5.5.1.2.
        spatial_format: 1 two-dimensional, 2 M-mode, 3 spectral, others as in DICOM C.8.5.5.1.1.
        spacing: ``(dy, dx)`` in mm; None if unknown or not a length.
    """

    box: tuple[int, int, int, int]
    data_type: int
    spatial_format: int
    spacing: tuple[float, float] | None = None

    @property
    def is_tissue(self) -> bool:
        """Whether it shows a two-dimensional image of tissue, with or without colour flow."""
        return self.spatial_format == 1 and self.data_type in (1, 2)


class Geometry(NamedTuple):
    """How the pixels of a NIfTI or MetaImage file lie in its array and in space.

    Attributes:
        affine: float64 ``[4, 4]``, indices ``(i, j, k, 1)`` of the array to mm (right, anterior, superior).
        shape: Shape of the array; without its axes of length one it is ``(i, j)`` or ``(i, j, time)``.
        is_transposed: Whether its first axis is the rows of the upright frames, not their columns.
        flips: Whether the rows and the columns of the upright frames run against the axes of the array.
    """

    affine: np.ndarray
    shape: tuple[int, ...]
    is_transposed: bool = False
    flips: tuple[bool, bool] = (False, False)

    def upright(self, stored: np.ndarray) -> np.ndarray:
        """Turns an array of the file into frames ``[t, h, w]``; a view."""
        plane = np.atleast_3d(stored.reshape([n for i, n in enumerate(stored.shape) if i < 2 or n != 1]))
        return self._flip(plane.transpose(2, 0, 1) if self.is_transposed else plane.T)

    def stored(self, frames: np.ndarray) -> np.ndarray:
        """Turns frames ``[t, h, w]`` into an array ``(i, j, t)`` as the file holds it, or of its shape if that fits."""
        array = self._flip(frames)
        array = array.transpose(1, 2, 0) if self.is_transposed else array.T
        fits = [n for n in array.shape if n != 1] == [n for n in self.shape if n != 1]
        return array.reshape(self.shape) if fits else array

    def _flip(self, frames: np.ndarray) -> np.ndarray:
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in self.flips)
        return frames[:, rows, columns]


def spacing_of_box(regions: Sequence[Region], box: tuple[int, int, int, int]) -> tuple[float, float] | None:
    """Chooses the spacing of the tissue region that holds a box, such as that of the analysed sector.

    Args:
        regions: Regions that the file states.
        box: Top, bottom, left and right in pixels; bottom and right are the first beyond it.

    Returns:
        ``(dy, dx)`` in mm; None if no tissue region holds three quarters of the box, if the one that does has no
        spacing, or if several of different spacing hold it.

    Example:
        >>> left = Region((0, 100, 0, 100), 1, 1, (0.5, 0.5))
        >>> right = Region((0, 100, 100, 200), 1, 1, (0.3, 0.3))
        >>> spacing_of_box([left, right], (10, 90, 110, 190))
        (0.3, 0.3)
    """

    def covered(region: Region) -> float:
        share = 1.0
        for low, high in ((0, 1), (2, 3)):
            overlap = min(box[high], region.box[high]) - max(box[low], region.box[low])
            share *= max(0, overlap) / max(1, box[high] - box[low])
        return share

    shares = [(covered(region), region.spacing) for region in regions if region.is_tissue]
    largest = max((share for share, _ in shares), default=0.0)
    if largest < _MIN_SHARE:
        return None
    holding = [spacing for share, spacing in shares if share > 0.9 * largest]
    first = holding[0]
    same = first is not None and all(s is not None and np.allclose(s, first, rtol=0.01) for s in holding)
    return first if same else None
