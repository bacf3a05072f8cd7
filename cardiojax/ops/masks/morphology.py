"""Dilation and erosion, as shifted copies laid over each other."""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Mask = Bool[Array, "*b h w"] | Float[Array, "*b h w"] | Int[Array, "*b h w"]


def dilate(mask: Mask, *, connectivity: int = 8) -> Mask:
    """Adds the neighbours of every pixel of a mask; of a map of numbers, takes the largest in each neighbourhood.

    Args:
        mask: Binary masks, or numbers of at least 0.
        connectivity: 8 neighbours for a square of 3 x 3, 4 for a cross.

    Returns:
        The wider masks, as ``scipy.ndimage.binary_dilation`` gives them.

    Raises:
        ValueError: If the connectivity is neither 4 nor 8.

    Example:
        >>> dilate(jnp.array([[False, False, True]])).tolist()
        [[False, True, True]]
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, got {connectivity}")
    wide = _spread(mask, -1)
    return _spread(wide, -2) if connectivity == 8 else jnp.maximum(wide, _spread(mask, -2))


def erode(mask: Bool[Array, "*b h w"], *, connectivity: int = 8, beyond: bool = False) -> Bool[Array, "*b h w"]:
    """Keeps the pixels of a mask all of whose neighbours are in it.

    Args:
        mask: Binary masks.
        connectivity: 8 neighbours for a square of 3 x 3, 4 for a cross.
        beyond: Whether what lies beyond the image counts as part of the mask.

    Returns:
        The narrower masks, as ``scipy.ndimage.binary_erosion`` gives them with ``border_value=beyond``.

    Raises:
        ValueError: If the connectivity is neither 4 nor 8.

    Example:
        >>> import jax.numpy as jnp
        >>> mask = jnp.zeros((5, 5), bool).at[1:4, 1:4].set(True)
        >>> int(erode(mask).sum()), int(erode(mask, connectivity=4).sum())
        (1, 1)
    """
    if beyond:
        return ~dilate(~mask, connectivity=connectivity)
    wider = jnp.pad(~mask, [(0, 0)] * (mask.ndim - 2) + [(1, 1), (1, 1)], constant_values=True)
    return ~dilate(wider, connectivity=connectivity)[..., 1:-1, 1:-1]


def _spread(mask: Mask, axis: int) -> Mask:
    """The largest of each pixel, the one before and the one after it along an axis."""
    size = mask.shape[axis]
    padded = jnp.pad(mask, [(0, 0)] * (mask.ndim + axis) + [(1, 1)] + [(0, 0)] * (-1 - axis))
    index = [slice(None)] * (mask.ndim + axis)
    return functools.reduce(jnp.maximum, (padded[*index, slice(k, k + size)] for k in range(3)))
