"""The analysis grid: a window and a stride that lose nothing of the sector and go back to the frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiojax.analysis.grid import make_grid
from cardiojax.analysis.sector import Sector


def test_small_frames_are_their_own_grid():
    sector = Sector((2, 40, 3, 50), np.ones((38, 47), bool))
    grid = make_grid(sector, (48, 64), max_size=64)
    frames = np.random.default_rng(0).random((2, 48, 64)).astype(np.float32)
    assert grid.reduce(frames) is frames or np.shares_memory(grid.reduce(frames), frames)
    assert grid.reduce_sector(sector).box == sector.box
    labels = (frames > 0.5).astype(np.uint8)
    np.testing.assert_array_equal(grid.enlarge(labels), labels)


@given(st.data())
def test_the_sector_fits_the_grid_and_labels_lie_on_their_pixels(data):
    height, width = (data.draw(st.integers(65, 400)) for _ in range(2))
    top, left = (data.draw(st.integers(0, n - 30)) for n in (height, width))
    bottom, right = (data.draw(st.integers(a + 20, n)) for a, n in ((top, height), (left, width)))
    sector = Sector((top, bottom, left, right), np.ones((bottom - top, right - left), bool))
    grid = make_grid(sector, (height, width), max_size=64)
    assert max(grid.shape) <= 64
    on_grid = grid.reduce_sector(sector)
    assert on_grid.mask.shape == (on_grid.box[1] - on_grid.box[0], on_grid.box[3] - on_grid.box[2])
    mask = np.zeros(grid.shape, np.uint8)
    mask[on_grid.box[0] : on_grid.box[1], on_grid.box[2] : on_grid.box[3]] = 1
    enlarged = grid.enlarge(mask)
    assert enlarged.shape == (height, width)
    whole = np.zeros((height, width), bool)
    whole[top:bottom, left:right] = True
    lost = whole & (enlarged == 0)  # less than a pixel of the grid, at the end of the frame
    assert not lost[: height - grid.stride, : width - grid.stride].any()
    assert (enlarged > 0).sum() <= (bottom - top + 2 * grid.stride) * (right - left + 2 * grid.stride)


def test_grey_values_are_means_and_pixels_are_larger():
    frames = np.arange(200 * 300, dtype=np.float32).reshape(1, 200, 300)
    sector = Sector((0, 200, 0, 300), np.ones((200, 300), bool))
    grid = make_grid(sector, (200, 300), max_size=152)
    assert (grid.stride, grid.shape) == (2, (100, 150))
    assert grid.spacing((0.2, 0.3)) == pytest.approx((0.4, 0.6))
    assert grid.reduce(frames)[0, 0, 0] == np.mean([0, 1, 300, 301])
    np.testing.assert_array_equal(grid.reduce(grid.enlarge(grid.reduce(frames))), grid.reduce(frames))
