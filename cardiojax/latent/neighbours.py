"""Exact nearest neighbours among millions of codes."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from cardiojax.latent.blocks import whitener
from cardiojax.ops import jitted, map_blocks, on_each_device, over_leading_axes

#: Codes that are ranked together by the nearest of them: the running top-k sees one number for all.
_GROUP = 32
#: Groups kept beside the k asked for, so that the rounding of the matrix product cannot lose a neighbour.
_SPARE = 4


class Neighbours(NamedTuple):
    """The nearest codes, nearest first.

    Attributes:
        distances: In the metric asked for, ``[*b, k]``; nan where there is no neighbour.
        indices: Rows of the bank, ``[*b, k]``; -1 where there is none: for a code that is not finite, and where fewer
            than ``k`` codes of the bank are.
    """

    distances: Float[Array, "*b k"]
    indices: Int[Array, "*b k"]


class _Groups(NamedTuple):
    """The best groups of each query: their scores and first rows, ``[q, kept]``."""

    scores: Float[Array, "q m"]
    firsts: Int[Array, "q m"]


def nearest(
    codes: Float[Array, "*b d"],
    bank: Float[Array, "n d"],
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
        codes: Queries.
        bank: Codes to search; half precision is taken as it is, and computed with in float32. Codes that are not finite
            are not neighbours of any.
        k: Neighbours wanted.
        covariance: Of a Mahalanobis distance; Euclidean if not given.
        block_size: Codes of the bank a step.
        query_size: Queries a step.

    Returns:
        Distances and rows. The gradient of the distances is that to the rows, which stay as they are.

    Raises:
        ValueError: If the bank has fewer than ``k`` codes.

    Example:
        >>> bank = jnp.array([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]])
        >>> neighbours = nearest(jnp.array([3.0, 0.0]), bank, 2)
        >>> neighbours.indices.tolist(), neighbours.distances.tolist()
        ([0, 1], [3.0, 4.0])
    """
    num, dim = bank.shape
    if not 1 <= k <= num:
        raise ValueError(f"k must lie between 1 and the {num} codes of the bank, got {k}")
    whiten = jnp.eye(dim) if covariance is None else whitener(jnp.linalg.cholesky(covariance))
    codes = codes.astype(jnp.float32)
    fixed = (lax.stop_gradient(x) for x in (codes, bank, whiten))
    indices = _search(*fixed, k=k, block_size=block_size, query_size=query_size)
    return Neighbours(_distances(codes, bank, whiten, indices, is_euclidean=covariance is None), indices)


@jitted(static=("is_euclidean",))
@on_each_device(1, None, None, 1)
def _distances(
    codes: Float[Array, "*b d"],
    bank: Float[Array, "n d"],
    whiten: Float[Array, "d d"],
    indices: Int[Array, "*b k"],
    *,
    is_euclidean: bool,
) -> Float[Array, "*b k"]:
    offsets = bank[indices].astype(jnp.float32) - codes[..., None, :]
    offsets = offsets if is_euclidean else offsets @ whiten
    squared = jnp.square(offsets).sum(-1)
    is_apart = squared > 0  # the root of 0 has no derivative
    distances = jnp.where(is_apart, jnp.sqrt(jnp.where(is_apart, squared, 1.0)), 0.0)
    return jnp.where(indices >= 0, distances, jnp.nan)


@over_leading_axes(1, None, None)
def _search(
    codes: Float[Array, "*b d"],
    bank: Float[Array, "n d"],
    whiten: Float[Array, "d d"],
    *,
    k: int,
    block_size: int,
    query_size: int,
) -> Int[Array, "*b k"]:
    num, dim = bank.shape
    # The matrix product loses digits far from the origin, so the mean of the queries is the origin.
    rows = codes.reshape(-1, dim)
    is_finite = jnp.isfinite(rows).all(-1, keepdims=True)
    origin = jnp.where(is_finite, rows, 0.0).sum(0) / jnp.maximum(is_finite.sum(), 1)
    block_size = min(block_size // _GROUP * _GROUP or _GROUP, num)
    num_blocks = num // block_size
    kept = k + _SPARE

    def scores(rows, queries):
        """Squared distance of groups of rows to each query, up to a constant of the query, ``[q, groups]``."""
        rows = (rows.astype(jnp.float32) - origin) @ whiten
        is_finite = jnp.isfinite(rows).all(-1, keepdims=True)
        rows = jnp.where(is_finite, rows, 0.0)
        squares = jnp.where(is_finite[:, 0], jnp.square(rows).sum(-1), jnp.inf)
        padding = -len(rows) % _GROUP
        squares = jnp.pad(squares, (0, padding), constant_values=jnp.inf)
        rows = jnp.pad(rows, ((0, padding), (0, 0)))
        products = jnp.matmul(queries, rows.T, precision=lax.Precision.HIGHEST)
        return (squares - 2 * products).reshape(len(queries), -1, _GROUP).min(-1)

    def search(queries):
        whitened = (queries - origin) @ whiten

        def merge(best, rows, first):
            new = scores(rows, whitened)
            firsts = jnp.broadcast_to(first + _GROUP * jnp.arange(new.shape[1], dtype=jnp.int32), new.shape)
            values, firsts = jnp.concatenate([best.scores, new], 1), jnp.concatenate([best.firsts, firsts], 1)
            negative, order = lax.top_k(-values, kept)
            return _Groups(-negative, jnp.take_along_axis(firsts, order, 1))

        def step(i, best):
            first = i * block_size
            return merge(best, lax.dynamic_slice_in_dim(bank, first, block_size), first.astype(jnp.int32))

        shape = len(queries), kept
        best = _Groups(jnp.full(shape, jnp.inf), jnp.full(shape, num, jnp.int32))
        best = lax.fori_loop(0, num_blocks, step, best)
        if num % block_size:
            best = merge(best, bank[num_blocks * block_size :], num_blocks * block_size)
        # A group may reach past its block only where the block is the bank's last.
        rows = (best.firsts[..., None] + jnp.arange(_GROUP)).reshape(len(queries), -1)
        members = bank.at[rows].get(mode="fill", fill_value=jnp.nan).astype(jnp.float32)
        squared = jnp.square((members - queries[:, None]) @ whiten).sum(-1)
        is_member = (rows < num) & jnp.isfinite(squared)
        negative, order = lax.top_k(jnp.where(is_member, -squared, -jnp.inf), k)
        nearest_rows = jnp.take_along_axis(rows, order, 1).astype(jnp.int32)
        return jnp.where(jnp.isfinite(negative), nearest_rows, -1)

    return map_blocks(search, codes, block_size=query_size)
