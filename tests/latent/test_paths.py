"""Ways through the latent space."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cardiojax import latent

codes = hnp.arrays(np.float32, (2, 3), elements=st.floats(-10, 10, width=32))


@given(codes, codes, st.booleans())
def test_ends_are_the_codes(a, b, spherical):
    way = latent.interpolate(jnp.asarray(a), jnp.asarray(b), 5, spherical=spherical)
    assert way.shape == (2, 5, 3)
    np.testing.assert_allclose(way[:, 0], a, atol=1e-3)
    np.testing.assert_allclose(way[:, -1], b, atol=1e-3)
    assert np.isfinite(way).all()


def test_spherical_keeps_the_norm_and_turns_evenly():
    way = latent.interpolate(jnp.array([2.0, 0.0]), jnp.array([0.0, 2.0]), 4, spherical=True)
    angles = np.linspace(0, np.pi / 2, 4)
    np.testing.assert_allclose(way, 2 * np.stack([np.cos(angles), np.sin(angles)], -1), atol=1e-6)


def test_traversal_changes_one_dimension():
    start = jnp.arange(6.0).reshape(2, 3)
    way = latent.traverse(start, -1, jnp.array([7.0, 8.0]))
    np.testing.assert_array_equal(way[..., :2], np.repeat(start[:, None, :2], 2, 1))
    np.testing.assert_array_equal(way[..., 2], [[7, 8], [7, 8]])
