"""The 12 anatomical criteria of apical views: names, units and limits."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Criterion(NamedTuple):
    """One criterion.

    Attributes:
        name: Short name, as in the authors' code.
        text: What it means, for people.
        unit: ``"px"`` or ``""`` for a ratio.
    """

    name: str
    text: str
    unit: str


CRITERIA: tuple[Criterion, ...] = (
    Criterion("holes_in_lv", "holes in the left ventricle", "px"),
    Criterion("holes_in_epi", "holes in the epicardium (ventricle and myocardium)", "px"),
    Criterion("holes_in_atrium", "holes in the left atrium", "px"),
    Criterion("holes_between_lv_and_myo", "gap between ventricle and myocardium", "px"),
    Criterion("holes_between_lv_and_atrium", "gap between ventricle and atrium", "px"),
    Criterion("disconnectivity_in_lv", "pixels of the ventricle apart from its largest region", "px"),
    Criterion("disconnectivity_in_myo", "pixels of the myocardium apart from its largest region", "px"),
    Criterion("disconnectivity_in_atrium", "pixels of the atrium apart from its largest region", "px"),
    Criterion("frontier_ratio_between_lv_and_bg", "ventricle touching background, over its width", ""),
    Criterion("frontier_ratio_between_myo_and_atrium", "myocardium touching atrium, over its width", ""),
    Criterion("erosion_ratio_before_myo_split", "thinnest over thickest myocardium", ""),
    Criterion("width_ratio_between_lv_and_myo", "ventricle width over myocardium thickness", ""),
)

NAMES: tuple[str, ...] = tuple(criterion.name for criterion in CRITERIA)


class Thresholds(NamedTuple):
    """Limits of the four ratios; the other eight criteria must be zero.

    Attributes:
        max_frontier_lv_background: Criterion 9.
        max_frontier_myocardium_atrium: Criterion 10.
        min_erosion_ratio: Criterion 11.
        max_width_ratio: Criterion 12.
    """

    max_frontier_lv_background: float
    max_frontier_myocardium_atrium: float
    min_erosion_ratio: float
    max_width_ratio: float


#: The limits of the authors' code (Painchaud et al., IEEE TMI 2020).
CAMUS = Thresholds(0.40, 0.11, 0.12, 4.15)


def limits(thresholds: Thresholds) -> tuple[Float[Array, " 12"], Float[Array, " 12"]]:
    """Smallest and largest allowed value of each criterion.

    Args:
        thresholds: Limits of the ratios.

    Returns:
        Two vectors in the order of `CRITERIA`.
    """
    low = jnp.zeros(12).at[10].set(thresholds.min_erosion_ratio)
    high = jnp.zeros(12).at[8].set(thresholds.max_frontier_lv_background)
    high = high.at[9].set(thresholds.max_frontier_myocardium_atrium)
    return low, high.at[10].set(jnp.inf).at[11].set(thresholds.max_width_ratio)
