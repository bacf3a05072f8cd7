"""Exact nearest neighbours among millions of codes."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from cardiojax.latent.blocks import map_blocks, whitener

#: Codes that are ranked together by the nearest of them: the running top-k sees one number for all.
_GROUP = 32
#: Groups kept beside the k asked for, so that the rounding of the matrix product cannot lose a neighbour.
_SPARE = 4


class Neighbours(NamedTuple):
    """The nearest codes, nearest first.

    Attributes:
        distances: In the metric asked for, ``[*b, k]``.
        indices: Rows of the bank, ``[*b, k]``.
    """

    distances: Float[Array, "*b k"]
    indices: Int[Array, "*b k"]


def nearest(
    bank: Float[Array, "n d"],
    codes: Float[Array, "*b d"],
    k: int = 1,
    *,
    covariance: Float[Array, "d d"] | None = None,
    block_size: int = 16384,
    query_size: int = 256,
) -> Neighbours:
    """Finds the nearest codes of a bank, exactly.

    A matrix product ranks ``block_size`` codes of the bank at a time; the nearest of every group of 32 enters a running
    top-k, and the members of the groups that remain are measured again by differences. The bank is never copied: memory
    beside it is about ``4 * query_size * block_size`` bytes.

    Args:
        bank: Codes to search; half precision is taken as it is, and computed with in float32.
        codes: Queries.
        k: Neighbours wanted.
        covariance: Of a Mahalanobis distance; Euclidean if not given.
        block_size: Codes of the bank a step.
        query_size: Queries a step.

    Returns:
        Distances and rows.

    Raises:
        ValueError: If the bank has fewer than ``k`` codes.

    Example:
        >>> bank = jnp.array([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]])
        >>> found = nearest(bank, jnp.array([3.0, 0.0]), 2)
        >>> found.indices.tolist(), found.distances.tolist()
        ([0, 1], [3.0, 4.0])
    """
    num, dim = bank.shape
    if not 1 <= k <= num:
        raise ValueError(f"k must lie between 1 and the {num} codes of the bank, got {k}")
    whiten = jnp.eye(dim) if covariance is None else whitener(jnp.linalg.cholesky(covariance))
    # The matrix product loses digits far from the origin, so the queries bring theirs along.
    origin = codes.reshape(-1, dim).astype(jnp.float32).mean(0)
    block_size = min(block_size // _GROUP * _GROUP or _GROUP, num)
    num_blocks = num // block_size
    kept = k + _SPARE

    def scores(rows, queries):
        """Squared distance of groups of rows to each query, up to a constant of the query, ``[q, groups]``."""
        rows = (rows.astype(jnp.float32) - origin) @ whiten
        padding = -len(rows) % _GROUP
        squares = jnp.pad(jnp.square(rows).sum(-1), (0, padding), constant_values=jnp.inf)
        rows = jnp.pad(rows, ((0, padding), (0, 0)))
        products = jnp.matmul(queries, rows.T, precision=lax.Precision.HIGHEST)
        return (squares - 2 * products).reshape(len(queries), -1, _GROUP).min(-1)

    def search(queries):
        whitened = (queries - origin) @ whiten

        def merge(best, rows, first):
            new = scores(rows, whitened)
            firsts = jnp.broadcast_to(first + _GROUP * jnp.arange(new.shape[1]), new.shape)
            values = jnp.concatenate([best[0], new], 1)
            negative, order = lax.top_k(-values, kept)
            return -negative, jnp.take_along_axis(jnp.concatenate([best[1], firsts], 1), order, 1)

        def step(i, best):
            first = i * block_size
            return merge(best, lax.dynamic_slice_in_dim(bank, first, block_size), first)

        nothing = jnp.full((len(queries), kept), jnp.inf), jnp.full((len(queries), kept), num, jnp.int32)
        best = lax.fori_loop(0, num_blocks, step, nothing)
        if num % block_size:
            best = merge(best, bank[num_blocks * block_size :], num_blocks * block_size)
        # A group may reach past its block only where the block is the bank's last.
        rows = (best[1][..., None] + jnp.arange(_GROUP)).reshape(len(queries), -1)
        members = bank.at[rows].get(mode="fill", fill_value=0).astype(jnp.float32)
        offsets = (members - queries[:, None]) @ whiten if covariance is not None else members - queries[:, None]
        squared = jnp.where(rows < num, jnp.square(offsets).sum(-1), jnp.inf)
        negative, order = lax.top_k(-squared, k)
        return Neighbours(jnp.sqrt(-negative), jnp.take_along_axis(rows, order, 1).astype(jnp.int32))

    return map_blocks(search, codes.astype(jnp.float32), block_size=query_size)
