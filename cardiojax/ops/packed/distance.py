"""Exact Euclidean distances on a pixel grid."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt32

from cardiojax.ops.packed import bits
from cardiojax.ops.transforms import over_leading_axes
from cardiojax.types import Spacing

STRIDE = 4

FAR = {jnp.uint16: 255, jnp.int32: 2**14}


def distance_to(
    points: Bool[Array, "*b h w"],
    spacing: Spacing = (1.0, 1.0),
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
    return _distance_to(
        points, jnp.asarray(spacing, jnp.float32), jnp.ones(points.shape, bool) if query is None else query
    )


@over_leading_axes(2, 1, 2)
def _distance_to(
    points: Bool[Array, "*b h w"], spacing: Float[Array, "*b 2"], query: Bool[Array, "*b h w"]
) -> Float[Array, "*b h w"]:
    height, width = points.shape[-2:]
    dy, dx = jnp.moveaxis(spacing, -1, 0)[..., None, None]
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
        wanted = jnp.where(query, squared, 0.0)
        return (step < width) & jnp.any(wanted > jnp.square(step * dx))

    def look_farther(carry):
        step, squared = carry
        left = lax.dynamic_slice_in_dim(padded, width - step, width, axis=-1)
        right = lax.dynamic_slice_in_dim(padded, width + step, width, axis=-1)
        return step + 1, jnp.minimum(squared, jnp.minimum(left, right) + jnp.square(step * dx))

    _, squared = lax.while_loop(is_unsettled, look_farther, (jnp.int32(1), in_column))
    return jnp.sqrt(squared)


def distance_transform(mask: Bool[Array, "*b h w"], spacing: Spacing = (1.0, 1.0)) -> Float[Array, "*b h w"]:
    """Distance of each pixel of a mask to the nearest pixel outside it; what lies beyond the image is not outside.

    Args:
        mask: Binary masks.
        spacing: ``(dy, dx)`` of a pixel.

    Returns:
        Distances in the unit of the spacing, 0 outside the mask; infinite where a mask fills its image. The same as
        ``scipy.ndimage.distance_transform_edt``.

    Example:
        >>> import jax.numpy as jnp
        >>> distance_transform(jnp.zeros((5, 5), bool).at[1:4, 1:4].set(True))[2].tolist()
        [0.0, 1.0, 2.0, 1.0, 0.0]
    """
    return distance_to(~mask, spacing, query=mask)


def largest_distance_bits(
    packed: bits.Bits,
    width: int,
    *,
    inside: UInt32[Array, "h k 1"] | None = None,
    at_least: Int[Array, " n"] | None = None,
) -> Float[Array, " n"]:
    """The largest value of the distance transform of each packed mask, in pixels: the radius of the largest disc.

    Only one row of distances is alive at a time, so that it stays in cache however many masks there are; pixels that
    cannot raise the largest value found so far are dropped.

    Args:
        packed: Packed masks.
        width: Columns of the image.
        inside: The pixels of the image, where it does not fill the packed rows; what lies beyond is not outside a mask.
        at_least: A known lower bound, which saves work.

    Returns:
        Distances; 0 for an empty mask, infinite for one that fills its image.
    """
    inside = bits.frame(packed.shape[0], width) if inside is None else inside
    # nearly always the narrow numbers do
    least = jnp.zeros(packed.shape[-1], jnp.int32) if at_least is None else at_least
    squared = _largest_square(packed, inside, least, width, jnp.uint16)

    def in_wide_numbers(masks):
        return _largest_square(masks, inside, jnp.zeros(masks.shape[-1], jnp.int32), width, jnp.int32)

    is_full = (packed == inside).all((0, 1))
    may_be_larger = (squared == FAR[jnp.uint16] ** 2) & ~is_full
    squared = bits.masked_map(in_wide_numbers, may_be_larger, squared, packed, size=8)
    return jnp.where(is_full, jnp.inf, jnp.sqrt(squared.astype(jnp.float32)))


def _largest_square(
    packed: bits.Bits, inside: UInt32[Array, "h k 1"], at_least: Int[Array, " n"], width: int, dtype: type
) -> Int[Array, " n"]:
    """Squares of the largest distances, at most the square of what counts as far in a type of numbers."""
    far = FAR[dtype]
    steps_type = jnp.uint8 if dtype == jnp.uint16 else dtype
    n = packed.shape[-1]

    def unpack(row):
        pixels = (row[:, None] >> jnp.arange(bits.WORD, dtype=jnp.uint32)[:, None]) & 1
        return pixels.astype(bool).reshape(-1, row.shape[-1])[:width]

    def count_up(steps, row):
        steps = jnp.where(unpack(row), jnp.where(steps < far, steps + 1, steps), 0).astype(steps_type)
        return steps, steps

    nothing = jnp.full((width, n), far, steps_type)
    not_outside = packed | ~inside
    below = lax.scan(count_up, nothing, not_outside, reverse=True)[1]

    def settle(carry, row):
        above, largest = carry
        packed_row, inside_row, below_row = row
        above, _ = count_up(above, packed_row)
        column = jnp.square(jnp.minimum(above, below_row).astype(dtype))
        reach = width + STRIDE
        padded = jnp.pad(column, ((reach, reach), (0, 0)), constant_values=far * far)

        def is_unsettled(inner):
            step, _, highest = inner
            return (step < width) & (highest > step * step)

        def look_farther(inner):
            step, squared, _ = inner
            # several steps a pass over memory
            for ahead in range(STRIDE):
                away = step + ahead
                sides = (lax.dynamic_slice_in_dim(padded, reach + way * away, width, axis=0) for way in (-1, 1))
                square = jnp.minimum(away * away, far * far).astype(dtype)
                nearest = jnp.minimum(jnp.minimum(*sides), far * far - square) + square
                squared = jnp.minimum(squared, nearest)
            squared = jnp.where(squared > largest, squared, 0).astype(dtype)
            # mask by mask, then over masks: in one reduction it would not run along a vector unit
            highest = lax.optimization_barrier(squared.max(0)).max()
            return step + STRIDE, squared, highest.astype(jnp.int32)

        start = jnp.where((column > largest) & unpack(inside_row), column, 0).astype(dtype)
        _, squared, _ = lax.while_loop(is_unsettled, look_farther, (jnp.int32(1), start, start.max().astype(jnp.int32)))
        return (above, jnp.maximum(largest, squared.max(0))), None

    bound = jnp.square(jnp.minimum(at_least, far)).astype(dtype)
    (_, largest), _ = lax.scan(settle, (nothing, bound), (not_outside, inside, below))
    return largest.astype(jnp.int32)
