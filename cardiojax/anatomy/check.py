"""Whether a segmentation could be a heart: the 12 criteria on label maps, thousands at a time."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax.anatomy.criteria import CAMUS, Thresholds, limits
from cardiojax.labels import LEFT_ATRIUM, LV, MYOCARDIUM
from cardiojax.ops import bits
from cardiojax.ops.components import largest_component_bits, remove_small_bits
from cardiojax.ops.distance import largest_distance_bits


class Report(NamedTuple):
    """The criteria of each mask, in the order of `CRITERIA`.

    Attributes:
        values: Pixels or ratios, nan where a structure that a ratio needs is missing, ``[*b, 12]``.
        passes: Whether each is within its limits; nan is not, ``[*b, 12]``.
        valid: Whether all are, ``[*b]``.
    """

    values: Float[Array, "*b 12"]
    passes: Bool[Array, "*b 12"]
    valid: Bool[Array, "*b"]


def check(
    labels: Int[Array, "*b h w"],
    *,
    thresholds: Thresholds = CAMUS,
    variant: str = "paper",
    batch_size: int = 1024,
) -> Report:
    """Evaluates the 12 criteria.

    They are counts and ratios of pixels, as in the paper: no spacing enters. Masks are taken ``batch_size`` at a time,
    so that memory stays at about ``batch_size * h * w * 20`` bytes beside the labels.

    Args:
        labels: Label maps: 0 background, 1 LV cavity, 2 myocardium, 3 left atrium.
        thresholds: Limits of the ratios.
        variant: ``"paper"``, or ``"code"`` for what the authors' code computes: its gap between ventricle and atrium
            repeats that between ventricle and myocardium, and only what is connected to the first pixel counts as
            outside, so that a heart that touches the image border can cut a gap off.
        batch_size: Masks a block.

    Returns:
        Values and verdicts. A missing structure has no holes and no parts; without a ventricle or a myocardium the
        ratios are nan, and the mask is invalid.

    Raises:
        ValueError: If there is no such variant.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020, table of apical
        criteria; vitalab/vital, ``vital/metrics/camus/anatomical`` (Apache-2.0).
    """
    if variant not in ("paper", "code"):
        raise ValueError(f"variant must be 'paper' or 'code', got {variant!r}")
    *batch, height, width = labels.shape
    flat = labels.reshape(-1, height, width)
    block_size = max(min(batch_size, len(flat)), 1)
    blocks = jnp.pad(flat, ((0, -len(flat) % block_size), (0, 0), (0, 0))).reshape(-1, block_size, height, width)
    values = lax.map(lambda block: _criteria(block, variant), blocks).reshape(-1, 12)[: len(flat)]
    low, high = limits(thresholds)
    passes = (values >= low) & (values <= high)
    return Report(values.reshape(*batch, 12), passes.reshape(*batch, 12), passes.all(-1).reshape(*batch))


def is_valid(labels: Int[Array, "*b h w"], *, thresholds: Thresholds = CAMUS) -> Bool[Array, "*b"]:
    """Whether label maps pass all 12 criteria.

    Args:
        labels: Label maps.
        thresholds: Limits of the ratios.

    Returns:
        The verdicts of `check`.
    """
    return check(labels, thresholds=thresholds).valid


def _criteria(labels: Int[Array, "n h w"], variant: str) -> Float[Array, "n 12"]:
    n, height, width = labels.shape
    inside, edge = bits.frame(height, width), bits.border(height, width)
    lv, myocardium, atrium = (bits.pack(labels == k) for k in (LV, MYOCARDIUM, LEFT_ATRIUM))
    epicardium = lv | myocardium
    background = ~(epicardium | atrium) & inside
    min_size = height * width / 2**14

    few = max(n // 4, 64)

    # Most masks are whole and without holes, and a count of pixels and contacts proves it: the Euler number is regions
    # less holes. Only the others are flooded.
    structures = _side_by_side(lv, myocardium, atrium)
    one_region = bits.flood(bits.first_pixel(structures), structures, connectivity=4) == structures
    one_region = one_region.all((0, 1)).reshape(3, n)
    exists = (structures != 0).any((0, 1)).reshape(3, n)
    apart = bits.for_some(_disconnected, ~one_region.reshape(-1), jnp.zeros(3 * n, jnp.int32), structures, size=few)

    epicardium_is_one = one_region[0] & one_region[1] & _touch(lv, myocardium, exists[0], exists[1], inside)
    ventricle_atrium_is_one = one_region[0] & one_region[2] & _touch(lv, atrium, exists[0], exists[2], inside)
    solid = _side_by_side(lv, epicardium, atrium)
    is_one = jnp.concatenate([one_region[0], epicardium_is_one, one_region[2]])
    is_some = jnp.concatenate([exists[0], exists[0] | exists[1], exists[2]])
    may_have_holes = ~(is_one & (bits.euler_number(solid) == is_some))
    holes = bits.for_some(
        lambda mask: _holes(mask, inside, edge), may_have_holes, jnp.zeros(3 * n, jnp.int32), solid, size=few
    )

    outside = edge if variant == "paper" else bits.first_pixel(inside)
    pairs = [(lv, myocardium, epicardium_is_one, exists[0] | exists[1])]
    pairs += [(lv, atrium, ventricle_atrium_is_one, exists[0] | exists[2])] if variant == "paper" else []
    gaps = []
    for first, second, pair_is_one, pair_exists in pairs:
        both = first | second
        has_no_gap = pair_is_one & (bits.euler_number(both, connectivity=8) == pair_exists)
        if variant == "code":
            has_no_gap &= ~((both & edge) != 0).any((0, 1))
        gaps.append(
            bits.for_some(
                lambda a, b: _gap(a, b, inside, outside), ~has_no_gap, jnp.zeros(n, jnp.int32), first, second, size=few
            )
        )
    gaps = [jnp.where(gap > min_size, gap, 0) for gap in (gaps * 2)[:2]]
    columns = [
        *holes.reshape(3, n),
        *gaps,
        *apart.reshape(3, n),
        _frontier_ratio(lv, background, inside, width),
        _frontier_ratio(myocardium, atrium, inside, width),
        _erosion_ratio(myocardium, one_region[1] & exists[1], inside, width, min_size),
        _width_ratio(lv, myocardium),
    ]
    return jnp.stack([jnp.asarray(c, jnp.float32) for c in columns], -1)


def _side_by_side(*masks: bits.Bits) -> bits.Bits:
    return jnp.concatenate(masks, axis=-1)


def _holes(mask: bits.Bits, inside: bits.Bits, edge: bits.Bits) -> Int[Array, " n"]:
    """Pixels outside a mask that no 8-connected way leads from to the image's border."""
    background = ~mask & inside
    return bits.count(background) - bits.count(bits.flood(edge, background, connectivity=8))


