"""Size of the body, by which sizes of the heart are indexed."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax.clinical._shapes import require_same_shape


def body_surface_area(height: Float[Array, "*b"], weight: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Body surface area by the formula of Du Bois and Du Bois.

    Args:
        height: In cm.
        weight: In kg.

    Returns:
        Area in m²; nan where one of the two is not positive.

    References:
        Du Bois and Du Bois, Archives of Internal Medicine 1916, 17:863-871.

    Example:
        >>> round(float(body_surface_area(jnp.array(170.0), jnp.array(70.0))), 2)
        1.81
    """
    require_same_shape(height=height, weight=weight)
    is_known = (height > 0) & (weight > 0)
    height, weight = (jnp.where(is_known, value, 1.0) for value in (height, weight))
    return jnp.where(is_known, 0.007184 * weight**0.425 * height**0.725, jnp.nan)
