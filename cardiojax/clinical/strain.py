"""Global longitudinal strain from the length of a line along the wall."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cardiojax import ops
from cardiojax.clinical.axis import LongAxis, long_axis
from cardiojax.labels import LV


class WallLine(NamedTuple):
    """The inner border of the wall from one mitral hinge over the apex to the other.

    Attributes:
        points: ``(row, col)`` in mm from the centre of pixel (0, 0), ``[*b, n, 2]``; nan where not ``valid``.
        length: Along the line in mm, ``[*b]``; nan where not ``valid``.
        valid: Whether the long axis was found, ``[*b]``.
    """

    points: Float[Array, "*b n 2"]
    length: Float[Array, "*b"]
    valid: Bool[Array, "*b"]


class Strain(NamedTuple):
    """Longitudinal strain in percent; shortening is negative, and nan is what cannot be measured.

    Attributes:
        curve: Strain of each frame, corrected for drift if that was asked for, ``[*b, t]``.
        peak_systolic: Its minimum in systole, ``[*b]``.
        end_systolic: Its value at end-systole, ``[*b]``.
        drift: Strain at the next end-diastole before correction, where it should be zero, ``[*b]``.
    """

    curve: Float[Array, "*b t"]
    peak_systolic: Float[Array, "*b"]
    end_systolic: Float[Array, "*b"]
    drift: Float[Array, "*b"]


@ops.jitted(static=("num_points", "batch_size"))
@ops.on_each_device(2, 1)
def endocardial_line(
    labels: Int[Array, "*b h w"], spacing: Float[Array, "*#b 2"], *, num_points: int = 33, batch_size: int = 32
) -> WallLine:
    """Follows the inner border of the wall.

    Rays from the middle of the mitral plane turn from the left hinge point over the apex to the right one. On each the
    border is where the cavity is left for the last time, whatever of the valve or of the wall bulges into the cavity
    before. It is summed from bilinear samples, finer than a pixel.

    Memory beside the labels: about ``batch_size * num_points * (h + w) * 40`` bytes.

    Args:
        labels: Label maps of apical views, apex up.
        spacing: ``(dy, dx)`` in mm.
        num_points: Points of the line.
        batch_size: Masks a block.

    Returns:
        The lines.

    Raises:
        ValueError: If there are fewer than three points.

    Example:
        >>> import jax.numpy as jnp
        >>> labels = jnp.zeros((40, 40), int).at[4:30, 8:32].set(2).at[8:30, 12:28].set(1)
        >>> line = endocardial_line(labels, jnp.ones(2), num_points=9)
        >>> line.points.shape
        (9, 2)
    """
    if num_points < 3:
        raise ValueError(f"a line needs at least 3 points, got {num_points}")
    batch = labels.shape[:-2]
    axis = long_axis(labels, spacing)
    spacing = jnp.broadcast_to(spacing, (*batch, 2))
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(batch) :]), (labels == LV, axis, spacing))
    points = jax.lax.map(lambda one: _rays(one[0], one[1], one[2], num_points), flat, batch_size=batch_size)
    points = points.reshape(*batch, num_points, 2)
    return WallLine(points, line_length(points), axis.valid)


def line_length(points: Float[Array, "*b n 2"]) -> Float[Array, "*b"]:
    """Length of an open line through points.

    Args:
        points: In the unit of the result.

    Returns:
        Sum of the distances from point to point.

    Example:
        >>> float(line_length(jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 6.0]])))
        7.0
    """
    return jnp.sum(jnp.linalg.norm(jnp.diff(points, axis=-2), axis=-1), axis=-1)


def longitudinal_strain(
    length: Float[Array, "*b t"],
    end_diastole: Int[Array, "*b"],
    end_systole: Int[Array, "*b"],
    *,
    next_end_diastole: Int[Array, "*b"] | None = None,
) -> Strain:
    """Lagrangian strain of a line along the wall, relative to end-diastole.

    The line may be the endocardial one or the middle of the myocardium; the former shortens more. The value that is
    usually reported is the mean over the apical two-, three- and four-chamber views; one view gives that view's.

    Args:
        length: Length of the line in each frame, in any unit; nan where it is missing.
        end_diastole: Frame of reference.
        end_systole: End of systole, in which the peak is sought. Where it precedes end-diastole the loop holds the end
            of one systole and the start of the next: both are searched, up to end-systole and from end-diastole on.
        next_end_diastole: Where the heart is back at its reference. If given, a straight line through the two is taken
            off the curve.

    Returns:
        The curve and its numbers.

    Raises:
        ValueError: If there is not one frame of each phase for each curve.

    References:
        Voigt et al., "Definitions for a common standard for 2D speckle tracking echocardiography", EHJ-CI 2015.

    Example:
        >>> strain = longitudinal_strain(jnp.array([100.0, 90.0, 80.0, 85.0]), jnp.array(0), jnp.array(2))
        >>> round(float(strain.peak_systolic), 3)
        -20.0
    """
    shape = length.shape[:-1]
    for frames in (end_diastole, end_systole, next_end_diastole):
        if frames is not None and jnp.shape(frames) != shape:
            raise ValueError(f"expected one frame for each curve {list(shape)}, got {list(jnp.shape(frames))}")

    def at(curve, frame):
        return jnp.take_along_axis(curve, frame[..., None], axis=-1)

    reference = at(length, end_diastole)
    positive = reference > 0
    curve = jnp.where(positive, 100 * (length / jnp.where(positive, reference, 1.0) - 1), jnp.nan)
    drift = jnp.full(curve.shape[:-1], jnp.nan)
    time = jnp.arange(length.shape[-1])
    if next_end_diastole is not None:
        drift = at(curve, next_end_diastole)[..., 0]
        span = jnp.maximum(next_end_diastole - end_diastole, 1)
        curve = curve - (drift / span)[..., None] * (time - end_diastole[..., None])
    has_begun, has_not_ended = time >= end_diastole[..., None], time <= end_systole[..., None]
    in_order = (end_diastole <= end_systole)[..., None]
    systole = jnp.where(in_order, has_begun & has_not_ended, has_begun | has_not_ended) & jnp.isfinite(curve)
    peak = jnp.min(jnp.where(systole, curve, jnp.inf), axis=-1)
    peak = jnp.where(systole.any(-1), peak, jnp.nan)
    return Strain(curve, peak, at(curve, end_systole)[..., 0], drift)


def _rays(cavity: Bool[Array, "h w"], axis: LongAxis, spacing: Float[Array, "2"], num_points: int) -> Array:
    """The border along rays from the base; its ends are the hinge points themselves."""
    height, width = cavity.shape
    left, up = axis.left_hinge - axis.base, axis.apex - axis.base
    turn = jnp.sign(left[0] * up[1] - left[1] * up[0])
    angle = turn * jnp.pi * jnp.arange(1, num_points - 1) / (num_points - 1)
    unit = left / jnp.linalg.norm(left)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rays = jnp.stack([cos * unit[0] - sin * unit[1], sin * unit[0] + cos * unit[1]], -1)  # [n - 2, 2]
    step = jnp.min(spacing) / 2
    reach = (jnp.arange(2 * (height + width)) + 0.5) * step
    place = (axis.base + reach[:, None, None] * rays) / spacing  # [s, n - 2, 2]
    place = jnp.where(axis.valid, place, -1.0)
    inside = jax.scipy.ndimage.map_coordinates(
        cavity.astype(jnp.float32), [place[..., 0], place[..., 1]], order=1, mode="constant"
    )
    # up to its last crossing a ray counts as inside, whatever domes or bulges into the cavity before
    border = axis.base + (jnp.sum(jax.lax.cummax(inside, reverse=True), axis=0) * step)[:, None] * rays
    return jnp.concatenate([axis.left_hinge[None], border, axis.right_hinge[None]])
