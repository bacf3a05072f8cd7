"""Whether a segmentation could be a heart: the 12 criteria on label maps, thousands at a time."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax.anatomy import regions
from cardiojax.anatomy.criteria import CAMUS, Thresholds, for_view, limits
from cardiojax.anatomy.regions import Frame
from cardiojax.labels import LEFT_ATRIUM, LV, MYOCARDIUM
from cardiojax.ops import bits
from cardiojax.ops.components import remove_small_bits
from cardiojax.ops.distance import largest_distance_bits


class Report(NamedTuple):
    """The criteria of each mask, in the order of their table: 12 in `CRITERIA`, 16 in `SHORT_AXIS_CRITERIA`.

    Attributes:
        values: In the criterion's unit, nan where a structure that it needs is missing, ``[*b, k]``.
        passes: Whether each is within its limits, ``[*b, k]``.
        valid: Whether all are, ``[*b]``.
    """

    values: Float[Array, "*b k"]
    passes: Bool[Array, "*b k"]
    valid: Bool[Array, "*b"]


def check(
    labels: Int[Array, "*b h w"],
    spacing: Float[Array, "*#b 2"] | tuple[float, float] | None = None,
    *,
    thresholds: Thresholds | Mapping[str, Thresholds] = CAMUS,
    view: str | None = None,
    variant: str = "paper",
    batch_size: int = 1024,
) -> Report:
    """Evaluates the 12 criteria of apical views.

    Masks are taken ``batch_size`` at a time, so that memory stays at about ``batch_size * h * w * 20`` bytes beside the
    labels.

    Args:
        labels: Label maps: 0 background, 1 LV cavity, 2 myocardium, 3 left atrium.
        spacing: Taken so that all checks are called alike, and not used: as in the paper, the criteria are counts and
            ratios of pixels.
        thresholds: Limits of the ratios, or those of each view.
        view: ``"2CH"`` or ``"4CH"``, to choose among limits by view; the criteria themselves are the same.
        variant: ``"paper"``, or ``"code"`` for what the authors' code computes: its gap between ventricle and atrium
            repeats that between ventricle and myocardium, and only what is connected to the first pixel counts as
            outside, so that a heart that touches the image border can cut a gap off.
        batch_size: Masks a block.

    Returns:
        Values and verdicts. A missing structure has no holes and no parts, and no frontier. Without a ventricle or a
        myocardium, and where the row through their centre misses either, the ratio of widths is nan; without a
        myocardium that of erosions is; nan does not pass, so such masks, and empty ones, are invalid. What touches the
        image's border is open there: it has no hole and encloses no gap with it.

    Raises:
        ValueError: If there is no such variant or view, or the view is needed and missing.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020, table of apical
        criteria; vitalab/vital, ``vital/metrics/camus/anatomical`` (Apache-2.0).

    Example:
        >>> report = check(jnp.zeros((20, 20), int))
        >>> bool(report.valid), float(report.values[0])
        (False, 0.0)
    """
    del spacing
    height, width = labels.shape[-2:]
    around = regions.frame(height, width, variant)
    values = in_blocks(lambda block: _criteria(block, around, variant), labels, batch_size)
    return judge(values, *limits(for_view(thresholds, view)))


def is_valid(
    labels: Int[Array, "*b h w"],
    spacing: Float[Array, "*#b 2"] | tuple[float, float] | None = None,
    *,
    thresholds: Thresholds | Mapping[str, Thresholds] = CAMUS,
    view: str | None = None,
) -> Bool[Array, "*b"]:
    """Whether label maps pass all 12 criteria.

    Args:
        labels: Label maps.
        spacing: As in `check`.
        thresholds: Limits of the ratios, or those of each view.
        view: As in `check`.

    Returns:
        The verdicts of `check`.
    """
    return check(labels, spacing, thresholds=thresholds, view=view).valid


def judge(
    values: Float[Array, "*b k"], low: Float[Array, " k"], high: Float[Array, " k"], *, is_optional: bool = False
) -> Report:
    """Compares criteria with their limits.

    Args:
        values: Criteria.
        low: Smallest allowed values.
        high: Largest allowed values.
        is_optional: Whether nan, of a missing structure, passes.
    """
    passes = (values >= low) & (values <= high) | (jnp.isnan(values) if is_optional else False)
    return Report(values, passes, passes.all(-1))


def in_blocks(
    criteria: Callable[[Int[Array, "n h w"]], Float[Array, "n k"]], labels: Int[Array, "*b h w"], batch_size: int
) -> Float[Array, "*b k"]:
    """Evaluates criteria a block of masks at a time.

    Args:
        criteria: Of a block.
        labels: Label maps.
        batch_size: Masks a block.
    """
    *batch, height, width = labels.shape
    flat = labels.reshape(-1, height, width)
    block_size = max(min(batch_size, len(flat)), 1)
    blocks = jnp.pad(flat, ((0, -len(flat) % block_size), (0, 0), (0, 0))).reshape(-1, block_size, height, width)
    values = lax.map(criteria, blocks)
    return values.reshape(-1, values.shape[-1])[: len(flat)].reshape(*batch, values.shape[-1])


def _criteria(labels: Int[Array, "n h w"], around: Frame, variant: str) -> Float[Array, "n 12"]:
    n = labels.shape[0]
    lv, myocardium, atrium = (bits.pack(labels == k) for k in (LV, MYOCARDIUM, LEFT_ATRIUM))
    epicardium = lv | myocardium
    background = ~(epicardium | atrium) & around.inside
    few = max(n // 4, 64)

    # Most masks are whole and without holes, and a count of pixels and contacts proves it: the Euler number is regions
    # less holes. Only the others are flooded.
    structures = regions.side_by_side(lv, myocardium, atrium)
    one_region = bits.flood(bits.first_pixel(structures), structures, connectivity=4) == structures
    one_region = one_region.all((0, 1)).reshape(3, n)
    exists = (structures != 0).any((0, 1)).reshape(3, n)
    nothing = jnp.zeros(3 * n, jnp.int32)
    apart = bits.for_some(
        lambda mask: bits.count(regions.strays(mask)), ~one_region.reshape(-1), nothing, structures, size=few
    )

    epicardium_is_one = one_region[0] & one_region[1] & _touch(lv, myocardium, exists[0], exists[1], around.inside)
    ventricle_atrium_is_one = one_region[0] & one_region[2] & _touch(lv, atrium, exists[0], exists[2], around.inside)
    solid = regions.side_by_side(lv, epicardium, atrium)
    is_one = jnp.concatenate([one_region[0], epicardium_is_one, one_region[2]])
    is_some = jnp.concatenate([exists[0], exists[0] | exists[1], exists[2]])
    may_have_holes = ~(is_one & (bits.euler_number(solid) == is_some))
    holes = bits.for_some(
        lambda mask: bits.count(regions.holes(mask, around)), may_have_holes, nothing, solid, size=few
    )

    pairs = [(lv, myocardium, epicardium_is_one, exists[0] | exists[1])]
    pairs += [(lv, atrium, ventricle_atrium_is_one, exists[0] | exists[2])] if variant == "paper" else []
    gaps = []
    for first, second, pair_is_one, pair_exists in pairs:
        both = first | second
        has_no_gap = pair_is_one & (bits.euler_number(both, connectivity=8) == pair_exists)
        if variant == "code":
            has_no_gap &= ~((both & around.edge) != 0).any((0, 1))
        gaps.append(
            bits.for_some(
                lambda a, b: bits.count(regions.gap(a, b, around)), ~has_no_gap, nothing[:n], first, second, size=few
            )
        )
    gaps = [jnp.where(gap > around.min_size, gap, 0) for gap in (gaps * 2)[:2]]
    columns = [
        *holes.reshape(3, n),
        *gaps,
        *apart.reshape(3, n),
        _frontier_ratio(lv, background, around),
        _frontier_ratio(myocardium, atrium, around),
        _erosion_ratio(myocardium, one_region[1] & exists[1], around),
        _width_ratio(lv, myocardium),
    ]
    return jnp.stack([jnp.asarray(c, jnp.float32) for c in columns], -1)


def _touch(
    one: bits.Bits, other: bits.Bits, has_one: Bool[Array, " n"], has_other: Bool[Array, " n"], inside: bits.Bits
) -> Bool[Array, " n"]:
    """Whether two masks share a pixel's side, or one of them is empty."""
    return (bits.touch_sides(one, inside) & other != 0).any((0, 1)) | ~has_one | ~has_other


