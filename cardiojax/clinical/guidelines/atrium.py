"""Volume of the left atrium in apical views."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cardiojax.clinical._shapes import require_same_shape
from cardiojax.clinical.axis import LongAxis, long_axis
from cardiojax.clinical.volumes import Disks, area_length_volume, cut_disks
from cardiojax.labels import LEFT_ATRIUM


def atrial_disks(
    labels: Int[Array, "*b h w"],
    spacing: Float[Array, "*#b 2"],
    *,
    num_disks: int = 20,
    axis: LongAxis | None = None,
) -> Disks:
    """Cuts the left atrium into disks along its own axis.

    The axis begins in the middle of the mitral plane, where that of the ventricle does, and runs through the centre of
    the atrium to its far end.

    Args:
        labels: Label maps, ``[*b, h, w]``.
        spacing: ``(dy, dx)`` in mm.
        num_disks: Number of disks.
        axis: The long axis of the ventricle, if it is known.

    Returns:
        The disks and the length; nan where the mitral plane or the atrium is not found.

    References:
        Lang et al., "Recommendations for cardiac chamber quantification by echocardiography in adults", JASE 2015,
        section "Left atrial measurements".

    Example:
        >>> import jax.numpy as jnp
        >>> labels = jnp.zeros((40, 30), int).at[1:20, 5:25].set(2).at[4:20, 10:20].set(1).at[20:35, 10:20].set(3)
        >>> cut = atrial_disks(labels, jnp.ones(2), num_disks=4)
        >>> cut.diameters.shape, float(cut.length)
        ((4,), 15.0)
    """
    axis = long_axis(labels, spacing) if axis is None else axis
    region = labels == LEFT_ATRIUM
    spacing = jnp.broadcast_to(spacing, (*labels.shape[:-2], 2))
    num = jnp.maximum(region.sum((-2, -1)), 1)
    rows, cols = jnp.arange(labels.shape[-2]), jnp.arange(labels.shape[-1])
    centre = jnp.stack([(region.sum(-1) * rows).sum(-1) / num, (region.sum(-2) * cols).sum(-1) / num], -1) * spacing
    along = centre - axis.base
    distance = jnp.linalg.norm(along, axis=-1, keepdims=True)
    direction = jnp.where(region.any((-2, -1))[..., None], along / distance, jnp.nan)
    return cut_disks(region, spacing, axis.base, direction, num_disks=num_disks)


def atrial_area(labels: Int[Array, "*b h w"], spacing: Float[Array, "*#b 2"]) -> Float[Array, "*b"]:
    """Measures the area of the left atrium.

    Args:
        labels: Label maps.
        spacing: ``(dy, dx)`` in mm.

    Returns:
        Area in mm², ``[*b]``.

    Example:
        >>> float(atrial_area(jnp.full((4, 5), 3), jnp.array([0.5, 2.0])))
        20.0
    """
    return jnp.sum(labels == LEFT_ATRIUM, axis=(-2, -1)) * jnp.prod(spacing, axis=-1)


def biplane_area_length_volume(
    two_chamber_area: Float[Array, "*b"],
    four_chamber_area: Float[Array, "*b"],
    two_chamber_length: Float[Array, "*b"],
    four_chamber_length: Float[Array, "*b"],
) -> Float[Array, "*b"]:
    """Volume by the biplane area-length formula, with the shorter of the two lengths.

    Args:
        two_chamber_area: Area in the two-chamber view, mm².
        four_chamber_area: Area in the four-chamber view, mm².
        two_chamber_length: Length of the axis in the two-chamber view, mm.
        four_chamber_length: Length of the axis in the four-chamber view, mm.

    Returns:
        Volume in ml; nan where a length is missing.

    References:
        Lang et al., JASE 2015, section "Left atrial measurements": ``8 / (3 pi) A1 A2 / L``.

    Example:
        >>> import jax.numpy as jnp
        >>> area, length = jnp.pi / 4 * 40 * 50, 50.0  # an ellipsoid with axes of 40, 40 and 50 mm
        >>> values = [jnp.array(x) for x in (area, area, length, length)]
        >>> round(float(biplane_area_length_volume(*values)), 1)  # pi / 6 40^2 50 mm^3
        41.9
    """
    require_same_shape(
        two_chamber_area=two_chamber_area,
        four_chamber_area=four_chamber_area,
        two_chamber_length=two_chamber_length,
        four_chamber_length=four_chamber_length,
    )
    area = jnp.sqrt(two_chamber_area * four_chamber_area)
    return area_length_volume(area, jnp.minimum(two_chamber_length, four_chamber_length))
