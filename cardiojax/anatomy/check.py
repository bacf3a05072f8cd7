"""Anatomical validity of segmentations: the 12 criteria on label maps, thousands at a time."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax.anatomy import regions
from cardiojax.anatomy.criteria import CAMUS, Thresholds, for_view, limits
from cardiojax.anatomy.regions import Domain
from cardiojax.ops import over_leading_axes
from cardiojax.ops.packed import bits
from cardiojax.ops.packed.components import remove_small_bits
from cardiojax.ops.packed.distance import largest_distance_bits
from cardiojax.types import Spacing


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
    spacing: Spacing | None = None,
    *,
    thresholds: Thresholds | Mapping[str, Thresholds] = CAMUS,
    view: str | None = None,
    variant: str = "paper",
    batch_size: int = 128,
) -> Report:
    """Evaluates the 12 criteria of apical views.

    Masks are taken ``batch_size`` at a time, so that memory stays at about ``batch_size * h * w * 20`` bytes beside the
    labels.

    Args:
        labels: Label maps: 0 background, 1 LV cavity, 2 myocardium, 3 left atrium.
        spacing: Not used: as in the paper, the criteria are counts and ratios of pixels. It is accepted because the
            checks of all views have the same arguments.
        thresholds: Limits of the ratios, or those of each view.
        view: ``"2CH"`` or ``"4CH"``, to choose among limits by view; the criteria themselves are the same.
        variant: ``"paper"``, or ``"code"`` for what the authors' code computes: its gap between ventricle and atrium
            repeats that between ventricle and myocardium, and only what is connected to the first pixel counts as
            outside, so that a heart that touches the image border can cut a gap off.
        batch_size: Masks a block.

    Returns:
        Values, and whether they pass. A missing structure has no holes and no parts, and no frontier. Without a
        ventricle or a myocardium, and where the row through their centre misses either, the ratio of widths is nan;
        without a myocardium that of erosions is; nan does not pass, so such masks, and empty ones, are invalid. What
        touches the image's border is open there: it has no hole and encloses no gap with it.

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
    values = criteria_values(labels, variant=variant, batch_size=batch_size)
    return apply_limits(values, *limits(for_view(thresholds, view)))


@over_leading_axes(2)
def criteria_values(
    labels: Int[Array, "*b h w"], *, variant: str, batch_size: int, enough: float | None = None
) -> Float[Array, "*b 12"]:
    """The values of `check`, whatever the limits.

    Args:
        labels: Label maps.
        variant: As in `check`.
        batch_size: Masks a block.
        enough: Erosion ratio beyond which it need not be known: a larger one may be given as any value from this on.
    """
    height, width = labels.shape[-2:]
    flat = labels.reshape(-1, height, width)
    values = values_in_domain(flat, regions.domain(height, width, variant), variant, batch_size, enough)
    return values.reshape(*labels.shape[:-2], 12)


