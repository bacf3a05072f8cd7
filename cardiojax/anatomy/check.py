"""Anatomical validity of segmentations: the 12 criteria on label maps, thousands at a time."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Shaped

from cardiojax.anatomy import regions
from cardiojax.anatomy.criteria import CAMUS, Thresholds, for_view, limits
from cardiojax.anatomy.erosion import count_erosions, is_surely_even, num_erosions
from cardiojax.anatomy.regions import Domain
from cardiojax.ops import over_leading_axes
from cardiojax.ops.packed import bits
from cardiojax.ops.packed.distance import largest_distance_bits
from cardiojax.types import Spacing

#: Pixels of the masks of a block on CPU: packed, they stay in the cache of a core.
_BLOCK_PIXELS = 2**21
#: Masks that are flooded at a time.
_NUM_FLOODED = 32
#: The counts of pixels, the ratios of frontiers and widths, and that of erosions among the criteria.
_COUNTS, _RATIOS, _EROSIONS = np.arange(8), np.array([8, 9, 11]), np.array([10])


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
    batch_size: int | None = None,
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
        batch_size: Masks a block; as many as stay in the cache of a core if not given.

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
def criteria_values(labels: Int[Array, "*b h w"], *, variant: str, batch_size: int | None) -> Float[Array, "*b 12"]:
    """The values of `check`, whatever the limits.

    Args:
        labels: Label maps.
        variant: As in `check`.
        batch_size: Masks a block.
    """
    height, width = labels.shape[-2:]
    flat = labels.reshape(-1, height, width)
    values = values_in_domain(flat, regions.domain(height, width, variant), variant, batch_size)
    return values.reshape(*labels.shape[:-2], 12)


def values_in_domain(
    flat: Int[Array, "n h w"], domain: Domain, variant: str, batch_size: int | None
) -> Float[Array, "n 12"]:
    """The values of label maps whose images may be cropped or padded.

    Args:
        flat: Label maps.
        domain: The domain of their images.
        variant: As in `check`.
        batch_size: Masks a block.
    """
    quick = in_blocks(lambda block: _quick_values(block, domain, variant), flat, batch_size)
    has_no_defect, is_settled, erosions, half_thickness, *ratios = quick.T

    counts = _of_some(
        lambda lv, wall, atrium: _defects(lv, wall, atrium, domain, variant),
        flat,
        has_no_defect == 0,
        jnp.zeros((len(flat), 8), jnp.int32),
    )
    erosions = _of_some(
        lambda _, wall, __: _num_erosions(wall, domain), flat, is_settled == 0, erosions.astype(jnp.int32)
    )
    frontier_lv, frontier_atrium, width = ratios
    ratios = (frontier_lv, frontier_atrium, _erosion_ratio(erosions, half_thickness), width)
    return jnp.concatenate([counts.astype(jnp.float32), jnp.stack(ratios, -1)], -1)


def is_valid(
    labels: Int[Array, "*b h w"],
    spacing: Spacing | None = None,
    *,
    thresholds: Thresholds | Mapping[str, Thresholds] = CAMUS,
    view: str | None = None,
) -> Bool[Array, "*b"]:
    """Whether label maps pass all 12 criteria.

    It takes half the time of `check`: a criterion that fails settles a mask, and the ratio of erosions is proved to be
    large enough without being measured.

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
    least = chosen.min_erosion_ratio
    return _is_valid(
        labels,
        *limits(chosen),
        erosion_ratio=least if isinstance(least, (int, float)) and math.isfinite(least) else None,
    )


@over_leading_axes(2, None, None)
def _is_valid(
    labels: Int[Array, "*b h w"], low: Float[Array, " 12"], high: Float[Array, " 12"], *, erosion_ratio: float | None
) -> Bool[Array, "*b"]:
    height, width = labels.shape[-2:]
    domain, flat = regions.domain(height, width, "paper"), labels.reshape(-1, height, width)

    def look(block):
        lv, wall, atrium = bits.pack_labels(block)
        ratios = jnp.stack(_frontiers_and_width(lv, wall, atrium, domain), -1)
        may_be_valid = apply_limits(ratios, low[_RATIOS], high[_RATIOS]).valid
        has_no_defect = _has_no_defect(lv, wall, atrium, domain, "paper")
        if erosion_ratio is None or erosion_ratio <= 0:
            is_even = jnp.zeros_like(may_be_valid)
        else:
            is_even = is_surely_even(wall, bits.is_single_run_top(wall), domain, erosion_ratio)
        return jnp.stack([may_be_valid, has_no_defect, is_even], -1)

    def has_no_counted_defect(lv, wall, atrium):
        counts = _defects(lv, wall, atrium, domain, "paper").astype(jnp.float32)
        return apply_limits(counts, low[_COUNTS], high[_COUNTS]).valid

    def is_measured_even(lv, wall, atrium):
        ratio = _erosion_ratio(_num_erosions(wall, domain), largest_distance_bits(wall, width, inside=domain.inside))
        return apply_limits(ratio[:, None], low[_EROSIONS], high[_EROSIONS]).valid

    def examine(function, is_valid, is_proved):
        # only what is valid so far and not proved
        return _of_some(function, flat, is_valid & ~is_proved, is_valid & is_proved)

    may_be_valid, has_no_defect, is_even = in_blocks(look, flat, None).T
    valid = examine(has_no_counted_defect, may_be_valid, has_no_defect)
    valid = examine(is_measured_even, valid, is_even)
    return valid.reshape(labels.shape[:-2])


