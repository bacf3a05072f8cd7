"""Grey values: what is white follows from the bulk of the values, not from their type or their maximum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiojax import data
from cardiojax.data.formats.grey import WHITES, ColourCounter, infer_white, is_coloured, luma, to_unit_range

RNG = np.random.default_rng(0)
IMAGE = RNG.random((1, 64, 64)).astype(np.float32)
IMAGE[0, :4, 0] = 1


@given(
    white=st.sampled_from(WHITES),
    dtype=st.sampled_from([np.uint16, np.int32, np.int64, np.float32, np.float64]),
    dark=st.floats(0, 0.9),
)
def test_the_same_image_in_any_type_is_the_same(white, dtype, dark):
    image = np.where(np.arange(64) < dark * 64, 0, IMAGE)  # most of a frame may be black
    if np.issubdtype(dtype, np.integer) and white == 1:
        return
    stored = np.rint(image * white) if white > 1 else image
    result = to_unit_range(stored.astype(dtype))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, stored / white, atol=1e-6)


@given(
    outlier=st.sampled_from([1.000001, 1.5, 255.0, 4096.0, 1e9]),
    where=st.tuples(st.integers(0, 63), st.integers(0, 63)),
)
def test_one_pixel_changes_nothing_else(outlier, where):
    image = IMAGE.copy()
    image[(0, *where)] = outlier
    expected = IMAGE.copy()
    expected[(0, *where)] = 1
    np.testing.assert_allclose(to_unit_range(image), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_bytes_in_wider_types_keep_their_range(dtype):
    stored = RNG.integers(0, 256, (2, 32, 32)).astype(np.uint8)
    np.testing.assert_allclose(to_unit_range(stored.astype(dtype)), stored / 255, atol=1e-6)
    stored[0, 3, 3] = 255
    wide = stored.astype(dtype)
    wide[0, 3, 3] = 30000
    np.testing.assert_allclose(to_unit_range(wide), stored / 255, atol=1e-6)


def test_dark_bytes_stay_dark():
    np.testing.assert_allclose(to_unit_range(np.full((1, 4, 4), 2, np.uint8)), 2 / 255, atol=1e-6)
    np.testing.assert_allclose(to_unit_range(np.full((1, 4, 4), 2, np.int32)), 2 / 255, atol=1e-6)
    np.testing.assert_array_equal(to_unit_range(np.zeros((1, 4, 4), np.float32)), 0)
    np.testing.assert_array_equal(to_unit_range(np.ones((1, 4, 4), bool)), 1)
    np.testing.assert_array_equal(to_unit_range(np.array([[[-5, 255]]], np.int16)), [[[0, 1]]])


def test_a_large_image_is_sampled():
    large = np.zeros((3, 1500, 1500), np.uint16)
    large[:, 500:1000, 500:1000] = 900
    assert infer_white(large, at_least=255) == 1023


def test_float32_is_converted_in_place():
    values = IMAGE.copy() * 255
    assert to_unit_range(values) is values
    frozen = IMAGE.copy()
    frozen.flags.writeable = False
    assert to_unit_range(frozen) is not frozen


def test_luma_is_in_the_unit_of_the_colors():
    grey = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(luma(np.stack([grey] * 3, -1)), grey, atol=1e-4)
    np.testing.assert_allclose(luma(np.array([[255, 0, 0, 77]], np.uint8)), 0.299 * 255, rtol=1e-6)


def test_one_float_pixel_above_one_in_a_file(tmp_path):
    image = IMAGE[0].copy()
    image[5, 5] = 1.000001
    np.save(tmp_path / "x.npy", image)
    np.testing.assert_allclose(data.read(tmp_path / "x.npy").frames[0], np.minimum(image, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (2 * IMAGE - 1, IMAGE),
        ((255 * IMAGE).astype(np.int16) - 128, (255 * IMAGE).astype(int) / 256),
        ((255 * IMAGE).astype(np.int32) - 128, (255 * IMAGE).astype(int) / 256),
        ((127 * IMAGE).astype(np.int8) - 64, (127 * IMAGE).astype(int) / 128),
        ((IMAGE - 0.25) / 0.3, IMAGE),
    ],
)
def test_black_may_lie_below_zero(stored, expected, tmp_path):
    np.save(tmp_path / "x.npy", stored)
    recording = data.read(tmp_path / "x.npy")
    np.testing.assert_allclose(recording.frames, expected, atol=0.003)
    assert "negative in part" in recording.notes[0]


def test_ringing_below_zero_is_black(tmp_path):
    image = IMAGE.copy()
    image[0, ::4] = -0.03
    np.save(tmp_path / "x.npy", image)
    recording = data.read(tmp_path / "x.npy")
    np.testing.assert_array_equal(recording.frames, np.maximum(image, 0))
    assert recording.notes == ()


def doppler():
    """Grey speckle with a red and a blue jet, whose brightness is the velocity."""
    rng = np.random.default_rng(0)
    grey = rng.integers(20, 200, (64, 64)).astype(np.uint8)
    rgb, jets = np.stack([grey] * 3, -1), np.zeros((64, 64), bool)
    for place, colour in (
        ((slice(10, 25), slice(10, 30)), (250, 60, 0)),
        ((slice(30, 40), slice(20, 50)), (0, 80, 250)),
    ):
        jets[place] = True
        rgb[place] = rng.uniform(0.5, 1, rgb[place].shape[:2])[..., None] * np.array(colour)
    return rgb, jets


def test_jets_are_coloured_and_tints_are_not():
    rgb, jets = doppler()
    np.testing.assert_array_equal(is_coloured(rgb), jets)
    grey = rgb[..., :1].repeat(3, -1)
    assert not is_coloured(grey).any()
    levels = grey[..., 0] / 255
    for tint in ((1.0, 0.8, 0.5), (0.4, 0.6, 1.0)):
        assert not is_coloured((grey * np.array(tint)).astype(np.uint8)).any()
    heat = np.stack([np.sqrt(levels), levels, levels**2.5], -1)  # a colour map whose hue changes with the grey
    assert is_coloured((255 * heat).astype(np.uint8)).mean() < 0.01
    tinted = np.where(jets[..., None], rgb, grey * np.array((1.0, 0.8, 0.5))).astype(np.uint8)
    assert (is_coloured(tinted) == jets).mean() > 0.97


@pytest.mark.parametrize("value", [0, 255])
def test_frames_of_one_grey_have_no_colour(value):
    assert not is_coloured(np.full((8, 8, 3), value, np.uint8)).any()
    assert not is_coloured(np.full((8, 8, 3), value / 255)).any()


def test_a_few_frames_are_looked_at_evenly():
    rgb, jets = doppler()
    counter = ColourCounter(80)
    looked_at = []
    for index in range(80):
        if not counter.skips():
            looked_at.append(index)
            counter.add(rgb if index < 40 else np.zeros_like(rgb))
    assert looked_at == list(range(0, 80, 10))
    np.testing.assert_array_equal(counter.share(), jets / 2)
    assert ColourCounter().share() is None


def test_a_range_that_is_almost_nothing_has_no_overflow():
    values = np.array([[[-1e-40, 0, 1e-40, 1e20, -1e20]]], np.float32)
    grey = to_unit_range(values, 1e-40, black=-1e-40)
    assert np.isfinite(grey).all()
    assert (grey[0, 0, 3], grey[0, 0, 4]) == (1, 0)
