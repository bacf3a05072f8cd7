"""Short trainings without checkpoints, as the experiments on fine-tuning run them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from cardiojax import train

#: Of the parameters.
_EMA_DECAY = 0.98


def fit(
    params: PyTree,
    loss: Callable[..., Array],
    draw: Callable[[], Sequence[Any]],
    *,
    optimizer: optax.GradientTransformation,
    num_steps: int,
) -> PyTree:
    """Trains for some steps and prints the loss of every fiftieth.

    Args:
        params: What is trained; left as it is.
        loss: Parameters and the arrays of a batch to a scalar.
        draw: Makes the arrays of the next batch.
        optimizer: Of the parameters.
        num_steps: Steps.

    Returns:
        The moving average of the parameters.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, *batch):
        return train.train_step(state, lambda params: loss(params, *batch), optimizer=optimizer, ema_decay=_EMA_DECAY)

    state = train.init_state(jax.tree.map(jnp.copy, params), optimizer)
    for i in range(num_steps):
        state, values = step(state, *map(jnp.asarray, draw()))
        if i % 50 == 0 or i == num_steps - 1:
            print(f"  step {i}: loss {float(values['loss']):.3f}", flush=True)
    return state.ema
