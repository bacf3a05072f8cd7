"""The baseline that every method must beat: outlines are uncertain, whatever the image shows."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from cardiojax.uncertainty.result import Uncertainty, from_map


def edge(images: Float[Array, "*b h w c"], labels: Int[Array, "*b h w"], *, width: int = 5) -> Uncertainty:
    """Uncertainty that falls linearly with the distance from the outlines of the prediction.

    Ring ``j`` of the label map dilated (and eroded) ``j`` times counts ``1 - j / width``; rings that overlap add up, to
    1 at most.

    Args:
        images: Images in [0, 1].
        labels: The prediction.
        width: Width of the band on either side, in pixels.

    Returns:
        Map, score, and the prediction.

    References:
        Judge et al., "CRISP", MICCAI 2022, and its code.

    Example:
        >>> images, labels = jnp.eye(8)[:1, :, None], jnp.array([[0, 0, 0, 0, 1, 1, 1, 1]])
        >>> edge(images, labels, width=2).map.tolist()
        [[0.0, 0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]]
    """
    doubt = jnp.zeros(labels.shape)
    for extreme in (lax.max, lax.min):
        inner = labels
        for j in range(width):
            outer = _filter(inner, extreme)
            doubt += (1 - j / width) * (outer != inner)
            inner = outer
    return from_map(images, doubt, labels)


def _filter(labels: Array, extreme) -> Array:
    """Largest or smallest label of each 3 x 3 square."""
    padded = jnp.pad(labels, [(0, 0)] * (labels.ndim - 2) + [(1, 1), (1, 1)], mode="edge")
    rows = extreme(padded[..., :-2, :], extreme(padded[..., 1:-1, :], padded[..., 2:, :]))
    return extreme(rows[..., :-2], extreme(rows[..., 1:-1], rows[..., 2:]))
