"""Nearest neighbours equal brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiojax import latent


def brute(bank, codes, k):
    distances = np.linalg.norm(np.asarray(codes, np.float64)[:, None] - np.asarray(bank, np.float64), axis=-1)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


@pytest.mark.parametrize(
    ("num", "dim", "k", "block_size", "dtype"),
    [
        (1, 3, 1, 32, np.float32),
        (33, 1, 2, 32, np.float32),
        (40, 16, 40, 16384, np.float32),
        (1025, 16, 6, 100, np.float32),
        (1000, 3, 5, 256, np.float16),
    ],
)
def test_equals_brute_force(num, dim, k, block_size, dtype):
    rng = np.random.default_rng(num * dim)
    bank = rng.normal(size=(num, dim)).astype(dtype)
    codes = rng.normal(size=(9, dim)).astype(np.float32)
    found = latent.nearest(jnp.asarray(codes), jnp.asarray(bank), k, block_size=block_size, query_size=4)
    distances, order = brute(bank, codes, k)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-5, atol=1e-6)
    if dtype is np.float32:  # halves repeat themselves
        np.testing.assert_array_equal(found.indices, order)


def test_far_from_the_origin_under_jit_with_leading_axes():
    rng = np.random.default_rng(0)
    bank = jnp.asarray(1000 + rng.normal(size=(40_000, 8)), jnp.float32)
    codes = bank[:6].reshape(2, 3, 8) + 0.001
    found = jax.jit(lambda c, b: latent.nearest(c, b, 2))(codes, bank)
    np.testing.assert_array_equal(found.indices[..., 0], np.arange(6).reshape(2, 3))
    assert bool((found.distances[..., 0] < found.distances[..., 1]).all())


def test_mahalanobis_is_euclid_after_whitening():
    rng = np.random.default_rng(1)
    bank, codes = rng.normal(size=(500, 3)).astype(np.float32), rng.normal(size=(7, 3)).astype(np.float32)
    covariance = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.1], [0.0, 0.1, 0.05]], np.float32)
    root = np.linalg.inv(np.linalg.cholesky(covariance)).T
    found = latent.nearest(jnp.asarray(codes), jnp.asarray(bank), 4, covariance=jnp.asarray(covariance))
    distances, order = brute(bank @ root, codes @ root, 4)
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-4)


def test_more_neighbours_than_codes_are_refused():
    with pytest.raises(ValueError, match="between 1 and the 3 codes"):
        latent.nearest(jnp.zeros((1, 2)), jnp.zeros((3, 2)), 4)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.3, 0.97]), st.sampled_from([np.nan, np.inf, -np.inf]))
@settings(max_examples=25)
def test_what_is_not_finite_is_nobodys_neighbour(seed, share, wrong):
    """Its group of 32 stays in the search, other queries are not affected, and what is missing is -1 and nan."""
    rng = np.random.default_rng(seed)
    bank, codes = rng.normal(size=(100, 3)).astype(np.float32), rng.normal(size=(6, 3)).astype(np.float32)
    bank[rng.uniform(size=100) < share, rng.integers(3)] = wrong
    codes[2, 1] = wrong
    found = latent.nearest(jnp.asarray(codes), jnp.asarray(bank), 5, block_size=64)
    rows = np.flatnonzero(np.isfinite(bank).all(1))
    distances, order = brute(bank[rows], np.delete(codes, 2, 0), 5)
    num = order.shape[1]
    np.testing.assert_array_equal(np.delete(found.indices, 2, 0)[:, :num], rows[order])
    np.testing.assert_allclose(np.delete(found.distances, 2, 0)[:, :num], distances, rtol=1e-5)
    missing = np.concatenate([found.indices[:, num:].ravel(), found.indices[2]])
    np.testing.assert_array_equal(missing, -1)
    assert np.isnan(found.distances[2]).all()
    assert np.isnan(found.distances[:, num:]).all()


def test_a_mapped_axis_is_a_leading_axis_and_distances_have_gradients():
    rng = np.random.default_rng(3)
    bank, codes = (jnp.asarray(rng.normal(size=(n, 3)), jnp.float32) for n in (70, 9))
    batch = latent.nearest(codes, bank, 2)
    mapped = jax.vmap(lambda code: latent.nearest(code, bank, 2))(codes)
    np.testing.assert_array_equal(mapped.indices, batch.indices)
    banks = jnp.stack([bank, -bank])
    each = jax.vmap(lambda bank: latent.nearest(codes, bank, 2))(banks)
    np.testing.assert_array_equal(each.indices[1], latent.nearest(codes, -bank, 2).indices)
    slope = jax.grad(lambda codes: latent.nearest(codes, bank).distances.sum())(codes)
    offsets = codes - bank[batch.indices[:, 0]]
    np.testing.assert_allclose(slope, offsets / jnp.linalg.norm(offsets, axis=-1, keepdims=True), rtol=1e-4, atol=1e-5)