def values_in_domain(
    flat: Int[Array, "n h w"], domain: Domain, variant: str, batch_size: int, enough: float | None = None
) -> Float[Array, "n 12"]:
    """The values of label maps whose images may be cropped or padded.

    Args:
        flat: Label maps.
        domain: The domain of their images.
        variant: As in `check`.
        batch_size: Masks a block.
        enough: As in `criteria_values`.
    """
    ratios = in_blocks(lambda b: _ratios(b, domain, variant, enough), flat, batch_size)
    has_no_defect, ratios = jnp.split(ratios, [1], -1)
    # most masks are proved free of these defects; flood fills run on the others only, gathered from all blocks
    counts = bits.masked_map(
        lambda index: _defects(*bits.pack_labels(flat[index]), domain, variant),
        has_no_defect[:, 0] == 0,
        jnp.zeros((len(flat), 8), jnp.int32),
        jnp.arange(len(flat)),
        size=max(batch_size // 4, 1),
    )
    return jnp.concatenate([counts.astype(jnp.float32), ratios], -1)


def is_valid(
    labels: Int[Array, "*b h w"],
    spacing: Spacing | None = None,
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
        The field ``valid`` of `check`.

    Example:
        >>> import jax.numpy as jnp
        >>> labels = jnp.zeros((40, 40), int).at[4:28, 8:28].set(2).at[8:28, 12:24].set(1).at[28:36, 12:24].set(3)
        >>> bool(is_valid(labels)), bool(is_valid(labels.at[12, 18].set(0)))
        (True, False)
    """
    del spacing
    chosen = for_view(thresholds, view)
    # most walls are far above the limit: their erosions are counted no farther than needed
    enough = chosen.min_erosion_ratio if isinstance(chosen.min_erosion_ratio, (int, float)) else None
    values = criteria_values(labels, variant="paper", batch_size=128, enough=enough)
    return apply_limits(values, *limits(chosen)).valid


def apply_limits(
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
    num_blocks = max(-(-len(flat) // batch_size), 1)
    block_size = max(-(-len(flat) // num_blocks), 1)  # equal blocks: little padding
    blocks = jnp.pad(flat, ((0, -len(flat) % block_size), (0, 0), (0, 0))).reshape(-1, block_size, height, width)
    values = lax.map(criteria, blocks)
    return values.reshape(-1, values.shape[-1])[: len(flat)].reshape(*batch, values.shape[-1])


def _ratios(labels: Int[Array, "n h w"], domain: Domain, variant: str, enough: float | None) -> Float[Array, "n 5"]:
    """Whether a mask is proved to have none of the first eight defects, and the four ratios."""
    lv, myocardium, atrium = bits.pack_labels(labels)
    background = ~(lv | myocardium | atrium) & domain.inside
    columns = [
        _has_no_defect(lv, myocardium, atrium, domain, variant),
        _frontier_ratio(lv, background, domain),
        _frontier_ratio(myocardium, atrium, domain),
        _erosion_ratio(myocardium, bits.is_single_run_top(myocardium), domain, enough),
        _width_ratio(lv, myocardium),
    ]
    return jnp.stack([jnp.asarray(c, jnp.float32) for c in columns], -1)


def _has_no_defect(
    lv: bits.Bits, myocardium: bits.Bits, atrium: bits.Bits, domain: Domain, variant: str
) -> Bool[Array, " n"]:
    """Whether a count of pixels and contacts proves that there are no holes, gaps and small components.

    The Euler number is the number of regions less that of holes. A structure that `bits.is_single_run_top` accepts is
    one region; the union of two regions is two, or one if they touch.
    """
    n = lv.shape[-1]
    structures = regions.side_by_side(lv, myocardium, atrium)
    exists = (structures != 0).any((0, 1))
    is_one = (bits.is_single_run_top(structures) | ~exists).reshape(3, n).all(0)
    exists = exists.reshape(3, n).astype(jnp.int32)

    others = regions.side_by_side(myocardium, atrium)
    twice = regions.side_by_side(lv, lv)
    both = twice | others
    touch = (bits.touch_sides(twice, domain.inside) & others != 0).any((0, 1)).reshape(2, n)
    touch_at_corners = (bits.dilate(twice, domain.inside) & others != 0).any((0, 1)).reshape(2, n)
    expected = jnp.concatenate([exists, (exists[0] + exists[1] - touch[0])[None]])
    is_solid = bits.euler_number(regions.side_by_side(structures, both[..., :n])).reshape(4, n) == expected
    has_no_gap = bits.euler_number(both, connectivity=8).reshape(2, n) == exists[0] + exists[1:] - touch_at_corners
    if variant == "code":
        has_no_gap &= ~((both & domain.edge) != 0).any((0, 1)).reshape(2, n)
    # the myocardium alone may have a hole, which the ventricle fills
    is_solid = is_solid[0] & is_solid[2] & is_solid[3]
    return is_one & is_solid & has_no_gap[0] & (has_no_gap[1] if variant == "paper" else True)


def _defects(
    lv: bits.Bits, myocardium: bits.Bits, atrium: bits.Bits, domain: Domain, variant: str
) -> Int[Array, "n 8"]:
    """Pixels of holes, gaps and small components, by flood fills."""
    n = lv.shape[-1]
    holes = regions.holes(regions.side_by_side(lv, lv | myocardium, atrium), domain)
    others = (myocardium, atrium) if variant == "paper" else (myocardium,)
    gaps = regions.gap(regions.side_by_side(*[lv] * len(others)), regions.side_by_side(*others), domain)
    gaps = bits.count(gaps).reshape(len(others), n)
    gaps = jnp.broadcast_to(jnp.where(gaps > domain.min_size, gaps, 0), (2, n))
    apart = regions.small_components(regions.side_by_side(lv, myocardium, atrium))
    return jnp.concatenate([bits.count(holes).reshape(3, n), gaps, bits.count(apart).reshape(3, n)]).T


def _frontier_ratio(mask: bits.Bits, other: bits.Bits, domain: Domain) -> Float[Array, " n"]:
    """Pixels of a mask that touch another, over the width of the mask's bounding box."""
    touching = bits.count(regions.frontier(mask, other, domain))
    touching = jnp.where(touching <= 1, 0, touching)
    columns = bits.unpack(lax.reduce(mask, jnp.uint32(0), lax.bitwise_or, (0,))[None], domain.width)[:, 0]
    first, last = jnp.argmax(columns, -1), domain.width - 1 - jnp.argmax(columns[:, ::-1], -1)
    return jnp.where(columns.any(-1), touching / (last - first + 1), 0.0)


def _width_ratio(lv: bits.Bits, myocardium: bits.Bits) -> Float[Array, " n"]:
    """LV pixels over myocardium pixels on the row through the epicardium's centre."""
    lv_rows, wall_rows = (regions.row_counts(m) for m in (lv, myocardium))
    centre = regions.centre_row(lv_rows, wall_rows)
    cavity, wall = (jnp.take_along_axis(counts, centre[None], axis=0)[0] for counts in (lv_rows, wall_rows))
    return jnp.where((cavity > 0) & (wall > 0), cavity / jnp.maximum(wall, 1), jnp.nan)


def _erosion_ratio(
    mask: bits.Bits, one_region: Bool[Array, " n"], domain: Domain, enough: float | None
) -> Float[Array, " n"]:
    """Erosions by 3 x 3 until the myocardium breaks or vanishes, over half its largest thickness."""
    if enough is None:
        erosions = num_erosions(mask, one_region, domain)
        # what survives k - 1 erosions is at least k pixels from the outside
        half_thickness = largest_distance_bits(mask, domain.width, inside=domain.inside, at_least=erosions)
    else:
        half_thickness = largest_distance_bits(mask, domain.width, inside=domain.inside)
        # one more than the quotient, so that its rounding does not matter
        needed = jnp.floor(enough * jnp.where(jnp.isinf(half_thickness), 0.0, half_thickness)).astype(jnp.int32) + 2
        erosions = num_erosions(mask, one_region, domain, needed)
    ratio = erosions / jnp.where(half_thickness > 0, half_thickness, 1.0)
    return jnp.where((mask != 0).any((0, 1)), ratio, jnp.nan)


def num_erosions(
    mask: bits.Bits, one_region: Bool[Array, " n"], domain: Domain, at_most: Int[Array, " n"] | None = None
) -> Int[Array, " n"]:
    """Erosions through which a mask stays one 8-connected region, beside small 4-connected parts that arise on the way.

    What is left of a small part stays small and apart, so small parts need only be dropped where regions are counted.
    Of a mask without holes the Euler number counts the 4-connected regions. The complement of an eroded mask is a
    dilated complement, so no holes arise on the way. Where the count does not settle whether there is one 8-connected
    region, the mask waits, and all waiting masks are examined together.

    Args:
        mask: Packed masks.
        one_region: Which are known to be one 4-connected region.
        domain: Their domain.
        at_most: Where to stop counting; not at all if not given.
    """
    is_solid = one_region & (bits.euler_number(mask) == 1)

    def is_one_region(mask, steps):
        large = jnp.where(steps == 0, mask, remove_small_bits(mask, domain.min_size))
        is_whole = (bits.flood(bits.first_pixel(large), large, connectivity=8) == large).all((0, 1))
        return is_whole & (large != 0).any((0, 1))

    def any_ready(carry):
        _, whole, waiting, steps = carry
        return (whole & ~waiting & below_limit(steps)).any()

    def erode_once(carry):
        mask, whole, waiting, steps = carry
        ready = whole & ~waiting & below_limit(steps)
        mask = jnp.where(ready, bits.erode(mask, domain.inside), mask)
        is_one = is_solid & (bits.euler_number(mask) == 1) & (bits.count(mask) >= domain.min_size)
        return mask, whole, waiting | (ready & ~is_one), steps + ready

    def any_whole(carry):
        _, whole, waiting, steps = carry
        return (whole & (waiting | below_limit(steps))).any()

    def erode_and_look(carry):
        mask, whole, waiting, steps = lax.while_loop(any_ready, erode_once, carry)
        # the smallest components are removed by their neighbourhood
        parts = jnp.where(steps == 0, mask, remove_small_bits(mask, _at_most_four(domain.min_size), max_min_size=4))
        is_large = (steps == 0) | (bits.count(parts) >= domain.min_size)
        is_one = is_solid & is_large & (bits.euler_number(parts) == 1)
        is_not_one = (parts == 0).all((0, 1))
        are_all_large = domain.min_size <= 4
        if are_all_large is not False:
            is_not_one |= are_all_large & is_solid & (bits.euler_number(parts, connectivity=8) >= 2)
        unknown = whole & waiting & ~is_one & ~is_not_one
        is_one = bits.masked_map(is_one_region, unknown, is_one, parts, steps, size=max(mask.shape[-1] // 8, 16))
        return parts, whole & (is_one | ~waiting), jnp.zeros_like(waiting), steps

    def below_limit(steps):
        return jnp.bool_(True) if at_most is None else steps < at_most

    has_outside = (mask != domain.inside).any((0, 1))  # without one, an erosion takes nothing away
    start = mask, has_outside, ~one_region, jnp.zeros(mask.shape[-1], jnp.int32)
    return lax.while_loop(any_whole, erode_and_look, start)[3]


def _at_most_four(size: float | Float[Array, ""]) -> float | Float[Array, ""]:
    return min(size, 4) if isinstance(size, (int, float)) else jnp.minimum(size, 4)
