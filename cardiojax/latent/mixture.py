"""Mixtures of normal densities, fitted by expectation and maximisation."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cardiojax.latent.blocks import whitener
from cardiojax.latent.density import log_volume, require_codes
from cardiojax.latent.kernels import product
from cardiojax.ops import jitted, map_blocks
from cardiojax.types import RandomKey

#: Points a block.
_POINTS = 4096


class Mixture(NamedTuple):
    """A weighted sum of normal densities.

    Attributes:
        log_weights: Logarithms of the weights, which sum to one, ``[k]``.
        means: Means of the components, ``[k, d]``.
        scale_trils: Lower Cholesky factors of their covariances, ``[k, d, d]``.
    """

    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    scale_trils: Float[Array, "k d d"]

    def log_prob(self, x: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        """Logarithm of the density at points."""
        return _log_prob(self, x)

    def sample(self, key: RandomKey, num_samples: int) -> Float[Array, "n d"]:
        """Independent draws."""
        return _sample(key, self, num_samples=num_samples)


@jitted()
def _log_prob(mixture: Mixture, x: Float[Array, "*b d"]) -> Float[Array, "*b"]:
    return map_blocks(lambda x: jax.nn.logsumexp(_log_parts(mixture, x), -1), x, block_size=_POINTS)


@jitted(static=("num_samples",))
def _sample(key: RandomKey, mixture: Mixture, *, num_samples: int) -> Float[Array, "n d"]:
    which, where = jax.random.split(key)
    rows = jax.random.categorical(which, mixture.log_weights, shape=(num_samples,))
    noise = jax.random.normal(where, (num_samples, mixture.means.shape[1]), mixture.means.dtype)

    def add(total, component):
        index, mean, scale_tril = component
        return jnp.where((rows == index)[:, None], mean + product(noise, scale_tril.T), total), None

    numbers = jnp.arange(len(mixture.means))
    return lax.scan(add, noise, (numbers, mixture.means, mixture.scale_trils))[0]


def _log_parts(mixture: Mixture, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
    """Logarithm of what each component adds at each point."""

    def one(component):
        log_weight, mean, scale_tril = component
        offsets = product(x - mean, whitener(scale_tril))
        return log_weight - log_volume(scale_tril) - 0.5 * jnp.square(offsets).sum(-1)

    return lax.map(one, mixture).T


def fit_mixture(
    key: RandomKey,
    codes: Float[Array, "m d"],
    num_components: int,
    *,
    num_steps: int = 100,
    regularisation: float = 1e-3,
    covariance: Float[Array, "d d"] | None = None,
) -> Mixture:
    """Fits a mixture by expectation and maximisation, from codes drawn as the first means.

    Args:
        key: Draws the first means.
        codes: Latent codes.
        num_components: Components.
        num_steps: Steps of expectation and maximisation.
        regularisation: Part of the variance of all codes that is added to every component's, so that none collapses.
        covariance: Added to every component's at the end: with that of a Parzen window's kernels, the mixture is as
            broad as the window and a good proposal for it.

    Returns:
        The mixture.

    Raises:
        ValueError: If there are more components than codes; for codes as of `fit_gaussian`.

    References:
        Dempster, Laird and Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm", 1977.

    Example:
        >>> codes = jnp.array([[-1.1], [-1.0], [-0.9], [0.9], [1.0], [1.1]])
        >>> mixture = fit_mixture(jax.random.key(1), codes, 2)
        >>> sorted(round(float(mean), 2) for mean in mixture.means[:, 0])
        [-1.0, 1.0]
    """
    if not 1 <= num_components <= len(codes):
        raise ValueError(f"num_components must lie between 1 and the {len(codes)} codes, got {num_components}")
    codes = require_codes(codes)
    fitted = _fit(key, codes, regularisation, num_components=num_components, num_steps=num_steps)
    if covariance is None:
        return fitted
    broadened = jnp.matmul(fitted.scale_trils, jnp.swapaxes(fitted.scale_trils, -1, -2)) + covariance
    return fitted._replace(scale_trils=jnp.linalg.cholesky(broadened))


@jitted(static=("num_components", "num_steps"))
def _fit(
    key: RandomKey, codes: Float[Array, "m d"], regularisation: float | Array, *, num_components: int, num_steps: int
) -> Mixture:
    num, dim = codes.shape
    ridge = regularisation * codes.var(0).mean() * jnp.eye(dim, dtype=codes.dtype)
    spread = jnp.cov(codes.T).reshape(dim, dim) + ridge

    def maximise(parts):
        shares = jnp.exp(parts - jax.nn.logsumexp(parts, -1, keepdims=True))
        counts = shares.sum(0) + 1e-6

        def one(component):
            share, count = component
            mean = share @ codes / count
            offsets = codes - mean
            return mean, product((share[:, None] * offsets).T, offsets) / count + ridge

        means, covariances = lax.map(one, (shares.T, counts))
        return Mixture(jnp.log(counts / counts.sum()), means, jnp.linalg.cholesky(covariances))

    first = codes[jax.random.permutation(key, num)[:num_components]]
    even = jnp.full(num_components, -math.log(num_components), codes.dtype)
    start = Mixture(even, first, jnp.broadcast_to(jnp.linalg.cholesky(spread), (num_components, dim, dim)))
    return lax.fori_loop(0, num_steps, lambda _, mixture: maximise(_log_parts(mixture, codes)), start)
