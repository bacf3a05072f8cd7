"""Densities of the latent space: fit to codes, evaluate, sample."""

import math
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cardiojax.latent.blocks import map_blocks, whitener
from cardiojax.latent.kernels import log_sum_kernels, product, squared_distances
from cardiojax.types import RandomKey


@runtime_checkable
class Density(Protocol):
    """What every density of this room can do."""

    def log_prob(self, x: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        """Logarithm of the density."""
        ...

    def sample(self, key: RandomKey, num_samples: int) -> Float[Array, "n d"]:
        """Independent draws."""
        ...


class Gaussian(NamedTuple):
    """A normal density.

    Attributes:
        mean: Its mean, ``[d]``.
        scale_tril: Lower Cholesky factor of its covariance, ``[d, d]``.
    """

    mean: Float[Array, " d"]
    scale_tril: Float[Array, "d d"]

    def log_prob(self, x: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        """Logarithm of the density at points."""
        offsets = product(x - self.mean, whitener(self.scale_tril))
        return -0.5 * jnp.square(offsets).sum(-1) - log_volume(self.scale_tril)

    def sample(self, key: RandomKey, num_samples: int) -> Float[Array, "n d"]:
        """Independent draws."""
        noise = jax.random.normal(key, (num_samples, len(self.mean)), self.mean.dtype)
        return self.mean + product(noise, self.scale_tril.T)


class Parzen(NamedTuple):
    """A Gaussian kernel at every code: Parzen's window, also called kernel density estimate.

    Attributes:
        codes: Centres of the kernels, ``[m, d]``.
        scale_tril: Lower Cholesky factor of the kernels' covariance, the bandwidth times the identity if it was chosen
            by cross-validation, ``[d, d]``.
    """

    codes: Float[Array, "m d"]
    scale_tril: Float[Array, "d d"]

    def log_prob(self, x: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        """Logarithm of the density at points; finite however far they lie.

        Memory beside the points: about 40 MiB.
        """
        whiten = whitener(self.scale_tril)
        origin = self.codes.mean(0)
        sums = log_sum_kernels(product(x - origin, whiten), product(self.codes - origin, whiten))
        return sums - math.log(len(self.codes)) - log_volume(self.scale_tril)

    def sample(self, key: RandomKey, num_samples: int) -> Float[Array, "n d"]:
        """Independent draws: the kernel of a random code, exactly what rejection sampling from it would keep."""
        which, where = jax.random.split(key)
        rows = jax.random.randint(which, (num_samples,), 0, len(self.codes))
        noise = jax.random.normal(where, (num_samples, self.codes.shape[1]), self.codes.dtype)
        return self.codes[rows] + product(noise, self.scale_tril.T)


def log_volume(scale_tril: Float[Array, "*b d d"]) -> Float[Array, "*b"]:
    """Logarithm of the integral of ``exp(-|L^-1 x|^2 / 2)``, which normalises a normal density.

    Args:
        scale_tril: Lower Cholesky factors of covariances.

    Returns:
        Half the logarithm of the determinant of 2 pi times the covariance.
    """
    diagonal = jnp.diagonal(scale_tril, axis1=-2, axis2=-1)
    return jnp.log(diagonal).sum(-1) + 0.5 * scale_tril.shape[-1] * math.log(2 * math.pi)


def fit_gaussian(codes: Float[Array, "m d"]) -> Gaussian:
    """Fits a normal density with a full covariance.

    Args:
        codes: Latent codes, more than their dimension.

    Returns:
        The density with the mean and the unbiased covariance of the codes.
    """
    return Gaussian(codes.mean(0), jnp.linalg.cholesky(jnp.cov(codes.T).reshape(codes.shape[1], -1)))


def fit_parzen(
    codes: Float[Array, "m d"], *, bandwidth: str | float | Float[Array, ""] = "cv", key: RandomKey | None = None
) -> Parzen:
    """Puts a Gaussian kernel at every code.

    Args:
        codes: Latent codes.
        bandwidth: ``"cv"``, the standard deviation that `select_bandwidth` finds; a number, the standard deviation
            itself; ``"scott"`` or ``"silverman"``, the codes' covariance times the square of the rule's factor, as in
            ``scipy.stats.gaussian_kde``.
        key: Draws the splits of the cross-validation; ``jax.random.key(0)`` if not given.

    Returns:
        The density.

    Raises:
        ValueError: If there is no such rule.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020; Scott, "Multivariate
        Density Estimation", 1992; Silverman, "Density Estimation for Statistics and Data Analysis", 1986.

    Example:
        >>> density = fit_parzen(jnp.zeros((1, 2)), bandwidth=0.5)
        >>> float(density.log_prob(jnp.zeros(2)))
        -0.4515...
    """
    num, dim = codes.shape
    if isinstance(bandwidth, str):
        factors = {"scott": num, "silverman": num * (dim + 2) / 4}
        if bandwidth in factors:
            return Parzen(codes, fit_gaussian(codes).scale_tril * factors[bandwidth] ** (-1 / (dim + 4)))
        if bandwidth != "cv":
            raise ValueError(f"bandwidth must be 'cv', 'scott', 'silverman' or a number, got {bandwidth!r}")
        bandwidth = select_bandwidth(jax.random.key(0) if key is None else key, codes)
    return Parzen(codes, jnp.asarray(bandwidth, codes.dtype) * jnp.eye(dim, dtype=codes.dtype))


def select_bandwidth(
    key: RandomKey,
    codes: Float[Array, "m d"],
    bandwidths: Float[Array, " k"] | None = None,
    *,
    num_splits: int = 10,
    held_out: float = 0.1,
) -> Float[Array, ""]:
    """Chooses the standard deviation of the kernels by the likelihood of codes held out.

    Distances are computed once for all bandwidths, a few codes held out at a time: about 32 MiB.

    Args:
        key: Draws the splits.
        codes: Latent codes.
        bandwidths: Candidates; 100 from 0.1 to 10, evenly spaced in their logarithm, if not given.
        num_splits: Random splits.
        held_out: Part of the codes that is held out in each.

    Returns:
        The candidate with the highest mean likelihood.

    References:
        The grid and the splits of vitalab/vital, ``vital/utils/sampling/rejection_sampling.py`` (Apache-2.0).
    """
    bandwidths = jnp.logspace(-1, 1, 100) if bandwidths is None else bandwidths
    num, dim = codes.shape
    num_test = max(math.ceil(held_out * num), 1)

    def score(key):
        order = jax.random.permutation(key, num)
        test, train = codes[order[:num_test]], codes[order[num_test:]]

        def likelihoods(points):
            squared = squared_distances(points, train)
            nearest = squared.min(-1)

            def one(width):
                excess = (nearest[:, None] - squared) / (2 * jnp.square(width))
                return jnp.log(jnp.exp(excess).sum(-1)) - nearest / (2 * jnp.square(width)) - dim * jnp.log(width)

            return lax.map(one, bandwidths).T

        return map_blocks(likelihoods, test, block_size=max(2**22 // num, 1)).sum(0)

    return bandwidths[lax.map(score, jax.random.split(key, num_splits)).sum(0).argmax()]
