"""Label maps as signed distances, which represent changes of an outline by less than a pixel, and back."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cardiojax import anatomy, ops
from cardiojax.labels import BACKGROUND, NUM_CLASSES

#: Largest distance in pixels that is computed; corrections move outlines by less.
MAX_DISTANCE = 16


def signed_distances(labels: Int[Array, "n h w"]) -> Float[Array, "n h w k"]:
    """Signed distance of each pixel to the border of each class, positive inside, at most `MAX_DISTANCE`, smoothed.

    The exact Euclidean distance of the pixel grid, first along columns by running maxima, then along rows as the
    minimum over `MAX_DISTANCE` columns on both sides; `smooth` rounds its steps.

    Args:
        labels: Label maps.

    Returns:
        Distances in pixels.
    """
    inside = labels[:, None] == jnp.arange(NUM_CLASSES)[:, None, None]
    points = jnp.stack([~inside, inside])
    height, width = labels.shape[1:]
    rows = jnp.arange(height, dtype=jnp.int16)[:, None]  # holds all squared distances, and is faster than int32
    above = jax.lax.cummax(jnp.where(points, rows, -MAX_DISTANCE), axis=3)
    below = jax.lax.cummin(jnp.where(points, rows, height + MAX_DISTANCE), axis=3, reverse=True)
    column = jnp.square(jnp.minimum(jnp.minimum(rows - above, below - rows), MAX_DISTANCE))
    padded = jnp.pad(column, [(0, 0)] * 4 + [(MAX_DISTANCE, MAX_DISTANCE)], constant_values=MAX_DISTANCE**2)

    def include_columns(step, squared):
        left, right = (jax.lax.dynamic_slice_in_dim(padded, MAX_DISTANCE + s, width, axis=-1) for s in (-step, step))
        return jnp.minimum(squared, jnp.minimum(left, right) + jnp.square(step).astype(jnp.int16))

    to_outside, to_class = jnp.sqrt(jax.lax.fori_loop(1, MAX_DISTANCE, include_columns, column).astype(jnp.float32))
    return smooth(jnp.moveaxis(jnp.where(inside, to_outside - 0.5, 0.5 - to_class), 1, -1))


def smooth(maps: Float[Array, "n h w k"]) -> Float[Array, "n h w k"]:
    """Smooths maps along rows and columns by the kernel (1, 2, 1) / 4, twice.

    Without it, the pixels of a coarser grid show as steps of the outline.

    Args:
        maps: Signed distances, or logits.

    Returns:
        The smoothed maps.
    """
    for axis in (1, 2, 1, 2):
        size, padding = maps.shape[axis], [(0, 0)] * 4
        padding[axis] = (1, 1)
        before, here, after = (
            jax.lax.slice_in_dim(jnp.pad(maps, padding, mode="edge"), i, i + size, axis=axis) for i in range(3)
        )
        maps = (before + 2 * here + after) / 4
    return maps


def to_labels(
    distances: Float[Array, "n h w k"], box: Int[Array, "4"], height: int, width: int, *, separate_atrium: bool = True
) -> Int[Array, "n height width"]:
    """Label maps of signed distances on another grid.

    Args:
        distances: Signed distances.
        box: The part of the new grid that they cover.
        height: Rows of the new grid.
        width: Columns of the new grid.
        separate_atrium: Whether myocardium is separated from the atrium where their contact is at most
            `anatomy.MAX_EXPERT_CONTACT`, see `anatomy.separate_atrium`.

    Returns:
        The class of each pixel; background outside the box.
    """
    labels = ops.resample_to_box(distances, box, height=height, width=width).argmax(-1)
    inside = ops.inside_box(box, height=height, width=width)
    labels = jnp.where(inside, labels, BACKGROUND)
    return anatomy.separate_atrium(labels, max_contact=anatomy.MAX_EXPERT_CONTACT) if separate_atrium else labels


def resize(maps: Float[Array, "n h w k"], height: int, width: int) -> Float[Array, "n height width k"]:
    """Resamples maps linearly."""
    return jax.image.resize(maps, (len(maps), height, width, maps.shape[-1]), "linear")
