"""Pixels of masks as lists, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import ops


@pytest.mark.parametrize("shape", [(1, 1), (7, 31), (5, 32), (12, 33), (9, 100)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0])
def test_positions_are_those_of_numpy(shape, share):
    masks = np.random.default_rng(0).uniform(size=(3, *shape)) < share
    positions = jax.jit(ops.pixel_positions, static_argnames="capacity")(jnp.asarray(masks), capacity=40)
    for mask, listed in zip(masks, positions, strict=True):
        expected = np.argwhere(mask)[:40]
        np.testing.assert_array_equal(listed[: len(expected)], expected)
        np.testing.assert_array_equal(listed[len(expected) :], -1)
