"""Sums of Gaussian kernels and squared distances through matrix products."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cardiojax.ops import jitted, map_blocks

#: Points and kernels of one matrix product: its 2 MiB of exponents stay in the cache of a core.
_POINTS, _CENTRES = 1024, 512
#: Exponent of a kernel that weighs nothing; infinity would make the gradient nan.
_NOTHING = -1e30


def product(a: Float[Array, "*b n"], b: Float[Array, "n m"]) -> Float[Array, "*b m"]:
    """Matrix product in full float32 on every backend."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def squared_distances(a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """Squared Euclidean distances between rows.

    Args:
        a: Rows.
        b: Other rows.

    Returns:
        Distances, never negative; about seven digits of the largest squared norm.
    """
    origin = b.mean(0)
    a, b = a - origin, b - origin
    squares = jnp.square(a).sum(-1, keepdims=True) + jnp.square(b).sum(-1)
    return jnp.maximum(squares - 2 * product(a, b.T), 0)


class _LogSum(NamedTuple):
    """A sum of exponentials: ``exp(largest) * total``."""

    largest: Float[Array, " n"]
    total: Float[Array, " n"]


@jitted()
def log_sum_kernels(points: Float[Array, "*b d"], centres: Float[Array, "m d"]) -> Float[Array, "*b"]:
    """Logarithm of the sum of unit Gaussian kernels, without their normalisation.

    ``log sum_i exp(-|x - c_i|^2 / 2)``, some centres at a time. Their exponents are one matrix product, in which a
    further column holds ``-|c_i|^2 / 2``; ``-|x|^2 / 2`` is added at the end.

    Args:
        points: Where to evaluate.
        centres: Centres of the kernels.

    Returns:
        Logarithms, finite however far the points lie.
    """
    num, dim = centres.shape
    num_chunks = -(-num // _CENTRES)
    columns = jnp.concatenate([centres, -0.5 * jnp.square(centres).sum(-1, keepdims=True)], 1)
    nothing = jnp.zeros(dim + 1, columns.dtype).at[dim].set(_NOTHING)
    columns = jnp.concatenate([columns, jnp.broadcast_to(nothing, (-num % num_chunks, dim + 1))])
    chunks = columns.reshape(num_chunks, -1, dim + 1)

    def block(x):
        rows = jnp.concatenate([x, jnp.ones((len(x), 1), x.dtype)], 1)

        def add(log_sum, columns):
            exponents = product(rows, columns.T)
            largest = jnp.maximum(log_sum.largest, lax.stop_gradient(exponents.max(-1)))
            total = log_sum.total * jnp.exp(log_sum.largest - largest) + jnp.exp(exponents - largest[:, None]).sum(-1)
            return _LogSum(largest, total), None

        start = _LogSum(jnp.full(len(x), _NOTHING, x.dtype), jnp.zeros(len(x), x.dtype))
        log_sum, _ = lax.scan(add, start, chunks)
        return jnp.log(log_sum.total) + log_sum.largest - 0.5 * jnp.square(x).sum(-1)

    return map_blocks(block, points, block_size=_POINTS)
