"""The long axis of the left ventricle: mitral hinge points, mid-base and apex."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cardiojax import ops
from cardiojax.labels import LV, MYOCARDIUM


class LongAxis(NamedTuple):
    """Landmarks in mm, ``(row, col)`` from the centre of pixel (0, 0); nan where ``valid`` is false.

    Attributes:
        left_hinge: Mitral hinge point on the side of small columns, ``[*b, 2]``.
        right_hinge: Mitral hinge point on the side of large columns, ``[*b, 2]``.
        base: Mid-point of the two hinge points, ``[*b, 2]``.
        apex: Centre of the cavity pixel farthest from the base, ``[*b, 2]``.
        length: Distance from base to apex in mm, ``[*b]``.
        valid: Whether both hinge points and an apex were found, ``[*b]``.
    """

    left_hinge: Float[Array, "*b 2"]
    right_hinge: Float[Array, "*b 2"]
    base: Float[Array, "*b 2"]
    apex: Float[Array, "*b 2"]
    length: Float[Array, "*b"]
    valid: Bool[Array, "*b"]


def long_axis(labels: Int[Array, "*b h w"], spacing: Float[Array, "*#b 2"]) -> LongAxis:
    """Finds the long axis of the LV cavity in apical views drawn apex up.

    Hinge candidates are cavity pixels 8-adjacent both to myocardium and to anything that is neither cavity nor
    myocardium (left atrium or background). They are split at their mean column, and the lowest of each side is the
    hinge point. The apex is the cavity pixel farthest from the mid-point of the two.

    Args:
        labels: Label maps, ``[*b, h, w]``.
        spacing: ``(dy, dx)`` in mm, broadcast against the leading axes.

    Returns:
        The landmarks. A mask without cavity, without myocardium or with a closed wall has no base: ``valid`` is false
        and the landmarks are nan.

    References:
        Painchaud et al., "Echocardiography segmentation with enforced temporal consistency", IEEE TMI 2022 (the
        attributes "base width" and "length").

    Example:
        >>> import jax.numpy as jnp
        >>> labels = jnp.zeros((12, 9), int).at[1:9, 1:8].set(2).at[3:9, 3:6].set(1).at[9:11, 3:6].set(3)
        >>> axis = long_axis(labels, jnp.ones(2))
        >>> axis.base.tolist(), round(float(axis.length), 3)
        ([8.0, 4.0], 5.099)
    """
    cavity = labels == LV
    left, right, valid = ops.hinge_points(cavity, labels == MYOCARDIUM)
    spacing = jnp.broadcast_to(spacing, (*labels.shape[:-2], 2))
    apex = ops.farthest_pixel(cavity, (left + right) / 2, spacing) * spacing
    left, right = left * spacing, right * spacing
    base = (left + right) / 2
    length = jnp.sqrt(jnp.sum(jnp.square(apex - base), axis=-1))

    def keep(x):
        return jnp.where(valid[..., None], x, jnp.nan)

    return LongAxis(
        keep(left), keep(right), keep(base), keep(apex), length=jnp.where(valid, length, jnp.nan), valid=valid
    )


def lv_length(labels: Int[Array, "*b h w"], spacing: Float[Array, "*#b 2"]) -> Float[Array, "*b"]:
    """Measures the LV from the middle of the mitral plane to the apex.

    Args:
        labels: Label maps, ``[*b, h, w]``.
        spacing: ``(dy, dx)`` in mm.

    Returns:
        Length in mm, ``[*b]``; nan where ``long_axis`` finds no base.

    Example:
        >>> import jax.numpy as jnp
        >>> float(lv_length(jnp.zeros((8, 8), int), jnp.ones(2)))
        nan
    """
    return long_axis(labels, spacing).length


def lv_area(labels: Int[Array, "*b h w"], spacing: Float[Array, "*#b 2"]) -> Float[Array, "*b"]:
    """Measures the area of the LV cavity.

    Args:
        labels: Label maps, ``[*b, h, w]``.
        spacing: ``(dy, dx)`` in mm.

    Returns:
        Area in mm², ``[*b]``; zero where the cavity is missing.

    Example:
        >>> import jax.numpy as jnp
        >>> float(lv_area(jnp.ones((4, 5), int), jnp.array([0.5, 2.0])))
        20.0
    """
    return jnp.sum(labels == LV, axis=(-2, -1)) * jnp.prod(spacing, axis=-1)
