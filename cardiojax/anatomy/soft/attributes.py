"""Attributes of probability maps, differentiable, so that they can be losses."""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from cardiojax import ops
from cardiojax.anatomy.attributes import Attributes, broadcast_spacing, orientation
from cardiojax.labels import LV, MYOCARDIUM
from cardiojax.types import Spacing

_SMALL = 1e-6


def soft_attributes(probs: Float[Array, "*b h w k"], spacing: Spacing = (1.0, 1.0)) -> Attributes:
    """Measures the attributes of `attributes` on class probabilities.

    Areas, centres and moments weigh pixels by their probability. Hinge points and apex are expectations: each pixel is
    taken to belong to its structure or not with its (sharpened) probability, and the point that is found is the first
    such pixel in the order in which `attributes` searches. Certain maps therefore have exactly the hard attributes.

    Memory: about 30 times the input. The cost is a sort of the pixels by their distance from the base.

    Args:
        probs: Class probabilities, in the order of the labels, at least background, cavity and myocardium.
        spacing: ``(dy, dx)`` of a pixel in mm; pixels are counted if not given.

    Returns:
        The attributes, ``[*b]`` each. Where nothing is there to be measured, width and length are 0 with gradient 0.

    Example:
        >>> import jax
        >>> labels = jnp.zeros((12, 9), int).at[1:9, 1:8].set(2).at[3:9, 3:6].set(1)
        >>> float(soft_attributes(jax.nn.one_hot(labels, 4)).lv_base_width)
        2.0
    """
    return _soft_attributes(probs, broadcast_spacing(spacing, probs.shape[:-3]))


@ops.jitted()
def _soft_attributes(probs: Float[Array, "*b h w k"], spacing: Float[Array, "*b 2"]) -> Attributes:
    height, width = probs.shape[-3:-1]
    dy, dx = spacing[..., 0], spacing[..., 1]
    lv, myocardium = probs[..., LV], probs[..., MYOCARDIUM]
    epicardium = lv + myocardium

    num_lv, lv_row, lv_col = centroid(lv)
    rows = (jnp.arange(height) - lv_row[..., None]) * dy[..., None]
    cols = (jnp.arange(width) - lv_col[..., None]) * dx[..., None]
    moments = jnp.sum(lv.sum(-1) * rows**2, -1), jnp.sum(lv.sum(-2) * cols**2, -1)
    mixed = jnp.sum(jnp.sum(lv * cols[..., None, :], -1) * rows, -1)

    cavity, wall, other = (sharpen(p) for p in (lv, myocardium, jnp.clip(1 - epicardium, 0, 1)))
    candidates = cavity * ops.dilate(wall) * ops.dilate(other)
    middle = lax.stop_gradient(centroid(candidates)[2])[..., None]
    is_left = (jnp.arange(width) < middle)[..., None, :]
    left, has_left = _lowest(jnp.where(is_left, candidates, 0.0), spacing)
    right, has_right = _lowest(jnp.where(is_left, 0.0, candidates), spacing)
    base = (left + right) / 2

    num_epicardium, epi_row, epi_col = centroid(epicardium)
    is_there = num_epicardium > 0
    has_base = has_left & has_right
    return Attributes(
        lv_area=num_lv * dy * dx,
        lv_base_width=_length(left - right, has_base),
        lv_length=_largest_distance(cavity, base, has_base, spacing),
        lv_orientation=orientation(*moments, mixed),
        myo_area=jnp.sum(myocardium, (-2, -1)) * dy * dx,
        epi_center_x=jnp.where(is_there, epi_col, width // 2) * dx,
        epi_center_y=jnp.where(is_there, epi_row, height // 2) * dy,
    )


def centroid(weights: Float[Array, "*b h w"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"], Float[Array, "*b"]]:
    """Sum, mean row and mean column of weights.

    Args:
        weights: Not negative.
    """
    in_row, in_col = weights.sum(-1), weights.sum(-2)
    total = in_row.sum(-1)
    row, col = (jnp.sum(n * jnp.arange(n.shape[-1]), -1) / jnp.maximum(total, _SMALL) for n in (in_row, in_col))
    return total, row, col


def sharpen(p: Float[Array, "*b h w"]) -> Float[Array, "*b h w"]:
    """Keeps 0, a half and 1, and makes small probabilities smaller: thousands of pixels must not add up to one.

    Args:
        p: Probabilities.
    """
    return p * p * (3 - 2 * p)


def _first(chances: Float[Array, "*b n"]) -> Float[Array, "*b n"]:
    """How likely each of a row of independent events is the first to happen.

    The running product goes along columns of a square of events, then over the columns' products: short loops, where
    the compiler would unroll a tree over all pixels.
    """
    *batch, n = chances.shape
    side = math.isqrt(n - 1) + 1
    square = jnp.pad(chances, [(0, 0)] * len(batch) + [(0, side * side - n)]).reshape(*batch, side, side)

    def multiply(before, factor):
        return before * factor, before

    def run(factors):
        return lax.scan(multiply, jnp.ones_like(factors[0]), factors)

    product, within = run(jnp.moveaxis(1 - square, -1, 0))
    _, across = run(jnp.moveaxis(product, -1, 0))
    none_before = jnp.moveaxis(within, 0, -1) * jnp.moveaxis(across, 0, -1)[..., None]
    return chances * none_before.reshape(*batch, side * side)[..., :n]


def _lowest(
    chances: Float[Array, "*b h w"], spacing: Float[Array, "*b 2"]
) -> tuple[Float[Array, "*b 2"], Bool[Array, "*b"]]:
    """Expected position of the lowest pixel, the leftmost in its row."""
    weights = _first(chances[..., ::-1, :].reshape(*chances.shape[:-2], -1)).reshape(chances.shape)[..., ::-1, :]
    total, row, col = centroid(weights)
    return jnp.stack([row, col], -1) * spacing, total > _SMALL


def _largest_distance(
    chances: Float[Array, "*b h w"],
    base: Float[Array, "*b 2"],
    has_base: Bool[Array, "*b"],
    spacing: Float[Array, "*b 2"],
) -> Float[Array, "*b"]:
    """Expected distance from the base to the pixel farthest from it."""
    height, width = chances.shape[-2:]

    def flat_distances(origin):
        rows = jnp.arange(height) * spacing[..., :1] - origin[..., :1]
        cols = jnp.arange(width) * spacing[..., 1:] - origin[..., 1:]
        squared = rows[..., :, None] ** 2 + cols[..., None, :] ** 2
        return squared.reshape(*squared.shape[:-2], -1)

    pixel = lax.stop_gradient(jnp.round(base / spacing)) * spacing  # the search starts at a pixel, the length does not
    order = jnp.argsort(flat_distances(pixel), axis=-1, descending=True, stable=True)
    squared = jnp.take_along_axis(flat_distances(base), order, -1)
    weights = _first(jnp.take_along_axis(chances.reshape(squared.shape), order, -1))
    expected = jnp.sum(weights * jnp.sqrt(jnp.maximum(squared, _SMALL)), -1) / jnp.maximum(weights.sum(-1), _SMALL)
    return jnp.where(has_base, expected, 0.0)


def _length(vector: Float[Array, "*b 2"], valid: Bool[Array, "*b"]) -> Float[Array, "*b"]:
    squared = jnp.sum(vector**2, -1)
    valid = valid & (squared > 0)
    return jnp.where(valid, jnp.sqrt(jnp.where(valid, squared, 1.0)), 0.0)
