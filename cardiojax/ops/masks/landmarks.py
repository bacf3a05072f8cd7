"""The long axis of the left ventricle: mitral hinge points, mid-base and apex."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cardiojax.ops.masks.points import farthest_pixel, hinge_points


class LongAxis(NamedTuple):
    """Landmarks ``(row, col)`` from the centre of pixel (0, 0), in the unit of the spacing; nan where not ``valid``.

    Attributes:
        left_hinge: Mitral hinge point on the side of small columns, ``[*b, 2]``.
        right_hinge: Mitral hinge point on the side of large columns, ``[*b, 2]``.
        base: Mid-point of the two hinge points, ``[*b, 2]``.
        apex: Centre of the cavity pixel farthest from the base, ``[*b, 2]``.
        length: Distance from base to apex, ``[*b]``.
        valid: Whether both hinge points and an apex were found, ``[*b]``.
    """

    left_hinge: Float[Array, "*b 2"]
    right_hinge: Float[Array, "*b 2"]
    base: Float[Array, "*b 2"]
    apex: Float[Array, "*b 2"]
    length: Float[Array, "*b"]
    valid: Bool[Array, "*b"]


def long_axis(
    cavity: Bool[Array, "*b h w"],
    wall: Bool[Array, "*b h w"],
    spacing: Float[Array, "*#b 2"],
    *,
    round_base: bool = False,
) -> LongAxis:
    """Finds the long axis of a cavity in apical views drawn apex up.

    Hinge candidates are cavity pixels 8-adjacent both to the wall and to anything that is neither cavity nor wall. They
    are split at their mean column, and the lowest of each side is the hinge point. The apex is the cavity pixel
    farthest from the mid-point of the two.

    Args:
        cavity: The cavity of the left ventricle.
        wall: Its myocardium.
        spacing: ``(dy, dx)`` of a pixel, broadcast against the leading axes.
        round_base: Whether the apex is the pixel farthest from the pixel nearest to the mid-point, as in the published
            code. In 22 of 1,800 masks of CAMUS it is another one then, and the length differs by up to 0.04 mm.

    Returns:
        The landmarks. A mask without cavity, without wall or with a closed wall has no base.

    References:
        Painchaud et al., "Echocardiography Segmentation with Enforced Temporal Consistency", IEEE TMI 2022 (the
        attributes "base width" and "length"); its code, vitalab/vital, ``EchoMeasure``.

    Example:
        >>> wall = jnp.ones((6, 7), bool).at[2:, 2:5].set(False)
        >>> cavity = jnp.zeros((6, 7), bool).at[2:5, 2:5].set(True)
        >>> axis = long_axis(cavity, wall, jnp.ones(2))
        >>> axis.base.tolist(), axis.apex.tolist()
        ([4.0, 3.0], [2.0, 2.0])
    """
    left, right, valid = hinge_points(cavity, wall)
    spacing = jnp.broadcast_to(spacing, (*cavity.shape[:-2], 2))
    middle = (left + right) / 2
    apex = farthest_pixel(cavity, jnp.round(middle) if round_base else middle, spacing) * spacing
    left, right = left * spacing, right * spacing
    base = (left + right) / 2
    length = jnp.sqrt(jnp.sum(jnp.square(apex - base), axis=-1))
    points = (jnp.where(valid[..., None], point, jnp.nan) for point in (left, right, base, apex))
    return LongAxis(*points, length=jnp.where(valid, length, jnp.nan), valid=valid)
