"""A segmentation network as a policy: at each pixel it chooses a class, independently of the others."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


def sample_labels(key: Key[Array, ""], logits: Float[Array, "*b h w k"]) -> Int[Array, "*b h w"]:
    """Draws the class of each pixel.

    Args:
        key: Random key.
        logits: Class scores.

    Returns:
        Label maps.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> logits = jnp.tile(jnp.array([50.0, 0.0]), (4, 4, 1))
        >>> int(sample_labels(jax.random.key(0), logits).sum())
        0
    """
    return jax.random.categorical(key, logits).astype(jnp.int32)


def log_prob(logits: Float[Array, "*b h w k"], labels: Int[Array, "*b h w"]) -> Float[Array, "*b h w"]:
    """Log-probability of each pixel's class.

    Args:
        logits: Class scores.
        labels: Label maps.

    Returns:
        Nats, not above 0.

    Example:
        >>> log_prob(jnp.log(jnp.array([[[0.25, 0.75]]])), jnp.array([[1]])).round(4).tolist()
        [[-0.28...]]
    """
    return (jax.nn.log_softmax(logits) * jax.nn.one_hot(labels, logits.shape[-1])).sum(-1)


def divergence(logits: Float[Array, "*b h w k"], reference: Float[Array, "*b h w k"]) -> Float[Array, "*b h w"]:
    """Kullback-Leibler divergence of a policy from a reference at each pixel.

    Args:
        logits: Class scores of the policy.
        reference: Class scores of the reference.

    Returns:
        Nats, 0 where both say the same.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.array([[[0.0, 0.0], [4.0, 0.0]]])
        >>> [round(float(nats), 2) for nats in divergence(logits, jnp.zeros((1, 2, 2)))[0]]
        [0.0, 0.6]
    """
    ours, theirs = jax.nn.log_softmax(logits), jax.nn.log_softmax(reference)
    return (jnp.exp(ours) * (ours - theirs)).sum(-1)
