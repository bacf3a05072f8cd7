"""Entropy against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from cardiojax import uncertainty


def test_equals_scipy_and_has_finite_gradients():
    probs = jax.nn.softmax(3 * jax.random.normal(jax.random.key(0), (2, 5, 6, 4)))
    expected = scipy.stats.entropy(np.asarray(probs), base=4, axis=-1)
    np.testing.assert_allclose(uncertainty.entropy(probs), expected, atol=1e-5)
    certain = jnp.eye(4)[None]
    assert bool(jnp.isfinite(jax.grad(lambda p: uncertainty.entropy(p).sum())(certain)).all())
    np.testing.assert_array_equal(uncertainty.entropy(certain), 0)
