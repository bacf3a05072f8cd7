"""Label maps on a finer grid are those of the scores resized by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import ops


@pytest.mark.parametrize("size", [(28, 28), (17, 40), (8, 13), (5, 30), (8, 8)])
def test_equals_resizing_and_argmax(size):
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(11, 8, 8, 4)), jnp.float32)
    expected = jax.image.resize(logits, (11, *size, 4), "linear").argmax(-1)
    labels = ops.resize_argmax(logits, height=size[0], width=size[1])
    assert labels.dtype == jnp.int32
    assert (labels != expected).mean() < 1e-3  # two scores may round to equal ones
    np.testing.assert_array_equal(ops.resize_argmax(logits[2], height=size[0], width=size[1]), labels[2])


def test_the_first_of_equal_scores_wins():
    assert not ops.resize_argmax(jnp.ones((2, 2, 3)), height=4, width=4).any()
