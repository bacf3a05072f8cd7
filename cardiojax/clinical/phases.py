"""End-diastole and end-systole of a loop, from the area of the cavity over time."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Phases(NamedTuple):
    """Frames of the largest and the smallest cavity.

    Attributes:
        end_diastole: Frame of end-diastole, ``[*b]``.
        end_systole: Frame of end-systole, ``[*b]``.
        valid: Whether the loop has a cavity whose area changes, ``[*b]``.
    """

    end_diastole: Int[Array, "*b"]
    end_systole: Int[Array, "*b"]
    valid: Bool[Array, "*b"]


def smooth_curve(values: Float[Array, "*b t"]) -> Float[Array, "*b t"]:
    """Median of three, then weights 1 2 1: one wrong frame leaves no peak.

    Args:
        values: A curve over time.

    Returns:
        The smoothed curve; the ends repeat their neighbours.

    Example:
        >>> import jax.numpy as jnp
        >>> smooth_curve(jnp.array([1.0, 1.0, 9.0, 1.0, 1.0])).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def neighbours(x: Array) -> tuple[Array, Array]:
        return jnp.concatenate([x[..., :1], x[..., :-1]], -1), jnp.concatenate([x[..., 1:], x[..., -1:]], -1)

    before, after = neighbours(values)
    middle = jnp.maximum(jnp.minimum(before, values), jnp.minimum(jnp.maximum(before, values), after))
    before, after = neighbours(middle)
    return (before + 2 * middle + after) / 4


def detect_phases(area: Float[Array, "*b t"]) -> Phases:
    """Takes the frame with the largest smoothed cavity for end-diastole, the smallest for end-systole.

    Args:
        area: Area of the cavity in each frame, in any unit; nan or 0 where it is missing.

    Returns:
        The frames, of the whole loop.

    Example:
        >>> phases = detect_phases(jnp.array([9.0, 8.0, 6.0, 4.0, 3.0, 5.0, 8.0, 9.5, 9.5]))
        >>> int(phases.end_diastole), int(phases.end_systole)
        (8, 4)
    """
    present = area > 0
    curve = smooth_curve(jnp.where(present, area, jnp.nan))
    curve = jnp.where(present & jnp.isfinite(curve), curve, jnp.nan)
    usable = jnp.isfinite(curve)
    end_diastole = jnp.argmax(jnp.where(usable, curve, -jnp.inf), -1)
    end_systole = jnp.argmin(jnp.where(usable, curve, jnp.inf), -1)
    changes = jnp.nanmax(curve, -1, initial=-jnp.inf, where=usable) > jnp.nanmin(
        curve, -1, initial=jnp.inf, where=usable
    )
    return Phases(end_diastole, end_systole, changes)
