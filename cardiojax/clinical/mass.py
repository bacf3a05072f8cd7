"""Mass of the myocardium."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cardiojax.clinical._shapes import require_same_shape
from cardiojax.labels import MYOCARDIUM

#: Density of myocardium in g/ml.
DENSITY = 1.05


def myocardial_area(labels: Int[Array, "*b h w"], spacing: Float[Array, "*#b 2"]) -> Float[Array, "*b"]:
    """Measures the area of the myocardium.

    Args:
        labels: Label maps.
        spacing: ``(dy, dx)`` in mm.

    Returns:
        Area in mm², ``[*b]``.

    Example:
        >>> float(myocardial_area(jnp.full((4, 5), 2), jnp.array([0.5, 2.0])))
        20.0
    """
    return jnp.sum(labels == MYOCARDIUM, axis=(-2, -1)) * jnp.prod(spacing, axis=-1)


def shell_mass(epicardial_volume: Float[Array, "*b"], endocardial_volume: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Mass between two volumes, for apical views without a short-axis view.

    With volumes from disks (``disks(..., with_wall=True)`` and without) it takes the wall for as thick all around as
    it is in the views at hand. A view that cuts a papillary muscle or an obliquely seen wall makes it too heavy, and it
    was not validated against the short-axis formulas: use it to compare frames of one patient.

    Args:
        epicardial_volume: Cavity and myocardium in ml.
        endocardial_volume: Cavity in ml.

    Returns:
        Mass in g.

    Example:
        >>> round(float(shell_mass(jnp.array(220.0), jnp.array(120.0))))
        105
    """
    require_same_shape(epicardial_volume=epicardial_volume, endocardial_volume=endocardial_volume)
    return DENSITY * (epicardial_volume - endocardial_volume)


def area_length_mass(
    epicardial_area: Float[Array, "*b"], endocardial_area: Float[Array, "*b"], length: Float[Array, "*b"]
) -> Float[Array, "*b"]:
    """Mass by the area-length formula.

    Args:
        epicardial_area: Area within the epicardium in a short-axis view at the papillary muscles, mm².
        endocardial_area: Area of the cavity there, papillary muscles included, mm².
        length: Length of the cavity in an apical view, mm.

    Returns:
        Mass in g, at end-diastole as a rule.

    References:
        Lang et al., "Recommendations for cardiac chamber quantification by echocardiography in adults", JASE 2015.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(area_length_mass(jnp.array(3500.0), jnp.array(1900.0), jnp.array(85.0))))
        146
    """
    require_same_shape(epicardial_area=epicardial_area, endocardial_area=endocardial_area, length=length)
    thickness = jnp.sqrt(epicardial_area / jnp.pi) - jnp.sqrt(endocardial_area / jnp.pi)
    return DENSITY * 5 / 6 * (epicardial_area * (length + thickness) - endocardial_area * length) / 1000


def truncated_ellipsoid_mass(
    radius: Float[Array, "*b"], thickness: Float[Array, "*b"], to_apex: Float[Array, "*b"], to_base: Float[Array, "*b"]
) -> Float[Array, "*b"]:
    """Mass of a shell around half an ellipsoid that goes on, truncated, to the mitral plane.

    Args:
        radius: Radius of the cavity where it is widest, mm; from a short-axis view, or half a width in an apical one,
            which then stands for a section that was not seen.
        thickness: Mean thickness of the wall there, mm.
        to_apex: From the widest level to the apex, mm.
        to_base: From the widest level to the mitral plane, mm.

    Returns:
        Mass in g.

    References:
        Lang et al., JASE 2015.

    Example:
        >>> import jax.numpy as jnp
        >>> radius, thickness, to_apex, to_base = jnp.array([23.0, 9.0, 55.0, 25.0])
        >>> round(float(truncated_ellipsoid_mass(radius, thickness, to_apex, to_base)))
        120
    """
    require_same_shape(radius=radius, thickness=thickness, to_apex=to_apex, to_base=to_base)

    def volume(short, long):
        return jnp.pi * short**2 * (2 / 3 * long + to_base - to_base**3 / (3 * long**2)) / 1000

    return DENSITY * (volume(radius + thickness, to_apex + thickness) - volume(radius, to_apex))
