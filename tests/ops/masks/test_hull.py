"""Hulls and perimeters against scikit-image."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import measure, morphology

from cardiojax import ops

hull, perimeter = jax.jit(ops.convex_hull), jax.jit(ops.perimeter)
sparse = st.builds(lambda a, b: a & b, *[hnp.arrays(bool, (3, 9, 12))] * 2)


@given(sparse)
@settings(max_examples=60)
def test_equal_scikit_image(masks):
    for mask, ours, length in zip(masks, hull(jnp.asarray(masks)), perimeter(jnp.asarray(masks)), strict=True):
        expected = morphology.convex_hull_image(mask) if mask.any() else mask
        np.testing.assert_array_equal(ours, expected)
        np.testing.assert_allclose(length, measure.perimeter(mask, neighborhood=4), rtol=1e-5)


def test_large_shapes():
    rows, cols = np.mgrid[:200, :180]
    rng = np.random.default_rng(0)
    masks = np.stack([np.hypot((rows - 90) / 1.5, cols - 80 + 20 * np.sin(rows / k)) < 40 for k in (7, 20, 60)])
    masks[0] |= rng.random(masks[0].shape) > 0.9999
    for mask, ours, length in zip(masks, hull(jnp.asarray(masks)), perimeter(jnp.asarray(masks)), strict=True):
        np.testing.assert_array_equal(ours, morphology.convex_hull_image(mask))
        np.testing.assert_allclose(length, measure.perimeter(mask, neighborhood=4), rtol=1e-5)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    for function in (hull, perimeter):
        jax.export.export(function, platforms=[platform])(jax.ShapeDtypeStruct((4, 32, 40), jnp.bool_))
