"""Distances between the outlines of two masks, in mm."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cardiojax import ops

Spacing = Float[Array, "*#b 2"] | tuple[float, float]


def hausdorff(prediction: Bool[Array, "*b h w"], target: Bool[Array, "*b h w"], spacing: Spacing) -> Float[Array, "*b"]:
    """Hausdorff distance: the largest distance from one outline to the other.

    Args:
        prediction: Predicted mask.
        target: True mask.
        spacing: ``(dy, dx)`` in mm.

    Returns:
        Distance in mm, nan where either mask is empty.

    References:
        Huttenlocher et al., "Comparing Images Using the Hausdorff Distance", IEEE TPAMI 1993.
    """
    to_target, to_prediction, has_both = _outline_distances(prediction, target, spacing)
    farthest = jnp.maximum(*(jnp.where(jnp.isnan(d), 0.0, d).max((-2, -1)) for d in (to_target, to_prediction)))
    return jnp.where(has_both, farthest, jnp.nan)


def hausdorff95(
    prediction: Bool[Array, "*b h w"], target: Bool[Array, "*b h w"], spacing: Spacing
) -> Float[Array, "*b"]:
    """95th percentile of the distances from either outline to the other, taken together.

    Args:
        prediction: Predicted mask.
        target: True mask.
        spacing: ``(dy, dx)`` in mm.

    Returns:
        Distance in mm, nan where either mask is empty.
    """
    to_target, to_prediction, has_both = _outline_distances(prediction, target, spacing)
    flat = [d.reshape(*d.shape[:-2], -1) for d in (to_target, to_prediction)]
    return jnp.where(has_both, jnp.nanpercentile(jnp.concatenate(flat, -1), 95, axis=-1), jnp.nan)


def mean_absolute_distance(
    prediction: Bool[Array, "*b h w"], target: Bool[Array, "*b h w"], spacing: Spacing
) -> Float[Array, "*b"]:
    """Mean distance between outlines, the average of both directions (average symmetric surface distance).

    Args:
        prediction: Predicted mask.
        target: True mask.
        spacing: ``(dy, dx)`` in mm.

    Returns:
        Distance in mm, nan where either mask is empty.

    References:
        Leclerc et al., IEEE TMI 2019 (the MAD of its tables).
    """
    to_target, to_prediction, has_both = _outline_distances(prediction, target, spacing)
    mean = (jnp.nanmean(to_target, (-2, -1)) + jnp.nanmean(to_prediction, (-2, -1))) / 2
    return jnp.where(has_both, mean, jnp.nan)


def outline(mask: Bool[Array, "*b h w"]) -> Bool[Array, "*b h w"]:
    """Pixels of a mask that have a pixel outside it above, below, left or right; the image's border is outside.

    Args:
        mask: Binary masks.

    Returns:
        The outlines.
    """
    padded = jnp.pad(mask, [(0, 0)] * (mask.ndim - 2) + [(1, 1), (1, 1)])
    rows, cols = padded[..., 1:-1], padded[..., 1:-1, :]
    inner = rows[..., :-2, :] & rows[..., 2:, :] & cols[..., :-2] & cols[..., 2:]
    return mask & ~inner


def _outline_distances(prediction, target, spacing):
    """Distances at each outline's pixels to the other outline, nan elsewhere, and whether both exist."""
    first, second = outline(prediction), outline(target)
    to_second = jnp.where(first, ops.distance_to(second, spacing, query=first), jnp.nan)
    to_first = jnp.where(second, ops.distance_to(first, spacing, query=second), jnp.nan)
    return to_second, to_first, first.any((-2, -1)) & second.any((-2, -1))
