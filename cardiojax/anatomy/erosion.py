"""The erosions through which a wall stays whole, on packed masks."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax.anatomy.regions import Domain
from cardiojax.ops.packed import bits
from cardiojax.ops.packed.components import remove_small_bits

#: Half the thickness of a wall, as a share of the image's side, up to which a few erosions prove that it is even.
_COMMON_HALF_THICKNESS = 0.14


class Erosions(NamedTuple):
    """Erosions of each mask.

    Attributes:
        steps: Through which it stays one region, ``[n]``; where not settled, those that were counted.
        is_settled: Whether the count ended because the mask broke, ``[n]``.
    """

    steps: Int[Array, " n"]
    is_settled: Bool[Array, " n"]


class _Parts(NamedTuple):
    """What is known of masks that may have broken.

    Attributes:
        mask: The masks, without small parts as far as those are found.
        is_one: Which are one 8-connected region beside small parts, ``[n]``.
        is_not_one: Which are not, ``[n]``.
    """

    mask: bits.Bits
    is_one: Bool[Array, " n"]
    is_not_one: Bool[Array, " n"]


def num_erosions(mask: bits.Bits, one_region: Bool[Array, " n"], domain: Domain) -> Int[Array, " n"]:
    """Erosions through which a mask stays one 8-connected region, beside small 4-connected parts that arise on the way.

    What is left of a small part stays small and apart, so small parts need only be dropped where regions are counted.

    Args:
        mask: Packed masks.
        one_region: Which are known to be one 4-connected region.
        domain: Their domain.
    """

    def is_one_region(mask, steps):
        large = jnp.where(steps == 0, mask, remove_small_bits(mask, domain.min_size))
        is_whole = (bits.flood(bits.first_pixel(large), large, connectivity=8) == large).all((0, 1))
        return is_whole & (large != 0).any((0, 1))

    def examine(unknown, mask, steps):
        size = max(mask.shape[-1] // 2, 16)
        return bits.masked_map(is_one_region, unknown, jnp.zeros_like(unknown), mask, steps, size=size)

    return _erode(mask, one_region, domain, examine).steps


def count_erosions(mask: bits.Bits, one_region: Bool[Array, " n"], domain: Domain) -> Erosions:
    """The same as far as counts of pixels and contacts tell, without flood fills.

    Args:
        mask: Packed masks.
        one_region: Which are known to be one 4-connected region.
        domain: Their domain.
    """
    return _erode(mask, one_region, domain, None)


def _erode(
    mask: bits.Bits,
    one_region: Bool[Array, " n"],
    domain: Domain,
    examine: Callable[[Bool[Array, " n"], bits.Bits, Int[Array, " n"]], Bool[Array, " n"]] | None,
) -> Erosions:
    """Erodes until each mask is no longer one region, or cannot be told to be and is not examined.

    Of a mask without holes the Euler number counts the 4-connected regions. The complement of an eroded mask is a
    dilated complement, so no holes arise on the way. Where the count does not settle whether there is one 8-connected
    region, the mask waits, and all waiting masks are looked at together.
    """
    is_solid = one_region & (bits.euler_number(mask) == 1)

    def any_ready(carry):
        _, whole, waiting, *_ = carry
        return (whole & ~waiting).any()

    def erode_once(carry):
        mask, whole, waiting, steps, settled = carry
        ready = whole & ~waiting
        mask = jnp.where(ready, bits.erode(mask, domain.inside), mask)
        is_one = is_solid & (bits.euler_number(mask) == 1) & (bits.count(mask) >= domain.min_size)
        return mask, whole, waiting | (ready & ~is_one), steps + ready, settled

    def any_whole(carry):
        return carry[1].any()

    def erode_and_look(carry):
        mask, whole, waiting, steps, settled = lax.while_loop(any_ready, erode_once, carry)
        parts = _look(mask, steps, is_solid, domain)
        unknown = whole & waiting & ~parts.is_one & ~parts.is_not_one
        is_one = parts.is_one if examine is None else parts.is_one | examine(unknown, parts.mask, steps)
        settled = settled & ~unknown if examine is None else settled
        return parts.mask, whole & (is_one | ~waiting), jnp.zeros_like(waiting), steps, settled

    has_outside = (mask != domain.inside).any((0, 1))  # without one, an erosion takes nothing away
    start = mask, has_outside, ~one_region, jnp.zeros(mask.shape[-1], jnp.int32), jnp.ones_like(one_region)
    *_, steps, settled = lax.while_loop(any_whole, erode_and_look, start)
    return Erosions(steps, settled)


def _look(mask: bits.Bits, steps: Int[Array, " n"], is_solid: Bool[Array, " n"], domain: Domain) -> _Parts:
    """Removes the smallest parts, which their neighbourhood identifies, and counts the regions that are left."""
    is_eroded = steps > 0
    parts = jnp.where(is_eroded, remove_small_bits(mask, _at_most_four(domain.min_size), max_min_size=4), mask)
    is_large = ~is_eroded | (bits.count(parts) >= domain.min_size)
    is_one = is_solid & is_large & (bits.euler_number(parts) == 1)
    is_not_one = (parts == 0).all((0, 1)) | ~is_large
    are_all_large = domain.min_size <= 4
    if are_all_large is not False:
        is_not_one |= are_all_large & is_solid & (bits.euler_number(parts, connectivity=8) >= 2)
    return _Parts(parts, is_one, is_not_one)


def _at_most_four(size: float | Float[Array, ""]) -> float | Float[Array, ""]:
    return min(size, 4) if isinstance(size, (int, float)) else jnp.minimum(size, 4)


def is_surely_even(mask: bits.Bits, one_region: Bool[Array, " n"], domain: Domain, ratio: float) -> Bool[Array, " n"]:
    """Whether a few erosions and the lack of a large square prove that a wall is as even as a ratio asks for.

    A disc of radius ``r`` holds a square with half the side ``r / sqrt(2)``: without such a square half the thickness
    is smaller. It is not proved of walls that touch the image's border, beyond which thickness is not limited.

    Args:
        mask: Packed masks.
        one_region: Which are known to be one 4-connected region.
        domain: Their domain, of a known size.
        ratio: Erosions over half the largest thickness, positive.

    Returns:
        True where it is proved.
    """
    most = max(math.ceil(ratio * _COMMON_HALF_THICKNESS * max(mask.shape[0], domain.width)), 1)
    looks = sorted({-(-most // 2), most})  # thick walls take many erosions, thin walls have few
    is_whole = one_region & (bits.euler_number(mask) == 1) & ((mask & domain.edge) == 0).all((0, 1))

    def erode_once(_, carry):
        left, is_whole = carry
        left = bits.erode(left, domain.inside)
        return left, is_whole & (bits.euler_number(left) == 1) & (bits.count(left) >= domain.min_size)

    is_even, left, squares, side, done = jnp.zeros_like(one_region), mask, mask, 1, 0
    for steps in looks:
        # it may break in the last one
        left, is_whole = lax.fori_loop(done, steps - 1, erode_once, (left, is_whole))
        wider = 2 * math.floor((steps / ratio - 0.01) / math.sqrt(2)) + 1  # less what rounding of the ratio may be
        squares, side, done = bits.full_rectangles(squares, wider, wider, side=side), wider, steps - 1
        is_even |= is_whole & (squares == 0).all((0, 1))
    return is_even
