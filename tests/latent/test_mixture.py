"""Mixtures against SciPy's densities and a cloud whose parts are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from cardiojax import latent


def cloud():
    rng = np.random.default_rng(0)
    parts = [rng.normal([-4, 0], [0.5, 1.0], (600, 2)), rng.normal([4, 1], [1.0, 0.3], (200, 2))]
    return jnp.asarray(np.concatenate(parts), jnp.float32)


def test_finds_the_parts_of_a_cloud_and_samples_them():
    fitted = jax.jit(latent.fit_mixture, static_argnums=2)(jax.random.key(1), cloud(), 2)
    order = jnp.argsort(fitted.means[:, 0])
    np.testing.assert_allclose(jnp.exp(fitted.log_weights[order]), [0.75, 0.25], atol=0.01)
    np.testing.assert_allclose(fitted.means[order], [[-4, 0], [4, 1]], atol=0.15)
    spreads = jnp.abs(jnp.diagonal(fitted.scale_trils[order], axis1=1, axis2=2))
    np.testing.assert_allclose(spreads, [[0.5, 1.0], [1.0, 0.3]], atol=0.12)
    samples = fitted.sample(jax.random.key(2), 20_000)
    np.testing.assert_allclose(samples.mean(0), cloud().mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(samples.T), np.cov(cloud().T), atol=0.4)


def test_density_equals_scipy():
    mixture = latent.fit_mixture(jax.random.key(1), cloud(), 3, num_steps=5, covariance=0.1 * jnp.eye(2))
    points = np.random.default_rng(1).normal(0, 4, (30, 2)).astype(np.float32)
    peers = [
        stats.multivariate_normal(np.asarray(m), np.asarray(s @ s.T)).logpdf(points) + float(w)
        for w, m, s in zip(*mixture, strict=True)
    ]
    np.testing.assert_allclose(mixture.log_prob(jnp.asarray(points)), logsumexp(peers, 0), rtol=1e-4, atol=1e-4)


def test_more_components_than_codes_are_refused():
    with pytest.raises(ValueError, match="num_components"):
        latent.fit_mixture(jax.random.key(0), jnp.zeros((3, 2)), 4)
