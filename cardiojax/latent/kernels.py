"""Sums of Gaussian kernels and squared distances through matrix products."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cardiojax.latent.blocks import map_blocks

#: Points and kernels of one matrix product: 32 MiB of exponents.
_POINTS, _CENTRES = 4096, 2048
#: Kernels that tell roughly how near a point is to the nearest.
_PROBES = 64


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


def log_sum_kernels(points: Float[Array, "*b d"], centres: Float[Array, "m d"]) -> Float[Array, "*b"]:
    """Logarithm of the sum of unit Gaussian kernels, without their normalisation.

    ``log sum_i exp(-|x - c_i|^2 / 2)``. The exponents of a block are one matrix product, in which two further columns
    hold ``-|c_i|^2 / 2`` and a shift. The shift is the largest exponent among a few of the centres, so that the sum is
    never below one; should it overflow, the block is done again with the largest exponent of all.

    Args:
        points: Where to evaluate.
        centres: Centres of the kernels.

    Returns:
        Logarithms, finite however far the points lie.
    """
    num, dim = centres.shape
    num_chunks = -(-num // _CENTRES)
    columns = jnp.concatenate([centres, -0.5 * jnp.square(centres).sum(-1, keepdims=True), jnp.ones((num, 1))], 1)
    probes = columns[:: -(-num // _PROBES)]
    if num_chunks > 1:
        # A kernel that weighs nothing fills up the last chunk; infinity would make the gradient nan.
        nothing = jnp.zeros(dim + 2).at[dim].set(-1e30)
        padding = jnp.broadcast_to(nothing, (-num % num_chunks, dim + 2))
        columns = jnp.concatenate([columns, padding])
    chunks = columns.reshape(num_chunks, -1, dim + 2)

    def block(x):
        one = jnp.ones((len(x), 1), x.dtype)

        def exponents(shift, columns):
            return product(jnp.concatenate([x, one, -shift[:, None]], 1), columns.T)

        def total(shift):
            def add(carry, columns):
                return carry + jnp.exp(exponents(shift, columns)).sum(-1), None

            return shift, lax.scan(add, jnp.zeros_like(shift), chunks)[0]

        def exact():
            def raise_to(carry, columns):
                return jnp.maximum(carry, exponents(jnp.zeros_like(carry), columns).max(-1)), None

            return total(lax.stop_gradient(lax.scan(raise_to, guess, chunks)[0]))

        guess = lax.stop_gradient(exponents(jnp.zeros(len(x)), probes).max(-1))
        quick = total(guess)
        shift, result = lax.cond(jnp.isfinite(quick[1]).all(), lambda: quick, exact)
        return jnp.log(result) + shift - 0.5 * jnp.square(x).sum(-1)

    return map_blocks(block, points, block_size=_POINTS)
