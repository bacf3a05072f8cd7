"""Conformal risk control: a set of pixels that holds the errors, an interval that holds the truth, both guaranteed."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cardiojax.ops import over_leading_axes


class RiskThreshold(NamedTuple):
    """A calibrated threshold.

    Attributes:
        value: The threshold: what lies at or above it is in the set.
        risk: Mean loss of the calibration examples there.
        bound: The stated risk of a new example, at most ``alpha``, if there are examples enough.
        is_valid: Whether the guarantee holds; not so with fewer than ``1 / alpha - 1`` examples.
    """

    value: Float[Array, ""]
    risk: Float[Array, ""]
    bound: Float[Array, ""]
    is_valid: Bool[Array, ""]


def control_risk(
    losses: Float[Array, "n m"], thresholds: Float[Array, " m"], *, alpha: float = 0.1, max_loss: float = 1.0
) -> RiskThreshold:
    """Chooses the largest threshold at which the loss of a new example is at most ``alpha`` on average.

    The guarantee holds for examples exchangeable with those of the calibration, for any model and any number of them.
    It is tight: the mean loss is at least ``alpha - 2 max_loss / (n + 1)`` where the loss has no jumps.

    Args:
        losses: Loss of each example at each threshold, not falling with the threshold.
        thresholds: Ascending; the first must be so small that its loss is 0.
        alpha: The risk that is accepted.
        max_loss: The largest value that a loss can take.

    Returns:
        The threshold; the first one if there are too few examples for ``alpha``.

    References:
        Angelopoulos et al., "Conformal Risk Control", ICLR 2024, theorem 1.

    Example:
        >>> losses = jnp.tile(jnp.array([0.0, 0.02, 0.3]), (99, 1))
        >>> control_risk(losses, jnp.array([0.0, 0.5, 1.0]), alpha=0.1).value.item()
        0.5
    """
    n = losses.shape[0]
    risks = losses.mean(0)
    bounds = (n * risks + max_loss) / (n + 1)
    # the count of thresholds that pass before the first that fails
    index = jnp.cumprod(bounds <= alpha).sum() - 1
    is_valid, index = index >= 0, jnp.maximum(index, 0)
    return RiskThreshold(thresholds[index], risks[index], bounds[index], is_valid)


def conformal_quantile(residuals: Float[Array, " n"], *, alpha: float = 0.1) -> Float[Array, ""]:
    """The bound that the residual of a new example exceeds with a probability of at most ``alpha``.

    With residuals ``|error| / spread``, the interval ``value - bound * spread`` to ``value + bound * spread`` holds the
    truth of a new example with a probability of at least ``1 - alpha``, and at most ``1 - alpha + 1 / (n + 1)`` without
    ties, whatever the spread is worth.

    Args:
        residuals: Of the calibration examples, exchangeable with the new one; nan counts as infinite.
        alpha: Probability of missing the truth.

    Returns:
        The bound; infinite with fewer than ``1 / alpha - 1`` examples.

    References:
        Lei et al., "Distribution-Free Predictive Inference for Regression", JASA 2018.

    Example:
        >>> conformal_quantile(jnp.arange(1.0, 20.0), alpha=0.1).item()
        18.0
    """
    n = residuals.shape[0]
    rank = math.ceil((n + 1) * (1 - alpha) - 1e-9)
    known = jnp.where(jnp.isnan(residuals), jnp.inf, residuals)
    return jnp.sort(jnp.append(known, jnp.inf))[min(rank, n + 1) - 1]


@over_leading_axes(2, 2, None)
def missed_errors(
    maps: Float[Array, "*b h w"], errors: Bool[Array, "*b h w"], thresholds: Float[Array, " m"]
) -> Float[Array, "*b m"]:
    """Share of the wrong pixels of each image whose uncertainty is below each threshold.

    Args:
        maps: Uncertainty in [0, 1].
        errors: Where the prediction is wrong.
        thresholds: Ascending.

    Returns:
        The loss that `control_risk` bounds, 0 for an image without errors.

    Example:
        >>> import jax.numpy as jnp
        >>> maps = jnp.array([[0.1, 0.4], [0.1, 0.9]])
        >>> missed_errors(maps, maps > 0.3, jnp.array([0.2, 0.5, 0.95])).tolist()
        [0.0, 0.5, 1.0]
    """
    h, w = maps.shape[-2:]

    def one(args):
        values, wrong = args
        # of the thresholds that miss a pixel, which are all those above its value
        first = jnp.searchsorted(thresholds, values, side="right")
        counts = jnp.zeros(len(thresholds) + 1).at[first].add(wrong)
        return jnp.cumsum(counts)[:-1] / jnp.maximum(wrong.sum(), 1)

    flat = (maps.reshape(-1, h * w), errors.reshape(-1, h * w))
    return jax.tree.map(lambda x: x.reshape(*maps.shape[:-2], len(thresholds)), lax.map(one, flat))
