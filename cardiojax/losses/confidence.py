"""Losses of networks that learn how sure they are, one value per example."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from cardiojax import ops
from cardiojax.losses.segmentation import cross_entropy_loss, dice_loss


def learned_confidence_loss(
    key: Key[Array, ""],
    logits: Float[Array, "*b h w k"],
    confidence: Float[Array, "*b h w"],
    labels: Int[Array, "*b h w"],
    *,
    penalty: float | Float[Array, ""] = 0.1,
    cross_entropy: float = 0.1,
) -> Float[Array, "*b"]:
    """Segmentation loss of a network that may buy hints: where it is not confident, the true class is mixed in.

    Half of the pixels, chosen at random, get no hint, so that the network still learns from easy examples.

    Args:
        key: Random key.
        logits: Class scores.
        confidence: Logits of the confidence of each pixel.
        labels: True classes.
        penalty: Weight of the confidence penalty, see `hint_penalty`.
        cross_entropy: Weight of the cross-entropy beside the Dice loss.

    Returns:
        One value per image.

    References:
        DeVries and Taylor, "Learning Confidence for Out-of-Distribution Detection in Neural Networks", 2018.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> labels = jnp.zeros((4, 4), int).at[1:3, 1:3].set(1)
        >>> logits, confidence = 20 * jax.nn.one_hot(labels, 2), jnp.full((4, 4), 20.0)
        >>> round(float(learned_confidence_loss(jax.random.key(0), logits, confidence, labels)), 3)
        0.0
    """
    truth = jax.nn.one_hot(labels, logits.shape[-1])
    asks = jax.random.bernoulli(key, 0.5, labels.shape)
    trust = jnp.where(asks, jax.nn.sigmoid(confidence), 1.0)[..., None]
    mixed = trust * jax.nn.softmax(logits) + (1 - trust) * truth
    hinted = jnp.log(jnp.maximum(mixed, 1e-12))
    task = cross_entropy * cross_entropy_loss(hinted, labels) + dice_loss(hinted, labels)
    return task + penalty * confidence_penalty_loss(confidence)


def confidence_penalty_loss(confidence: Float[Array, "*b h w"]) -> Float[Array, "*b"]:
    """What a network pays for its hints: the mean of ``-log confidence``.

    Args:
        confidence: Logits of the confidence of each pixel.

    Returns:
        One value per image, in nats.

    Example:
        >>> confidence_penalty_loss(jnp.zeros((2, 2))).round(3).item()
        0.693...
    """
    return jax.nn.softplus(-confidence).mean((-2, -1))


def hint_penalty(
    penalty: float | Float[Array, ""], spent: float | Float[Array, ""], *, budget: float = 0.3
) -> Float[Array, ""]:
    """The penalty weight of the next step, which keeps the hints near a budget.

    Args:
        penalty: Weight of this step.
        spent: Mean of `confidence_penalty_loss` in this step.
        budget: Wanted mean of the confidence penalty.

    Returns:
        A slightly higher or lower weight.

    Example:
        >>> bool(hint_penalty(0.1, spent=0.5) > 0.1), bool(hint_penalty(0.1, spent=0.1) < 0.1)
        (True, True)
    """
    return jnp.where(jnp.asarray(spent) > budget, penalty / 0.99, penalty / 1.01)


def confidnet_loss(
    confidence: Float[Array, "*b h w"], logits: Float[Array, "*b h w k"], labels: Int[Array, "*b h w"]
) -> Float[Array, "*b"]:
    """Squared error of a confidence that predicts the probability which a frozen network gives to the true class.

    Args:
        confidence: Logits of the confidence of each pixel.
        logits: Class scores of the frozen network; no gradient flows into them.
        labels: True classes.

    Returns:
        Mean over the pixels of each image.

    References:
        Corbière et al., "Addressing Failure Prediction by Learning Model Confidence", NeurIPS 2019, eq. (3).

    Example:
        >>> import jax.numpy as jnp
        >>> confidence, logits = jnp.zeros((4, 4)), jnp.zeros((4, 4, 2))
        >>> float(confidnet_loss(confidence, logits, jnp.zeros((4, 4), int)))
        0.0
    """
    probs = jax.nn.softmax(lax.stop_gradient(logits))
    true_class = (probs * jax.nn.one_hot(labels, logits.shape[-1])).sum(-1)
    return jnp.square(jax.nn.sigmoid(confidence) - true_class).mean((-2, -1))


@ops.jitted(static=("num_samples",))
def heteroscedastic_loss(
    key: Key[Array, ""],
    logits: Float[Array, "*b h w k"],
    scale: Float[Array, "*b h w k"],
    labels: Int[Array, "*b h w"],
    *,
    num_samples: int = 10,
) -> Float[Array, "*b"]:
    """Segmentation loss of the mean softmax of logits that are drawn from normal distributions.

    Args:
        key: Random key.
        logits: Means.
        scale: Standard deviations, not negative.
        labels: True classes.
        num_samples: Draws, one in memory at a time.

    Returns:
        Cross-entropy and Dice loss of each image.

    References:
        Kendall and Gal, "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", NeurIPS 2017,
        eq. (12).

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> labels = jnp.zeros((4, 4), int).at[1:3, 1:3].set(1)
        >>> logits = 20 * jax.nn.one_hot(labels, 2)
        >>> scales = [jnp.full((4, 4, 2), scale) for scale in (0.0, 50.0)]
        >>> sure, unsure = (heteroscedastic_loss(jax.random.key(0), logits, scale, labels) for scale in scales)
        >>> bool(sure < unsure)
        True
    """

    @jax.checkpoint
    def add(total, key):
        return total + jax.nn.softmax(logits + scale * jax.random.normal(key, logits.shape)) / num_samples, None

    probs = lax.scan(add, jnp.zeros_like(logits), jax.random.split(key, num_samples))[0]
    mean = jnp.log(jnp.maximum(probs, 1e-12))
    return cross_entropy_loss(mean, labels) + dice_loss(mean, labels)
