"""Exact Euclidean distances on a pixel grid."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float


def distance_to(
    points: Bool[Array, "*b h w"],
    spacing: Float[Array, "*#b 2"] | tuple[float, float] = (1.0, 1.0),
    *,
    query: Bool[Array, "*b h w"] | None = None,
) -> Float[Array, "*b h w"]:
    """Distance of pixels to the nearest of some points.

    Two separable passes: the nearest point of each column by running extrema, then the smallest sum of squares along
    each row. The second pass looks ever farther to both sides and stops as soon as no queried pixel can come nearer, so
    that its cost grows with the largest distance asked for, not with the width. Memory: a few times the input.

    Args:
        points: Pixels to which distances are measured.
        spacing: ``(dy, dx)`` of a pixel, in any unit.
        query: Pixels whose distance is wanted; all if not given. Elsewhere the result is an upper bound.

    Returns:
        Distances in the unit of the spacing; infinite where an image has no points.

    References:
        Felzenszwalb and Huttenlocher, "Distance Transforms of Sampled Functions", 2012 (the separable form).

    Example:
        >>> points = jnp.zeros((3, 4), bool).at[0, 0].set(True)
        >>> float(distance_to(points, (3.0, 4.0))[1, 1])
        5.0
    """
    height, width = points.shape[-2:]
    dy, dx = jnp.moveaxis(jnp.asarray(spacing, jnp.float32), -1, 0)[..., None, None]
    rows = jnp.arange(height)[:, None]
    far = 2 * height
    above = lax.cummax(jnp.where(points, rows, -far), axis=points.ndim - 2)
    below = lax.cummin(jnp.where(points, rows, 2 * far), axis=points.ndim - 2, reverse=True)
    steps = jnp.minimum(rows - above, below - rows)
    in_column = jnp.where(steps < far, jnp.square(steps * dy), jnp.inf)

    padding = [(0, 0)] * (points.ndim - 1) + [(width, width)]
    padded = jnp.pad(in_column, padding, constant_values=jnp.inf)

    def is_unsettled(carry):
        step, squared = carry
        wanted = squared if query is None else jnp.where(query, squared, 0.0)
        return (step < width) & jnp.any(wanted > jnp.square(step * dx))

    def look_farther(carry):
        step, squared = carry
        left = lax.dynamic_slice_in_dim(padded, width - step, width, axis=-1)
        right = lax.dynamic_slice_in_dim(padded, width + step, width, axis=-1)
        return step + 1, jnp.minimum(squared, jnp.minimum(left, right) + jnp.square(step * dx))

    _, squared = lax.while_loop(is_unsettled, look_farther, (jnp.int32(1), in_column))
    return jnp.sqrt(squared)


def distance_transform(
    mask: Bool[Array, "*b h w"], spacing: Float[Array, "*#b 2"] | tuple[float, float] = (1.0, 1.0)
) -> Float[Array, "*b h w"]:
    """Distance of each pixel of a mask to the nearest pixel outside it; what lies beyond the image is not outside.

    Args:
        mask: Binary masks.
        spacing: ``(dy, dx)`` of a pixel.

    Returns:
        Distances in the unit of the spacing, 0 outside the mask; infinite where a mask fills its image. The same as
        ``scipy.ndimage.distance_transform_edt``.
    """
    return distance_to(~mask, spacing, query=mask)
