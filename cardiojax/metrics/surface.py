"""Distances between the outlines of two masks, and of each structure of two label maps, in mm."""

from collections.abc import Callable, Iterable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax import ops
from cardiojax.metrics.nearest import capacity_of, nearest_pixels
from cardiojax.metrics.structures import FOREGROUND, Structure, class_masks, require_masks
from cardiojax.types import Spacing


def hausdorff(
    prediction: Bool[Array, "*b h w"],
    target: Bool[Array, "*b h w"],
    spacing: Spacing,
    *,
    charge_missed: bool = False,
) -> Float[Array, "*b"]:
    """Hausdorff distance: the largest distance from one outline to the other.

    Args:
        prediction: Predicted mask of one structure.
        target: True mask.
        spacing: ``(dy, dx)`` in mm.
        charge_missed: Whether the distance is the diagonal of the image where one mask is empty and the other is not.

    Returns:
        Distance in mm. It is nan where both masks are empty, and without ``charge_missed`` where either is: see
        `summarize` for means that say how many distances they hold.

    Raises:
        TypeError: If a mask is not boolean.

    References:
        Huttenlocher et al., "Comparing Images Using the Hausdorff Distance", IEEE TPAMI 1993.

    Example:
        >>> mask = jnp.zeros((3, 4), bool)
        >>> one, other = mask.at[0, 0].set(True), mask.at[0, 2].set(True)
        >>> hausdorff(one, other, (0.5, 0.5)).item(), hausdorff(one, mask, (1.0, 1.0), charge_missed=True).item()
        (1.0, 5.0)
    """
    return _distance(prediction, target, spacing, _largest, charge_missed)


def hausdorff95(
    prediction: Bool[Array, "*b h w"],
    target: Bool[Array, "*b h w"],
    spacing: Spacing,
    *,
    charge_missed: bool = False,
) -> Float[Array, "*b"]:
    """95th percentile of the distances from either outline to the other, taken together.

    Args:
        prediction: Predicted mask of one structure.
        target: True mask.
        spacing: ``(dy, dx)`` in mm.
        charge_missed: As in `hausdorff`.

    Returns:
        Distance in mm; nan as in `hausdorff`.

    Raises:
        TypeError: If a mask is not boolean.

    References:
        MedPy, ``medpy.metric.binary.hd95``.

    Example:
        >>> mask = jnp.zeros((3, 4), bool)
        >>> hausdorff95(mask.at[0, 0].set(True), mask.at[0, 2].set(True), (0.5, 0.5)).item()
        1.0
    """
    return _distance(prediction, target, spacing, _percentile95, charge_missed)


def mean_absolute_distance(
    prediction: Bool[Array, "*b h w"],
    target: Bool[Array, "*b h w"],
    spacing: Spacing,
    *,
    charge_missed: bool = False,
) -> Float[Array, "*b"]:
    """Mean distance between outlines: the average of the two directed means.

    Both directions weigh the same however long the outlines are. `average_symmetric_surface_distance` weighs every
    pixel of both outlines the same.

    Args:
        prediction: Predicted mask of one structure.
        target: True mask.
        spacing: ``(dy, dx)`` in mm.
        charge_missed: As in `hausdorff`.

    Returns:
        Distance in mm; nan as in `hausdorff`.

    Raises:
        TypeError: If a mask is not boolean.

    References:
        Leclerc et al., "Deep Learning for Segmentation Using an Open Large-Scale Dataset in 2D Echocardiography", IEEE
        TMI 2019 (its mean absolute distance); MedPy computes the same as ``assd``.

    Example:
        >>> mask = jnp.zeros((1, 5), bool)
        >>> one, both = mask.at[0, 0].set(True), mask.at[0, 0].set(True).at[0, 4].set(True)
        >>> mean_absolute_distance(one, both, (1.0, 1.0)).item()
        1.0
    """
    return _distance(prediction, target, spacing, _mean_of_means, charge_missed)


def average_symmetric_surface_distance(
    prediction: Bool[Array, "*b h w"],
    target: Bool[Array, "*b h w"],
    spacing: Spacing,
    *,
    charge_missed: bool = False,
) -> Float[Array, "*b"]:
    """Mean distance between outlines over the pixels of both, taken together (ASSD).

    Args:
        prediction: Predicted mask of one structure.
        target: True mask.
        spacing: ``(dy, dx)`` in mm.
        charge_missed: As in `hausdorff`.

    Returns:
        Distance in mm; nan as in `hausdorff`.

    Raises:
        TypeError: If a mask is not boolean.

    References:
        Heimann et al., "Comparison and Evaluation of Methods for Liver Segmentation From CT Datasets", IEEE TMI 2009;
        MONAI computes the same as ``compute_average_surface_distance(symmetric=True)``.

    Example:
        >>> mask = jnp.zeros((1, 5), bool)
        >>> one, both = mask.at[0, 0].set(True), mask.at[0, 0].set(True).at[0, 4].set(True)
        >>> round(average_symmetric_surface_distance(one, both, (1.0, 1.0)).item(), 4)
        1.3333
    """
    return _distance(prediction, target, spacing, _pooled_mean, charge_missed)


