"""Morphological reconstruction against scikit-image, and its gradient against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import morphology

from cardiojax import ops

levels = hnp.arrays(np.float32, (2, 9, 11), elements=st.sampled_from(np.linspace(0, 1, 5, dtype=np.float32)))


@pytest.mark.filterwarnings("ignore:Setting the shape on a NumPy array:DeprecationWarning")  # scikit-image
@pytest.mark.parametrize("connectivity", [4, 8])
@given(levels, levels, st.sampled_from([0.05, 0.3]))
@settings(max_examples=25)
def test_equals_scikit_image(connectivity, seeds, mask, share):
    seeds = np.where(np.random.default_rng(0).uniform(size=seeds.shape) < share, np.minimum(seeds, mask), 0)
    footprint = ndimage.generate_binary_structure(2, connectivity // 4)
    expected = [morphology.reconstruction(s, m, footprint=footprint) for s, m in zip(seeds, mask, strict=True)]
    result = ops.reconstruct(jnp.asarray(seeds), jnp.asarray(mask), connectivity=connectivity)
    np.testing.assert_array_equal(result, np.stack(expected))


def test_of_certain_maps_is_a_flood():
    mask = np.random.default_rng(1).uniform(size=(2, 30, 30)) < 0.6
    seeds = np.zeros_like(mask)
    seeds[:, 12:18, 12:18] = True
    result = ops.reconstruct(*(jnp.asarray(m, jnp.float32) for m in (seeds, mask)))
    np.testing.assert_array_equal(result > 0, ops.flood_fill(jnp.asarray(seeds & mask), jnp.asarray(mask)))


def test_gradient_equals_finite_differences():
    rng = np.random.default_rng(2)
    with jax.enable_x64():
        mask, weights = (jnp.asarray(rng.uniform(size=(8, 9))) for _ in "ab")
        seeds = jnp.zeros((8, 9)).at[4, 4].set(0.8).at[0, 0].set(0.3)
        value = jax.jit(lambda s, m: (weights * ops.reconstruct(s, m)).sum())
        slopes = jax.grad(value, (0, 1))(seeds, mask)
        assert float(slopes[0][4, 4]) > 0
        for which, (slope, moved) in enumerate(zip(slopes, (seeds, mask), strict=True)):
            direction, step = jnp.asarray(rng.normal(size=(8, 9))) * (moved > 0), 1e-7
            ends = [
                value(*(a + sign * step * direction * (i == which) for i, a in enumerate((seeds, mask))))
                for sign in (1, -1)
            ]
            np.testing.assert_allclose((slope * direction).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-5)


def test_other_neighbourhoods_are_refused():
    with pytest.raises(ValueError, match="4 or 8"):
        ops.reconstruct(jnp.zeros((3, 3)), jnp.zeros((3, 3)), connectivity=6)