def _frontier_ratio(mask: bits.Bits, other: bits.Bits, around: Frame) -> Float[Array, " n"]:
    """Pixels of a mask that touch another, over the width of the mask's bounding box."""
    touching = bits.count(regions.frontier(mask, other, around))
    touching = jnp.where(touching <= 1, 0, touching)
    columns = bits.unpack(lax.reduce(mask, jnp.uint32(0), lax.bitwise_or, (0,))[None], around.width)[:, 0]
    first, last = jnp.argmax(columns, -1), around.width - 1 - jnp.argmax(columns[:, ::-1], -1)
    return jnp.where(columns.any(-1), touching / (last - first + 1), 0.0)


def _width_ratio(lv: bits.Bits, myocardium: bits.Bits) -> Float[Array, " n"]:
    """LV pixels over myocardium pixels on the row through the epicardium's centre."""
    lv_rows, wall_rows = (regions.row_counts(m) for m in (lv, myocardium))
    centre = regions.centre_row(lv_rows, wall_rows)
    cavity, wall = (jnp.take_along_axis(counts, centre[None], axis=0)[0] for counts in (lv_rows, wall_rows))
    return jnp.where((cavity > 0) & (wall > 0), cavity / jnp.maximum(wall, 1), jnp.nan)


def _erosion_ratio(mask: bits.Bits, one_region: Bool[Array, " n"], around: Frame) -> Float[Array, " n"]:
    """Erosions by 3 x 3 until the myocardium breaks or vanishes, over half its largest thickness."""
    erosions = num_erosions(mask, one_region, around)
    # what survives k - 1 erosions is at least k pixels from the outside
    half_thickness = largest_distance_bits(mask, around.width, at_least=erosions)
    ratio = erosions / jnp.where(half_thickness > 0, half_thickness, 1.0)
    return jnp.where((mask != 0).any((0, 1)), ratio, jnp.nan)


def num_erosions(mask: bits.Bits, one_region: Bool[Array, " n"], around: Frame) -> Int[Array, " n"]:
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
        mask = jnp.where(ready, remove_small_bits(bits.erode(mask, around.inside), around.min_size), mask)
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

    has_outside = (mask != around.inside).any((0, 1))  # without one, an erosion takes nothing away
    whole = resolve(mask, ~one_region, one_region) & has_outside
    start = mask, whole, jnp.zeros(mask.shape[-1], jnp.int32)
    return lax.while_loop(any_whole, erode_and_resolve, start)[2]
