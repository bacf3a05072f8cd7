"""The nearest temporally consistent trajectory."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cardiojax.ops import fill_missing, jitted, on_each_device
from cardiojax.temporal.regularize import MARGIN, outlier_weights
from cardiojax.temporal.smoothing import TINY

#: Iterations and penalty of the alternating direction method of multipliers, for series in units of the limit.
_STEPS, _PENALTY = 600, 4.0


@jitted()
def nearest_consistent(
    series: Float[Array, "*b t a"],
    bounds: Float[Array, "a 2"],
    thresholds: Float[Array, "a"],
    *,
    valid: Bool[Array, "*#b t"] | None = None,
) -> Float[Array, "*b t a"]:
    """Moves attributes by the least that brings the indicator of `consistency` within its thresholds.

    Each attribute is projected: of all series whose second differences keep to the limit, the one with the least sum of
    squared changes. Unlike smoothing, that is local. Only frames next to one where the limit is reached are moved, and
    the extremes of a beat are not flattened. Frames far from the median of five count less, so that an outlier is moved
    and not its neighbours. The alternating direction method of multipliers computes it, for all series at once. Memory:
    ``t ** 2`` numbers a series.

    Args:
        series: Attributes over time; nan where a frame has none, to be filled from its neighbours.
        bounds: Lowest and highest value of each attribute.
        thresholds: Largest admissible indicator of each.
        valid: Frames that belong to the sequence, for sequences of different length in one batch; all if not given.

    Returns:
        The attributes, within a thousandth of the thresholds; padding unchanged.

    References:
        Boyd et al., "Distributed Optimization and Statistical Learning via the Alternating Direction Method of
        Multipliers", 2011.

    Example:
        >>> area = jnp.array([5.0, 4.0, 3.0, 2.0, 4.0, 5.0, 6.0])[:, None]
        >>> projected = nearest_consistent(area, jnp.array([[0.0, 10.0]]), jnp.array([0.1]))
        >>> [round(float(x), 1) for x in projected[:, 0]]
        [5.0, 4.0, 2.8, 2.3, 3.8, 5.0, 6.0]
    """
    num_frames = series.shape[-2]
    valid = jnp.broadcast_to(jnp.ones((), bool) if valid is None else valid, series.shape[:-1])[..., None, :]
    lines = jnp.moveaxis(series, -1, -2)
    known = valid & jnp.isfinite(lines)
    limit = (1 - MARGIN) * (thresholds * (bounds[:, 1] - bounds[:, 0]))[:, None]
    filled = fill_missing(lines, known) / limit
    trust = jnp.where(known, outlier_weights(filled, jnp.ones(len(thresholds))), TINY)

    rows = jnp.pad(valid[..., 1:-1] & valid[..., :-2] & valid[..., 2:], [(0, 0)] * (valid.ndim - 1) + [(1, 1)])
    projected = _project(filled, trust, rows[..., :num_frames]) * limit
    return jnp.moveaxis(jnp.where(valid, projected, lines), -2, -1)


@on_each_device(2, 2, 2)
def _project(
    series: Float[Array, "*b a t"], trust: Float[Array, "*b a t"], rows: Bool[Array, "*b 1 t"]
) -> Float[Array, "*b a t"]:
    """The nearest series whose second differences lie in [-1, 1] in the frames where they are limited."""
    num_frames = series.shape[-1]
    eye = jnp.eye(num_frames)
    difference = eye - (jnp.eye(num_frames, k=1) + jnp.eye(num_frames, k=-1)) / 2
    curve = jnp.where(rows[..., None], difference, 0.0)
    normal = trust[..., None] * eye + _PENALTY * jnp.swapaxes(curve, -1, -2) @ curve
    factor = jnp.linalg.inv(normal)

    def solve(wanted):
        pull = jnp.einsum("...st,...s->...t", curve, wanted)
        return jnp.einsum("...st,...t->...s", factor, trust * series + _PENALTY * pull)

    def step(_, carry):
        clipped, dual = carry
        now = jnp.einsum("...st,...t->...s", curve, solve(clipped - dual))
        clipped = jnp.clip(now + dual, -1.0, 1.0)
        return clipped, dual + now - clipped

    start = jnp.einsum("...st,...t->...s", curve, series)
    clipped, dual = jax.lax.fori_loop(0, _STEPS, step, (jnp.clip(start, -1.0, 1.0), jnp.zeros_like(start)))
    return solve(clipped - dual)
