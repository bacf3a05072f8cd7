"""Dice of the structures of CAMUS, for the score of a run."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from cardiojax import labels, metrics


def structure_dice(predicted: Int[Array, "*b h w"], truth: Int[Array, "*b h w"]) -> dict[str, Array]:
    """Computes the Dice coefficient of each structure of `labels.STRUCTURES`.

    Args:
        predicted: Label maps.
        truth: True label maps.

    Returns:
        One value an image, ``[*b]``, by the name of the structure.
    """
    members = {name: jnp.array(values) for name, values in labels.STRUCTURES.items()}
    return {name: metrics.dice(jnp.isin(predicted, m), jnp.isin(truth, m)) for name, m in members.items()}


def mean_scores(values: dict[str, np.ndarray], groups: np.ndarray | None = None) -> dict[str, float]:
    """Averages Dice coefficients, over all images or over each group of them.

    Args:
        values: One value an image, ``[n]``, by the name of the structure.
        groups: Name of the group of each image, ``[n]``.

    Returns:
        ``"score"``, the mean of the others, and a mean by ``structure`` or ``structure_group``.

    Example:
        >>> mean_scores({"lv": np.array([0.5, 0.75])}, np.array(["ED", "ES"]))
        {'score': 0.625, 'lv_ed': 0.5, 'lv_es': 0.75}
    """
    names = [name for name in labels.STRUCTURES if name in values]
    if groups is None:
        table = {name: float(values[name].mean()) for name in names}
    else:
        table = {
            f"{name}_{str(group).lower()}": float(values[name][groups == group].mean())
            for name in names
            for group in np.unique(groups)
        }
    return {"score": float(np.mean(list(table.values()))), **table}
