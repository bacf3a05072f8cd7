"""Distance of each pixel of one mask to the nearest of another, pair by pair: for masks of few pixels, as outlines."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cardiojax import ops

#: Pixels of the first mask that are compared with all of the second at a time; their distances stay in the cache.
_BLOCK = 64


class Nearest(NamedTuple):
    """Distances in mm of the listed pixels of two masks to the nearest pixel of the other; nan after the last one."""

    of_first: Float[Array, "*b n"]
    of_second: Float[Array, "*b n"]


def capacity_of(height: int, width: int) -> int:
    """Pixels that `nearest_pixels` lists: twice the sum of the sides, which is more than most outlines have."""
    return -(-2 * (height + width) // _BLOCK) * _BLOCK


def nearest_pixels(first: Bool[Array, "n h w"], second: Bool[Array, "n h w"], spacing: Float[Array, "n 2"]) -> Nearest:
    """Distances between the pixels of two masks of at most `capacity_of` pixels each.

    The time is that of the pixels there are, one pair of masks at a time.

    Args:
        first: Masks.
        second: Masks to compare with.
        spacing: ``(dy, dx)`` in mm.

    Returns:
        Distances; infinite where the other mask is empty.
    """
    capacity = capacity_of(*first.shape[1:])
    positions = [ops.pixel_positions(mask, capacity=capacity) for mask in (first, second)]
    listed = [p[..., 0] >= 0 for p in positions]
    # fused with the distances, the positions would be computed anew for each pair
    rows_and_columns = lax.optimization_barrier(
        [jnp.where(there[..., None], p, 0).astype(jnp.float32) for p, there in zip(positions, listed, strict=True)]
    )
    squares = lax.map(_squared_distances, (*rows_and_columns, *listed, spacing))
    distances = (jnp.where(there, jnp.sqrt(d), jnp.nan) for d, there in zip(squares, listed, strict=True))
    return Nearest(*distances)


def _squared_distances(pair: tuple[Array, Array, Array, Array, Array]) -> Nearest:
    first, second, in_first, in_second, spacing = pair
    row, col = second.T

    def compare_block(i: Array, nearest: Nearest) -> Nearest:
        start = i * _BLOCK
        block = lax.dynamic_slice_in_dim(first, start, _BLOCK)
        there = lax.dynamic_slice_in_dim(in_first, start, _BLOCK)
        d = (spacing[0] * (block[:, :1] - row)) ** 2 + (spacing[1] * (block[:, 1:] - col)) ** 2
        d = jnp.where(there[:, None] & in_second, d, jnp.inf)
        return Nearest(
            lax.dynamic_update_slice_in_dim(nearest.of_first, d.min(1), start, 0),
            jnp.minimum(nearest.of_second, d.min(0)),
        )

    num_blocks = (in_first.sum() + _BLOCK - 1) // _BLOCK
    none = jnp.full(len(first), jnp.inf)
    return lax.fori_loop(0, num_blocks, compare_block, Nearest(none, none))
