"""Outlines of masks as a fixed number of points."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cardiojax.ops.packed.components import largest_component
from cardiojax.ops.transforms import over_leading_axes
from cardiojax.types import Spacing


class Contour(NamedTuple):
    """A closed outline.

    Attributes:
        points: ``(row, col)`` from the centre of pixel (0, 0), clockwise in the image, evenly spaced along the outline,
            ``[*b, n, 2]``; nan for an empty mask.
        length: Length of the outline, ``[*b]``; 0 for an empty mask.
    """

    points: Float[Array, "*b n 2"]
    length: Float[Array, "*b"]


#: Up, right, down, left: clockwise.
_WAYS = ((-1, 0), (0, 1), (1, 0), (0, -1))


@over_leading_axes(2, 1)
def contour(
    mask: Bool[Array, "*b h w"],
    spacing: Spacing = (1.0, 1.0),
    *,
    num_points: int = 64,
    connectivity: int = 4,
) -> Contour:
    """The outer outline of the largest region of each mask.

    The outline runs through the middles between neighbouring pixels of which one is in the mask, as marching squares at
    the level 0.5 do. It is walked twice, once for its length and once to set the points, so that no list of its corners
    is kept: memory is a few times the input.

    Args:
        mask: Binary masks.
        spacing: ``(dy, dx)`` of a pixel, in any unit.
        num_points: Points on each outline; the first lies above the first pixel of the region.
        connectivity: Neighbours by which a region is connected, 4 or 8.

    Returns:
        Points and lengths in the unit of the spacing, on ``skimage.measure.find_contours(mask, 0.5)`` (with
        ``fully_connected="low"`` for 4 and ``"high"`` for 8).

    References:
        Lorensen and Cline, "Marching Cubes", SIGGRAPH 1987 (its planar form).

    Example:
        >>> outline = contour(jnp.zeros((5, 5), bool).at[2, 2].set(True), num_points=4)
        >>> outline.points.tolist()
        [[1.5, 2.0], [2.0, 2.5], [2.5, 2.0], [2.0, 1.5]]
    """
    batch = mask.shape[:-2]
    region = largest_component(mask, connectivity=connectivity).reshape(-1, *mask.shape[-2:])
    padded = jnp.pad(region, ((0, 0), (1, 1), (1, 1)))
    spacing = jnp.asarray(spacing, jnp.float32).reshape(-1, 2)
    points, length = jax.vmap(lambda m, s: _walk_twice(m, s, num_points, connectivity))(padded, spacing)
    return Contour(points.reshape(*batch, num_points, 2), length.reshape(batch))


def _walk_twice(
    padded: Bool[Array, "h w"], spacing: Float[Array, " 2"], num_points: int, connectivity: int
) -> tuple[Float[Array, "n 2"], Float[Array, ""]]:
    ways = jnp.array(_WAYS)
    first = jnp.argmax(padded)
    start = jnp.stack([first // padded.shape[1], first % padded.shape[1]]), jnp.int32(0)
    is_there = padded.any()

    def corner(pixel, way):
        """The middle between a pixel of the mask and its neighbour outside."""
        return (pixel - 1 + ways[way] / jnp.float32(2)) * spacing

    def advance(pixel, way):
        ahead = pixel + ways[(way + 1) % 4]
        beside = ahead + ways[way]
        goes_on, crosses = padded[ahead[0], ahead[1]], padded[beside[0], beside[1]]
        crosses = crosses if connectivity == 8 else crosses & goes_on
        pixel = jnp.where(crosses, beside, jnp.where(goes_on, ahead, pixel))
        return pixel, jnp.where(crosses, way + 3, jnp.where(goes_on, way, way + 1)) % 4

    def walk(visit, result):
        def is_underway(carry):
            pixel, way, _, _, has_left = carry
            return is_there & (~has_left | (pixel != start[0]).any() | (way != start[1]))

        def step(carry):
            pixel, way, walked, result, _ = carry
            here = corner(pixel, way)
            pixel, way = advance(pixel, way)
            stride = corner(pixel, way) - here
            end = walked + jnp.sqrt(jnp.sum(stride**2))
            return pixel, way, end, visit(result, here, stride, walked, end), jnp.bool_(True)

        return lax.while_loop(is_underway, step, (*start, jnp.float32(0), result, jnp.bool_(False)))[2:4]

    length, _ = walk(lambda result, *_: result, ())
    places = jnp.arange(num_points) * (length / num_points)

    def place(points, here, stride, begin, end):
        part = (places - begin) / (end - begin)
        return jnp.where(((places >= begin) & (places < end))[:, None], here + part[:, None] * stride, points)

    _, points = walk(place, jnp.full((num_points, 2), jnp.nan, jnp.float32))
    return points, length
