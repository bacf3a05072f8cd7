"""Connected regions of binary masks: exact, batched, in one loop that stops when every mask has converged."""

import functools
import math
import operator

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax.ops.packed import bits
from cardiojax.ops.transforms import over_leading_axes


@over_leading_axes(2, 2)
def flood_fill(
    seeds: Bool[Array, "*b h w"], mask: Bool[Array, "*b h w"], *, connectivity: int = 4
) -> Bool[Array, "*b h w"]:
    """The connected regions of a mask that hold a seed.

    Args:
        seeds: Where the flood starts; pixels outside the mask are ignored.
        mask: Where it may go.
        connectivity: 4 or 8 neighbours.

    Returns:
        The pixels reached, as ``scipy.ndimage.binary_propagation`` gives them.

    Raises:
        ValueError: If the connectivity is neither 4 nor 8.

    Example:
        >>> mask = jnp.array([[True, True, False, True]])
        >>> flood_fill(jnp.array([[True, False, False, False]]), mask).tolist()
        [[True, True, False, False]]
    """
    packed = [bits.pack(_flat(m)) for m in (seeds, mask)]
    return bits.unpack(bits.flood(*packed, connectivity=connectivity), mask.shape[-1]).reshape(mask.shape)


@over_leading_axes(2)
def label(mask: Bool[Array, "*b h w"], *, connectivity: int = 4) -> Int[Array, "*b h w"]:
    """Numbers the connected regions of masks from 1, in the order of their first pixels; 0 is outside.

    One flood a region: meant for masks of few regions.

    Args:
        mask: Binary masks.
        connectivity: 4 or 8 neighbours.

    Returns:
        The same numbers as ``scipy.ndimage.label``.

    Example:
        >>> import jax.numpy as jnp
        >>> label(jnp.array([[True, False, True], [True, False, False]])).tolist()
        [[1, 0, 2], [1, 0, 0]]
    """
    packed = bits.pack(_flat(mask))

    def is_left(carry):
        remaining, _, _ = carry
        return (remaining != 0).any()

    def take_one(carry):
        remaining, numbers, number = carry
        region = bits.flood(bits.first_pixel(remaining), remaining, connectivity=connectivity)
        numbers = jnp.where(bits.unpack(region, mask.shape[-1]), number, numbers)
        return remaining & ~region, numbers, number + 1

    start = packed, jnp.zeros((packed.shape[-1], *mask.shape[-2:]), jnp.int32), jnp.int32(1)
    return lax.while_loop(is_left, take_one, start)[1].reshape(mask.shape)


@over_leading_axes(2)
def largest_component(mask: Bool[Array, "*b h w"], *, connectivity: int = 4) -> Bool[Array, "*b h w"]:
    """The largest connected region of each mask, the first one among equals.

    Args:
        mask: Binary masks.
        connectivity: 4 or 8 neighbours.

    Returns:
        Masks of one region, empty where there is none.

    Example:
        >>> import jax.numpy as jnp
        >>> largest_component(jnp.array([[True, False, True], [True, False, False]])).astype(int).tolist()
        [[1, 0, 0], [1, 0, 0]]
    """
    kept = largest_component_bits(bits.pack(_flat(mask)), connectivity=connectivity)
    return bits.unpack(kept, mask.shape[-1]).reshape(mask.shape)


@over_leading_axes(2)
def fill_holes(mask: Bool[Array, "*b h w"], *, connectivity: int = 4) -> Bool[Array, "*b h w"]:
    """Fills what is not connected to the outside of the image.

    Args:
        mask: Binary masks.
        connectivity: Neighbours by which the background is connected.

    Returns:
        The filled masks; with 4 the same as ``scipy.ndimage.binary_fill_holes``.

    Example:
        >>> import jax.numpy as jnp
        >>> ring = jnp.ones((5, 5), bool).at[2, 2].set(False)
        >>> bool(fill_holes(ring).all())
        True
    """
    height, width = mask.shape[-2:]
    background = ~bits.pack(_flat(mask)) & bits.frame(height, width)
    outside = bits.flood(bits.border(height, width) & background, background, connectivity=connectivity)
    return ~bits.unpack(outside, width).reshape(mask.shape)


def largest_component_bits(mask: bits.Bits, *, connectivity: int) -> bits.Bits:
    """The largest connected region of each packed mask.

    Regions are taken away one by one until none that is left could be larger.

    Args:
        mask: Packed masks.
        connectivity: 4 or 8.

    Returns:
        Packed masks of one region.
    """

    def may_improve(carry):
        remaining, _, size = carry
        return (bits.count(remaining) > size).any()

    def take_one(carry):
        remaining, best, size = carry
        region = bits.flood(bits.first_pixel(remaining), remaining, connectivity=connectivity)
        region_size = bits.count(region)
        remaining = remaining & ~region
        best = jnp.where(region_size > size, region, best)
        size = jnp.maximum(size, region_size)
        return jnp.where(bits.count(remaining) > size, remaining, 0), best, size

    start = mask, jnp.zeros_like(mask), jnp.zeros(mask.shape[-1], jnp.int32)
    return lax.while_loop(may_improve, take_one, start)[1]


def remove_small_bits(mask: bits.Bits, min_size: float | Float[Array, ""], *, max_min_size: float = 64.0) -> bits.Bits:
    """Removes 4-connected regions of fewer pixels than a size.

    A region that holds a rectangle of so many pixels is large: one flood from such rectangles keeps most of a mask, and
    only what is left is counted, one region of each mask at a time.

    Args:
        mask: Packed masks; bits outside the image are zero.
        min_size: Regions of at least this many pixels stay. An array may be traced.
        max_min_size: Largest value of an array; the rectangles have so many pixels.

    Returns:
        Packed masks.
    """
    is_known = isinstance(min_size, (int, float))
    if is_known:
        least, largest = max(math.ceil(min(min_size, 4)), 1), min_size
    else:
        least, largest = jnp.clip(jnp.ceil(min_size), 1, 4).astype(jnp.int32), max_min_size
    mask = bits.keep_large(mask, least)
    if largest <= 4:
        return mask

    rows = [2**k for k in range(math.ceil(math.log2(largest)) + 1)]
    corners = [bits.full_rectangles(mask, r, math.ceil(largest / r)) for r in rows]
    large = bits.flood(functools.reduce(operator.or_, corners), mask, connectivity=4)
    large = large if is_known else jnp.where(min_size <= 4, mask, large)

    def is_left(carry):
        remaining, _ = carry
        return (remaining != 0).any()

    def take_one(carry):
        remaining, kept = carry
        region = bits.flood(bits.first_pixel(remaining), remaining, connectivity=4)
        return remaining & ~region, kept | jnp.where(bits.count(region) >= min_size, region, 0)

    return lax.while_loop(is_left, take_one, (mask & ~large, large))[1]


def _flat(mask: Bool[Array, "*b h w"]) -> Bool[Array, "n h w"]:
    return mask.reshape(-1, *mask.shape[-2:])
