"""Densities of the latent space: fit to codes, evaluate, sample."""

import math
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import core, lax
from jaxtyping import Array, Float

from cardiojax.latent.blocks import whitener
from cardiojax.latent.kernels import log_sum_kernels, product, squared_distances
from cardiojax.ops import jitted, map_blocks
from cardiojax.types import RandomKey

#: Least variance in any direction, as a share of the largest, of codes that are scaled to unit variance in each
#: dimension: below it, float32 cannot tell a variance from rounding.
_LEAST_VARIANCE = 1e-6
#: A dimension whose standard deviation is below this share of its largest magnitude is constant up to rounding.
_ROUNDING = 4e-6


@runtime_checkable
class Density(Protocol):
    """What a density is: a pytree, such as a NamedTuple of arrays, with two methods."""

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

        Memory beside the points: about 4 MiB.
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

    def widened(self, factor: float | Float[Array, ""]) -> "WidenedParzen":
        """The same window with broader kernels: a proposal for rejection sampling whose k is known.

        With ``c`` for the factor and ``P`` for this window, each kernel of the wide window ``Q`` is at least ``c^-d``
        of the one at the same code everywhere. So ``P / Q`` is at most ``c^d``, which is ``k``, and ``c^-d`` of the
        draws are accepted.

        Args:
            factor: On the standard deviations of the kernels, at least 1.

        Returns:
            The proposal.

        Raises:
            ValueError: If the factor is below 1.

        Example:
            >>> window = fit_parzen(jnp.zeros((1, 2)), bandwidth=0.5)
            >>> proposal = window.widened(2.0)
            >>> float(proposal.scale_tril[0, 0]), round(float(jnp.exp(proposal.log_bound)), 4)
            (1.0, 4.0)
        """
        if is_known(factor) and not factor >= 1:
            raise ValueError(f"factor must be at least 1, got {factor}")
        log_bound = self.codes.shape[1] * jnp.log(jnp.asarray(factor, self.codes.dtype))
        return WidenedParzen(self.codes, factor * self.scale_tril, log_bound)


