"""What goes into a segmentation network and what comes out: frames as stored to its grid, scores to label maps."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from cardiojax import ops
from cardiojax.types import Box


def preprocess(
    frames: Num[Array, "n h w"],
    *,
    size: int,
    box: Box | Int[Array, "4"] | None = None,
    mask: Bool[Array, "h w"] | None = None,
) -> Float[Array, "n size size 1"]:
    """Crops frames to a box, stretches each to [0, 1] and resamples it linearly to the square grid of a network.

    The networks of the zoo were trained on such images. Analysis, evaluation and the exported program all use this
    function, so that they give the same label maps.

    Args:
        frames: Grey values of any range.
        size: Height and width of the network's grid.
        box: The part of the frames that the network sees, such as the ultrasound sector; all of them if not given.
            As an array, it is no part of what is compiled.
        mask: Pixels of the frames to keep; the others are black.

    Returns:
        Images in [0, 1]. A frame of one grey level becomes black.

    Example:
        >>> frames = jnp.arange(16, dtype=jnp.uint8).reshape(1, 4, 4)
        >>> preprocess(frames, size=2, box=(0, 2, 0, 2))[0, :, :, 0].tolist()
        [[0.0, 0.20000000298023224], [0.800000011920929, 1.0]]
    """
    height, width = frames.shape[1:]
    box = jnp.asarray((0, height, 0, width) if box is None else box, jnp.int32)
    values = frames.astype(jnp.float32)
    if mask is not None:
        values = values * mask
    inside = ops.inside_box(box, height=height, width=width)
    low = values.min((1, 2), keepdims=True, where=inside, initial=jnp.inf)
    high = values.max((1, 2), keepdims=True, where=inside, initial=-jnp.inf)
    stretched = (values - low) / jnp.maximum(high - low, 1e-6)
    return ops.resample_from_box(stretched[..., None], box, height=size, width=size)


def postprocess(
    probs: Float[Array, "n s s k"], *, height: int, width: int, box: Box | Int[Array, "4"] | None = None
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
    box = jnp.asarray((0, height, 0, width) if box is None else box, jnp.int32)
    labels = ops.resample_to_box(probs, box, height=height, width=width).argmax(-1)
    return jnp.where(ops.inside_box(box, height=height, width=width), labels, 0).astype(jnp.int32)


def segmentation_logits(
    outputs: Any,
    images: Num[Array, "*b h w c"],
    *,
    name: str = "the model",
    num_classes: int | None = None,
) -> Float[Array, "*b h w k"]:
    """The logits of a segmentation network.

    Args:
        outputs: What a network returns for the images.
        images: The images.
        name: What the network is called.
        num_classes: How many classes it must have; any number if not given.

    Returns:
        Its logits.

    Raises:
        ValueError: If it is another kind of network, or has other classes.

    Example:
        >>> from cardiojax import zoo
        >>> model, variables = zoo.load("view_camus")
        >>> images = jnp.zeros((1, 224, 224, 1))
        >>> segmentation_logits(model.apply(variables, images), images, name="view_camus")
        Traceback (most recent call last):
        ValueError: view_camus is no segmentation network
    """
    logits = getattr(outputs, "logits", None)
    if logits is None or logits.shape[:-1] != images.shape[:-1]:
        raise ValueError(f"{name} is no segmentation network")
    if num_classes not in (None, logits.shape[-1]):
        raise ValueError(f"{name} has {logits.shape[-1]} classes, expected {num_classes}")
    return logits
