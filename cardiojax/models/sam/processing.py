"""From images as they are to SAM's input, and from its masks back."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

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
    images: Float[Array, "*b h w c"], *, image_size: int = 1024, unit_range: bool = False, keep_aspect: bool = True
) -> Float[Array, "*b {image_size} {image_size} 3"]:
    """Brings images to the input of a SAM, as its configuration says.

    Args:
        images: Grey or RGB; values in [0, 1], or of any range if they are stretched.
        image_size: Height and width of the input, pixels.
        unit_range: Whether each image is stretched to [0, 1] (MedSAM, LiteMedSAM); else values are normalised by the
            mean and the deviation of ImageNet.
        keep_aspect: Whether the longer side is resized and the rest padded below and at the right; else both sides are
            resized (MedSAM), bicubically.

    Returns:
        The input.

    Example:
        >>> preprocess(jnp.ones((480, 640, 1)), image_size=256).shape
        (256, 256, 3)
    """
    *batch, h, w, _ = images.shape
    size = resized_shape(h, w, image_size) if keep_aspect else (image_size, image_size)
    x = jnp.broadcast_to(images, (*batch, h, w, 3))
    x = _resize(x, size, antialias=True) if keep_aspect else jax.image.resize(x, (*batch, *size, 3), "cubic")
    if unit_range:
        low, high = x.min((-3, -2, -1), keepdims=True), x.max((-3, -2, -1), keepdims=True)
        x = (x - low) / jnp.maximum(high - low, 1e-8)
    else:
        x = (255 * x - _MEAN) / _DEVIATION
    return jnp.pad(x, [(0, 0)] * len(batch) + [(0, image_size - size[0]), (0, image_size - size[1]), (0, 0)])


def postprocess(
    logits: Float[Array, "*b m m k"], *, image_size: int, size: tuple[int, int], keep_aspect: bool = True
) -> Float[Array, "*b {size[0]} {size[1]} k"]:
    """Brings masks to the resolution of the image.

    Args:
        logits: Of the decoder.
        image_size: Height and width of the model's input.
        size: Height and width of the image.
        keep_aspect: As in `preprocess`.

    Returns:
        Logits, of which those above 0 are inside.
    """
    if keep_aspect:
        logits = _resize(logits, (image_size, image_size))
        height, width = resized_shape(*size, image_size)
        logits = logits[..., :height, :width, :]
    return _resize(logits, size)


def mask_box(mask: Bool[Array, "h w"]) -> Float[Array, "4"]:
    """The box around a mask.

    Args:
        mask: A mask.

    Returns:
        First row, first column, last row and last column that it touches; zeros for an empty one.
    """
    edges = []
    for axis in (1, 0):
        touched = mask.any(axis)
        edges.append((jnp.argmax(touched), touched.size - 1 - jnp.argmax(touched[::-1])))
    (top, bottom), (left, right) = edges
    return jnp.where(mask.any(), jnp.stack([top, left, bottom, right]), 0).astype(jnp.float32)


def _resize(x: Array, size: tuple[int, int], antialias: bool = False) -> Array:
    return jax.image.resize(x, (*x.shape[:-3], *size, x.shape[-1]), "linear", antialias=antialias)
