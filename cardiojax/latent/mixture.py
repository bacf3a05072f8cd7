"""Mixtures of normal densities, fitted by expectation and maximisation."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cardiojax.latent.blocks import map_blocks, whitener
from cardiojax.latent.density import log_volume
from cardiojax.latent.kernels import product
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
        return map_blocks(lambda x: jax.nn.logsumexp(self._parts(x), -1), x, block_size=_POINTS)

    def sample(self, key: RandomKey, num_samples: int) -> Float[Array, "n d"]:
        """Independent draws."""
        which, where = jax.random.split(key)
        rows = jax.random.categorical(which, self.log_weights, shape=(num_samples,))
        noise = jax.random.normal(where, (num_samples, self.means.shape[1]), self.means.dtype)

        def add(total, component):
            index, mean, scale_tril = component
            return jnp.where((rows == index)[:, None], mean + product(noise, scale_tril.T), total), None

        numbers = jnp.arange(len(self.means))
        return lax.scan(add, noise, (numbers, self.means, self.scale_trils))[0]

    def _parts(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """Logarithm of what each component adds at each point."""

        def one(component):
            log_weight, mean, scale_tril = component
            offsets = product(x - mean, whitener(scale_tril))
            return log_weight - log_volume(scale_tril) - 0.5 * jnp.square(offsets).sum(-1)

        return lax.map(one, (self.log_weights, self.means, self.scale_trils)).T


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
        ValueError: If there are more components than codes.

    References:
        Dempster, Laird and Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm", 1977.
    """
    num, dim = codes.shape
    if not 1 <= num_components <= num:
        raise ValueError(f"num_components must lie between 1 and the {num} codes, got {num_components}")
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
    fitted = lax.fori_loop(0, num_steps, lambda _, mixture: maximise(mixture._parts(codes)), start)
    if covariance is None:
        return fitted
    broadened = jnp.matmul(fitted.scale_trils, jnp.swapaxes(fitted.scale_trils, -1, -2)) + covariance
    return fitted._replace(scale_trils=jnp.linalg.cholesky(broadened))
