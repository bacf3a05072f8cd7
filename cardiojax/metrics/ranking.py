"""Whether uncertainty orders predictions from right to wrong."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cardiojax import ops


class Curve(NamedTuple):
    """A curve over a share of the predictions.

    Attributes:
        share: Share of the predictions, ascending.
        risk: Mean error there.
        area: Under the curve, or between it and the best possible one.
    """

    share: Float[Array, " m"]
    risk: Float[Array, " m"]
    area: Float[Array, ""]


def auroc(scores: Float[Array, " n"], failures: Bool[Array, " n"]) -> Float[Array, ""]:
    """Probability that a failure has a higher score than a success, ties counting half.

    Args:
        scores: Uncertainty; nan is the highest.
        failures: What should be detected.

    Returns:
        A value in [0, 1], 0.5 for chance; nan unless there are failures and successes.

    References:
        Hanley and McNeil, "The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve",
        Radiology 1982.

    Example:
        >>> auroc(jnp.array([0.1, 0.4, 0.35, 0.8]), jnp.array([False, False, True, True])).item()
        0.75
    """
    scores, failures = ops.gathered(scores), ops.gathered(failures)
    scores = jnp.nan_to_num(scores, nan=jnp.inf, posinf=jnp.inf, neginf=-jnp.inf)
    successes = jnp.sort(jnp.where(failures, jnp.inf, scores))  # failures last
    num_successes, num_failures = (~failures).sum(), failures.sum()
    below, up_to = (
        jnp.minimum(jnp.searchsorted(successes, scores, side=side), num_successes) for side in ("left", "right")
    )
    wins = jnp.where(failures, (below + up_to) / 2 / num_successes, 0.0).sum()
    return wins / jnp.where(num_failures > 0, num_failures, jnp.nan)


def risk_coverage(scores: Float[Array, " n"], risks: Float[Array, " n"]) -> Curve:
    """Mean risk of the predictions that are kept when the most uncertain are refused.

    Args:
        scores: Uncertainty.
        risks: Loss of each prediction, such as one minus its Dice coefficient.

    Returns:
        The curve over the share that is kept, ``1 / n`` to 1, and its mean, the AURC. Predictions of one score share
        their mean risk, so that the order of ties does not matter.

    References:
        Geifman et al., "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR 2019.

    Example:
        >>> risk_coverage(jnp.array([0.1, 0.9, 0.5]), jnp.array([0.0, 1.0, 0.5])).risk.tolist()
        [0.0, 0.25, 0.5]
    """
    scores, risks = ops.gathered(scores), ops.gathered(risks)
    kept = jnp.arange(1, len(scores) + 1)
    risk = jnp.cumsum(_by_score(scores, risks)) / kept
    return Curve(kept / len(scores), risk, risk.mean())


def sparsification(
    uncertainty: Float[Array, "*n"], errors: Float[Array, "*n"] | Bool[Array, "*n"], *, num_steps: int = 20
) -> Curve:
    """How far the removal of the most uncertain predictions falls behind the removal of the worst ones.

    Args:
        uncertainty: Of each prediction.
        errors: Error of each prediction, not negative; 0 or 1 for right or wrong pixels.
        num_steps: Shares that are removed, from 0 in equal steps.

    Returns:
        The share removed, the difference of the mean errors that remain, as a share of the mean error of all, and the
        area under it, the AUSE; 0 for a perfect order, and without errors.

    References:
        Ilg et al., "Uncertainty Estimates and Multi-Hypotheses Networks for Optical Flow", ECCV 2018.

    Example:
        >>> import jax.numpy as jnp
        >>> errors = jnp.array([0.0, 0.1, 0.5, 1.0])
        >>> float(sparsification(errors, errors).area)
        0.0
    """
    uncertainty, errors = ops.gathered(uncertainty).ravel(), ops.gathered(errors).ravel().astype(jnp.float32)
    share = jnp.arange(num_steps) / num_steps
    kept = jnp.maximum(jnp.round((1 - share) * errors.size).astype(jnp.int32), 1)
    total = errors.sum()

    def remaining(order_by):
        values = _by_score(order_by, errors) / jnp.where(total > 0, total, 1.0)
        return jnp.cumsum(values)[kept - 1] * errors.size / kept

    gap = remaining(uncertainty) - remaining(errors)
    return Curve(share, gap, jnp.trapezoid(gap, share))


def _by_score(scores: Array, values: Array) -> Array:
    """Values in ascending order of their scores, each replaced by the mean of those of its score."""
    order = jnp.argsort(scores)
    ordered, sums = scores[order], jnp.concatenate([jnp.zeros(1), jnp.cumsum(values[order])])
    first, last = (jnp.searchsorted(ordered, ordered, side=side) for side in ("left", "right"))
    return (sums[last] - sums[first]) / (last - first)
