"""One step of an optimizer, for every training and adaptation in the library."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import PyTree


class OptimizerState(NamedTuple):
    """Parameters and the state of their optimizer."""

    params: PyTree
    opt_state: PyTree


class GradientStep(NamedTuple):
    """Result of one step.

    Attributes:
        state: Parameters and optimizer state after the step.
        value: What the loss returned before the step.
        grads: Gradient of the loss before the step.
    """

    state: OptimizerState
    value: Any
    grads: PyTree


def init_optimizer(params: PyTree, optimizer: optax.GradientTransformation) -> OptimizerState:
    """Makes the state before the first step.

    Args:
        params: Initial parameters.
        optimizer: The optimizer that will be used.

    Returns:
        The state.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> state = init_optimizer({"w": jnp.ones(2)}, optax.adam(1e-3))
        >>> sorted(state._fields)
        ['opt_state', 'params']
    """
    return OptimizerState(params, optimizer.init(params))


def gradient_step(
    state: OptimizerState,
    loss: Callable[[PyTree], Any],
    *,
    optimizer: optax.GradientTransformation,
    trainable: Callable[[str], bool] | None = None,
    has_aux: bool = False,
) -> GradientStep:
    """Computes one step of an optimizer on a loss.

    Args:
        state: Parameters and optimizer state.
        loss: Parameters to a scalar, or to a scalar and auxiliary values.
        optimizer: The optimizer of the state.
        trainable: Predicate on a parameter's path, such as ``"['head']['kernel']"``: whether it is updated; all are if
            not given.
        has_aux: Whether the loss returns auxiliary values.

    Returns:
        The next state, and loss and gradient before the step.

    Example:
        >>> import jax.numpy as jnp
        >>> sgd = optax.sgd(0.5)
        >>> step = gradient_step(init_optimizer(jnp.array(4.0), sgd), lambda x: x**2 / 2, optimizer=sgd)
        >>> float(step.state.params), float(step.value)
        (2.0, 8.0)
    """
    value, grads = jax.value_and_grad(loss, has_aux=has_aux)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    if trainable is not None:
        updates = jax.tree_util.tree_map_with_path(
            lambda path, update: update if trainable(jax.tree_util.keystr(path)) else 0 * update, updates
        )
    return GradientStep(OptimizerState(optax.apply_updates(state.params, updates), opt_state), value, grads)
