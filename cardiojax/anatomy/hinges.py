"""The border between myocardium and left atrium."""

import jax.numpy as jnp
from jaxtyping import Array, Int

from cardiojax import ops
from cardiojax.labels import BACKGROUND, LEFT_ATRIUM, LV, MYOCARDIUM


def separate_atrium(labels: Int[Array, "*b h w"], *, max_contact: float | None = None) -> Int[Array, "*b h w"]:
    """Replaces myocardium that touches the left atrium but not the LV cavity by background.

    In a heart the two meet at the hinge points of the mitral valve only, beside the cavity; between them lies
    background, often less than a pixel wide, which networks leave out. Most of their violations of the anatomical
    criteria are this one, the tenth.

    Args:
        labels: Label maps.
        max_contact: Largest value of the tenth criterion, the pixels of myocardium that touch the atrium over the width
            of the myocardium, of label maps that are changed: beyond it the outlines are wrong, not the border alone.
            Any if not given.

    Returns:
        The label maps; the cavity and the atrium are unchanged. Without a cavity, all myocardium that touches the
        atrium is replaced.

    Example:
        >>> labels = jnp.array([[1, 2, 2, 2], [1, 2, 2, 2], [3, 3, 3, 3]])
        >>> separate_atrium(labels).tolist()
        [[1, 2, 2, 2], [1, 2, 0, 0], [3, 3, 3, 3]]
    """
    wall, near_atrium = labels == MYOCARDIUM, ops.dilate(labels == LEFT_ATRIUM)
    replaced = wall & near_atrium & ~ops.dilate(labels == LV)
    if max_contact is not None:
        columns = wall.any(-2)
        width = columns.shape[-1] - jnp.argmax(columns, -1) - jnp.argmax(columns[..., ::-1], -1)
        is_short = (wall & near_atrium).sum((-2, -1)) <= max_contact * width
        replaced &= is_short[..., None, None]
    return jnp.where(replaced, BACKGROUND, labels)
