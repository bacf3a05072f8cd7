"""What goes into a segmentation network and what comes out: frames as stored to its grid, scores to label maps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

#: First row, row after the last, first column, column after the last.
Box = tuple[int, int, int, int]


def preprocess(
    frames: Num[Array, "n h w"],
    *,
    size: int,
    box: Box | None = None,
    mask: Bool[Array, "a b"] | None = None,
) -> Float[Array, "n size size 1"]:
    """Crops frames to a box, stretches each to [0, 1] and resamples it linearly to the square grid of a network.

    The networks of the zoo were trained on such images. Analysis, evaluation and the exported program all use this
    function, so that they give the same label maps.

    Args:
        frames: Grey values of any range.
        size: Height and width of the network's grid.
        box: The part of the frames that the network sees, such as the ultrasound sector; all of them if not given.
        mask: Pixels of the box to keep; the others are black.

    Returns:
        Images in [0, 1]. A frame of one grey level becomes black.

    Example:
        >>> frames = jnp.arange(16, dtype=jnp.uint8).reshape(1, 4, 4)
        >>> preprocess(frames, size=2, box=(0, 2, 0, 2))[0, :, :, 0].tolist()
        [[0.0, 0.20000000298023224], [0.800000011920929, 1.0]]
    """
    top, bottom, left, right = box or (0, frames.shape[1], 0, frames.shape[2])
    inside = frames[:, top:bottom, left:right].astype(jnp.float32)
    if mask is not None:
        inside = inside * mask
    low, high = (extreme(inside, axis=(1, 2), keepdims=True) for extreme in (jnp.min, jnp.max))
    return resize(((inside - low) / jnp.maximum(high - low, 1e-6))[..., None], size, size)


def postprocess(
    probs: Float[Array, "n s s k"], *, height: int, width: int, box: Box | None = None
) -> Int[Array, "n height width"]:
    """Brings class probabilities back to the grid of the frames and takes the most probable class of each pixel.

    Args:
        probs: Probabilities of each class on the network's grid, as the softmax of its logits.
        height: Height of the frames.
        width: Width of the frames.
        box: As in `preprocess`; outside of it is background.

    Returns:
        Label maps, int32.

    Example:
        >>> probs = jnp.array([[[[0.2, 0.8]]]])
        >>> postprocess(probs, height=2, width=3, box=(0, 1, 1, 3))[0].tolist()
        [[0, 1, 1], [0, 0, 0]]
    """
    top, bottom, left, right = box or (0, height, 0, width)
    labels = resize(probs, bottom - top, right - left).argmax(-1).astype(jnp.int32)
    return jnp.pad(labels, ((0, 0), (top, height - bottom), (left, width - right)))


def resize(images: Float[Array, "n h w c"], height: int, width: int) -> Float[Array, "n height width c"]:
    """Resamples images linearly, with a wider kernel where they become smaller.

    Args:
        images: Images, or maps of scores.
        height: New height.
        width: New width.

    Returns:
        The images on the new grid.
    """
    return jax.image.resize(images, (images.shape[0], height, width, images.shape[-1]), "linear")
