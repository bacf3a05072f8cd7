"""Dice of the structures, for the score of a run."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from cardiojax import labels, metrics


def structure_dice(
    predicted: Int[Array, "*b h w"],
    truth: Int[Array, "*b h w"],
    present: Bool[Array, "*b k"] | None = None,
    *,
    structures: labels.Structures = labels.CAMUS,
) -> dict[str, Array]:
    """Computes the Dice coefficient of each region of a label convention.

    Args:
        predicted: Label maps.
        truth: True label maps.
        present: Which structures are annotated in each image; all if not given.
        structures: What the labels mean.

    Returns:
        One value an image, ``[*b]``, by the name of the region; nan where one of its structures is not annotated.
    """
    scores = {}
    for name, members in structures.regions.items():
        members = np.array(members)
        dice = metrics.dice(jnp.isin(predicted, members), jnp.isin(truth, members))
        scores[name] = dice if present is None else jnp.where(present[..., members].all(-1), dice, jnp.nan)
    return scores


def mean_scores(values: dict[str, np.ndarray], groups: np.ndarray | None = None) -> dict[str, float]:
    """Averages Dice coefficients, over all images or over each group of them.

    Args:
        values: One value an image, ``[n]``, by the name of the structure; nan where it is not annotated.
        groups: Name of the group of each image, ``[n]``.

    Returns:
        ``"score"``, the mean of the others, and a mean by ``structure`` or ``structure_group``, without those that are
        annotated nowhere.

    Example:
        >>> mean_scores({"lv": np.array([0.5, 0.75])}, np.array(["ED", "ES"]))
        {'score': 0.625, 'lv_ed': 0.5, 'lv_es': 0.75}
    """
    names = sorted(values, key=[*labels.STRUCTURES, *sorted(values)].index)  # jitted functions sort them
    columns = {name: np.asarray(values[name]) for name in names}
    if groups is not None:
        columns = {
            f"{name}_{str(group).lower()}": column[groups == group]
            for name, column in columns.items()
            for group in np.unique(groups)
        }
    known = {name: column[np.isfinite(column)] for name, column in columns.items()}
    table = {name: float(column.mean()) for name, column in known.items() if column.size}
    return {"score": float(np.mean(list(table.values()))), **table}
