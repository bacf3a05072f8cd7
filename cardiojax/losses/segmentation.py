"""Losses of a segmentation network, one value per example."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float, Int


def cross_entropy_loss(
    logits: Float[Array, "*b h w k"], labels: Int[Array, "*b h w"] | Float[Array, "*b h w k"]
) -> Float[Array, "*b"]:
    """Mean cross-entropy over the pixels of each image.

    The true class is picked by a one-hot product: the gather of the integer form, and the scatter of its gradient, are
    slow on CPU and no quicker elsewhere.

    Args:
        logits: Unnormalised class scores.
        labels: True classes, or their probabilities.

    Returns:
        One value per image, in nats.
    """
    log_probs = jax.nn.log_softmax(logits)
    return -(log_probs * _one_hot(labels, logits)).sum(-1).mean((-2, -1))


def dice_loss(
    logits: Float[Array, "*b h w k"],
    labels: Int[Array, "*b h w"] | Float[Array, "*b h w k"],
    *,
    include_background: bool = False,
    smooth: float = 1e-5,
) -> Float[Array, "*b"]:
    """One minus the soft Dice coefficient, averaged over the classes of each image.

    A class that neither image nor prediction contains counts as a coefficient of 1.

    Args:
        logits: Unnormalised class scores.
        labels: True classes, or their probabilities.
        include_background: Whether class 0 takes part in the mean.
        smooth: Added to numerator and denominator.

    Returns:
        One value in [0, 1] per image.

    References:
        Milletari et al., "V-Net", 3DV 2016, with the sums (not the squares) in the denominator as in nnU-Net.
    """
    probs, truth = jax.nn.softmax(logits), _one_hot(labels, logits)
    intersection = (probs * truth).sum((-3, -2))
    total = (probs + truth).sum((-3, -2))
    dice = (2 * intersection + smooth) / (total + smooth)
    return 1 - (dice if include_background else dice[..., 1:]).mean(-1)


def deep_supervision_loss(
    loss: Callable[[Array, Array], Array], logits: Sequence[Array], labels: Int[Array, "*b h w"]
) -> Float[Array, "*b"]:
    """Sums a loss over the decoder's resolutions, as nnU-Net does.

    The weights halve at each step down, the lowest resolution has none, and they sum to 1. Labels are brought to each
    resolution by their nearest pixel.

    Args:
        loss: Logits and labels to one value per image.
        logits: Scores ``[*b, h / s, w / s, k]``, finest first.
        labels: True classes at the finest resolution.

    Returns:
        One value per image.

    References:
        Isensee et al., "nnU-Net", Nature Methods 2021.
    """
    weights = 0.5 ** np.arange(len(logits))
    if len(logits) > 1:
        weights[-1] = 0
    total = 0.0
    for weight, scores in zip(weights / weights.sum(), logits, strict=True):
        if weight:
            size = (*labels.shape[:-2], *scores.shape[-3:-1])
            total = total + weight * loss(scores, jax.image.resize(labels, size, "nearest"))
    return total  # type: ignore[return-value]


def _one_hot(labels: Array, logits: Array) -> Array:
    if labels.ndim == logits.ndim:
        return labels
    return jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
