"""The anatomical criteria: names, units and limits of the 12 for apical views, and what is common to all tables."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax.labels import MEASURED_VIEWS


class Criterion(NamedTuple):
    """One criterion.

    Attributes:
        name: Short name, as in the authors' code.
        text: What it means, for people.
        unit: ``"px"``, ``"mm"``, or ``""`` for a ratio.
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
    # A wall of t pixels breaks at erosion ceil(t / 2): thinned to a single pixel at one place it has the value 1 / h
    # for a half thickness of h pixels elsewhere, and passes the limit of 0.12 where h is at most 8. A wall in two
    # parts has 0.
    Criterion(
        "erosion_ratio_before_myo_split",
        "erosions until the myocardium breaks or vanishes, over half its largest thickness",
        "",
    ),
    Criterion("width_ratio_between_lv_and_myo", "ventricle width over myocardium thickness", ""),
)

NAMES: tuple[str, ...] = tuple(criterion.name for criterion in CRITERIA)


Limit = float | Float[Array, ""]


class Thresholds(NamedTuple):
    """Limits of the four ratios; the other eight criteria must be zero.

    Attributes:
        max_frontier_lv_background: Criterion 9.
        max_frontier_myocardium_atrium: Criterion 10.
        min_erosion_ratio: Criterion 11.
        max_width_ratio: Criterion 12.
    """

    max_frontier_lv_background: Limit
    max_frontier_myocardium_atrium: Limit
    min_erosion_ratio: Limit
    max_width_ratio: Limit


#: The limits of the authors' code (Painchaud et al., IEEE TMI 2020).
CAMUS = Thresholds(0.40, 0.11, 0.12, 4.15)

#: The extremes of true hearts: `calibrate` on the 1,600 masks of the CAMUS training split at 224 x 224, rounded
#: outwards in the fourth place. ``python -m experiments.anatomy.calibrate --data FOLDER`` prints them.
CAMUS_CALIBRATED = Thresholds(0.1000, 0.3667, 0.1860, 3.3334)

#: The same for each view; the widths differ most.
CAMUS_CALIBRATED_BY_VIEW = {
    "2CH": Thresholds(0.1000, 0.3615, 0.2307, 3.3044),
    "4CH": Thresholds(0.0883, 0.3667, 0.1860, 3.3334),
}

VIEWS: tuple[str, ...] = MEASURED_VIEWS


def for_view(thresholds: Thresholds | Mapping[str, Thresholds], view: str | None) -> Thresholds:
    """The limits that hold for a view.

    Args:
        thresholds: Limits for all views, or those of each.
        view: One of `VIEWS`.

    Returns:
        One set of limits.

    Raises:
        ValueError: If there is no such view, or it is needed and missing.
    """
    if view is not None and view not in VIEWS:
        raise ValueError(f"view must be one of {', '.join(VIEWS)}, got {view!r}")
    if isinstance(thresholds, Thresholds):
        return thresholds
    if view is None:
        raise ValueError(f"thresholds by view need a view, one of {', '.join(VIEWS)}")
    return thresholds[view]


def limits(thresholds: Thresholds) -> tuple[Float[Array, " 12"], Float[Array, " 12"]]:
    """Smallest and largest allowed value of each criterion.

    Args:
        thresholds: Limits of the ratios.

    Returns:
        Two vectors in the order of `CRITERIA`.

    Example:
        >>> low, high = limits(CAMUS)
        >>> low.shape, float(high[0])
        ((12,), 0.0)
    """
    low = jnp.zeros(12).at[10].set(thresholds.min_erosion_ratio)
    high = jnp.zeros(12).at[8].set(thresholds.max_frontier_lv_background)
    high = high.at[9].set(thresholds.max_frontier_myocardium_atrium)
    return low, high.at[10].set(jnp.inf).at[11].set(thresholds.max_width_ratio)


def describe(
    criteria: Sequence[Criterion] = CRITERIA,
    low: Float[Array, " k"] | None = None,
    high: Float[Array, " k"] | None = None,
) -> str:
    """Writes a table of criteria for people.

    Args:
        criteria: The criteria; those of apical views if not given.
        low: Smallest allowed values; with ``high``, those of `CAMUS` if not given.
        high: Largest allowed values.

    Returns:
        Markdown: name, meaning, unit and allowed values.

    Example:
        >>> print(describe().splitlines()[-1])
        | width_ratio_between_lv_and_myo | ventricle width over myocardium thickness |  | at most 4.15 |
    """
    if low is None or high is None:
        low, high = limits(CAMUS)
    lines = ["| criterion | meaning | unit | allowed |", "|---|---|---|---|"]
    for criterion, least, most in zip(criteria, low.tolist(), high.tolist(), strict=True):
        allowed = f"at least {least:.4g}" if most == float("inf") else f"at most {most:.4g}" if most > least else "0"
        lines.append(f"| {criterion.name} | {criterion.text} | {criterion.unit} | {allowed} |")
    return "\n".join(lines)