def hausdorff_per_class(
    prediction: Int[Array, "*b h w"],
    target: Int[Array, "*b h w"],
    spacing: Spacing,
    *,
    structures: Iterable[Structure] = FOREGROUND,
    charge_missed: bool = False,
) -> Float[Array, "*b k"]:
    """Hausdorff distance of each structure of label maps, see `hausdorff`.

    Args:
        prediction: Predicted labels.
        target: True labels.
        spacing: ``(dy, dx)`` in mm.
        structures: As in `class_masks`.
        charge_missed: As in `hausdorff`.

    Returns:
        A distance in mm for each structure, in their order.

    Raises:
        TypeError: If the labels are not integers.

    Example:
        >>> prediction, target = jnp.array([[1, 1, 2, 0]]), jnp.array([[1, 0, 0, 2]])
        >>> hausdorff_per_class(prediction, target, (1.0, 0.5), structures=(1, 2)).tolist()
        [0.5, 0.5]
    """
    return _per_class(hausdorff, prediction, target, spacing, structures, charge_missed)


def hausdorff95_per_class(
    prediction: Int[Array, "*b h w"],
    target: Int[Array, "*b h w"],
    spacing: Spacing,
    *,
    structures: Iterable[Structure] = FOREGROUND,
    charge_missed: bool = False,
) -> Float[Array, "*b k"]:
    """95th percentile of the distances of each structure of label maps, see `hausdorff95`.

    Args:
        prediction: Predicted labels.
        target: True labels.
        spacing: ``(dy, dx)`` in mm.
        structures: As in `class_masks`.
        charge_missed: As in `hausdorff`.

    Returns:
        A distance in mm for each structure, in their order.

    Raises:
        TypeError: If the labels are not integers.

    Example:
        >>> import jax.numpy as jnp
        >>> target = jnp.zeros((12, 12), int).at[2:9, 2:9].set(2).at[4:7, 4:7].set(1).at[9:11, 2:9].set(3)
        >>> hausdorff95_per_class(jnp.roll(target, 1, 1), target, (1.0, 0.5)).tolist()
        [0.5, 0.5, 0.5]
    """
    return _per_class(hausdorff95, prediction, target, spacing, structures, charge_missed)


def mean_absolute_distance_per_class(
    prediction: Int[Array, "*b h w"],
    target: Int[Array, "*b h w"],
    spacing: Spacing,
    *,
    structures: Iterable[Structure] = FOREGROUND,
    charge_missed: bool = False,
) -> Float[Array, "*b k"]:
    """Mean absolute distance of each structure of label maps, see `mean_absolute_distance`.

    Args:
        prediction: Predicted labels.
        target: True labels.
        spacing: ``(dy, dx)`` in mm.
        structures: As in `class_masks`.
        charge_missed: As in `hausdorff`.

    Returns:
        A distance in mm for each structure, in their order.

    Raises:
        TypeError: If the labels are not integers.

    Example:
        >>> import jax.numpy as jnp
        >>> target = jnp.zeros((12, 12), int).at[2:9, 2:9].set(2).at[4:7, 4:7].set(1).at[9:11, 2:9].set(3)
        >>> mean_absolute_distance_per_class(target, target, (1.0, 1.0)).tolist()
        [0.0, 0.0, 0.0]
    """
    return _per_class(mean_absolute_distance, prediction, target, spacing, structures, charge_missed)


def average_symmetric_surface_distance_per_class(
    prediction: Int[Array, "*b h w"],
    target: Int[Array, "*b h w"],
    spacing: Spacing,
    *,
    structures: Iterable[Structure] = FOREGROUND,
    charge_missed: bool = False,
) -> Float[Array, "*b k"]:
    """Average symmetric surface distance of each structure, see `average_symmetric_surface_distance`.

    Args:
        prediction: Predicted labels.
        target: True labels.
        spacing: ``(dy, dx)`` in mm.
        structures: As in `class_masks`.
        charge_missed: As in `hausdorff`.

    Returns:
        A distance in mm for each structure, in their order.

    Raises:
        TypeError: If the labels are not integers.

    Example:
        >>> import jax.numpy as jnp
        >>> target = jnp.zeros((12, 12), int).at[2:9, 2:9].set(2).at[4:7, 4:7].set(1).at[9:11, 2:9].set(3)
        >>> average_symmetric_surface_distance_per_class(target, target, (1.0, 1.0)).tolist()
        [0.0, 0.0, 0.0]
    """
    return _per_class(average_symmetric_surface_distance, prediction, target, spacing, structures, charge_missed)


