"""Attributes that describe the shape of a heart, and its landmarks."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax import ops
from cardiojax.labels import LV, MYOCARDIUM
from cardiojax.types import Spacing


class Attributes(NamedTuple):
    """Seven attributes, each ``[*b]``, in the unit of the spacing (pixels without one), its square for areas.

    Attributes:
        lv_area: Area of the LV cavity.
        lv_base_width: Distance between the two mitral hinge points; nan where they are not found.
        lv_length: From the middle of the hinge points to the apex; nan where they are not found.
        lv_orientation: Degrees from the vertical to the long axis of the cavity, positive when its lower end leans to
            larger columns; 0 without a cavity.
        myo_area: Area of the myocardium.
        epi_center_x: Column of the centroid of cavity and myocardium; the image's centre if there is neither.
        epi_center_y: Its row.
    """

    lv_area: Float[Array, "*b"]
    lv_base_width: Float[Array, "*b"]
    lv_length: Float[Array, "*b"]
    lv_orientation: Float[Array, "*b"]
    myo_area: Float[Array, "*b"]
    epi_center_x: Float[Array, "*b"]
    epi_center_y: Float[Array, "*b"]


@ops.over_leading_axes(2, 1)
def attributes(labels: Int[Array, "*b h w"], spacing: Spacing = (1.0, 1.0), *, batch_size: int = 256) -> Attributes:
    """Measures the attributes that temporal consistency is measured on.

    Masks are taken ``batch_size`` at a time, so that memory beside the labels stays at about
    ``batch_size * h * w * 10`` bytes.

    Args:
        labels: Label maps of apical views, apex up.
        spacing: ``(dy, dx)`` of a pixel in mm; pixels are counted if not given.
        batch_size: Masks a block.

    Returns:
        The attributes, ``[*b]`` each.

    References:
        Painchaud et al., "Echocardiography Segmentation with Enforced Temporal Consistency", IEEE TMI 2022, III-B;
        its code of 2022 (vitalab/vital) gives the same values in pixels.

    Example:
        >>> labels = jnp.zeros((12, 9), int).at[1:9, 1:8].set(2).at[3:9, 3:6].set(1)
        >>> measured = attributes(labels)
        >>> float(measured.lv_area), float(measured.lv_base_width), float(measured.myo_area)
        (18.0, 2.0, 38.0)
    """
    batch = labels.shape[:-2]
    flat = labels.reshape(-1, *labels.shape[-2:])
    spacing = broadcast_spacing(spacing, batch).reshape(-1, 2)
    if len(flat) <= batch_size:
        measured = _attributes(flat, spacing)
    else:
        measured = lax.map(lambda pair: _attributes(*pair), (flat, spacing), batch_size=batch_size)
    return Attributes(*(value.reshape(batch) for value in measured))


def landmarks(labels: Int[Array, "*b h w"], spacing: Spacing = (1.0, 1.0)) -> ops.LongAxis:
    """Finds the apex and the two mitral hinge points, with the rounding of the published code.

    Args:
        labels: Label maps of apical views, apex up.
        spacing: ``(dy, dx)`` of a pixel in mm; pixels are counted if not given.

    Returns:
        The points; nan for a mask without a cavity that is open to the bottom of its myocardium.

    References:
        As `attributes`.

    Example:
        >>> import jax.numpy as jnp
        >>> labels = jnp.zeros((32, 32), int).at[4:24, 8:24].set(2).at[8:24, 12:20].set(1)
        >>> points = landmarks(labels)
        >>> points.apex.tolist()
        [8.0, 12.0]
    """
    spacing = broadcast_spacing(spacing, labels.shape[:-2])
    return ops.long_axis(labels == LV, labels == MYOCARDIUM, spacing, round_base=True)


def _attributes(labels: Int[Array, "*b h w"], spacing: Float[Array, "*b 2"]) -> Attributes:
    height, width = labels.shape[-2:]
    dy, dx = spacing[..., 0], spacing[..., 1]
    lv, myocardium = labels == LV, labels == MYOCARDIUM
    points = landmarks(labels, spacing)

    num_lv, lv_row, lv_col = _centroid(lv)
    rows = (jnp.arange(height) - lv_row[..., None]) * dy[..., None]
    cols = (jnp.arange(width) - lv_col[..., None]) * dx[..., None]
    moments = (
        jnp.sum(jnp.sum(lv, -1) * rows**2, -1),
        jnp.sum(jnp.sum(lv, -2) * cols**2, -1),
        jnp.sum(jnp.sum(jnp.where(lv, cols[..., None, :], 0.0), -1) * rows, -1),
    )
    num_epicardium, epi_row, epi_col = _centroid(lv | myocardium)
    is_there = num_epicardium > 0
    return Attributes(
        lv_area=num_lv * dy * dx,
        lv_base_width=_distance(points.left_hinge, points.right_hinge),
        lv_length=points.length,
        lv_orientation=orientation(*moments),
        myo_area=jnp.sum(myocardium, (-2, -1)) * dy * dx,
        epi_center_x=jnp.where(is_there, epi_col, width // 2) * dx,
        epi_center_y=jnp.where(is_there, epi_row, height // 2) * dy,
    )


def _centroid(mask: Bool[Array, "*b h w"]) -> tuple[Int[Array, "*b"], Float[Array, "*b"], Float[Array, "*b"]]:
    """Pixels, mean row and mean column."""
    row, col = (ops.mean_index(jnp.sum(mask, axis)) for axis in (-1, -2))
    return row.total, row.value(), col.value()


def orientation(rr: Float[Array, "*b"], cc: Float[Array, "*b"], rc: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Degrees between the vertical and the axis of largest second moment.

    Args:
        rr: Second moment of the rows.
        cc: Second moment of the columns.
        rc: Mixed moment.

    Returns:
        -90 to 90; 0 for a shape without an axis.
    """
    has_axis = (rc != 0) | (rr != cc)
    return jnp.degrees(0.5 * jnp.arctan2(2 * rc, jnp.where(has_axis, rr - cc, 1.0)))


def _distance(a: Float[Array, "*b 2"], b: Float[Array, "*b 2"]) -> Float[Array, "*b"]:
    return jnp.sqrt(jnp.sum(jnp.square(a - b), -1))


def broadcast_spacing(spacing: Spacing, batch: tuple[int, ...]) -> Float[Array, "*b 2"]:
    """One ``(dy, dx)`` for every mask."""
    return jnp.broadcast_to(jnp.asarray(spacing, jnp.float32), (*batch, 2))
