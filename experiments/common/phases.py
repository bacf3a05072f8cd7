"""Dice coefficients of the three structures at end-diastole and at end-systole."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from cardiojax import labels, metrics
from cardiojax.labels import PHASES

#: Structure to phase to mean Dice coefficient.
Scores = dict[str, dict[str, float]]


def structures_of(label_maps: Int[np.ndarray, "n h w"]) -> Bool[np.ndarray, "n 3 h w"]:
    """The mask of each structure of label maps."""
    return np.stack([np.isin(label_maps, members) for members in labels.STRUCTURES.values()], 1)


def dice_by_phase(drawn: Bool[np.ndarray, "n 3 h w"], truth: Bool[np.ndarray, "n 3 h w"], phases: np.ndarray) -> Scores:
    """Mean Dice coefficient of each structure at both phases.

    Args:
        drawn: Masks of the structures.
        truth: True masks.
        phases: ``ED`` or ``ES`` of each frame.
    """
    dice = np.asarray(metrics.dice(jnp.asarray(drawn), jnp.asarray(truth)))
    return {
        name: {phase: float(dice[phases == phase, k].mean()) for phase in PHASES}
        for k, name in enumerate(labels.STRUCTURES)
    }


def table(rows: Mapping[str, Scores], *, title: str = "", more: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Scores as Markdown.

    Args:
        rows: Scores by the name of their row.
        title: Of the first column.
        more: Further columns: their titles to the cell of each row.
    """
    further = more or {}
    heads = [title, *(f"{name}, ED / ES" for name in labels.STRUCTURES), *further]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row, scores in rows.items():
        cells = [f"{scores[name]['ED']:.3f} / {scores[name]['ES']:.3f}" for name in labels.STRUCTURES]
        lines.append(f"| {' | '.join([row, *cells, *(column[row] for column in further.values())])} |")
    return "\n".join(lines) + "\n"
