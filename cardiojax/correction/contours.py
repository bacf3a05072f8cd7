"""Label maps as maps of signed distance, in which a shape is changed by less than a pixel, and back."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cardiojax import ops
from cardiojax.labels import BACKGROUND, LEFT_ATRIUM, LV, MYOCARDIUM, NUM_CLASSES

#: Largest distance in pixels that is resolved: farther than an outline is moved.
REACH = 16


def signed_distances(labels: Int[Array, "n h w"]) -> Float[Array, "n h w k"]:
    """Distance of each pixel to the border of each class, positive inside, up to `REACH`, with rounded steps.

    Args:
        labels: Label maps.

    Returns:
        Distances in pixels.
    """
    inside = labels[:, None] == jnp.arange(NUM_CLASSES)[:, None, None]
    points = jnp.stack([~inside, inside])
    height, width = labels.shape[1:]
    rows = jnp.arange(height, dtype=jnp.int16)[:, None]  # small numbers are quick
    above = jax.lax.cummax(jnp.where(points, rows, -REACH), axis=3)
    below = jax.lax.cummin(jnp.where(points, rows, height + REACH), axis=3, reverse=True)
    column = jnp.square(jnp.minimum(jnp.minimum(rows - above, below - rows), REACH))
    padded = jnp.pad(column, [(0, 0)] * 4 + [(REACH, REACH)], constant_values=REACH**2)

    def look_aside(step, squared):
        left, right = (jax.lax.dynamic_slice_in_dim(padded, REACH + s, width, axis=-1) for s in (-step, step))
        return jnp.minimum(squared, jnp.minimum(left, right) + jnp.square(step).astype(jnp.int16))

    to_outside, to_class = jnp.sqrt(jax.lax.fori_loop(1, REACH, look_aside, column).astype(jnp.float32))
    return soften(jnp.moveaxis(jnp.where(inside, to_outside - 0.5, 0.5 - to_class), 1, -1))


def soften(maps: Float[Array, "n h w k"]) -> Float[Array, "n h w k"]:
    """Applies a narrow Gaussian, without which a coarser grid shows as ripples of the outline.

    Args:
        maps: Signed distances, or logits.

    Returns:
        The smoother maps.
    """
    for axis in (1, 2, 1, 2):
        size, padding = maps.shape[axis], [(0, 0)] * 4
        padding[axis] = (1, 1)
        before, here, after = (
            jax.lax.slice_in_dim(jnp.pad(maps, padding, mode="edge"), i, i + size, axis=axis) for i in range(3)
        )
        maps = (before + 2 * here + after) / 4
    return maps


def label_maps(distances: Float[Array, "n h w k"], height: int, width: int) -> Int[Array, "n height width"]:
    """Label maps of signed distances on another grid.

    Args:
        distances: Signed distances.
        height: New height.
        width: New width.

    Returns:
        The class of each pixel.
    """
    return part_at_the_hinges(resize(distances, height, width).argmax(-1))


def part_at_the_hinges(labels: Int[Array, "n h w"]) -> Int[Array, "n h w"]:
    """Puts background between wall and atrium beyond the mitral hinges, where no true heart has them touch.

    Args:
        labels: Label maps.

    Returns:
        The label maps.
    """
    touching = ops.dilate(labels == LEFT_ATRIUM) & ~ops.dilate(labels == LV)
    return jnp.where((labels == MYOCARDIUM) & touching, BACKGROUND, labels)


def resize(maps: Float[Array, "n h w k"], height: int, width: int) -> Float[Array, "n height width k"]:
    """Resamples maps linearly."""
    return jax.image.resize(maps, (len(maps), height, width, maps.shape[-1]), "linear")
