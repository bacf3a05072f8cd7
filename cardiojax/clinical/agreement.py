"""How well two ways of measuring agree, with bootstrap intervals."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cardiojax import ops
from cardiojax.clinical._shapes import require_same_shape
from cardiojax.types import RandomKey


class Agreement(NamedTuple):
    """Agreement of a measurement with a reference, in the measurement's unit; nan with fewer than two pairs.

    Attributes:
        correlation: Pearson's r.
        bias: Mean of measurement minus reference.
        mean_absolute_error: Mean of its magnitude.
        lower_limit: Lower 95 % limit of agreement: bias less 1.96 standard deviations of the differences.
        upper_limit: Upper one.
        icc: Intraclass correlation ICC(A,1): two-way model, absolute agreement, single measurement.
    """

    correlation: Float[Array, "*b"]
    bias: Float[Array, "*b"]
    mean_absolute_error: Float[Array, "*b"]
    lower_limit: Float[Array, "*b"]
    upper_limit: Float[Array, "*b"]
    icc: Float[Array, "*b"]


class AgreementIntervals(NamedTuple):
    """Ends of the intervals of each number.

    Attributes:
        low: Lower ends.
        high: Upper ends.
    """

    low: Agreement
    high: Agreement


def agreement(measured: Float[Array, "*b n"], reference: Float[Array, "*b n"]) -> Agreement:
    """Compares a measurement with a reference over patients.

    Args:
        measured: One value a patient; pairs with a nan are left out.
        reference: The values to agree with.

    Returns:
        The numbers.

    Raises:
        ValueError: If the shapes differ.

    References:
        Bland and Altman, Lancet 1986. McGraw and Wong, Psychological Methods 1996 (ICC(A,1)).

    Example:
        >>> result = agreement(jnp.array([1.0, 2.0, 3.0, 5.0]), jnp.array([0.0, 1.0, 2.0, 4.0]))
        >>> float(result.bias), round(float(result.correlation), 3), round(float(result.icc), 3)
        (1.0, 1.0, 0.854)
    """
    require_same_shape(measured=measured, reference=reference)
    paired = jnp.isfinite(measured) & jnp.isfinite(reference)
    return _weighted(measured, reference, paired.astype(jnp.float32))


@ops.jitted(static=("num_samples", "level", "batch_size"))
def agreement_intervals(
    key: RandomKey,
    measured: Float[Array, "n"],
    reference: Float[Array, "n"],
    *,
    num_samples: int = 2000,
    level: float = 0.95,
    batch_size: int = 256,
) -> AgreementIntervals:
    """Percentile intervals of `agreement` from patients drawn with replacement.

    Memory: about ``batch_size * n * 24`` bytes.

    Args:
        key: Random key.
        measured: One value a patient; pairs with a nan are never drawn.
        reference: The values to agree with.
        num_samples: Samples of patients.
        level: Share of the samples within the interval.
        batch_size: Samples at a time.

    Returns:
        Both ends of each interval.

    Raises:
        ValueError: If the level is not between 0 and 1, or the shapes differ.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> reference = jnp.linspace(30.0, 70.0, 50)
        >>> intervals = agreement_intervals(jax.random.key(0), reference + 2, reference, num_samples=100)
        >>> bool(intervals.low.correlation <= intervals.high.correlation)
        True
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    require_same_shape(measured=measured, reference=reference)
    paired = jnp.isfinite(measured) & jnp.isfinite(reference)
    num_pairs = paired.sum()
    pairs_first = jnp.argsort(~paired)
    is_draw = jnp.arange(paired.shape[0]) < num_pairs

    def one(index):
        draws = jax.random.randint(jax.random.fold_in(key, index), paired.shape, 0, jnp.maximum(num_pairs, 1))
        counts = jnp.zeros(paired.shape).at[pairs_first[draws]].add(is_draw)
        return _weighted(measured, reference, counts)

    samples = jax.lax.map(one, jnp.arange(num_samples), batch_size=batch_size)
    tail = (1 - level) / 2
    low, high = (jax.tree.map(lambda x, q=q: jnp.nanquantile(x, q), samples) for q in (tail, 1 - tail))
    return AgreementIntervals(low, high)


def _weighted(
    measured: Float[Array, "*b n"], reference: Float[Array, "*b n"], count: Float[Array, "*b n"]
) -> Agreement:
    """Agreement where each pair occurs ``count`` times."""
    is_used = count > 0
    x, y = (jnp.where(is_used, v, 0.0) for v in (measured, reference))
    total = count.sum(-1)
    enough = total > 1

    def mean(values):
        return jnp.sum(count * values, -1) / jnp.maximum(total, 1)

    mean_x, mean_y = mean(x), mean(y)
    dx, dy = x - mean_x[..., None], y - mean_y[..., None]
    xx, yy, xy = mean(dx * dx), mean(dy * dy), mean(dx * dy)
    bias = mean_x - mean_y
    free = total / jnp.maximum(total - 1, 1)
    spread = jnp.sqrt(jnp.maximum(free * (xx + yy - 2 * xy), 0.0))
    scale = jnp.sqrt(xx * yy)
    # mean squares of patients, of the two ways, and of what is left
    patients = free * (xx + yy + 2 * xy) / 2
    left = free * (xx + yy - 2 * xy) / 2
    ways = total * bias**2 / 2
    below = patients + left + 2 * (ways - left) / jnp.maximum(total, 1)

    def keep(values, where: Bool[Array, "*b"] | bool = True):
        return jnp.where(enough & where, values, jnp.nan)

    return Agreement(
        keep(xy / jnp.where(scale > 0, scale, 1.0), scale > 0),
        keep(bias),
        keep(mean(jnp.abs(x - y))),
        keep(bias - 1.96 * spread),
        keep(bias + 1.96 * spread),
        keep((patients - left) / jnp.where(below > 0, below, 1.0), below > 0),
    )
