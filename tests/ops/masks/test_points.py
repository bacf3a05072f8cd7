"""Means of indices: NumPy with 64 bits, at sizes where sums exceed 32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import ops
from cardiojax.anatomy import regions


@pytest.mark.parametrize("size", [5, 224, 4096])
def test_mean_index_is_exact(size):
    rng = np.random.default_rng(size)
    counts = np.concatenate([rng.integers(0, size + 1, (50, size)), np.zeros((2, size), int), np.full((1, size), size)])
    counts[50, -1] = size
    counts[:20] *= rng.random((20, size)) < rng.random((20, 1)) ** 4  # in few rows
    result = jax.jit(ops.mean_index)(jnp.asarray(counts, jnp.int32))
    total, moment = counts.sum(-1), (counts * np.arange(size)).sum(-1)
    np.testing.assert_array_equal(result.total, total)
    np.testing.assert_array_equal(
        np.asarray(result.whole, np.int64) * total + np.asarray(result.rest, np.int64), moment
    )
    np.testing.assert_allclose(result.value(), moment / np.maximum(total, 1), rtol=1e-6)
    centre = regions.centre_row(jnp.asarray(counts.T, jnp.int32), jnp.zeros(counts.T.shape, jnp.int32))
    np.testing.assert_array_equal(centre, moment // np.maximum(total, 1))


def test_hinge_points_of_a_large_opening():
    """As many candidates as there are pixels: the sum of their columns exceeds 32 bits."""
    cavity = np.zeros((1024, 4096), bool)
    cavity[1::3, 8:4000] = True
    wall = np.roll(cavity, 1, 0)
    assert cavity.sum() * 2000 > 2**31
    result = jax.jit(ops.hinge_points)(jnp.asarray(cavity), jnp.asarray(wall))
    middle = np.nonzero(cavity)[1].mean()
    assert result.left.tolist() == [1021, 8]
    assert result.right.tolist() == [1021, np.ceil(middle)]
