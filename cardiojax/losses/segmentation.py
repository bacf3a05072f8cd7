"""Losses of a segmentation network, one value per example."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

ClassWeights = Sequence[float] | Float[Array, " k"]
#: Score of a class that an image does not have, beside which that of any other is large.
_LOWEST = -1e9


def cross_entropy_loss(
    logits: Float[Array, "*b h w k"],
    labels: Int[Array, "*b h w"] | Float[Array, "*b h w k"],
    *,
    class_weights: ClassWeights | None = None,
    ignore_index: int | None = None,
    present: Bool[Array, "*b k"] | None = None,
) -> Float[Array, "*b"]:
    """Mean cross-entropy over the pixels of each image.

    With weights ``w`` it is ``sum_p w[y_p] l_p / sum_p w[y_p]`` over the pixels ``p`` that are not ignored, as in
    PyTorch for one image.

    The true class is picked by a one-hot product: the gather of the integer form, and the scatter of its gradient, are
    slow on CPU and no quicker elsewhere.

    Args:
        logits: Unnormalised class scores.
        labels: True classes, or their probabilities.
        class_weights: One weight for each class; all equal if not given.
        ignore_index: Label of pixels that do not count, one of the classes or any other.
        present: Which classes are annotated in each image; all if not given. Pixels of the others are labelled as
            background, so that their probabilities are added to it, see `merge_absent`.

    Returns:
        One value per image, in nats; 0 where no pixel counts.

    Raises:
        ValueError: If there is not one weight for each class, or pixels of class probabilities are to be ignored.

    Example:
        >>> logits, labels = jnp.zeros((1, 2, 4)), jnp.array([[1, 255]])
        >>> round(cross_entropy_loss(logits, labels, ignore_index=255).item(), 4)  # log 4
        1.3863
    """
    log_probs = jax.nn.log_softmax(logits if present is None else merge_absent(logits, present))
    truth = _one_hot(labels, logits)
    if class_weights is None and ignore_index is None:
        return -(log_probs * truth).sum(-1).mean((-2, -1))
    truth = truth * _weights(class_weights, logits) * _counts(labels, logits, ignore_index)
    total = truth.sum((-3, -2, -1))
    return -(log_probs * truth).sum((-3, -2, -1)) / jnp.where(total > 0, total, 1.0)


def dice_loss(
    logits: Float[Array, "*b h w k"],
    labels: Int[Array, "*b h w"] | Float[Array, "*b h w k"],
    *,
    include_background: bool = False,
    smooth: float = 1e-5,
    class_weights: ClassWeights | None = None,
    ignore_index: int | None = None,
    present: Bool[Array, "*b k"] | None = None,
) -> Float[Array, "*b"]:
    """One minus the soft Dice coefficient, averaged over the classes of each image.

    A class that neither image nor prediction contains counts as a coefficient of 1.

    Args:
        logits: Unnormalised class scores.
        labels: True classes, or their probabilities.
        include_background: Whether class 0 takes part in the mean.
        smooth: Added to numerator and denominator.
        class_weights: One weight for each class, the background's without effect unless it takes part; all equal if not
            given.
        ignore_index: Label of pixels that take part in no sum, one of the classes or any other.
        present: Which classes are annotated in each image; all if not given. The others take no part in the mean, and
            their probabilities are added to the background.

    Returns:
        One value in [0, 1] per image; 0 where no class takes part.

    Raises:
        ValueError: If there is not one weight for each class, or pixels of class probabilities are to be ignored.

    References:
        Milletari et al., "V-Net", 3DV 2016, with the sums (not the squares) in the denominator as in nnU-Net.

    Example:
        >>> logits = 99 * jax.nn.one_hot(jnp.array([[1, 1, 2, 2]]), 3)
        >>> labels = jnp.array([[1, 1, 2, 255]])
        >>> [round(dice_loss(logits, labels, ignore_index=index).item(), 2) for index in (None, 255)]
        [0.17, 0.0]
    """
    probs = jax.nn.softmax(logits if present is None else merge_absent(logits, present))
    truth = _one_hot(labels, logits)
    if ignore_index is not None:
        counts = _counts(labels, logits, ignore_index)
        probs, truth = probs * counts, truth * counts
    intersection = (probs * truth).sum((-3, -2))
    total = (probs + truth).sum((-3, -2))
    dice = (2 * intersection + smooth) / (total + smooth)
    first = 0 if include_background else 1
    if class_weights is None and present is None:
        return 1 - dice[..., first:].mean(-1)
    weights = _weights(class_weights, logits)
    if present is not None:
        weights = weights * present
    weights, total = weights[..., first:], weights[..., first:].sum(-1)
    mean = (dice[..., first:] * weights).sum(-1) / jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, 1 - mean, 0.0)


def merge_absent(logits: Float[Array, "*b h w k"], present: Bool[Array, "*b k"]) -> Float[Array, "*b h w k"]:
    """Adds the probabilities of classes that are not annotated in an image to that of the background.

    In such an image every pixel of these classes is labelled as background: the network is right whichever it chooses.

    Args:
        logits: Unnormalised class scores.
        present: Which classes are annotated in each image.

    Returns:
        Scores whose softmax is 0 for the absent classes.

    References:
        Shi et al., "Marginal loss and exclusion loss for partially supervised multi-organ segmentation", MedIA 2021,
        eq. 3.

    Example:
        >>> present = jnp.array([True, True, False])
        >>> jax.nn.softmax(merge_absent(jnp.log(jnp.array([[[0.25, 0.5, 0.25]]])), present)).tolist()
        [[[0.5, 0.5, 0.0]]]
    """
    is_absent = ~present[..., None, None, :].at[..., 0].set(True)
    background = jnp.where(is_absent, logits, -jnp.inf).at[..., 0].set(logits[..., 0])
    return jnp.where(is_absent, _LOWEST, logits).at[..., 0].set(jax.nn.logsumexp(background, -1))


def deep_supervision_loss(
    loss: Callable[[Array, Array], Array], logits: Sequence[Array], labels: Int[Array, "*b h w"]
) -> Float[Array, "*b"]:
    """Sums a loss over the decoder's resolutions, as nnU-Net does.

    The weights halve at each step down, the lowest resolution has none, and they sum to 1. Labels are brought to each
    resolution by their nearest pixel.

    Args:
        loss: Logits and labels to one value per image; class weights and an ignored label by `functools.partial`.
        logits: Scores ``[*b, h / s, w / s, k]``, finest first.
        labels: True classes at the finest resolution.

    Returns:
        One value per image.

    References:
        Isensee et al., "nnU-Net", Nature Methods 2021.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from cardiojax import losses
        >>> labels = jnp.zeros((8, 8), int).at[2:6, 2:6].set(1)
        >>> scores = [20 * jax.nn.one_hot(labels[::s, ::s], 2) for s in (1, 2, 4)]
        >>> round(float(deep_supervision_loss(losses.cross_entropy_loss, scores, labels)), 4)
        0.0
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


def _weights(class_weights: ClassWeights | None, logits: Array) -> Float[Array, " k"]:
    weights = jnp.ones(logits.shape[-1], logits.dtype) if class_weights is None else jnp.asarray(class_weights)
    if weights.shape != logits.shape[-1:]:
        raise ValueError(f"class_weights must be one for each of the {logits.shape[-1]} classes, got {weights.shape}")
    return weights.astype(logits.dtype)


def _counts(labels: Array, logits: Array, ignore_index: int | None) -> Array:
    """1 for the pixels that count and 0 for the others, with an axis for the classes."""
    if ignore_index is None:
        return jnp.ones((), logits.dtype)
    if labels.ndim == logits.ndim:
        raise ValueError("ignore_index needs labels that are classes, got class probabilities")
    return (labels != ignore_index)[..., None].astype(logits.dtype)
