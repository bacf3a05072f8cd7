"""Whether a short-axis segmentation could be a heart: the 16 criteria for cine MRI."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax import ops
from cardiojax.anatomy import regions
from cardiojax.anatomy.attributes import broadcast_spacing
from cardiojax.anatomy.check import Report, apply_limits
from cardiojax.anatomy.criteria import Criterion
from cardiojax.ops import over_leading_axes
from cardiojax.ops.packed import bits
from cardiojax.types import Spacing

#: Labels of short-axis masks, after ACDC.
RV, MYOCARDIUM, LV = 1, 2, 3

SHORT_AXIS_CRITERIA: tuple[Criterion, ...] = (
    Criterion("holes_in_lv", "holes in the left ventricle", "px"),
    Criterion("holes_in_rv", "holes in the right ventricle", "px"),
    Criterion("holes_in_myo", "holes in the myocardium other than the left ventricle", "px"),
    Criterion("disconnectivity_in_lv", "pixels of the left ventricle apart from its largest region", "px"),
    Criterion("disconnectivity_in_rv", "pixels of the right ventricle apart from its largest region", "px"),
    Criterion("disconnectivity_in_myo", "pixels of the myocardium apart from its largest region", "px"),
    Criterion("holes_between_lv_and_myo", "gap between left ventricle and myocardium", "px"),
    Criterion("holes_between_rv_and_myo", "gap between right ventricle and myocardium", "px"),
    Criterion("rv_disconnected_from_myo", "distance between right ventricle and myocardium", "mm"),
    Criterion("frontier_between_lv_and_rv", "left ventricle touching right ventricle", "px"),
    Criterion("frontier_between_lv_and_background", "left ventricle touching background", "px"),
    Criterion("lv_concavity", "depth of the deepest concavity of the left ventricle", "mm"),
    Criterion("rv_concavity", "depth of the deepest concavity of the right ventricle", "mm"),
    Criterion("myo_concavity", "depth of the deepest concavity of the epicardium", "mm"),
    Criterion("lv_circularity", "circularity of the left ventricle, 1 for a disc", ""),
    Criterion("myo_circularity", "circularity of the epicardium, 1 for a disc", ""),
)


class ShortAxisThresholds(NamedTuple):
    """Limits of the five measures of shape; the other eleven criteria must be zero.

    Attributes:
        max_lv_concavity: In mm.
        max_rv_concavity: In mm.
        max_myocardium_concavity: In mm.
        min_lv_circularity: Between 0 and 1.
        min_myocardium_circularity: Between 0 and 1.
    """

    max_lv_concavity: float
    max_rv_concavity: float
    max_myocardium_concavity: float
    min_lv_circularity: float
    min_myocardium_circularity: float


#: The limits of the authors' code.
ACDC = ShortAxisThresholds(4.0, 30.0, 0.0, 0.2, 0.2)


def short_axis_limits(thresholds: ShortAxisThresholds = ACDC) -> tuple[Float[Array, " 16"], Float[Array, " 16"]]:
    """Smallest and largest allowed value of each criterion.

    Args:
        thresholds: Limits of the measures of shape.

    Returns:
        Two vectors in the order of `SHORT_AXIS_CRITERIA`.

    Example:
        >>> low, high = short_axis_limits()
        >>> low.shape
        (16,)
    """
    low, high = jnp.zeros(16), jnp.zeros(16)
    for index, value in zip((11, 12, 13), thresholds[:3], strict=True):
        high = high.at[index].set(value)
    for index, value in zip((14, 15), thresholds[3:], strict=True):
        low, high = low.at[index].set(value), high.at[index].set(jnp.inf)
    return low, high


def check_short_axis(
    labels: Int[Array, "*b h w"],
    spacing: Spacing = (1.0, 1.0),
    *,
    thresholds: ShortAxisThresholds = ACDC,
    variant: str = "paper",
    batch_size: int = 128,
) -> Report:
    """Evaluates the 16 criteria of short-axis views.

    Structures are optional, as the slices near apex and base lack some: the criteria of one that is missing pass.

    Masks are taken ``batch_size`` at a time, so that memory stays at about ``batch_size * h * w * 60`` bytes beside the
    labels.

    Args:
        labels: Label maps: 0 background, 1 right ventricle, 2 myocardium, 3 left ventricle.
        spacing: ``(dy, dx)`` of a pixel in mm.
        thresholds: Limits of the measures of shape.
        variant: ``"paper"``, or ``"code"`` for what the authors' code computes: in gaps, only what is connected to the
            first pixel counts as outside.
        batch_size: Masks a block.

    Returns:
        Values, and whether they pass; concavity and circularity of a missing structure are nan, and pass.

    Raises:
        ValueError: If there is no such variant.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020; vitalab/vital,
        ``vital/data/mri/acdc/metrics`` (Apache-2.0).

    Example:
        >>> rows, cols = jnp.mgrid[:40, :40]
        >>> radius = jnp.hypot(rows - 20, cols - 20)
        >>> labels = jnp.where(radius < 8, LV, jnp.where(radius < 13, MYOCARDIUM, 0))
        >>> bool(check_short_axis(labels).valid)
        True
    """
    spacing = broadcast_spacing(spacing, labels.shape[:-2])
    values = _values(labels, spacing, variant=variant, batch_size=batch_size)
    return apply_limits(values, *short_axis_limits(thresholds), is_optional=True)


@over_leading_axes(2, 1)
def _values(
    labels: Int[Array, "*b h w"], spacing: Float[Array, "*b 2"], *, variant: str, batch_size: int
) -> Float[Array, "*b 16"]:
    batch, (height, width) = labels.shape[:-2], labels.shape[-2:]
    domain = regions.domain(height, width, variant)
    flat, spacing = labels.reshape(-1, height, width), spacing.reshape(-1, 2)
    block_size = max(min(batch_size, len(flat)), 1)
    padding = -len(flat) % block_size
    blocks = jnp.pad(flat, ((0, padding), (0, 0), (0, 0))).reshape(-1, block_size, height, width)
    spacings = jnp.pad(spacing, ((0, padding), (0, 0)), constant_values=1.0).reshape(-1, block_size, 2)
    values = lax.map(lambda pair: _criteria(pair[0], pair[1], domain), (blocks, spacings))
    return values.reshape(-1, 16)[: len(flat)].reshape(*batch, 16)


def _criteria(
    labels: Int[Array, "n h w"], spacing: Float[Array, "n 2"], domain: regions.Domain
) -> Float[Array, "n 16"]:
    n = len(labels)
    rv, myocardium, lv = (labels == k for k in (RV, MYOCARDIUM, LV))
    rv_bits, wall, cavity = bits.pack_labels(labels)
    background = ~(rv_bits | wall | cavity) & domain.inside
    # structures are looked at side by side: what runs once also compiles once
    structures = regions.side_by_side(cavity, rv_bits, wall)
    holes = bits.count(regions.holes(structures, domain)).reshape(3, n)
    apart = bits.count(regions.small_components(structures)).reshape(3, n)
    gaps = regions.gap(structures[..., : 2 * n], regions.side_by_side(wall, wall), domain)
    gaps = bits.count(gaps).reshape(2, n)
    # a closed wall has the ventricle as its hole
    region = bits.count(bits.flood(bits.first_pixel(cavity), cavity, connectivity=8))
    filled = ops.fill_holes(jnp.stack([lv, rv, myocardium]))

    def frontier(one, other):
        pixels = bits.count(regions.frontier(one, other, domain))
        return jnp.where(pixels > 1, pixels, 0)

    columns = [
        holes[0],
        holes[1],
        jnp.where(holes[2] > 0, holes[2] - region, 0),
        *apart,
        *jnp.where(gaps > domain.min_size, gaps, 0),
        _distance(rv, myocardium, spacing),
        frontier(cavity, rv_bits),
        frontier(cavity, background),
        *_concavity(filled.reshape(3 * n, *labels.shape[1:]), jnp.tile(spacing, (3, 1))).reshape(3, n),
        *_circularity(filled[::2]),
    ]
    return jnp.stack([jnp.asarray(c, jnp.float32) for c in columns], -1)


def _distance(
    one: Bool[Array, "n h w"], other: Bool[Array, "n h w"], spacing: Float[Array, "n 2"]
) -> Float[Array, " n"]:
    """From a mask, one pixel wider, to another; 0 if either is missing."""
    wide = ops.dilate(one)
    nearest = jnp.min(jnp.where(wide, ops.distance_to(other, spacing, query=wide), jnp.inf), (-2, -1))
    return jnp.where(jnp.isfinite(nearest), nearest, 0.0)


def _concavity(mask: Bool[Array, "n h w"], spacing: Float[Array, "n 2"]) -> Float[Array, " n"]:
    """The farthest from the hull's outside that one can be within the hull without touching the mask or the outside."""
    hull = ops.convex_hull(mask)
    bay = ops.erode(hull & ~mask, beyond=True)
    depth = jnp.where(bay, ops.distance_to(~hull, spacing, query=bay), 0.0)
    return jnp.where(mask.any((-2, -1)), jnp.max(depth, (-2, -1)), jnp.nan)


def _circularity(mask: Bool[Array, "*b h w"]) -> Float[Array, "*b"]:
    """Area of a mask over that of a disc of the same perimeter."""
    length = ops.perimeter(mask)
    return jnp.where(length > 0, 4 * jnp.pi * mask.sum((-2, -1)) / jnp.where(length > 0, length, 1.0) ** 2, jnp.nan)