def _disconnected(mask: bits.Bits) -> Int[Array, " n"]:
    """Pixels outside the largest 8-connected region."""
    return bits.count(mask) - bits.count(largest_component_bits(mask, connectivity=8))


def _gap(first: bits.Bits, second: bits.Bits, inside: bits.Bits, outside: bits.Bits) -> Int[Array, " n"]:
    """Pixels that two masks enclose together, but neither alone."""

    def enclosed_alone(one, other):
        free = ~one & inside
        return free & ~bits.flood(outside | other, free, connectivity=4)

    own = enclosed_alone(_side_by_side(first, second), _side_by_side(second, first))
    n = first.shape[-1]
    free = ~(first | second | own[..., :n] | own[..., n:]) & inside
    return bits.count(free) - bits.count(bits.flood(outside, free, connectivity=4))


def _touch(
    one: bits.Bits, other: bits.Bits, has_one: Bool[Array, " n"], has_other: Bool[Array, " n"], inside: bits.Bits
) -> Bool[Array, " n"]:
    """Whether two masks share a pixel's side, or one of them is empty."""
    return (bits.touch_sides(one, inside) & other != 0).any((0, 1)) | ~has_one | ~has_other


def _frontier_ratio(mask: bits.Bits, other: bits.Bits, inside: bits.Bits, width: int) -> Float[Array, " n"]:
    """Pixels of a mask that touch another, over the width of the mask's bounding box."""
    touching = bits.count(mask & bits.dilate(other, inside))
    touching = jnp.where(touching <= 1, 0, touching)
    columns = bits.unpack(lax.reduce(mask, jnp.uint32(0), lax.bitwise_or, (0,))[None], width)[:, 0]
    first, last = jnp.argmax(columns, -1), width - 1 - jnp.argmax(columns[:, ::-1], -1)
    return jnp.where(columns.any(-1), touching / (last - first + 1), 0.0)


