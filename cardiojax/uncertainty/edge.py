"""A baseline: pixels near an outline are uncertain, whatever the image shows."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cardiojax.ops import dilate
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
    highest = labels.max()
    values = jnp.zeros(labels.shape)
    for extreme in (dilate, lambda inner: highest - dilate(highest - inner)):
        inner = labels
        for j in range(width):
            outer = extreme(inner)
            values += (1 - j / width) * (outer != inner)
            inner = outer
    return from_map(images, values, labels)
