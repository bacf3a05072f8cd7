"""Losses of a network that learns without labels, one value per example."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def clipped_surrogate_loss(
    log_prob: Float[Array, "*b h w"],
    old_log_prob: Float[Array, "*b h w"],
    advantage: Float[Array, "*b h w"],
    *,
    clip: float = 0.2,
) -> Float[Array, "*b"]:
    """Minus the advantage of each pixel's action, times how much likelier it has become, within a trust region.

    Args:
        log_prob: Log-probability of the action that was taken, under the policy that learns.
        old_log_prob: The same under the policy that took it.
        advantage: How much better than expected the action turned out.
        clip: Largest relative change of the probability that is still rewarded.

    Returns:
        Mean over the pixels of each image.

    References:
        Schulman et al., "Proximal Policy Optimization Algorithms", 2017, eq. (7).

    Example:
        >>> one = jnp.ones((1, 1))
        >>> round(float(clipped_surrogate_loss(jnp.log(1.5) * one, 0 * one, one)), 4)  # clipped at 1.2
        -1.2
    """
    ratio = jnp.exp(log_prob - old_log_prob)
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    return -jnp.minimum(ratio * advantage, clipped * advantage).mean((-2, -1))


def entropy_loss(logits: Float[Array, "*b h w k"]) -> Float[Array, "*b"]:
    """Mean entropy of the class probabilities of the pixels.

    Args:
        logits: Unnormalised class scores.

    Returns:
        One value per image, in nats.

    References:
        Wang et al., "Tent: Fully Test-Time Adaptation by Entropy Minimization", ICLR 2021, eq. (1).

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(entropy_loss(jnp.zeros((4, 4, 4)))), 4)
        1.3863
    """
    log_probs = jax.nn.log_softmax(logits)
    return -(jnp.exp(log_probs) * log_probs).sum(-1).mean((-2, -1))


def binary_cross_entropy_loss(
    logits: Float[Array, "*b h w"], targets: Bool[Array, "*b h w"] | Float[Array, "*b h w"]
) -> Float[Array, "*b"]:
    """Mean cross-entropy of independent yes-or-no answers at the pixels.

    Args:
        logits: Log-odds of yes.
        targets: The answers, or their probabilities.

    Returns:
        One value per image, in nats.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(binary_cross_entropy_loss(jnp.zeros((4, 4)), jnp.ones((4, 4)))), 4)
        0.6931
    """
    return (jax.nn.softplus(logits) - logits * targets).mean((-2, -1))
