"""The line in the middle of the myocardium."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax.anatomy.attributes import broadcast_spacing, landmarks
from cardiojax.labels import LV, MYOCARDIUM
from cardiojax.ops import over_leading_axes
from cardiojax.types import Spacing


class Midline(NamedTuple):
    """The middle of the wall from one mitral hinge over the apex to the other.

    Attributes:
        points: ``(row, col)`` from the centre of pixel (0, 0), in the unit of the spacing, evenly spaced from the left
            to the right end, ``[*b, n, 2]``; nan where not ``valid``.
        length: Along the line, ``[*b]``; nan where not ``valid``.
        valid: Whether there is a base, and wall in at least half of the directions, ``[*b]``.
    """

    points: Float[Array, "*b n 2"]
    length: Float[Array, "*b"]
    valid: Bool[Array, "*b"]


@over_leading_axes(2, 1)
def midline(
    labels: Int[Array, "*b h w"], spacing: Spacing = (1.0, 1.0), *, num_points: int = 33, batch_size: int = 32
) -> Midline:
    """Finds the middle of the myocardium between its inner and its outer edge.

    Rays start in the middle of the two hinge points and turn from the left one over the apex to the right one; on each,
    the point midway through the wall is taken, where the cavity is left for the last time: a ray may cross a bulge of
    the wall and meet the cavity again. Directions without wall, or with a sliver of it, are bridged. The line is then
    resampled to points at even distances.

    Memory beside the labels: about ``batch_size * num_points * (h + w) * 60`` bytes.

    Args:
        labels: Label maps of apical views, apex up.
        spacing: ``(dy, dx)`` of a pixel in mm; pixels are counted if not given.
        num_points: Points of the line.
        batch_size: Masks a block.

    Returns:
        The lines.

    Example:
        >>> labels = jnp.zeros((12, 9), int).at[1:9, 1:8].set(2).at[3:9, 3:6].set(1)
        >>> line = midline(labels, num_points=3)
        >>> line.points.shape, bool(line.valid)
        ((3, 2), True)
    """
    batch = labels.shape[:-2]
    flat = labels.reshape(-1, *labels.shape[-2:])
    spacing = broadcast_spacing(spacing, batch).reshape(-1, 2)
    lines = lax.map(lambda pair: _midline(pair[0], pair[1], num_points), (flat, spacing), batch_size=batch_size)
    return Midline(*(value.reshape(*batch, *value.shape[1:]) for value in lines))


def _midline(labels: Int[Array, "h w"], spacing: Float[Array, " 2"], num_points: int) -> Midline:
    height, width = labels.shape
    axis = landmarks(labels, spacing)
    base = axis.base
    up = (axis.apex - base) / jnp.linalg.norm(axis.apex - base)
    aside = jnp.stack([-up[1], up[0]])  # to the right where up is towards smaller rows
    aside = jnp.where(aside @ (axis.right_hinge - base) < 0, -aside, aside)

    def angle(point):
        return jnp.arctan2(aside @ (point - base), up @ (point - base))

    angles = jnp.linspace(angle(axis.left_hinge), angle(axis.right_hinge), 2 * num_points + 1)
    directions = jnp.cos(angles)[:, None] * up + jnp.sin(angles)[:, None] * aside
    stride = jnp.min(spacing) / 2
    reach = jnp.hypot((height - 1) * spacing[0], (width - 1) * spacing[1])
    num_strides = 2 * (height + width)
    radii = jnp.minimum(jnp.arange(num_strides) * stride, reach)

    pixels = jnp.round((base + radii[:, None] * directions[:, None]) / spacing)
    is_inside = ((pixels >= 0) & (pixels <= jnp.array([height - 1, width - 1]))).all(-1)
    row, col = jnp.moveaxis(jnp.where((is_inside & axis.valid)[..., None], pixels, 0).astype(jnp.int32), -1, 0)
    met = jnp.where(is_inside, labels[row, col], -1)
    is_wall = met == MYOCARDIUM

    # a bulge of the wall may be crossed on the way: the wall proper lies beyond the last of the cavity
    leaves_cavity = is_wall & (jnp.roll(met, 1, -1) == LV)
    last = num_strides - 1 - jnp.argmax(leaves_cavity[:, ::-1], -1)
    inner = jnp.where(leaves_cavity.any(-1), last, jnp.argmax(is_wall, -1))
    is_past = (jnp.arange(num_strides) > inner[:, None]) & ~is_wall
    outer = jnp.argmax(is_past, -1)
    is_hit = is_wall.any(-1) & is_past.any(-1)
    # at the ragged edge of a gap a ray meets a sliver, whose middle is not that of the wall
    thickness = jnp.where(is_hit, radii[outer] - radii[inner], jnp.nan)
    is_hit &= thickness > jnp.nanmedian(thickness) / 4
    # directions without wall are bridged: those with wall are sorted to the front, the last of them repeated
    order = jnp.argsort(jnp.where(is_hit, angles, jnp.inf))
    order = order[jnp.minimum(jnp.arange(len(order)), jnp.maximum(is_hit.sum() - 1, 0))]
    middle = jnp.interp(angles, angles[order], ((radii[inner] + radii[outer]) / 2)[order])

    line = base + middle[:, None] * directions
    along = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.linalg.norm(jnp.diff(line, axis=0), axis=-1))])
    even = jnp.linspace(0.0, 1.0, num_points) * along[-1]
    points = jax.vmap(lambda values: jnp.interp(even, along, values), 1, 1)(line)
    valid = axis.valid & (2 * is_hit.sum() >= len(angles))
    return Midline(jnp.where(valid, points, jnp.nan), jnp.where(valid, along[-1], jnp.nan), valid)
