"""The pixels that criteria count, on packed masks."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt32

from cardiojax.ops.masks.points import mean_index
from cardiojax.ops.packed import bits
from cardiojax.ops.packed.components import largest_component_bits


class Domain(NamedTuple):
    """Pixel grid of the images: what the criteria need besides the label maps, packed.

    Attributes:
        inside: All of its pixels.
        edge: Those on its border.
        outside: Pixels from which the outside is flooded, to find the gaps that two structures enclose.
        width: Columns.
        min_size: Gaps of up to this many pixels are artefacts of sampling and are not counted.
    """

    inside: UInt32[Array, "h k 1"]
    edge: UInt32[Array, "h k 1"]
    outside: UInt32[Array, "h k 1"]
    width: int
    min_size: float | Float[Array, ""]


def domain(height: int, width: int, variant: str) -> Domain:
    """Makes the domain of whole images.

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
    return Domain(inside, edge, outside, width, height * width / 2**14)


def window_domain(height: int, width: int, image: Int[Array, " 4"]) -> Domain:
    """Makes the domain of images that are cropped to a window, or padded.

    Args:
        height: Rows of the window.
        width: Columns of the window.
        image: First row, first column, height and width of the image in pixels of the window; may be traced.

    Returns:
        The domain: pixels beyond the image are not inside. Where the window ends within the image, its last pixels are
        the edge.
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
    return Domain(inside, edge, edge, width, image_height * image_width / 2**14)


def holes(mask: bits.Bits, domain: Domain) -> bits.Bits:
    """Pixels outside a mask that no 8-connected way leads from to the image's border."""
    background = ~mask & domain.inside
    return background & ~bits.flood(domain.edge, background, connectivity=8)


def small_components(mask: bits.Bits) -> bits.Bits:
    """Pixels outside the largest 8-connected region."""
    return mask & ~largest_component_bits(mask, connectivity=8)


def gap(first: bits.Bits, second: bits.Bits, domain: Domain) -> bits.Bits:
    """Pixels that two masks enclose together, but neither alone."""

    def enclosed_alone(one, other):
        free = ~one & domain.inside
        return free & ~bits.flood(domain.outside | other, free, connectivity=4)

    own = enclosed_alone(side_by_side(first, second), side_by_side(second, first))
    n = first.shape[-1]
    free = ~(first | second | own[..., :n] | own[..., n:]) & domain.inside
    return free & ~bits.flood(domain.outside, free, connectivity=4)


def frontier(mask: bits.Bits, other: bits.Bits, domain: Domain) -> bits.Bits:
    """Pixels of a mask that touch another."""
    return mask & bits.dilate(other, domain.inside)


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