def outline(mask: Bool[Array, "*b h w"]) -> Bool[Array, "*b h w"]:
    """Pixels of a mask that have a pixel outside it above, below, left or right; the image's border is outside.

    Args:
        mask: Binary masks.

    Returns:
        The outlines.

    Example:
        >>> import jax.numpy as jnp
        >>> outline(jnp.ones((3, 4), bool)).astype(int).tolist()
        [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    """
    padded = jnp.pad(mask, [(0, 0)] * (mask.ndim - 2) + [(1, 1), (1, 1)])
    rows, cols = padded[..., 1:-1], padded[..., 1:-1, :]
    inner = rows[..., :-2, :] & rows[..., 2:, :] & cols[..., :-2] & cols[..., 2:]
    return mask & ~inner


def _per_class(distance, prediction, target, spacing, structures, charge_missed) -> Float[Array, "*b k"]:
    structures = tuple(structures)
    pair = class_masks(prediction, structures), class_masks(target, structures)
    return distance(*pair, jnp.asarray(spacing, jnp.float32)[..., None, :], charge_missed=charge_missed)


def _distance(prediction, target, spacing, statistic, charge_missed) -> Float[Array, "*b"]:
    prediction, target = require_masks(prediction, target)
    spacing = jnp.asarray(spacing, jnp.float32)
    distance = _outline_distance(prediction, target, spacing, statistic=statistic)
    if not charge_missed:
        return distance
    diagonal = jnp.linalg.norm(spacing * jnp.array(prediction.shape[-2:]), axis=-1)
    is_missed = prediction.any((-2, -1)) != target.any((-2, -1))
    return jnp.where(is_missed, diagonal, distance)


@ops.over_leading_axes(2, 2, 1)
def _outline_distance(
    prediction: Bool[Array, "*b h w"],
    target: Bool[Array, "*b h w"],
    spacing: Float[Array, "*b 2"],
    *,
    statistic: Callable[[Array, Array], Array],
) -> Float[Array, "*b"]:
    """A statistic of the distances at each outline's pixels to the other outline; nan where either is missing."""
    *batch, height, width = prediction.shape
    first, second = (outline(mask.reshape(-1, height, width)) for mask in (prediction, target))
    spacing = jnp.broadcast_to(spacing, (*batch, 2)).reshape(-1, 2)

    def from_pixels() -> Array:
        return statistic(*nearest_pixels(first, second, spacing))

    def from_maps() -> Array:
        to_second = jnp.where(first, ops.distance_to(second, spacing, query=first), jnp.nan)
        to_first = jnp.where(second, ops.distance_to(first, spacing, query=second), jnp.nan)
        return statistic(*(d.reshape(len(d), -1) for d in (to_second, to_first)))

    counts = jnp.stack([mask.sum((1, 2)) for mask in (first, second)])
    is_short = (counts <= capacity_of(height, width)).all()
    distance = jnp.where((counts > 0).all(0), lax.cond(is_short, from_pixels, from_maps), jnp.nan)
    return distance.reshape(batch)


def _largest(to_target: Float[Array, "n p"], to_prediction: Float[Array, "n p"]) -> Float[Array, " n"]:
    return jnp.maximum(*(jnp.where(jnp.isnan(d), 0.0, d).max(-1) for d in (to_target, to_prediction)))


def _percentile95(to_target: Float[Array, "n p"], to_prediction: Float[Array, "n p"]) -> Float[Array, " n"]:
    return jnp.nanpercentile(jnp.concatenate([to_target, to_prediction], -1), 95, axis=-1)


def _mean_of_means(to_target: Float[Array, "n p"], to_prediction: Float[Array, "n p"]) -> Float[Array, " n"]:
    return (jnp.nanmean(to_target, -1) + jnp.nanmean(to_prediction, -1)) / 2


def _pooled_mean(to_target: Float[Array, "n p"], to_prediction: Float[Array, "n p"]) -> Float[Array, " n"]:
    return jnp.nanmean(jnp.concatenate([to_target, to_prediction], -1), -1)
