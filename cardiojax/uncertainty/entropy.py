"""Softmax entropy."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax.uncertainty.result import Uncertainty, from_map


def entropy(probs: Float[Array, "*b h w k"]) -> Float[Array, "*b h w"]:
    """Entropy of the class probabilities of each pixel, as a share of its largest possible value.

    Args:
        probs: Class probabilities.

    Returns:
        A map in [0, 1]: 0 where one class is certain, 1 where all are equally likely or where a probability is not a
        number.

    Example:
        >>> import jax.numpy as jnp
        >>> entropy(jnp.array([[[0.25, 0.25, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0]]])).tolist()
        [[1.0, 0.0]]
    """
    nats = -(probs * jnp.log(jnp.where(probs > 0, probs, 1.0))).sum(-1)
    return jnp.clip(jnp.nan_to_num(nats / jnp.log(probs.shape[-1]), nan=1.0), 0.0, 1.0)


def softmax_entropy(images: Float[Array, "*b h w c"], probs: Float[Array, "*b h w k"]) -> Uncertainty:
    """Entropy of what the network itself says of each pixel.

    Args:
        images: Images in [0, 1].
        probs: Class probabilities, background first.

    Returns:
        Map, score, and the most likely classes.

    Example:
        >>> import jax.numpy as jnp
        >>> images, probs = jnp.eye(2)[:1, :, None], jnp.array([[[0.0, 1.0], [0.5, 0.5]]])
        >>> softmax_entropy(images, probs).map.tolist()
        [[0.0, 1.0]]
    """
    return from_map(images, entropy(probs), probs.argmax(-1).astype(jnp.int32))
