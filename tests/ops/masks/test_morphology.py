"""Dilation, erosion and the points of masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cardiojax import ops

STRUCTURE = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}
masks = hnp.arrays(bool, (2, 7, 9))


@pytest.mark.parametrize("connectivity", [4, 8])
@given(mask=masks)
@settings(max_examples=40)
def test_equals_scipy(connectivity, mask):
    structure = STRUCTURE[connectivity]
    wide = ops.dilate(jnp.asarray(mask), connectivity=connectivity)
    narrow, open_narrow = (ops.erode(jnp.asarray(mask), connectivity=connectivity, beyond=b) for b in (False, True))
    for i, m in enumerate(mask):
        np.testing.assert_array_equal(wide[i], ndimage.binary_dilation(m, structure))
        np.testing.assert_array_equal(narrow[i], ndimage.binary_erosion(m, structure))
        np.testing.assert_array_equal(open_narrow[i], ndimage.binary_erosion(m, structure, border_value=1))


def test_numbers_take_the_largest_neighbour():
    values = np.random.default_rng(0).random((3, 11, 12)).astype(np.float32)
    for connectivity, structure in STRUCTURE.items():
        dilated = jax.jit(lambda v, k=connectivity: ops.dilate(v, connectivity=k))(jnp.asarray(values))
        for got, value in zip(dilated, values, strict=True):
            np.testing.assert_array_equal(got, ndimage.grey_dilation(value, footprint=structure, mode="constant"))


def test_refuses_other_connectivities():
    with pytest.raises(ValueError, match="4 or 8, got 6"):
        ops.dilate(jnp.ones((3, 3), bool), connectivity=6)


@given(mask=masks)
@settings(max_examples=40)
def test_lowest_and_farthest_pixels(mask):
    lowest, exists = ops.lowest_pixel(jnp.asarray(mask))
    farthest = ops.farthest_pixel(jnp.asarray(mask), jnp.full((2, 2), 3.0), jnp.array([1.0, 2.0]))
    for i, m in enumerate(mask):
        pixels = np.argwhere(m)
        assert bool(exists[i]) == (len(pixels) > 0)
        if len(pixels):
            bottom = pixels[pixels[:, 0] == pixels[-1, 0]]
            assert lowest[i].tolist() == bottom[0].tolist()
            distance = ((pixels - 3) ** 2 * (1, 4)).sum(1)
            assert farthest[i].tolist() == pixels[distance.argmax()].tolist()
