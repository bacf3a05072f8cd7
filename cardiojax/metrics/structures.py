"""The masks that metrics compare: one structure each, or several structures of a label map."""

from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from cardiojax.labels import LEFT_ATRIUM, LV, MYOCARDIUM

#: A structure is one label, or the labels that it consists of: the epicardium is ``(LV, MYOCARDIUM)``.
Structure = int | tuple[int, ...]

#: Every structure that has a label of its own.
FOREGROUND: tuple[Structure, ...] = (LV, MYOCARDIUM, LEFT_ATRIUM)


def class_masks(labels: Int[Array, "*b h w"], structures: Iterable[Structure] = FOREGROUND) -> Bool[Array, "*b k h w"]:
    """Selects structures of label maps.

    Args:
        labels: Label maps.
        structures: A label each, or the labels of which a structure consists, such as those of
            `cardiojax.labels.STRUCTURES`.

    Returns:
        One mask for each structure, in their order.

    Raises:
        TypeError: If the labels are not integers.
        ValueError: If there is no structure.

    Example:
        >>> class_masks(jnp.array([[0, 1, 2, 3]]), (1, (1, 2)))[:, 0].astype(int).tolist()
        [[0, 1, 0, 0], [0, 1, 1, 0]]
    """
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"label maps must be integers, got {labels.dtype}: a mask of one structure needs no classes")
    groups = [(s,) if isinstance(s, int | np.integer) else tuple(s) for s in structures]
    if not groups:
        raise ValueError("structures must name at least one label")
    return jnp.stack([jnp.isin(labels, jnp.array(group)) for group in groups], axis=-3)


def require_masks(prediction: Array, target: Array) -> tuple[Bool[Array, "*b h w"], Bool[Array, "*b h w"]]:
    """Refuses what is no pair of masks: on label maps the logical operations of a metric would be bitwise.

    Args:
        prediction: Predicted mask.
        target: True mask.

    Returns:
        Both as JAX arrays.

    Raises:
        TypeError: If either is not boolean.
    """
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    for name, mask in (("prediction", prediction), ("target", target)):
        if mask.dtype != jnp.bool_:
            raise TypeError(
                f"{name} must be a boolean mask of one structure, got {mask.dtype}: compare label maps by the function "
                "whose name ends in _per_class, or one structure as labels == LV"
            )
    return prediction, target
