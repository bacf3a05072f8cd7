"""Convex hulls and perimeters of masks."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax.ops.masks.morphology import erode
from cardiojax.ops.transforms import over_leading_axes

_FAR = 2**14


@over_leading_axes(2)
def perimeter(mask: Bool[Array, "*b h w"]) -> Float[Array, "*b"]:
    """Length of the line through the centres of the border pixels of masks, in pixels.

    Args:
        mask: Binary masks.

    Returns:
        The same as ``skimage.measure.perimeter`` with 4 neighbours.

    References:
        Benkrid, Crookes and Benkrid, "Design and FPGA Implementation of a Perimeter Estimator", 2000.

    Example:
        >>> float(perimeter(jnp.ones((5, 4), bool)))
        14.0
    """
    border = (mask & ~erode(mask, connectivity=4)).astype(jnp.int32)
    padded = jnp.pad(border, [(0, 0)] * (mask.ndim - 2) + [(1, 1), (1, 1)])
    height, width = mask.shape[-2:]
    weights = ((10, 2, 10), (2, 1, 2), (10, 2, 10))
    kind = functools.reduce(
        jnp.add,
        (weights[i][j] * padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3)),
    )
    diagonal = jnp.sqrt(2.0)
    lengths = jnp.zeros(50).at[jnp.array([5, 7, 15, 17, 25, 27])].set(1.0)
    lengths = lengths.at[jnp.array([21, 33])].set(diagonal).at[jnp.array([13, 23])].set((1 + diagonal) / 2)
    return jnp.sum(lengths[kind], (-2, -1))


@over_leading_axes(2)
def convex_hull(mask: Bool[Array, "*b h w"]) -> Bool[Array, "*b h w"]:
    """The pixels whose centres lie in the convex hull of a mask's pixels.

    A pixel reaches half its width up, down, left and right of its centre. All is whole numbers, so that pixels on the
    hull's edge are in it exactly.

    Args:
        mask: Binary masks of fewer than 8192 rows and columns.

    Returns:
        The hulls, as ``skimage.morphology.convex_hull_image`` gives them; empty for an empty mask.

    References:
        Andrew, "Another Efficient Algorithm for Convex Hulls in Two Dimensions", 1979.

    Example:
        >>> convex_hull(jnp.array([[True, False, True]])).tolist()
        [[True, True, True]]
    """
    height, width = mask.shape[-2:]
    return jax.vmap(_hull)(mask.reshape(-1, height, width)).reshape(mask.shape)


def _hull(mask: Bool[Array, "h w"]) -> Bool[Array, "h w"]:
    """Coordinates are doubled: pixel ``(r, c)`` is at ``(2 r + 1, 2 c)`` and reaches one to each side."""
    width = mask.shape[1]
    exists = mask.any(1)
    before, after = (lax.argmax(m, 1, jnp.int32) for m in (mask, mask[:, ::-1]))
    first = jnp.where(exists, 2 * before, _FAR)
    last = jnp.where(exists, 2 * (width - 1 - after), -_FAR)
    columns = 2 * jnp.arange(width)
    is_right = _right_of(columns, _leftmost(first, exists))
    is_left = _right_of(-columns, _leftmost(-last, exists))
    return is_right & is_left


def _leftmost(start: Int[Array, " h"], exists: Bool[Array, " h"]) -> Int[Array, " r"]:
    """Left end of a shape in each doubled row: that of pixels in odd ones, of their tips in even ones."""
    padded = jnp.pad(start, 1, constant_values=_FAR)
    tips = jnp.minimum(padded[:-1], padded[1:])
    sides = jnp.where(exists, start - 1, _FAR)
    return jnp.zeros(2 * len(start) + 1, jnp.int32).at[0::2].set(tips).at[1::2].set(sides)


def _right_of(columns: Int[Array, " w"], left: Int[Array, " r"]) -> Bool[Array, "h w"]:
    """Which pixels lie on or to the right of the lower convex envelope of the left ends."""
    size = left.shape[0]

    def add(stack, point):
        rows, ends, top = stack
        row, end = point

        def is_above(top):
            """Whether the last corner lies on or right of the line from the one before it to the new point."""
            row_a, end_a, row_b, end_b = rows[top - 2], ends[top - 2], rows[top - 1], ends[top - 1]
            return (top >= 2) & ((end_b - end_a) * (row - row_a) >= (end - end_a) * (row_b - row_a))

        kept = lax.while_loop(is_above, lambda top: top - 1, top)
        is_there = end < _FAR // 2
        top = jnp.where(is_there, kept, top)
        rows, ends = (v.at[top].set(jnp.where(is_there, x, v[top])) for v, x in ((rows, row), (ends, end)))
        return (rows, ends, top + is_there), None

    start = jnp.full(size + 1, _FAR, jnp.int32), jnp.zeros(size + 1, jnp.int32), jnp.int32(0)
    (rows, ends, top), _ = lax.scan(add, start, (jnp.arange(size, dtype=jnp.int32), left))
    corners = jnp.where(jnp.arange(size + 1) < top, rows, _FAR)
    here = jnp.arange(1, size, 2)
    after = jnp.searchsorted(corners, here)
    is_between = (after > 0) & (after < top)
    row_a, end_a, row_b, end_b = (v[jnp.clip(after - k, 0, size)][:, None] for k in (1, 0) for v in (rows, ends))
    inside = (columns - end_a) * (row_b - row_a) >= (end_b - end_a) * (here[:, None] - row_a)
    return inside & is_between[:, None]
