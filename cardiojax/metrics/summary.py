"""Means over many images that say how many values they hold."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cardiojax.metrics.structures import require_masks


class Summary(NamedTuple):
    """A metric over many images.

    Attributes:
        mean: Mean of the values that are numbers; nan if there is none.
        count: How many those are.
        num_missed: Images in which one of prediction and truth has the structure and the other does not. They are in
            the mean if their values are numbers: a Dice coefficient of 0, or a distance with ``charge_missed``.
    """

    mean: Float[Array, "*k"]
    count: Int[Array, "*k"]
    num_missed: Int[Array, "*k"]


def is_missed(prediction: Bool[Array, "*b h w"], target: Bool[Array, "*b h w"]) -> Bool[Array, "*b"]:
    """Whether one of two masks has the structure and the other does not.

    Args:
        prediction: Predicted mask of one structure; `class_masks` makes those of several.
        target: True mask.

    Returns:
        True where exactly one mask is empty.

    Raises:
        TypeError: If an argument is not boolean.

    Example:
        >>> is_missed(jnp.zeros((2, 1, 1), bool), jnp.array([[[True]], [[False]]])).tolist()
        [True, False]
    """
    prediction, target = require_masks(prediction, target)
    return prediction.any((-2, -1)) != target.any((-2, -1))


def summarize(values: Float[Array, "n *k"], missed: Bool[Array, "n *k"]) -> Summary:
    """Takes the mean of a metric over images and counts what it holds and what was missed.

    A mean of distances without their misses flatters a network that draws nothing where it is unsure: state
    ``num_missed`` beside it, or charge each miss with ``charge_missed=True``.

    Args:
        values: One value an image, nan where there is nothing to measure.
        missed: Whether the structure was missed, of `is_missed`.

    Returns:
        Mean and counts, over the first axis.

    Example:
        >>> summary = summarize(jnp.array([2.0, 4.0, jnp.nan, jnp.nan]), jnp.array([False, False, True, False]))
        >>> summary.mean.item(), summary.count.item(), summary.num_missed.item()
        (3.0, 2, 1)
    """
    is_number = ~jnp.isnan(values)
    count = is_number.sum(0)
    mean = jnp.where(is_number, values, 0.0).sum(0) / jnp.where(count > 0, count, jnp.nan)
    return Summary(mean, count, missed.sum(0))
