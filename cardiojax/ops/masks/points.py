"""Single pixels of masks that measurements start from."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cardiojax.ops.masks.morphology import dilate

#: Columns by which a rounded mean may be off, and more.
_NEAR = 16


class HingePoints(NamedTuple):
    """Where a cavity leaves its wall, ``(row, col)`` in pixels; the first pixel where ``valid`` is false.

    Attributes:
        left: On the side of small columns, ``[*b, 2]``.
        right: On the side of large columns, ``[*b, 2]``.
        valid: Whether both were found, ``[*b]``.
    """

    left: Float[Array, "*b 2"]
    right: Float[Array, "*b 2"]
    valid: Bool[Array, "*b"]


class MeanIndex(NamedTuple):
    """Mean of an index over counted things, as a whole number and an exact rest: ``whole + rest / total``.

    Attributes:
        whole: The mean rounded to a whole number, off by at most a few, ``[*b]``.
        rest: What the indices less ``whole`` sum up to, ``[*b]``.
        total: How many things there are, ``[*b]``; the other two are 0 where it is 0.
    """

    whole: Int[Array, "*b"]
    rest: Int[Array, "*b"]
    total: Int[Array, "*b"]

    def value(self) -> Float[Array, "*b"]:
        """The mean; 0 where there is nothing."""
        return self.whole + self.rest / jnp.maximum(self.total, 1)


def mean_index(counts: Int[Array, "*b n"]) -> MeanIndex:
    """Mean of the indices 0, 1, 2, ... of which each occurs a number of times, exactly for any number of pixels.

    The sum of the indices exceeds 32 bits for a structure of 1400 x 1400 pixels. Taken from a whole number near the
    mean it does not, and that the sums on the way wrap around does not change it.

    Args:
        counts: How often each index occurs, fewer than 2^27 in all.

    Returns:
        The mean.

    Example:
        >>> mean = mean_index(jnp.array([0, 3, 1]))
        >>> float(mean.value()), int(mean.total)
        (1.25, 4)
    """
    index = jnp.arange(counts.shape[-1])
    total = jnp.sum(counts, axis=-1)
    estimate = jnp.sum(counts * index.astype(jnp.float32), axis=-1) / jnp.maximum(total, 1)
    whole = jnp.round(estimate).astype(jnp.int32)
    return MeanIndex(whole, jnp.sum(counts * (index - whole[..., None]), axis=-1), total)


def hinge_points(cavity: Bool[Array, "*b h w"], wall: Bool[Array, "*b h w"]) -> HingePoints:
    """Finds the two ends of the opening of a cavity that a wall surrounds on all sides but the lower one.

    Candidates are cavity pixels 8-adjacent both to the wall and to anything that is neither cavity nor wall. They are
    split at their mean column, and the lowest of each side, the leftmost among equals, is the hinge point.

    Args:
        cavity: The cavity of the left ventricle.
        wall: Its myocardium.

    Returns:
        The two points.

    References:
        Painchaud et al., "Echocardiography Segmentation with Enforced Temporal Consistency", IEEE TMI 2022; its code,
        vitalab/vital, ``EchoMeasure._lv_base``.

    Example:
        >>> wall = jnp.ones((6, 7), bool).at[2:, 2:5].set(False)
        >>> cavity = jnp.zeros((6, 7), bool).at[2:5, 2:5].set(True)
        >>> hinges = hinge_points(cavity, wall)
        >>> hinges.left.tolist(), hinges.right.tolist()
        ([4.0, 2.0], [4.0, 4.0])
    """
    candidates = cavity & dilate(wall) & dilate(~cavity & ~wall)
    columns = jnp.arange(cavity.shape[-1])
    mean = mean_index(jnp.sum(candidates, axis=-2))
    # compared without rounding; columns more than a few from the mean are decided by those nearby
    from_whole = jnp.clip(columns - mean.whole[..., None], -_NEAR, _NEAR)
    is_left = from_whole * mean.total[..., None] < mean.rest[..., None]
    left, has_left = lowest_pixel(candidates & is_left[..., None, :])
    right, has_right = lowest_pixel(candidates & ~is_left[..., None, :])
    return HingePoints(left, right, has_left & has_right)


def lowest_pixel(mask: Bool[Array, "*b h w"]) -> tuple[Float[Array, "*b 2"], Bool[Array, "*b"]]:
    """The pixel with the largest row, the leftmost among equals.

    Args:
        mask: Binary masks.

    Returns:
        ``(row, col)``, and whether there is one.

    Example:
        >>> import jax.numpy as jnp
        >>> position, exists = lowest_pixel(jnp.zeros((9, 9), bool).at[2:7, 4].set(True))
        >>> position.tolist(), bool(exists)
        ([6.0, 4.0], True)
    """
    height = mask.shape[-2]
    in_row = jnp.any(mask, axis=-1)
    row = height - 1 - jnp.argmax(in_row[..., ::-1], axis=-1)
    line = jnp.take_along_axis(mask, row[..., None, None], axis=-2)[..., 0, :]
    return jnp.stack([row, jnp.argmax(line, axis=-1)], axis=-1).astype(jnp.float32), jnp.any(in_row, axis=-1)


def farthest_pixel(
    mask: Bool[Array, "*b h w"], origin: Float[Array, "*b 2"], spacing: Float[Array, "*#b 2"]
) -> Float[Array, "*b 2"]:
    """The pixel of a mask farthest from a point, the first one among equals.

    Args:
        mask: Binary masks.
        origin: ``(row, col)`` in pixels.
        spacing: ``(dy, dx)`` of a pixel.

    Returns:
        ``(row, col)``; the first pixel of the image where a mask is empty.

    Example:
        >>> import jax.numpy as jnp
        >>> mask = jnp.zeros((9, 9), bool).at[2:7, 4].set(True)
        >>> farthest_pixel(mask, jnp.array([0.0, 4.0]), jnp.ones(2)).tolist()
        [6.0, 4.0]
    """
    height, width = mask.shape[-2:]
    rows = (jnp.arange(height) - origin[..., :1]) * spacing[..., :1]
    cols = (jnp.arange(width) - origin[..., 1:]) * spacing[..., 1:]
    squared = jnp.where(mask, jnp.square(rows)[..., :, None] + jnp.square(cols)[..., None, :], -1.0)
    index = jnp.argmax(squared.reshape(*mask.shape[:-2], height * width), axis=-1)
    return jnp.stack([index // width, index % width], axis=-1).astype(jnp.float32)
