"""Exact masks of contours, on any grid."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cardiojax.data.phantom.motion import NUM_WALL
from cardiojax.labels import LEFT_ATRIUM, LV, MYOCARDIUM

#: Background left between the base of the wall and the atrium, mm: in real masks the two hardly touch.
_GAP = 1.2


def signed_distance(points: Float[Array, "*b xy"], polygon: Float[Array, "p xy"]) -> Float[Array, "*b"]:
    """Distance to a closed polygon, negative inside.

    Args:
        points: Where.
        polygon: Corners in order; the last is joined to the first.

    Returns:
        Distances in the unit of the points.

    Example:
        >>> square = jnp.array([[0.0, 0.0], [0.0, 4.0], [4.0, 4.0], [4.0, 0.0]])
        >>> signed_distance(jnp.array([[1.0, 2.0], [7.0, 8.0]]), square).tolist()
        [-1.0, 5.0]
    """
    start, edge = polygon, jnp.roll(polygon, -1, axis=0) - polygon
    offset = points[..., None, :] - start
    distance = _segment_distance(points, start, edge)
    spans = (offset[..., 0] >= 0) != (offset[..., 0] >= edge[:, 0])
    side = edge[:, 1] * offset[..., 0] - edge[:, 0] * offset[..., 1]
    crossed = spans & jnp.where(edge[:, 0] > 0, side > 0, side < 0)
    return jnp.where(jnp.sum(crossed, -1) % 2 == 1, -1.0, 1.0) * distance


def _segment_distance(points: Array, start: Array, edge: Array) -> Array:
    """Distance to the nearest of some segments."""
    offset = points[..., None, :] - start
    share = jnp.sum(offset * edge, -1) / jnp.maximum(jnp.sum(edge * edge, -1), 1e-12)
    nearest = offset - jnp.clip(share, 0, 1)[..., None] * edge
    return jnp.sqrt(jnp.maximum(jnp.min(jnp.sum(nearest * nearest, -1), -1), 1e-12))


def label_polygons(contour: Float[Array, "p xy"]) -> tuple[Array, Array, Array]:
    """Closed outlines of cavity, epicardium and atrium.

    Args:
        contour: As in `Heart`.

    Returns:
        Corners of each; the atrium is closed by the mitral plane, the epicardium by its bases and the mitral plane.
    """
    endocardium, epicardium = contour[:NUM_WALL], contour[NUM_WALL : 2 * NUM_WALL]
    left, right = endocardium[:1], endocardium[-1:]
    return (
        endocardium,
        jnp.concatenate([epicardium, right, left]),
        jnp.concatenate([left, contour[2 * NUM_WALL :], right]),
    )


def pixel_centres(shape: tuple[int, int], spacing: Float[Array, " xy"]) -> tuple[Array, Array]:
    """Pixels in mm from the probe, which is in the middle of the first row.

    Args:
        shape: Height and width.
        spacing: ``(dy, dx)`` in mm.

    Returns:
        Depth of each row ``[h]`` and place of each column ``[w]``.
    """
    return jnp.arange(shape[0]) * spacing[0], (jnp.arange(shape[1]) - (shape[1] - 1) / 2) * spacing[1]


def rasterize(
    contours: Float[Array, "t p xy"], shape: tuple[int, int], spacing: Float[Array, " xy"], depth: Float[Array, ""]
) -> Int[Array, "t h w"]:
    """Masks of a loop, a frame at a time.

    A pixel belongs to a structure if its centre is inside; the atrium ends where the image does.

    Args:
        contours: As in `Heart`, in mm.
        shape: Height and width.
        spacing: ``(dy, dx)`` in mm.
        depth: Radius of the sector in mm.

    Returns:
        Label maps.
    """
    rows, cols = pixel_centres(shape, spacing)
    grid = jnp.stack(jnp.meshgrid(rows, cols, indexing="ij"), -1)
    visible = jnp.linalg.norm(grid, axis=-1) < depth

    def one_frame(contour: Array) -> Array:
        cavity, epicardium, atrium = (_inside(rows, cols, polygon) for polygon in label_polygons(contour))
        hinges = contour[jnp.array([0, NUM_WALL - 1])]
        corners = contour[jnp.array([NUM_WALL, 2 * NUM_WALL - 1])]
        clear = _segment_distance(grid, hinges, corners - hinges) > _GAP
        labels = jnp.where(atrium & visible & clear, LEFT_ATRIUM, 0)
        labels = jnp.where(epicardium, MYOCARDIUM, labels)
        return jnp.where(cavity, LV, labels)

    return jax.lax.map(one_frame, contours)


def _inside(rows: Float[Array, " h"], cols: Float[Array, " w"], polygon: Float[Array, "p xy"]) -> Bool[Array, "h w"]:
    """Even-odd rule: how many edges a row meets before each pixel."""
    start, end = polygon, jnp.roll(polygon, -1, axis=0)
    spans = (rows[:, None] >= start[:, 0]) != (rows[:, None] >= end[:, 0])
    height = jnp.where(end[:, 0] == start[:, 0], 1.0, end[:, 0] - start[:, 0])
    crossing = start[:, 1] + (rows[:, None] - start[:, 0]) / height * (end[:, 1] - start[:, 1])
    crossing = jnp.where(spans, crossing, jnp.inf)
    return jnp.sum(crossing[:, None, :] < cols[:, None], -1) % 2 == 1
