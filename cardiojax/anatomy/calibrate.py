"""Limits of the criteria measured on hearts that exist."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cardiojax import ops
from cardiojax.anatomy.check import check
from cardiojax.anatomy.criteria import Thresholds


def calibrate(
    labels: Int[Array, "n h w"],
    spacing: Float[Array, "*#n 2"] | tuple[float, float] | None = None,
    *,
    coverage: float = 1.0,
    batch_size: int = 128,
) -> Thresholds:
    """Measures the limits of the four ratios on true masks.

    The other eight criteria have no limits to measure: they must be zero. The ratios depend on the sampling (coarser
    masks have relatively longer frontiers), so calibrate on masks of the size that will be checked.

    Args:
        labels: True masks.
        spacing: As in `check`.
        coverage: Share of the masks that each limit alone lets pass.
        batch_size: Masks a block.

    Returns:
        The limits, as scalars.

    Raises:
        ValueError: If the coverage is not above 0 and at most 1.

    Example:
        >>> labels = jnp.zeros((1, 20, 20), int).at[:, 2:15, 4:16].set(2).at[:, 5:15, 7:13].set(1)
        >>> limits = calibrate(labels)
        >>> float(limits.max_width_ratio)
        1.0
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must be above 0 and at most 1, got {coverage}")
    values = ops.gathered(check(labels, spacing, batch_size=batch_size).values)[..., 8:]

    def upper(ratio):
        return jnp.nanquantile(ratio, coverage, method="higher")

    return Thresholds(
        max_frontier_lv_background=upper(values[..., 0]),
        max_frontier_myocardium_atrium=upper(values[..., 1]),
        min_erosion_ratio=-upper(-values[..., 2]),
        max_width_ratio=upper(values[..., 3]),
    )
