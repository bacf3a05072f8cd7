"""What every method returns, and what it says of images that cannot be segmented."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Uncertainty(NamedTuple):
    """Where a segmentation may be wrong.

    Attributes:
        map: 0 where the prediction is trusted, 1 where it is not.
        score: Sum of the map over the number of pixels predicted as foreground: uncertain pixels per pixel of the
            heart.
        labels: The prediction that the map speaks of.
    """

    map: Float[Array, "*b h w"]
    score: Float[Array, "*b"]
    labels: Int[Array, "*b h w"]


def from_map(
    images: Float[Array, "*b h w c"], values: Float[Array, "*b h w"], labels: Int[Array, "*b h w"]
) -> Uncertainty:
    """Makes a result of a map; an image without an outline is uncertain everywhere.

    A blank image (see `is_blank`) and a prediction without foreground have no outline: their map is 1 everywhere and
    their score the largest there is, the number of pixels. A value that is not a number counts as 1.

    Args:
        images: Images in [0, 1].
        values: A map that is 0 where the prediction is trusted; clipped to [0, 1].
        labels: The prediction, 0 for background.

    Returns:
        The map, its score and the prediction.

    References:
        Judge et al., "CRISP - Reliable Uncertainty Estimation for Medical Image Segmentation", MICCAI 2022 (the score).

    Example:
        >>> images, labels = jnp.eye(2)[None, ..., None], jnp.array([[[0, 1], [0, 1]]])
        >>> from_map(images, jnp.array([[[0.0, 0.5], [jnp.nan, 2.0]]]), labels).score.tolist()
        [1.25]
    """
    num_foreground = (labels > 0).sum((-2, -1))
    has_outline = (num_foreground > 0) & ~is_blank(images)
    values = jnp.where(has_outline[..., None, None], jnp.clip(jnp.nan_to_num(values, nan=1.0), 0.0, 1.0), 1.0)
    return Uncertainty(values, values.sum((-2, -1)) / jnp.where(has_outline, num_foreground, 1), labels)


def is_blank(
    images: Float[Array, "*b h w c"], *, threshold: float = 0.02, min_share: float = 0.02
) -> Bool[Array, "*b"]:
    """Whether an image shows nothing: too little of it stands out, or some of it is not a number.

    Args:
        images: Images in [0, 1].
        threshold: How much brighter than the darkest pixel another must be to stand out.
        min_share: Share of the pixels that must stand out.

    Returns:
        True for images that should not be segmented.

    Example:
        >>> is_blank(jnp.stack([jnp.eye(8), jnp.full((8, 8), 0.3), jnp.full((8, 8), jnp.nan)])[..., None]).tolist()
        [False, True, True]
    """
    darkest = images.min((-3, -2), keepdims=True)
    share = (images > darkest + threshold).any(-1).mean((-2, -1))
    return (share < min_share) | ~jnp.isfinite(images).all((-3, -2, -1))
