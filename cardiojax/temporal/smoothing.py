"""Smoothing over time: the exact minimiser of distance plus roughness, and the plain filter of label maps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cardiojax.labels import NUM_CLASSES
from cardiojax.ops import fill_missing, jitted

TINY = 1e-6  # weight of an unknown frame: its neighbours determine it, and the system stays regular


@jitted()
def smooth(
    series: Float[Array, "*b t"],
    weight: Float[Array, "*#b"],
    *,
    confidence: Float[Array, "*#b t"] | None = None,
    periodic: bool | Bool[Array, "*#b"] = False,
) -> Float[Array, "*b t"]:
    """Minimises ``sum_t c_t (v_t - s_t)^2 / 2 + weight / 4 sum_t (v_{t+1} - v_t)^2``, exactly and in linear time.

    Frames before the first and after the last one of positive confidence are ignored; they get the value of the nearest
    one inside. Sequences of different length may therefore share a batch.

    Args:
        series: Values over time; nan is allowed where the confidence is zero.
        weight: Weight of the roughness, not negative; zero leaves the series unchanged.
        confidence: Weight ``c_t`` of each frame; zero for one that is missing or padding. One if not given.
        periodic: Whether the last frame is followed by the first, as in a whole cardiac cycle.

    Returns:
        The smoothed series; nan where no frame has any confidence.

    References:
        Painchaud et al., IEEE TMI 2022, reach the same minimum by gradient descent. The corners of the periodic system
        are a rank-one term (Sherman and Morrison, 1950).

    Example:
        >>> smooth(jnp.array([0.0, 4.0, 0.0]), jnp.array(2.0)).round(2).tolist()
        [1.0, 2.0, 1.0]
    """
    confidence = jnp.broadcast_to(jnp.ones(()) if confidence is None else confidence, series.shape)
    known = confidence > 0
    return minimize(fill_missing(series, known), weight, jnp.maximum(confidence, TINY), known, periodic)


def minimize(
    series: Float[Array, "*b t"],
    weight: Float[Array, "*#b"],
    confidence: Float[Array, "*#b t"],
    known: Bool[Array, "*#b t"],
    periodic: bool | Bool[Array, "*#b"],
) -> Float[Array, "*b t"]:
    """The solver under `smooth`, for series without gaps.

    Args:
        series: Values over time, finite.
        weight: Weight of the roughness.
        confidence: Weight of each frame, positive.
        known: Frames of which the first and the last are the ends.
        periodic: Whether the ends are neighbours.

    Returns:
        The smoothed series.
    """
    num_frames = series.shape[-1]
    time = jnp.arange(num_frames)
    first = jnp.argmax(known, -1, keepdims=True)
    last = num_frames - 1 - jnp.argmax(known[..., ::-1], -1, keepdims=True)
    half = jnp.broadcast_to(weight, series.shape[:-1])[..., None] / 2
    to_next, to_last = (
        jnp.where((time >= begin) & (time <= end), half, 0.0) for begin, end in ((first, last - 1), (first + 1, last))
    )
    ends = jnp.where(time == first, 1.0, 0.0) - jnp.where(time == last, 1.0, 0.0)
    right = jnp.stack([confidence * series, jnp.broadcast_to(ends, series.shape)], -1)
    solved = _solve_tridiagonal(-to_last, confidence + to_next + to_last, -to_next, right)
    value, response = solved[..., 0], solved[..., 1]
    closing = half * jnp.asarray(periodic)[..., None]
    jump = jnp.sum(ends * value, -1, keepdims=True)
    value = value - closing * jump / (1 + closing * jnp.sum(ends * response, -1, keepdims=True)) * response
    return jnp.take_along_axis(value, jnp.broadcast_to(jnp.clip(time, first, last), value.shape), axis=-1)


@jitted(static=("sigma", "num_classes"))
def gaussian_filter(
    labels: Int[Array, "*b t h w"],
    *,
    sigma: float = 0.05,
    num_frames: Int[Array, "*b"] | None = None,
    num_classes: int = NUM_CLASSES,
) -> Int[Array, "*b t h w"]:
    """Filters each class over time and takes the strongest: the plain alternative to smoothing a shape's attributes.

    Memory: one row of pixels at a time is held for all classes.

    Args:
        labels: Label maps over time.
        sigma: Standard deviation as a share of the sequence's length.
        num_frames: Length of each sequence; frames beyond are returned as they are. All frames if not given.
        num_classes: Number of labels.

    Returns:
        Label maps.

    References:
        Painchaud et al., IEEE TMI 2022, table II, "Gaussian filter".

    Example:
        >>> import jax.numpy as jnp
        >>> labels = jnp.zeros((9, 8, 8), int).at[:, 2:6, 2:6].set(1).at[4].set(0)
        >>> int(gaussian_filter(labels, sigma=0.2)[4].sum())
        16
    """
    size = labels.shape[-3]
    length = jnp.full(labels.shape[:-3], size) if num_frames is None else num_frames
    kernel = _gaussian_matrix(length, sigma, size)

    def row(line):  # [*b, t, w]
        scores = jnp.einsum("...ts,...swk->...twk", kernel, jax.nn.one_hot(line, num_classes))
        return jnp.argmax(scores, -1).astype(labels.dtype)

    filtered = jnp.moveaxis(jax.lax.map(row, jnp.moveaxis(labels, -2, 0)), 0, -2)
    return jnp.where(jnp.arange(size)[:, None, None] < length[..., None, None, None], filtered, labels)


def _gaussian_matrix(length: Int[Array, "*b"], sigma: float, size: int) -> Float[Array, "*b t t"]:
    """Weights of the frames in each frame, reflected at both ends and cut at four standard deviations."""
    width = jnp.maximum(sigma * length, 1e-3)[..., None, None]
    reach = int(4 * sigma * size + 0.5)
    offset = jnp.arange(-reach, reach + 1)
    weights = jnp.where(jnp.abs(offset) <= jnp.floor(4 * width + 0.5), jnp.exp(-0.5 * (offset / width) ** 2), 0.0)
    weights = weights / weights.sum(-1, keepdims=True)  # [*b, 1, o]
    double = 2 * jnp.maximum(length, 1)[..., None, None]
    place = jnp.mod(jnp.arange(size)[:, None] + offset, double)
    place = jnp.minimum(place, double - 1 - place)  # [*b, t, o]
    return jnp.einsum("...to,...tos->...ts", jnp.broadcast_to(weights, place.shape), jax.nn.one_hot(place, size))


def _solve_tridiagonal(
    lower: Float[Array, "*b t"],
    diagonal: Float[Array, "*b t"],
    upper: Float[Array, "*b t"],
    right: Float[Array, "*b t r"],
) -> Float[Array, "*b t r"]:
    """Elimination without pivoting, which a diagonally dominant system does not need; every series at once."""
    lower, diagonal, upper = (jnp.moveaxis(x, -1, 0)[..., None] for x in (lower, diagonal, upper))
    right = jnp.moveaxis(right, -2, 0)

    def down(carry, row):
        ratio, value = carry
        a, b, c, d = row
        pivot = 1 / (b - a * ratio)
        carry = pivot * c, pivot * (d - a * value)
        return carry, carry

    def up(after, row):
        ratio, value = row
        value = value - ratio * after
        return value, value

    start = jnp.zeros_like(diagonal[0]), jnp.zeros_like(right[0])
    _, rows = jax.lax.scan(down, start, (lower, diagonal, upper, right))
    _, solved = jax.lax.scan(up, start[1], rows, reverse=True)
    return jnp.moveaxis(solved, 0, -2)
