"""Series over time."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def fill_missing(series: Float[Array, "*b t"], known: Bool[Array, "*#b t"]) -> Float[Array, "*b t"]:
    """Joins known values by straight lines; before the first and after the last they are repeated.

    Args:
        series: Values over time; what is not known may be nan.
        known: Frames whose value is known.

    Returns:
        The filled series; nan where a series has no known value at all.

    Raises:
        ValueError: If there is no frame.

    Example:
        >>> fill_missing(jnp.array([jnp.nan, 1.0, 0.0, 3.0]), jnp.array([False, True, False, True])).tolist()
        [1.0, 1.0, 2.0, 3.0]
    """
    num_frames = series.shape[-1]
    if not num_frames:
        raise ValueError("a series needs at least one frame")
    known = jnp.broadcast_to(known, series.shape)
    series = jnp.where(known, series, 0.0)
    time = jnp.arange(num_frames)
    axis = series.ndim - 1
    before = jax.lax.cummax(jnp.where(known, time, -1), axis=axis)
    after = jax.lax.cummin(jnp.where(known, time, num_frames), axis=axis, reverse=True)
    left = jnp.where(before < 0, after, before)
    right = jnp.where(after == num_frames, left, after)
    low, high = (jnp.take_along_axis(series, jnp.minimum(i, num_frames - 1), axis=-1) for i in (left, right))
    share = jnp.clip((time - left) / jnp.maximum(right - left, 1), 0.0, 1.0)
    return jnp.where(known.any(-1, keepdims=True), low + share * (high - low), jnp.nan)
