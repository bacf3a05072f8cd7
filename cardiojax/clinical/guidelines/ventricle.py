"""Numbers of the left ventricle that follow from its volumes."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax.clinical._shapes import require_same_shape
from cardiojax.clinical.volumes import MM3_PER_ML


def stroke_volume(end_diastolic: Float[Array, "*b"], end_systolic: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Volume that leaves the ventricle in a beat, through both valves if the mitral one leaks.

    Args:
        end_diastolic: Volume at end-diastole.
        end_systolic: Volume at end-systole, in the same unit.

    Returns:
        Their difference; nan where the end-systolic volume is not below the end-diastolic one.

    References:
        Lang et al., "Recommendations for cardiac chamber quantification by echocardiography in adults", JASE 2015.

    Example:
        >>> float(stroke_volume(jnp.array(120.0), jnp.array(50.0)))
        70.0
    """
    require_same_shape(end_diastolic=end_diastolic, end_systolic=end_systolic)
    is_ejected = (end_systolic < end_diastolic) & (end_systolic >= 0)
    return jnp.where(is_ejected, end_diastolic - end_systolic, jnp.nan)


def cardiac_output(volume: Float[Array, "*b"], rate: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Volume that leaves the ventricle in a minute.

    Args:
        volume: Stroke volume in ml.
        rate: Heart rate in beats a minute.

    Returns:
        Litres a minute.

    Example:
        >>> round(float(cardiac_output(jnp.array(70.0), jnp.array(65.0))), 2)
        4.55
    """
    require_same_shape(volume=volume, rate=rate)
    return volume * rate / 1000


def sphericity_index(volume: Float[Array, "*b"], length: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Volume of the ventricle over that of a sphere whose diameter is its long axis.

    Args:
        volume: Volume in ml, at end-diastole as a rule.
        length: Long axis in mm, of the same phase.

    Returns:
        1 for a sphere, less for a longer ventricle; nan where there is no length.

    References:
        Mannaerts et al., "Early identification of left ventricular remodelling after myocardial infarction, assessed
        by transthoracic 3D echocardiography", European Heart Journal 2004, 25:680-687.

    Example:
        >>> round(float(sphericity_index(jnp.array(120.0), jnp.array(90.0))), 3)
        0.314
    """
    require_same_shape(volume=volume, length=length)
    is_positive = length > 0
    sphere = jnp.pi / 6 * jnp.where(is_positive, length, 1.0) ** 3 / MM3_PER_ML
    return jnp.where(is_positive, volume / sphere, jnp.nan)
