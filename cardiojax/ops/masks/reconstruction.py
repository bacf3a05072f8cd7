"""Flooding of maps of numbers: morphological reconstruction, with gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from cardiojax.ops.transforms import over_leading_axes


class _Reached(NamedTuple):
    """The level that a pixel is reached at, and the pixel whose value it is."""

    level: Float[Array, "*s"]
    source: Int[Array, "*s"]


class _Sweeps(NamedTuple):
    """State of the loop."""

    reached: _Reached
    has_changed: Array


def reconstruct(
    seeds: Float[Array, "*b h w"], mask: Float[Array, "*b h w"], *, connectivity: int = 4
) -> Float[Array, "*b h w"]:
    """Morphological reconstruction of a map by dilation: `flood_fill` for numbers.

    The value of a pixel is the highest level at which a way leads to it from a seed: the largest, over all ways, of the
    smallest value of the mask on the way and of the seed that it starts from.

    A value is that of one deciding pixel, of the seeds or of the mask, and so is its gradient.

    Args:
        seeds: Levels at which the flood starts; what lies above the mask is cut.
        mask: Highest level of each pixel.
        connectivity: 4 or 8 neighbours.

    Returns:
        The levels reached, as ``skimage.morphology.reconstruction`` gives them.

    Raises:
        ValueError: If the connectivity is neither 4 nor 8.

    References:
        Vincent, "Morphological Grayscale Reconstruction in Image Analysis", IEEE Transactions on Image Processing 1993.

    Example:
        >>> reconstruct(jnp.array([[0.75, 0.0, 0.0]]), jnp.array([[1.0, 0.5, 0.7]])).tolist()
        [[0.75, 0.5, 0.5]]
    """
    *batch, height, width = mask.shape
    seeds = jnp.minimum(seeds, mask)
    source = deciding_pixels(lax.stop_gradient(seeds), lax.stop_gradient(mask), connectivity=connectivity)
    values = jnp.concatenate([x.reshape(*batch, height * width) for x in (seeds, mask)], -1)
    return jnp.take_along_axis(values, source.reshape(*batch, -1), -1).reshape(mask.shape)


@over_leading_axes(2, 2)
def deciding_pixels(
    seeds: Float[Array, "*b h w"], mask: Float[Array, "*b h w"], *, connectivity: int
) -> Int[Array, "*b h w"]:
    """The pixels whose values a reconstruction takes.

    Sweeps down, up, right and left carry levels from pixel to pixel until none rises.

    Args:
        seeds: Levels at which the flood starts, nowhere above the mask.
        mask: Highest level of each pixel.
        connectivity: 4 or 8.

    Returns:
        For each pixel an index into the seeds, row by row, and after them those of the mask.
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, got {connectivity}")
    *batch, height, width = mask.shape
    mask, seeds = (x.reshape(-1, height, width) for x in (mask, seeds))
    index = jnp.broadcast_to(jnp.arange(height * width, dtype=jnp.int32).reshape(height, width), mask.shape)

    def sweep(reached, axis, reverse):
        def step(before, row):
            here, highest, own = row
            row = _limit(_higher(here, _spread(before) if connectivity == 8 else before), highest, own)
            return row, row

        lines = jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), (reached, mask, index + height * width))
        start = _Reached(jnp.full_like(lines[1][0], -jnp.inf), jnp.zeros_like(lines[2][0]))
        _, rows = lax.scan(step, start, lines, reverse=reverse)
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, axis), rows)

    def go_on(sweeps):
        reached = sweeps.reached
        for axis in (1, 2):
            for reverse in (False, True):
                reached = sweep(reached, axis, reverse)
        return _Sweeps(reached, (reached.level > sweeps.reached.level).any())

    start = _Sweeps(_Reached(seeds, index), jnp.bool_(True))
    return lax.while_loop(lambda sweeps: sweeps.has_changed, go_on, start).reached.source.reshape(*batch, height, width)


def _higher(a: _Reached, b: _Reached) -> _Reached:
    is_higher = b.level > a.level
    return _Reached(jnp.where(is_higher, b.level, a.level), jnp.where(is_higher, b.source, a.source))


def _limit(a: _Reached, highest: Float[Array, "n w"], source: Int[Array, "n w"]) -> _Reached:
    is_above = a.level > highest
    return _Reached(jnp.where(is_above, highest, a.level), jnp.where(is_above, source, a.source))


def _spread(line: _Reached) -> _Reached:
    """The highest of each pixel of a line and its two neighbours."""
    nothing = _Reached(jnp.full_like(line.level[:, :1], -jnp.inf), jnp.zeros_like(line.source[:, :1]))
    left = _Reached(*(jnp.concatenate([n, x[:, :-1]], 1) for x, n in zip(line, nothing, strict=True)))
    right = _Reached(*(jnp.concatenate([x[:, 1:], n], 1) for x, n in zip(line, nothing, strict=True)))
    return _higher(_higher(line, left), right)
