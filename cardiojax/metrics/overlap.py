"""Overlap of two masks."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def dice(prediction: Bool[Array, "*b h w"], target: Bool[Array, "*b h w"]) -> Float[Array, "*b"]:
    """Dice coefficient: twice the common area over the sum of the areas.

    Args:
        prediction: Predicted mask.
        target: True mask.

    Returns:
        Values in [0, 1]; 1 where both masks are empty.

    References:
        Dice, "Measures of the Amount of Ecologic Association Between Species", Ecology 1945.
    """
    common = (prediction & target).sum((-2, -1))
    total = prediction.sum((-2, -1)) + target.sum((-2, -1))
    return jnp.where(total == 0, 1.0, 2 * common / jnp.maximum(total, 1))


def jaccard(prediction: Bool[Array, "*b h w"], target: Bool[Array, "*b h w"]) -> Float[Array, "*b"]:
    """Jaccard index: the common area over the joint area.

    Args:
        prediction: Predicted mask.
        target: True mask.

    Returns:
        Values in [0, 1]; 1 where both masks are empty.
    """
    common = (prediction & target).sum((-2, -1))
    union = (prediction | target).sum((-2, -1))
    return jnp.where(union == 0, 1.0, common / jnp.maximum(union, 1))
