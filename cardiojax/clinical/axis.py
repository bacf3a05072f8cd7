"""The long axis of the left ventricle and its area in label maps."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cardiojax import ops
from cardiojax.labels import LV, MYOCARDIUM
from cardiojax.ops import LongAxis as LongAxis


def long_axis(labels: Int[Array, "*b h w"], spacing: Float[Array, "*#b 2"]) -> LongAxis:
    """Finds the long axis of the LV cavity in apical views drawn apex up, as `ops.long_axis` does.

    Args:
        labels: Label maps, ``[*b, h, w]``.
        spacing: ``(dy, dx)`` in mm, broadcast against the leading axes.

    Returns:
        The landmarks in mm. A mask without cavity, without myocardium or with a closed wall has no base: ``valid`` is
        false and the landmarks are nan.

    Example:
        >>> import jax.numpy as jnp
        >>> labels = jnp.zeros((12, 9), int).at[1:9, 1:8].set(2).at[3:9, 3:6].set(1).at[9:11, 3:6].set(3)
        >>> axis = long_axis(labels, jnp.ones(2))
        >>> axis.base.tolist(), round(float(axis.length), 3)
        ([8.0, 4.0], 5.099)
    """
    return ops.long_axis(labels == LV, labels == MYOCARDIUM, spacing)


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