def _width_ratio(lv: bits.Bits, myocardium: bits.Bits) -> Float[Array, " n"]:
    """LV pixels over myocardium pixels on the row through the epicardium's centre."""
    lv_rows, wall_rows = (lax.population_count(m).astype(jnp.int32).sum(1) for m in (lv, myocardium))
    rows = jnp.arange(lv.shape[0])[:, None]
    weight = lv_rows + wall_rows
    centre = (rows * weight).sum(0) // jnp.maximum(weight.sum(0), 1)
    cavity, wall = (jnp.take_along_axis(counts, centre[None], axis=0)[0] for counts in (lv_rows, wall_rows))
    return jnp.where((cavity > 0) & (wall > 0), cavity / jnp.maximum(wall, 1), jnp.nan)


def _erosion_ratio(
    mask: bits.Bits, one_region: Bool[Array, " n"], inside: bits.Bits, width: int, min_size: float
) -> Float[Array, " n"]:
    """Erosions by 3 x 3 until the myocardium breaks or vanishes, over half its largest thickness."""
    erosions = _erosions(mask, one_region, inside, min_size)
    # what survives k - 1 erosions is at least k pixels from the outside
    half_thickness = largest_distance_bits(mask, width, at_least=erosions)
    ratio = erosions / jnp.where(half_thickness > 0, half_thickness, 1.0)
    return jnp.where((mask != 0).any((0, 1)), ratio, jnp.nan)


def _erosions(mask: bits.Bits, one_region: Bool[Array, " n"], inside: bits.Bits, min_size: float) -> Int[Array, " n"]:
    """Erosions through which a mask stays one 8-connected region; small 4-connected parts are dropped on the way.

    Of a mask without holes the Euler number counts the 4-connected regions. The complement of an eroded mask is a
    dilated complement, so no holes arise on the way. Where the count does not settle whether there is one 8-connected
    region, the mask waits, and those that wait are flooded together.
    """
    few = max(mask.shape[-1] // 4, 64)
    hole_free = one_region & (bits.euler_number(mask) == 1)

    def is_whole(mask):
        reached = bits.flood(bits.first_pixel(mask), mask, connectivity=8)
        return ((mask != 0).any((0, 1)) & (reached == mask).all((0, 1))).astype(jnp.int32)

    def resolve(mask, unknown, known):
        return bits.for_some(is_whole, unknown, known.astype(jnp.int32), mask, size=few) == 1

    def any_ready(carry):
        _, whole, waiting, _ = carry
        return (whole & ~waiting).any()

    def erode_once(carry):
        mask, whole, waiting, steps = carry
        ready = whole & ~waiting
        mask = jnp.where(ready, remove_small_bits(bits.erode(mask, inside), min_size), mask)
        regions = bits.euler_number(mask)
        is_one = hole_free & (regions == 1)
        is_not_one = (mask == 0).all((0, 1)) | (hole_free & (bits.euler_number(mask, connectivity=8) >= 2))
        return mask, whole & ~(ready & is_not_one), waiting | (ready & ~is_one & ~is_not_one), steps + ready

    def any_whole(carry):
        return carry[1].any()

    def erode_and_resolve(carry):
        mask, whole, steps = carry
        start = mask, whole, jnp.zeros_like(whole), steps
        mask, whole, waiting, steps = lax.while_loop(any_ready, erode_once, start)
        return mask, resolve(mask, waiting, whole), steps

    has_outside = (mask != inside).any((0, 1))  # without one, an erosion takes nothing away
    whole = resolve(mask, ~one_region, one_region) & has_outside
    start = mask, whole, jnp.zeros(mask.shape[-1], jnp.int32)
    return lax.while_loop(any_whole, erode_and_resolve, start)[2]
