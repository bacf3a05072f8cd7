"""Overlap of two masks, and of each structure of two label maps."""

from collections.abc import Iterable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cardiojax.metrics.structures import FOREGROUND, Structure, class_masks, require_masks


def dice(prediction: Bool[Array, "*b h w"], target: Bool[Array, "*b h w"]) -> Float[Array, "*b"]:
    """Dice coefficient: twice the common area over the sum of the areas.

    Args:
        prediction: Predicted mask of one structure.
        target: True mask.

    Returns:
        Values in [0, 1]; 0 where one of the masks is empty, 1 where both are.

    Raises:
        TypeError: If an argument is not boolean.

    References:
        Dice, "Measures of the Amount of Ecologic Association Between Species", Ecology 1945.

    Example:
        >>> dice(jnp.array([[True, True, False]]), jnp.array([[False, True, True]])).item()
        0.5
    """
    prediction, target = require_masks(prediction, target)
    common = (prediction & target).sum((-2, -1))
    total = prediction.sum((-2, -1)) + target.sum((-2, -1))
    return jnp.where(total == 0, 1.0, 2 * common / jnp.maximum(total, 1))


def jaccard(prediction: Bool[Array, "*b h w"], target: Bool[Array, "*b h w"]) -> Float[Array, "*b"]:
    """Jaccard index: the common area over the joint area.

    Args:
        prediction: Predicted mask of one structure.
        target: True mask.

    Returns:
        Values in [0, 1]; 0 where one of the masks is empty, 1 where both are.

    Raises:
        TypeError: If an argument is not boolean.

    Example:
        >>> jaccard(jnp.array([[True, True, False]]), jnp.array([[False, True, True]])).item()
        0.333...
    """
    prediction, target = require_masks(prediction, target)
    common = (prediction & target).sum((-2, -1))
    union = (prediction | target).sum((-2, -1))
    return jnp.where(union == 0, 1.0, common / jnp.maximum(union, 1))


def dice_per_class(
    prediction: Int[Array, "*b h w"], target: Int[Array, "*b h w"], *, structures: Iterable[Structure] = FOREGROUND
) -> Float[Array, "*b k"]:
    """Dice coefficient of each structure of label maps.

    Args:
        prediction: Predicted labels.
        target: True labels.
        structures: As in `class_masks`.

    Returns:
        A value for each structure, in their order; 0 where a structure is missed, 1 where neither map has it.

    Raises:
        TypeError: If the labels are not integers.

    Example:
        >>> prediction, target = jnp.array([[1, 1, 2, 2]]), jnp.array([[0, 1, 2, 2]])
        >>> [round(d, 4) for d in dice_per_class(prediction, target, structures=(1, 2, (1, 2))).tolist()]
        [0.6667, 1.0, 0.8571]
    """
    structures = tuple(structures)
    return dice(class_masks(prediction, structures), class_masks(target, structures))


def jaccard_per_class(
    prediction: Int[Array, "*b h w"], target: Int[Array, "*b h w"], *, structures: Iterable[Structure] = FOREGROUND
) -> Float[Array, "*b k"]:
    """Jaccard index of each structure of label maps.

    Args:
        prediction: Predicted labels.
        target: True labels.
        structures: As in `class_masks`.

    Returns:
        A value for each structure, in their order; 0 where a structure is missed, 1 where neither map has it.

    Raises:
        TypeError: If the labels are not integers.

    Example:
        >>> jaccard_per_class(jnp.array([[1, 1, 2]]), jnp.array([[0, 1, 2]]), structures=(1, 2)).tolist()
        [0.5, 1.0]
    """
    structures = tuple(structures)
    return jaccard(class_masks(prediction, structures), class_masks(target, structures))
