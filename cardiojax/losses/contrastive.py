"""Contrast: what belongs together lies together, one value per example."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def contrastive_loss(
    first: Float[Array, "n d"], second: Float[Array, "n d"], log_scale: float | Float[Array, ""]
) -> Float[Array, " n"]:
    """Symmetric cross-entropy of finding the partner of each example among all of the batch.

    Args:
        first: Codes of length 1.
        second: Codes of length 1; row ``i`` belongs to row ``i``.
        log_scale: Logarithm of the factor on the cosines.

    Returns:
        The mean of both directions for each pair, in nats: ``log n`` if the codes carry no information.

    References:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, figure 3.

    Example:
        >>> contrastive_loss(jnp.eye(2), jnp.eye(2), 0.0).round(4).tolist()
        [0.31..., 0.31...]
    """
    scores = jnp.exp(log_scale) * jnp.matmul(first, second.T, precision=jax.lax.Precision.HIGHEST)
    partner = jnp.diagonal(scores)
    return (jax.nn.logsumexp(scores, 0) + jax.nn.logsumexp(scores, 1)) / 2 - partner
