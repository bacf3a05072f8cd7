"""Linear resampling of a part of an image that is chosen at run time: one program for every part."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

#: An integer, or the symbol of one in a program of `jax.export`.
Size = Any


def resample_from_box(
    images: Float[Array, "*b h w c"], box: Int[Array, "4"], *, height: Size, width: Size
) -> Float[Array, "*b rows cols c"]:
    """Resamples the part of images inside a box, as `jax.image.resize` does after a crop.

    Args:
        images: Images, or maps of scores.
        box: First row, row after the last, first column, column after the last.
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        The part on the new grid.

    Example:
        >>> image = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> resample_from_box(image, jnp.array([0, 2, 2, 4]), height=1, width=2)[0, :, :, 0].tolist()
        [[4.0, 5.0]]
    """
    rows = _weights_from(box[0], box[1], images.shape[-3], height)
    return _apply(images, rows, _weights_from(box[2], box[3], images.shape[-2], width))


def resample_to_box(
    images: Float[Array, "*b h w c"], box: Int[Array, "4"], *, height: Size, width: Size
) -> Float[Array, "*b rows cols c"]:
    """Resamples images to a box of a larger grid, as `jax.image.resize` does to the size of the box.

    Args:
        images: Images, or maps of scores.
        box: As in `resample_from_box`, in pixels of the result.
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        The images inside the box; what lies outside is undefined.

    Example:
        >>> resample_to_box(jnp.ones((1, 1, 1, 1)), jnp.array([0, 2, 2, 4]), height=4, width=4)[0, 1, 3, 0].item()
        1.0
    """
    rows = _weights_to(box[0], box[1], images.shape[-3], height)
    return _apply(images, rows, _weights_to(box[2], box[3], images.shape[-2], width))


def inside_box(box: Int[Array, "4"], *, height: Size, width: Size) -> Bool[Array, "height width"]:
    """Marks the pixels of a grid inside a box.

    Args:
        box: As in `resample_from_box`.
        height: Rows of the grid.
        width: Columns of the grid.

    Returns:
        The pixels.

    Example:
        >>> int(inside_box(jnp.array([0, 2, 1, 4]), height=4, width=4).sum())
        6
    """
    rows, cols = jnp.arange(height), jnp.arange(width)
    return ((rows >= box[0]) & (rows < box[1]))[:, None] & (cols >= box[2]) & (cols < box[3])


def _apply(images: Array, rows: Float[Array, "i h"], cols: Float[Array, "j w"]) -> Array:
    precision = jax.lax.Precision.HIGHEST
    images = jnp.einsum("ih,...hwc->...iwc", rows, images, precision=precision)
    return jnp.einsum("jw,...iwc->...ijc", cols, images, precision=precision)


def _weights_from(first: Array, last: Array, length: Size, size: Size) -> Float[Array, "size length"]:
    """What takes the pixels from ``first`` to before ``last`` of an axis to ``size``."""
    step = (last - first) / size
    pixels = jnp.arange(length)
    weights = _triangles(first + (jnp.arange(size) + 0.5) * step - 0.5, pixels, step)
    return _normalized(jnp.where((pixels >= first) & (pixels < last), weights, 0.0))


def _weights_to(first: Array, last: Array, size: Size, length: Size) -> Float[Array, "length size"]:
    """What takes ``size`` pixels to those from ``first`` to before ``last`` of an axis."""
    step = size / jnp.maximum(last - first, 1)
    return _normalized(_triangles((jnp.arange(length) - first + 0.5) * step - 0.5, jnp.arange(size), step))


def _triangles(positions: Array, pixels: Array, step: Array) -> Array:
    """Linear interpolation, with a kernel that widens with the step so that nothing is skipped."""
    return jnp.maximum(0.0, 1.0 - jnp.abs(positions[:, None] - pixels) / jnp.maximum(step, 1.0))


def _normalized(weights: Array) -> Array:
    return weights / jnp.maximum(weights.sum(1, keepdims=True), 1e-6)
