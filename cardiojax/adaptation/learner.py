"""A network that learns: its parameters and what its optimizer remembers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import PyTree


class Learner(NamedTuple):
    """Parameters and the state of their optimizer."""

    params: PyTree
    opt_state: PyTree


def init_learner(params: PyTree, optimizer: optax.GradientTransformation) -> Learner:
    """Makes a learner before its first step.

    Args:
        params: Initial parameters.
        optimizer: The optimizer that will be used.

    Returns:
        The learner.
    """
    return Learner(params, optimizer.init(params))


def descend(
    learner: Learner,
    loss: Callable[[PyTree], Any],
    *,
    optimizer: optax.GradientTransformation,
    trainable: Callable[[str], bool] | None = None,
    has_aux: bool = False,
) -> tuple[Learner, Any]:
    """Moves the parameters one step down the gradient of a loss.

    Args:
        learner: Parameters and optimizer state.
        loss: Parameters to one number, or to one number and more.
        optimizer: The optimizer of the state.
        trainable: Says of a parameter's path, such as ``"['head']['kernel']"``, whether it moves; all do if not given.
        has_aux: Whether the loss returns more than its number.

    Returns:
        The moved learner, and what the loss returned before the step.

    Example:
        >>> import jax.numpy as jnp
        >>> sgd = optax.sgd(0.5)
        >>> moved, value = descend(init_learner(jnp.array(4.0), sgd), lambda x: x**2 / 2, optimizer=sgd)
        >>> float(moved.params), float(value)
        (2.0, 8.0)
    """
    value, grads = jax.value_and_grad(loss, has_aux=has_aux)(learner.params)
    updates, opt_state = optimizer.update(grads, learner.opt_state, learner.params)
    if trainable is not None:
        updates = jax.tree_util.tree_map_with_path(
            lambda path, update: update if trainable(jax.tree_util.keystr(path)) else 0 * update, updates
        )
    return Learner(optax.apply_updates(learner.params, updates), opt_state), value
