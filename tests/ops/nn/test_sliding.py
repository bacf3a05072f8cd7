"""Sliding windows: exact where the network is local, SciPy's Gaussian, constant memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cardiojax import ops


@given(st.integers(4, 30), st.integers(4, 30), st.sampled_from([0.25, 0.5, 1.0]))
def test_patches_cover_the_image(h, w, step):
    corners = ops.patch_corners((h, w), (4, 4), step=step)
    covered = np.zeros((h, w), int)
    for top, left in corners:
        covered[top : top + 4, left : left + 4] += 1
    assert covered.min() >= 1
    assert covered.sum() == 16 * len(corners)
    assert len(np.unique(corners, axis=0)) == len(corners)


def test_weights_are_scipys():
    delta = np.zeros((16, 12, 8))
    delta[8, 6, 4] = 1
    expected = ndimage.gaussian_filter(delta, [2, 1.5, 1], mode="constant")
    expected /= expected.max()
    got = np.asarray(ops.gaussian_weights((16, 12, 8)))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-12)
    assert got.min() > 0


@pytest.mark.parametrize("shape", [(9, 13, 2), (3, 20, 2), (5, 6, 7, 1)])
def test_a_pointwise_network_is_applied_exactly(shape):
    image = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)

    def network(x):
        return jnp.concatenate([x * 3 + 1, x**2], axis=-1)

    patch = (4,) * (len(shape) - 1)
    got = jax.jit(lambda x: ops.sliding_window(network, x, patch_size=patch, batch_size=3))(image)
    np.testing.assert_allclose(got, network(image), rtol=1e-4, atol=1e-5)


def test_overlaps_are_weighted_means():
    image = jnp.zeros((4, 6, 1))

    def network(x):  # says where in the patch a pixel lies
        return jnp.broadcast_to(jnp.arange(4.0)[:, None], x.shape)

    got = ops.sliding_window(network, image, patch_size=(4, 4))
    weights = np.exp(-0.5 * (np.array([2, 0]) - 2.0) ** 2 / 0.25)  # column 2 of the first patch, 0 of the second
    np.testing.assert_allclose(got[:, 2, 0], (2 * weights[0] + 0 * weights[1]) / weights.sum(), rtol=1e-5)
    np.testing.assert_allclose(got[:, 0, 0], 0, atol=1e-6)


def test_memory_does_not_grow_with_the_number_of_patches():
    def temporary(step):
        function = jax.jit(lambda x: ops.sliding_window(lambda p: p * 2, x, patch_size=(8, 8), step=step))
        return function.lower(jax.ShapeDtypeStruct((64, 64, 1), jnp.float32)).compile().memory_analysis()

    few, many = temporary(1.0), temporary(0.125)
    assert many.temp_size_in_bytes <= few.temp_size_in_bytes + 64_000  # the corners alone


def test_mirrored_is_symmetric():
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3,)), jnp.float32)

    def network(x):  # a one-sided filter along the width
        return jnp.cumsum(x, -2) * kernel[0]

    image = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 6, 1)), jnp.float32)
    mirrored = ops.mirrored(network, axes=(-3, -2))
    np.testing.assert_allclose(mirrored(jnp.flip(image, -2)), jnp.flip(mirrored(image), -2), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ops.mirrored(network, axes=())(image), network(image))


def test_transposed_convolution_in_blocks_equals_the_2x2_form():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 3, 4, 5), (2, 2, 5, 6)))
    np.testing.assert_allclose(ops.conv_transpose_blocks(x, kernel), ops.conv_transpose_2x2(x, kernel), atol=1e-5)
    with pytest.raises(ValueError, match="step must be"):
        ops.patch_corners((4, 4), (4, 4), step=0)
