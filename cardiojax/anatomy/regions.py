"""The pixels that criteria count, on packed masks."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt32

from cardiojax.ops.masks.points import mean_index
from cardiojax.ops.packed import bits
from cardiojax.ops.packed.components import largest_component_bits


class Frame(NamedTuple):
    """What is known of an image without its content, packed.

    Attributes:
        inside: All of its pixels.
        edge: Those on its border.
        outside: Where a flood of the outside starts, to find what two structures enclose.
        width: Columns.
        min_size: Regions of up to this many pixels are left over from sampling and not counted as gaps.
    """

    inside: UInt32[Array, "h k 1"]
    edge: UInt32[Array, "h k 1"]
    outside: UInt32[Array, "h k 1"]
    width: int
    min_size: float | Float[Array, ""]


def frame(height: int, width: int, variant: str) -> Frame:
    """Prepares the frame of an image.

    Args:
        height: Rows.
        width: Columns.
        variant: ``"paper"``: all of the border is outside; ``"code"``: the first pixel alone.

    Raises:
        ValueError: If there is no such variant.
    """
    if variant not in ("paper", "code"):
        raise ValueError(f"variant must be 'paper' or 'code', got {variant!r}")
    inside, edge = bits.frame(height, width), bits.border(height, width)
    outside = edge if variant == "paper" else bits.first_pixel(inside)
    return Frame(inside, edge, outside, width, height * width / 2**14)


def window_frame(height: int, width: int, image: Int[Array, " 4"]) -> Frame:
    """Prepares the frame of an image of which a window is seen, or which is padded.

    Args:
        height: Rows of the window.
        width: Columns of the window.
        image: First row, first column, height and width of the image in pixels of the window; may be traced.

    Returns:
        The frame: pixels beyond the image are not inside. Where the window ends within the image, the outside goes on.
    """
    top, left, image_height, image_width = image
    rows, cols = jnp.arange(height)[:, None], jnp.arange(width)
    first_row, first_col = jnp.maximum(top, 0), jnp.maximum(left, 0)
    last_row, last_col = (
        jnp.minimum(start + size, limit) - 1
        for start, size, limit in ((top, image_height, height), (left, image_width, width))
    )
    inside = (rows >= first_row) & (rows <= last_row) & (cols >= first_col) & (cols <= last_col)
    edge = inside & ((rows == first_row) | (rows == last_row) | (cols == first_col) | (cols == last_col))
    inside, edge = bits.pack(inside[None]), bits.pack(edge[None])
    return Frame(inside, edge, edge, width, image_height * image_width / 2**14)


def holes(mask: bits.Bits, around: Frame) -> bits.Bits:
    """Pixels outside a mask that no 8-connected way leads from to the image's border."""
    background = ~mask & around.inside
    return background & ~bits.flood(around.edge, background, connectivity=8)


def small_components(mask: bits.Bits) -> bits.Bits:
    """Pixels outside the largest 8-connected region."""
    return mask & ~largest_component_bits(mask, connectivity=8)


def gap(first: bits.Bits, second: bits.Bits, around: Frame) -> bits.Bits:
    """Pixels that two masks enclose together, but neither alone."""

    def enclosed_alone(one, other):
        free = ~one & around.inside
        return free & ~bits.flood(around.outside | other, free, connectivity=4)

    own = enclosed_alone(side_by_side(first, second), side_by_side(second, first))
    n = first.shape[-1]
    free = ~(first | second | own[..., :n] | own[..., n:]) & around.inside
    return free & ~bits.flood(around.outside, free, connectivity=4)


def frontier(mask: bits.Bits, other: bits.Bits, around: Frame) -> bits.Bits:
    """Pixels of a mask that touch another."""
    return mask & bits.dilate(other, around.inside)


def side_by_side(*masks: bits.Bits) -> bits.Bits:
    """Several batches as one."""
    return jnp.concatenate(masks, axis=-1)


def centre_row(lv_rows: Int[Array, "h n"], wall_rows: Int[Array, "h n"]) -> Int[Array, " n"]:
    """The row through the centre of a ventricle and its wall, from their pixels in each row ``[h, n]``."""
    mean = mean_index((lv_rows + wall_rows).T)
    return mean.whole + mean.rest // jnp.maximum(mean.total, 1)


def row_counts(mask: bits.Bits) -> Int[Array, "h n"]:
    """Pixels in each row, ``[h, n]``."""
    return lax.population_count(mask).astype(jnp.int32).sum(1, dtype=jnp.int32)
