"""The pixel grid on which a recording is analysed: its own, or a coarser one of its sector where frames are large."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from cardiojax.analysis.sector import Sector
from cardiojax.types import Box


class Grid(NamedTuple):
    """A window of the frames, each ``stride`` x ``stride`` pixels of which are one pixel of the grid.

    Attributes:
        window: First row, row after the last, first column, column after the last, in pixels of the frames; what lies
            beyond the frames is zero.
        stride: Pixels of the frames along a side of a pixel of the grid.
        frame_shape: Height and width of the frames.
    """

    window: Box
    stride: int
    frame_shape: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the grid."""
        top, bottom, left, right = self.window
        return (bottom - top) // self.stride, (right - left) // self.stride

    def spacing(self, spacing: tuple[float, float]) -> tuple[float, float]:
        """``(dy, dx)`` of the grid from that of the frames."""
        return spacing[0] * self.stride, spacing[1] * self.stride

    def reduce(self, frames: Float[np.ndarray, "*t h w"]) -> Float[np.ndarray, "*t a b"]:
        """Frames on the grid: the mean over the pixels that become one."""
        inside = self._cut(frames)
        if self.stride == 1:
            return inside
        return _blocks(inside, self.stride).mean((-3, -1), dtype=np.float32)

    def reduce_sector(self, sector: Sector) -> Sector:
        """The sector on the grid: every pixel of the grid that holds some of it."""
        whole = np.zeros(self.frame_shape, bool)
        whole[sector.box[0] : sector.box[1], sector.box[2] : sector.box[3]] = sector.mask
        mask = np.asarray(_blocks(self._cut(whole), self.stride).any((-3, -1)))
        rows, cols = np.flatnonzero(mask.any(-1)), np.flatnonzero(mask.any(0))
        box = (int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1)
        return sector._replace(box=box, mask=mask[box[0] : box[1], box[2] : box[3]])

    def enlarge(self, maps: Shaped[np.ndarray, "*t a b"]) -> Shaped[np.ndarray, "*t h w"]:
        """Maps of the grid at the resolution of the frames: each pixel repeated, zero outside the window."""
        enlarged = np.zeros((*maps.shape[:-2], *self.frame_shape), maps.dtype)
        rows, cols = self._overlap()
        top, _, left, _ = self.window
        whole = maps.repeat(self.stride, -2).repeat(self.stride, -1)
        enlarged[..., rows, cols] = whole[..., rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
        return enlarged

    def _overlap(self) -> tuple[slice, slice]:
        """Rows and columns of the frames that lie in the window."""
        (top, bottom, left, right), (height, width) = self.window, self.frame_shape
        return slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))

    def _cut(self, frames: Shaped[np.ndarray, "*t h w"]) -> Shaped[np.ndarray, "*t a b"]:
        """The window of the frames."""
        rows, cols = self._overlap()
        top, bottom, left, right = self.window
        beyond = [(rows.start - top, bottom - rows.stop), (cols.start - left, right - cols.stop)]
        inside = frames[..., rows, cols]
        return np.pad(inside, [*[(0, 0)] * (frames.ndim - 2), *beyond]) if np.any(beyond) else inside


def make_grid(sector: Sector, frame_shape: tuple[int, int], *, max_size: int, sizes: Sequence[int] = ()) -> Grid:
    """Chooses the grid: that of the frames if they are small enough, else a window around the sector.

    Compiling for a grid takes longer the wider it is, and the work on it grows with its area, while the segmentation
    model works on a grid of its own that is coarser still. A stride keeps what holds on the grid, such as a shape
    without holes, true at the resolution of the frames.

    Args:
        sector: Where the ultrasound is in the frames.
        frame_shape: Height and width of the frames.
        max_size: Largest height and width of the grid.
        sizes: The smallest of these into which the sector fits with a margin of a pixel is height and width of the
            grid, the largest takes the place of ``max_size``. So a few grids serve an archive.

    Returns:
        The grid.

    Example:
        >>> sector = Sector((100, 900, 200, 1200), np.ones((800, 1000), bool))
        >>> grid = make_grid(sector, (1000, 1400), max_size=640)
        >>> grid.stride, grid.shape, grid.window
        (2, (402, 502), (98, 902, 198, 1202))
    """
    height, width = frame_shape
    if sizes:
        return _grid_of_sizes(sector.box, frame_shape, sorted(sizes))
    if max(frame_shape) <= max_size:
        return Grid((0, height, 0, width), 1, frame_shape)
    top, bottom, left, right = sector.box
    stride = -(-max(bottom - top, right - left) // (max_size - 2))  # a margin of one pixel on both sides
    rows, cols = _stretch(top, bottom, height, stride), _stretch(left, right, width, stride)
    return Grid((*rows, *cols), stride, frame_shape)


def _grid_of_sizes(box: Box, frame_shape: tuple[int, int], sizes: Sequence[int]) -> Grid:
    top, bottom, left, right = box
    extent = max(bottom - top, right - left)
    stride = -(-extent // (sizes[-1] - 3))
    size = stride * next(size for size in sizes if -(-extent // stride) + 3 <= size)
    top, left = top - stride, left - stride
    return Grid((top, top + size, left, left + size), stride, frame_shape)


def _stretch(first: int, last: int, size: int, stride: int) -> tuple[int, int]:
    """Widens an interval by one stride on both sides and to a multiple of it, as far as the frame reaches."""
    start = max(first - stride, 0)
    num = min(-(-(last + stride - start) // stride), (size - start) // stride)
    return start, start + num * stride


def _blocks(maps: Shaped[np.ndarray, "*t h w"], stride: int) -> Shaped[np.ndarray, "*t a s b s"]:
    *leading, height, width = maps.shape
    return maps.reshape(*leading, height // stride, stride, width // stride, stride)
