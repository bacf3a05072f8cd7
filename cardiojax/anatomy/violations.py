"""The pixels at which a label map violates each criterion, and the removal of those of one criterion."""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from cardiojax.anatomy import regions
from cardiojax.anatomy.check import check, frontier_ratio
from cardiojax.anatomy.criteria import CAMUS, Thresholds
from cardiojax.anatomy.erosion import num_erosions
from cardiojax.labels import BACKGROUND
from cardiojax.ops import over_leading_axes
from cardiojax.ops.packed import bits
from cardiojax.types import Spacing

#: The largest value of the tenth criterion in the experts' 1,600 outlines of the training set of CAMUS.
MAX_EXPERT_CONTACT = 0.37


def violating_pixels(
    labels: Int[Array, "*b h w"],
    spacing: Spacing | None = None,
    *,
    thresholds: Thresholds | Mapping[str, Thresholds] = CAMUS,
    view: str | None = None,
) -> Bool[Array, "*b 12 h w"]:
    """The pixels that make each criterion fail.

    Holes, gaps and small components count themselves, frontiers where they touch, a wall of uneven thickness where it
    is thinner than the erosions it survives (or its parts but the largest), and the ratio of widths on the row where it
    is measured.

    Memory: ``12 * h * w`` bytes a mask; meant for the masks that fail.

    Args:
        labels: Label maps of apical views.
        spacing: As in `check`.
        thresholds: Limits of the ratios, or those of each view.
        view: As in `check`.

    Returns:
        A mask for each criterion, in the order of `CRITERIA`; empty where the criterion passes, and where a structure
        is missing altogether.

    Example:
        >>> labels = jnp.zeros((20, 20), int).at[5:15, 5:15].set(1).at[9, 9].set(0)
        >>> int(violating_pixels(labels)[0].sum())
        1
    """
    fails = ~check(labels, spacing, thresholds=thresholds, view=view).passes
    return _pixels(labels) & fails[..., None, None]


@over_leading_axes(2)
def _pixels(labels: Int[Array, "*b h w"]) -> Bool[Array, "*b 12 h w"]:
    """What each criterion counts, whether it passes or not."""
    *batch, height, width = labels.shape
    pixels = pixels_in_domain(labels.reshape(-1, height, width), regions.domain(height, width, "paper"))
    return pixels.reshape(*batch, 12, height, width)


def pixels_in_domain(flat: Int[Array, "n h w"], domain: regions.Domain) -> Bool[Array, "n 12 h w"]:
    """What each criterion counts in label maps whose images may be cropped or padded.

    Args:
        flat: Label maps.
        domain: The domain of their images.
    """
    lv, wall, atrium = bits.pack_labels(flat)
    layers = [
        *jnp.split(regions.holes(regions.side_by_side(lv, lv | wall, atrium), domain), 3, -1),
        *jnp.split(regions.gap(regions.side_by_side(lv, lv), regions.side_by_side(wall, atrium), domain), 2, -1),
        *(small := jnp.split(regions.small_components(regions.side_by_side(lv, wall, atrium)), 3, -1)),
        regions.frontier(lv, ~(lv | wall | atrium) & domain.inside, domain),
        regions.frontier(wall, atrium, domain),
        _thin(wall, small[1], domain),
        _row(lv, wall),
    ]
    return jnp.stack([bits.unpack(layer, flat.shape[-1]) for layer in layers], 1)


def _thin(wall: bits.Bits, small: bits.Bits, domain: regions.Domain) -> bits.Bits:
    """What an opening by as many erosions as a wall survives takes away; the small parts of one that is in parts."""
    is_whole = (wall != 0).any((0, 1)) & (small == 0).all((0, 1))
    steps = num_erosions(wall, bits.is_single_run_top(wall), domain)

    def repeat(change, mask):
        return lax.fori_loop(0, steps.max(), lambda k, m: jnp.where(k < steps, change(m, domain.inside), m), mask)

    opened = repeat(bits.dilate, repeat(bits.erode, wall))
    return jnp.where(is_whole, wall & ~opened, small)


def _row(lv: bits.Bits, wall: bits.Bits) -> bits.Bits:
    """The row on which widths are compared."""
    centre = regions.centre_row(regions.row_counts(lv), regions.row_counts(wall))
    return jnp.where(jnp.arange(lv.shape[0])[:, None, None] == centre, lv | wall, 0)


def separate_atrium(labels: Int[Array, "*b h w"], *, max_contact: float | None = None) -> Int[Array, "*b h w"]:
    """Replaces myocardium that touches the left atrium but not the LV cavity by background.

    In a heart the two meet at the hinge points of the mitral valve only, beside the cavity; between them lies
    background, often less than a pixel wide, which networks leave out. Most of their violations of the anatomical
    criteria are this one, the tenth.

    Args:
        labels: Label maps.
        max_contact: Largest value of the tenth criterion, the pixels of myocardium that touch the atrium over the width
            of the myocardium, of label maps that are changed, such as `MAX_EXPERT_CONTACT`: beyond it the outlines are
            wrong, not the border alone. Any if not given.

    Returns:
        The label maps; the cavity and the atrium are unchanged. Without a cavity, all myocardium that touches the
        atrium is replaced.

    Example:
        >>> labels = jnp.array([[1, 2, 2, 2], [1, 2, 2, 2], [3, 3, 3, 3]])
        >>> separate_atrium(labels).tolist()
        [[1, 2, 2, 2], [1, 2, 0, 0], [3, 3, 3, 3]]
    """
    replaced = _contact_away_from_cavity(labels, max_contact=max_contact)
    return jnp.where(replaced, BACKGROUND, labels)


@over_leading_axes(2)
def _contact_away_from_cavity(labels: Int[Array, "*b h w"], *, max_contact: float | None) -> Bool[Array, "*b h w"]:
    height, width = labels.shape[-2:]
    domain = regions.domain(height, width, "paper")
    lv, wall, atrium = bits.pack_labels(labels.reshape(-1, height, width))
    contact = regions.frontier(wall, atrium, domain) & ~bits.dilate(lv, domain.inside)
    if max_contact is not None:
        contact = jnp.where(frontier_ratio(wall, atrium, domain) <= max_contact, contact, 0)
    return bits.unpack(contact, width).reshape(labels.shape)