class WidenedParzen(NamedTuple):
    """A window with broader kernels, of `Parzen.widened`.

    Attributes:
        codes: Centres of the kernels, ``[m, d]``.
        scale_tril: Lower Cholesky factor of the kernels' covariance, ``[d, d]``.
        log_bound: Logarithm of the largest ratio of the window that it was made of to this one.
    """

    codes: Float[Array, "m d"]
    scale_tril: Float[Array, "d d"]
    log_bound: Float[Array, ""]

    def log_prob(self, x: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        """Logarithm of the density at points, as of `Parzen`."""
        return Parzen(self.codes, self.scale_tril).log_prob(x)

    def sample(self, key: RandomKey, num_samples: int) -> Float[Array, "n d"]:
        """Independent draws, as of `Parzen`."""
        return Parzen(self.codes, self.scale_tril).sample(key, num_samples)


def is_known(*values: Array | float) -> bool:
    """Whether values can be looked at: outside `jax.jit` and the like."""
    return not any(isinstance(value, core.Tracer) for value in values)


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

    A direction in which the codes do not vary, as with fewer codes than dimensions or a constant or repeated dimension,
    gets a standard deviation of a thousandth of that of the widest direction, each dimension scaled to unit variance.

    Args:
        codes: Latent codes, at least two.

    Returns:
        The density with the mean and the unbiased covariance of the codes; nan under `jax.jit` where they do not vary.

    Raises:
        ValueError: If there are fewer than two codes, or, outside `jax.jit`, if they do not vary or are not finite.

    Example:
        >>> density = fit_gaussian(jnp.array([[0.0, 5.0], [2.0, 5.0]]))
        >>> density.mean.tolist(), round(float(density.scale_tril[0, 0]), 4)
        ([1.0, 5.0], 1.4142)
    """
    codes = require_codes(codes)
    return Gaussian(codes.mean(0), _covariance_factor(codes))


def require_codes(codes: Float[Array, "m d"]) -> Float[Array, "m d"]:
    """Refuses codes that have no spread to be fitted.

    Args:
        codes: Latent codes.

    Returns:
        The codes, at least in single precision.

    Raises:
        ValueError: If there are fewer than two codes, or, outside `jax.jit`, if they do not vary or are not finite.
    """
    codes = codes.astype(jnp.promote_types(codes.dtype, jnp.float32))
    if len(codes) < 2:
        raise ValueError(f"the spread of codes needs at least 2, got {len(codes)}")
    if not is_known(codes):
        return codes
    if not jnp.isfinite(codes).all():
        raise ValueError(f"{int((~jnp.isfinite(codes).all(-1)).sum())} of the {len(codes)} codes are not finite")
    if not (codes != codes[0]).any():
        raise ValueError(f"the {len(codes)} codes are all the same: they have no spread")
    return codes


def _covariance_factor(codes: Float[Array, "m d"]) -> Float[Array, "d d"]:
    """Lower Cholesky factor of the covariance of codes, with a least variance in every direction."""
    offsets = codes - codes.mean(0)
    spread = jnp.sqrt(jnp.square(offsets).sum(0) / (len(codes) - 1))
    varies = spread > _ROUNDING * jnp.abs(codes).max(0)
    scale = jnp.where(varies, spread, jnp.where(varies, spread, 0.0).max())
    unit = jnp.where(varies, offsets / jnp.where(varies, spread, 1.0), 0.0)
    variances, directions = jnp.linalg.eigh(product(unit.T, unit) / (len(codes) - 1))
    deviations = jnp.sqrt(jnp.maximum(variances, _LEAST_VARIANCE * variances[-1]))
    # the triangle of a matrix R with R^T R = C is that of C, and needs no C that is positive up to rounding
    upper = jnp.linalg.qr(deviations[:, None] * directions.T * scale, mode="r")
    return (upper * jnp.sign(jnp.diagonal(upper))[:, None]).T


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
        ValueError: If there is no such rule; outside `jax.jit` also if the bandwidth is not positive. For codes whose
            spread is needed, as of `fit_gaussian`.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020; Scott, "Multivariate
        Density Estimation", 1992; Silverman, "Density Estimation for Statistics and Data Analysis", 1986.

    Example:
        >>> density = fit_parzen(jnp.zeros((1, 2)), bandwidth=0.5)
        >>> float(density.log_prob(jnp.zeros(2)))
        -0.4515...
    """
    codes = codes.astype(jnp.promote_types(codes.dtype, jnp.float32))
    num, dim = codes.shape
    if isinstance(bandwidth, str):
        factors = {"scott": num, "silverman": num * (dim + 2) / 4}
        if bandwidth in factors:
            return Parzen(codes, fit_gaussian(codes).scale_tril * factors[bandwidth] ** (-1 / (dim + 4)))
        if bandwidth != "cv":
            raise ValueError(f"bandwidth must be 'cv', 'scott', 'silverman' or a number, got {bandwidth!r}")
        bandwidth = select_bandwidth(jax.random.key(0) if key is None else key, codes)
    if is_known(bandwidth) and not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")
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
        codes: Latent codes, at least two.
        bandwidths: Candidates; if not given, 100 from a tenth to ten times the root mean variance of the dimensions,
            evenly spaced in their logarithm.
        num_splits: Random splits.
        held_out: Part of the codes that is held out in each.

    Returns:
        The candidate with the highest mean likelihood.

    Raises:
        ValueError: If no code is held out or none is left; otherwise as of `fit_gaussian`.

    References:
        The splits of vitalab/vital, ``vital/utils/sampling/rejection_sampling.py`` (Apache-2.0), which searches 0.1 to
        10 whatever the spread of the codes.

    Example:
        >>> codes = jax.random.normal(jax.random.key(1), (100, 2))
        >>> width = select_bandwidth(jax.random.key(0), codes)
        >>> bool(select_bandwidth(jax.random.key(0), 8 * codes) == 8 * width)  # as large as the codes are
        True
    """
    codes = require_codes(codes)
    num_test = max(math.ceil(held_out * len(codes)), 1)
    if not 0 < held_out < 1 or num_test == len(codes):
        raise ValueError(f"held_out must leave some of the {len(codes)} codes, got {held_out}")
    if bandwidths is None:
        bandwidths = jnp.sqrt(codes.var(0).mean()) * jnp.logspace(-1, 1, 100, dtype=codes.dtype)
    return _select_bandwidth(key, codes, bandwidths, num_splits=num_splits, num_test=num_test)


@jitted(static=("num_splits", "num_test"))
def _select_bandwidth(
    key: RandomKey, codes: Float[Array, "m d"], bandwidths: Float[Array, " k"], *, num_splits: int, num_test: int
) -> Float[Array, ""]:
    num, dim = codes.shape

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
