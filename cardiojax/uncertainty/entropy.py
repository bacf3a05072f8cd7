"""Softmax entropy."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def entropy(probs: Float[Array, "*b h w k"]) -> Float[Array, "*b h w"]:
    """Entropy of the class probabilities of each pixel, as a share of its largest possible value.

    Args:
        probs: Class probabilities.

    Returns:
        A map in [0, 1]: 0 where one class is certain, 1 where all are equally likely.

    Example:
        >>> import jax.numpy as jnp
        >>> entropy(jnp.array([[[0.25, 0.25, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0]]])).tolist()
        [[1.0, 0.0]]
    """
    terms = jnp.where(probs > 0, probs * jnp.log(jnp.where(probs > 0, probs, 1.0)), 0.0)
    return jnp.clip(-terms.sum(-1) / jnp.log(probs.shape[-1]), 0.0, 1.0)
