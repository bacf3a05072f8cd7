"""Overlap: hand-counted masks and properties."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as hnp

from cardiojax import metrics

masks = hnp.arrays(bool, (2, 5, 6))


def test_hand_counted():
    a = jnp.zeros((4, 4), bool).at[:2].set(True)
    b = jnp.zeros((4, 4), bool).at[1:3].set(True)
    assert float(metrics.dice(a, b)) == 0.5
    assert float(metrics.jaccard(a, b)) == np.float32(1 / 3)
    empty = jnp.zeros((4, 4), bool)
    assert float(metrics.dice(empty, empty)) == float(metrics.jaccard(empty, empty)) == 1
    assert float(metrics.dice(a, empty)) == float(metrics.jaccard(a, empty)) == 0


@given(masks, masks)
def test_properties(a, b):
    a, b = jnp.asarray(a), jnp.asarray(b)
    dice, jaccard = metrics.dice(a, b), metrics.jaccard(a, b)
    np.testing.assert_array_equal(dice, metrics.dice(b, a))
    np.testing.assert_allclose(dice, 2 * jaccard / (1 + jaccard), rtol=1e-6)
    np.testing.assert_array_equal(metrics.dice(a, a), 1)
    np.testing.assert_array_equal(jax.jit(jax.vmap(metrics.dice))(a, b), dice)
