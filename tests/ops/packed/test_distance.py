"""Distances against SciPy."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cardiojax import ops
from cardiojax.ops.packed import bits
from cardiojax.ops.packed.distance import largest_distance_bits

transform = jax.jit(ops.distance_transform)


@given(hnp.arrays(bool, (3, 14, 17)), st.sampled_from([(1.0, 1.0), (0.5, 1.3), (2.0, 0.25)]))
def test_equals_scipy(masks, spacing):
    got = np.asarray(transform(jnp.asarray(masks), jnp.array(spacing)))
    for mask, distance in zip(masks, got, strict=True):
        if mask.all():
            assert np.isinf(distance).all()
        else:
            np.testing.assert_allclose(distance, ndimage.distance_transform_edt(mask, spacing), rtol=1e-6)


@pytest.mark.parametrize("density", [0.5, 0.02, 0.001])
def test_large_masks(density):
    masks = np.random.default_rng(0).random((2, 128, 96)) > density
    got = transform(jnp.asarray(masks), jnp.ones(2))
    for mask, distance in zip(masks, got, strict=True):
        np.testing.assert_allclose(distance, ndimage.distance_transform_edt(mask), rtol=1e-6)


def test_queried_pixels_are_exact_and_others_an_upper_bound():
    rng = np.random.default_rng(1)
    points = jnp.asarray(rng.random((1, 60, 60)) > 0.995)
    query = jnp.asarray(rng.random((1, 60, 60)) > 0.9)
    exact, partial = ops.distance_to(points), ops.distance_to(points, query=query)
    np.testing.assert_array_equal(partial[query], exact[query])
    assert bool((partial >= exact).all())


def test_spacing_may_differ_within_a_batch_and_vmap_agrees():
    masks = jnp.asarray(np.random.default_rng(2).random((2, 20, 20)) > 0.1)
    spacing = jnp.array([[1.0, 1.0], [0.3, 0.6]])
    together = ops.distance_transform(masks, spacing)
    for i in range(2):
        expected = ndimage.distance_transform_edt(masks[i], spacing[i])
        np.testing.assert_allclose(together[i], expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(ops.distance_transform)(masks, spacing), together, rtol=1e-6)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    jax.export.export(transform, platforms=[platform])(
        jax.ShapeDtypeStruct((4, 32, 32), jnp.bool_), jax.ShapeDtypeStruct((2,), jnp.float32)
    )


@pytest.mark.parametrize("shape", [(37, 45), (60, 200), (256, 256), (20, 300)])
def test_largest_distance_of_packed_masks(shape):
    """In the narrow types of small images and in the wide ones of large images, with and without a known bound."""
    rng = np.random.default_rng(3)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    masks = [rng.random(shape) < 0.9, np.hypot(rows - shape[0] / 2, cols - shape[1] / 2) < shape[0] / 3, rows < 7]
    masks = np.stack([*masks, rng.random(shape) < 0.5, np.zeros(shape, bool)])
    expected = [ndimage.distance_transform_edt(mask).max() for mask in masks]
    packed = bits.pack(jnp.asarray(masks))
    np.testing.assert_allclose(largest_distance_bits(packed, shape[1]), expected, rtol=1e-6)
    bound = jnp.floor(jnp.asarray(expected)).astype(jnp.int32)
    np.testing.assert_allclose(largest_distance_bits(packed, shape[1], at_least=bound), expected, rtol=1e-6)
    full = bits.pack(jnp.ones((1, *shape), bool))
    assert jnp.isinf(largest_distance_bits(full, shape[1])).all()
