"""Whether confidence keeps its promises, and whether uncertainty lies where the errors are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax import ops


class Reliability(NamedTuple):
    """A reliability diagram.

    Attributes:
        confidence: Mean confidence in each bin, nan where it is empty.
        accuracy: Share of right predictions in each bin, nan where it is empty.
        count: Predictions in each bin.
        total: All predictions, also those that no bin holds.
    """

    confidence: Float[Array, " m"]
    accuracy: Float[Array, " m"]
    count: Int[Array, " m"]
    total: Int[Array, ""]


def reliability(
    confidence: Float[Array, "*n"],
    correct: Bool[Array, "*n"],
    *,
    where: Bool[Array, "*n"] | None = None,
    num_bins: int = 20,
    open_edges: bool = False,
) -> Reliability:
    """Compares confidence with accuracy in bins of equal width on [0, 1].

    Args:
        confidence: In [0, 1].
        correct: Whether each prediction was right.
        where: Predictions that count; all if not given.
        num_bins: Number of bins.
        open_edges: Whether a value exactly on an edge, and one outside [0, 1], falls into no bin but stays in the
            total, as in the code of CRISP; else a bin holds its lower edge and the last one both.

    Returns:
        The diagram.

    Example:
        >>> import jax.numpy as jnp
        >>> confidence, correct = jnp.array([0.9, 0.9, 0.9, 0.9]), jnp.array([True, True, True, False])
        >>> diagram = reliability(confidence, correct)
        >>> [round(float(each[18]), 2) for each in (diagram.confidence, diagram.accuracy)]
        [0.9, 0.75]
    """
    confidence, correct, where = _flat(confidence, correct, where)
    scaled = confidence * num_bins
    index = jnp.clip(jnp.floor(scaled), 0, num_bins - 1).astype(jnp.int32)
    if open_edges:
        where_binned = where & (scaled > 0) & (scaled < num_bins) & (scaled != jnp.floor(scaled))
    else:
        where_binned = where & ~jnp.isnan(confidence)
    return _diagram(confidence, correct, where_binned, index, num_bins, where.sum())


def adaptive_reliability(
    confidence: Float[Array, "*n"],
    correct: Bool[Array, "*n"],
    *,
    where: Bool[Array, "*n"] | None = None,
    num_bins: int = 20,
) -> Reliability:
    """Compares confidence with accuracy in bins that hold equally many predictions, to within one.

    Args:
        confidence: In [0, 1].
        correct: Whether each prediction was right.
        where: Predictions that count; all if not given.
        num_bins: Number of bins.

    Returns:
        The diagram, its bins by ascending confidence.

    References:
        Nguyen and O'Connor, "Posterior calibration and exploratory analysis for natural language processing models",
        EMNLP 2015.

    Example:
        >>> import jax.numpy as jnp
        >>> confidence, correct = jnp.array([0.6, 0.6, 0.9, 0.9]), jnp.array([True, False, True, True])
        >>> diagram = adaptive_reliability(confidence, correct, num_bins=2)
        >>> diagram.accuracy.tolist()
        [0.5, 1.0]
    """
    confidence, correct, where = _flat(confidence, correct, where)
    where &= ~jnp.isnan(confidence)
    order = jnp.argsort(jnp.where(where, confidence, jnp.inf))
    num, rank = where.sum(), jnp.arange(confidence.size)
    # the first ranks of the bins lie at multiples of num / num_bins, split so that no product overflows
    size, rest = num // num_bins, num % num_bins
    in_large = rank < rest * (size + 1)
    index = jnp.where(in_large, rank // (size + 1), rest + (rank - rest * (size + 1)) // jnp.maximum(size, 1))
    index = jnp.clip(index, 0, num_bins - 1)
    return _diagram(confidence[order], correct[order], where[order], index, num_bins, num)


def calibration_error(diagram: Reliability) -> Float[Array, ""]:
    """Mean distance of confidence and accuracy: the expected calibration error, or the adaptive one.

    Args:
        diagram: Of `reliability` or `adaptive_reliability`.

    Returns:
        A value in [0, 1], nan without any predictions.

    References:
        Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.

    Example:
        >>> confidence, correct = jnp.array([0.9, 0.9, 0.6, 0.6]), jnp.array([True, True, True, False])
        >>> round(calibration_error(reliability(confidence, correct)).item(), 4)
        0.1
    """
    gap = jnp.where(diagram.count > 0, jnp.abs(diagram.confidence - diagram.accuracy), 0.0)
    return (gap * diagram.count).sum() / diagram.total


def correlation(x: Float[Array, " n"], y: Float[Array, " n"]) -> Float[Array, ""]:
    """Pearson correlation over the pairs in which both values are finite.

    Args:
        x: One value an image, such as the score of its uncertainty.
        y: Another, such as one minus its Dice coefficient.

    Returns:
        A value in [-1, 1], nan if either is constant or fewer than two pairs are finite.

    Example:
        >>> correlation(jnp.array([1.0, 2.0, 3.0, jnp.inf]), jnp.array([2.0, 4.0, 6.0, 0.0])).item()
        1.0
    """
    valid = jnp.isfinite(x) & jnp.isfinite(y)
    num = valid.sum()
    x, y = (jnp.where(valid, v - jnp.where(valid, v, 0).sum() / num, 0.0) for v in (x, y))
    return jnp.clip((x * y).sum() / jnp.sqrt((x**2).sum() * (y**2).sum()), -1.0, 1.0)


@ops.over_leading_axes(2, 2)
def mutual_information(
    maps: Float[Array, "*b h w"], errors: Bool[Array, "*b h w"], *, num_bins: int = 10
) -> Float[Array, "*b"]:
    """Mutual information of an uncertainty map and the errors of its image.

    The map is cut into bins of equal width between its own smallest and largest value.

    Args:
        maps: Uncertainty of each pixel.
        errors: Where the prediction is wrong.
        num_bins: Number of bins.

    Returns:
        Nats, between 0 and log 2; 0 if map or errors are constant.

    References:
        Judge et al., "CRISP", MICCAI 2022 (the published figure is the mean weighted by the errors of each image).

    Example:
        >>> import jax.numpy as jnp
        >>> errors = jnp.zeros((4, 4), bool).at[:2].set(True)
        >>> round(float(mutual_information(errors.astype(float), errors)), 4)
        0.6931
    """
    h, w = maps.shape[-2:]

    def one(args):
        values, wrong = args
        low, high = values.min(), values.max()
        index = jnp.floor((values - low) / jnp.where(high > low, high - low, 1.0) * num_bins)
        member = jnp.clip(index, 0, num_bins - 1) == jnp.arange(num_bins)[:, None]
        counts = jnp.stack([(member & ~wrong).sum(-1), (member & wrong).sum(-1)])
        joint = counts / (h * w)
        product = joint.sum(0) * joint.sum(1)[:, None]
        return jnp.where(counts > 0, joint * jnp.log(joint / jnp.where(counts > 0, product, 1.0)), 0.0).sum()

    flat = (maps.reshape(-1, h * w), errors.reshape(-1, h * w))
    return jnp.maximum(lax.map(one, flat), 0.0).reshape(maps.shape[:-2])


def _flat(confidence: Array, correct: Array, where: Array | None) -> tuple[Array, Array, Array]:
    where = jnp.ones(confidence.shape, bool) if where is None else where
    confidence, correct, where = (ops.gathered(x).ravel() for x in (confidence, correct, where))
    return confidence, correct, where


def _diagram(confidence, correct, where, index, num_bins, total) -> Reliability:
    def per_bin(values):
        return jax.ops.segment_sum(jnp.where(where, values, 0), index, num_bins)

    count = per_bin(jnp.ones(index.shape, jnp.int32))
    mean = jnp.where(count > 0, count, jnp.nan)
    # small deviations from one value of the bin keep the sum exact over many millions of pixels
    largest = jax.ops.segment_max(jnp.where(where, confidence, 0.0), index, num_bins)
    accuracy = per_bin(correct.astype(jnp.int32)) / mean
    return Reliability(largest + per_bin(confidence - largest[index]) / mean, accuracy, count, total)
