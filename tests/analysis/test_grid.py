"""The analysis grid: a window and a stride that lose nothing of the sector and go back to the frames."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiojax.analysis import recording as analysis
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


@pytest.mark.parametrize(
    ("box", "frame_shape"),
    [((0, 90, 0, 120), (90, 120)), ((5, 60, 100, 150), (90, 150)), ((100, 900, 200, 1190), (1000, 1200))],
)
def test_a_grid_of_few_sizes_holds_the_sector_with_a_margin(box, frame_shape):
    top, bottom, left, right = box
    sector = Sector(box, np.ones((bottom - top, right - left), bool))
    grid = make_grid(sector, frame_shape, max_size=640, sizes=(64, 128, 256))
    assert grid.shape in {(64, 64), (128, 128), (256, 256)}
    inside = grid.reduce_sector(sector).box
    assert min(inside[0], inside[2]) >= 1
    assert max(inside[1], inside[3]) <= grid.shape[0] - 1
    frames = np.random.default_rng(0).random((2, *frame_shape)).astype(np.float32)
    reduced = grid.reduce(frames)
    if grid.stride == 1:
        sector_frames = frames[:, top:bottom, left:right]
        np.testing.assert_array_equal(reduced[:, inside[0] : inside[1], inside[2] : inside[3]], sector_frames)
        np.testing.assert_array_equal(grid.enlarge(reduced)[:, top:bottom, left:right], sector_frames)
    assert grid.enlarge(reduced).shape == frames.shape


def test_a_grid_of_few_sizes_changes_no_measurement(recording, beating):
    whole = analysis.analyze(recording, beating())
    padded = analysis.analyze(recording, beating(), config=analysis.AnalyzeConfig(grid_sizes=(256,)))
    assert padded.grid.shape == (256, 256)
    np.testing.assert_array_equal(padded.labels_of_frames(), whole.labels_of_frames())
    assert padded.measurements.ejection_fraction == pytest.approx(whole.measurements.ejection_fraction, abs=1e-3)
    np.testing.assert_allclose(padded.measurements.lv_volume, whole.measurements.lv_volume, rtol=1e-5)
    # the middle of the wall is traced on the image: its length changes by a hundredth of a percent with the margin
    np.testing.assert_allclose(padded.motion.mid_wall_strain, whole.motion.mid_wall_strain, atol=0.1)
    assert padded.warnings == whole.warnings