def _of_some(
    function: Callable[[bits.Bits, bits.Bits, bits.Bits], Shaped[Array, "m *k"]],
    flat: Int[Array, "n h w"],
    needed: Bool[Array, " n"],
    known: Shaped[Array, "n *k"],
) -> Shaped[Array, "n *k"]:
    """Evaluates what takes flood fills, of the few masks that need it; these are gathered from all blocks.

    Args:
        function: The packed ventricle, myocardium and atrium of some masks to the results.
        flat: Label maps.
        needed: Which of them need it.
        known: What holds for the others.
    """

    def of_index(index):
        return function(*bits.pack_labels(flat[index]))

    return bits.masked_map(of_index, needed, known, jnp.arange(len(flat)), size=_NUM_FLOODED)


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
    criteria: Callable[[Int[Array, "n h w"]], Shaped[Array, "n k"]], flat: Int[Array, "n h w"], batch_size: int | None
) -> Shaped[Array, "n k"]:
    """Evaluates criteria a block of masks at a time.

    Args:
        criteria: Of a block.
        flat: Label maps.
        batch_size: Masks a block; chosen by their size if not given.
    """
    num, height, width = flat.shape
    if batch_size is None:
        batch_size = max(_BLOCK_PIXELS // (height * width) // 8 * 8, 8) if jax.default_backend() == "cpu" else 128
    num_blocks = max(-(-num // batch_size), 1)
    block_size = max(-(-num // num_blocks), 1)  # equal blocks: little padding
    blocks = jnp.pad(flat, ((0, -num % block_size), (0, 0), (0, 0))).reshape(-1, block_size, height, width)
    values = lax.map(criteria, blocks)  # not `map_blocks`: outside of a loop a single block takes a third longer
    return values.reshape(-1, values.shape[-1])[:num]


def _quick_values(labels: Int[Array, "n h w"], domain: Domain, variant: str) -> Float[Array, "n 7"]:
    """What takes no flood fill.

    Whether a mask is proved to have none of the first eight defects, whether its erosions are settled, these, half the
    thickness, both frontiers and the widths.
    """
    lv, wall, atrium = bits.pack_labels(labels)
    erosions = count_erosions(wall, bits.is_single_run_top(wall), domain)
    columns = [
        _has_no_defect(lv, wall, atrium, domain, variant),
        erosions.is_settled,
        erosions.steps,
        # what survives k - 1 erosions is at least k pixels from the outside
        largest_distance_bits(wall, domain.width, inside=domain.inside, at_least=erosions.steps),
        *_frontiers_and_width(lv, wall, atrium, domain),
    ]
    return jnp.stack([jnp.asarray(c, jnp.float32) for c in columns], -1)


def _frontiers_and_width(
    lv: bits.Bits, wall: bits.Bits, atrium: bits.Bits, domain: Domain
) -> tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, " n"]]:
    background = ~(lv | wall | atrium) & domain.inside
    return frontier_ratio(lv, background, domain), frontier_ratio(wall, atrium, domain), _width_ratio(lv, wall)


def _num_erosions(wall: bits.Bits, domain: Domain) -> Int[Array, " n"]:
    return num_erosions(wall, bits.is_single_run_top(wall), domain)


def _erosion_ratio(erosions: Int[Array, " n"], half_thickness: Float[Array, " n"]) -> Float[Array, " n"]:
    """Erosions by 3 x 3 until the myocardium breaks or vanishes, over half its largest thickness, 0 if it is empty."""
    is_there = half_thickness > 0
    return jnp.where(is_there, erosions / jnp.where(is_there, half_thickness, 1.0), jnp.nan)


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


def frontier_ratio(mask: bits.Bits, other: bits.Bits, domain: Domain) -> Float[Array, " n"]:
    """Pixels of a mask that touch another, over the width of the mask's bounding box.

    Args:
        mask: Packed masks.
        other: Those that they touch.
        domain: The domain of their images.

    Returns:
        The ratios; 0 where a single pixel touches.
    """
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
