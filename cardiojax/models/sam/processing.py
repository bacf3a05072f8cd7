"""From images as they are to SAM's input, and from its masks back."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)


def resized_shape(height: int, width: int, image_size: int) -> tuple[int, int]:
    """Height and width once the longer of them is ``image_size``.

    Args:
        height: Pixels.
        width: Pixels.
        image_size: Pixels.

    Returns:
        The new height and width.
    """
    scale = image_size / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def preprocess(
    images: Float[Array, "*b h w c"], *, image_size: int = 1024
) -> Float[Array, "*b {image_size} {image_size} 3"]:
    """Brings images to SAM's input: longer side resized, normalised, padded below and at the right.

    Args:
        images: Values in [0, 1], grey or RGB.
        image_size: Height and width of the input, pixels.

    Returns:
        The input.
    """
    *batch, h, w, _ = images.shape
    size = resized_shape(h, w, image_size)
    x = _resize(jnp.broadcast_to(images, (*batch, h, w, 3)), size, antialias=True)
    x = (255 * x - _MEAN) / _DEVIATION
    return jnp.pad(x, [(0, 0)] * len(batch) + [(0, image_size - size[0]), (0, image_size - size[1]), (0, 0)])


def stretch(
    images: Float[Array, "*b h w c"], *, image_size: int = 1024
) -> Float[Array, "*b {image_size} {image_size} 3"]:
    """Brings images to MedSAM's input: both sides resized, then each image stretched to [0, 1].

    Args:
        images: Grey or RGB values of any range.
        image_size: Height and width of the input, pixels.

    Returns:
        The input.
    """
    *batch, h, w, _ = images.shape
    x = jax.image.resize(jnp.broadcast_to(images, (*batch, h, w, 3)), (*batch, image_size, image_size, 3), "cubic")
    low, high = x.min((-3, -2, -1), keepdims=True), x.max((-3, -2, -1), keepdims=True)
    return (x - low) / jnp.maximum(high - low, 1e-8)


def postprocess(
    logits: Float[Array, "*b m m k"], *, image_size: int, size: tuple[int, int], padded: bool = True
) -> Float[Array, "*b {size[0]} {size[1]} k"]:
    """Brings masks to the resolution of the image.

    Args:
        logits: Of the decoder.
        image_size: Height and width of the model's input.
        size: Height and width of the image.
        padded: Whether the input was made by `preprocess`; else by `stretch`.

    Returns:
        Logits, of which those above 0 are inside.
    """
    if padded:
        logits = _resize(logits, (image_size, image_size))
        height, width = resized_shape(*size, image_size)
        logits = logits[..., :height, :width, :]
    return _resize(logits, size)


def _resize(x: Array, size: tuple[int, int], antialias: bool = False) -> Array:
    return jax.image.resize(x, (*x.shape[:-3], *size, x.shape[-1]), "linear", antialias=antialias)
