"""Short trainings without checkpoints, as the experiments on fine-tuning run them."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from cardiojax import train

#: Of the parameters.
_EMA_DECAY = 0.98


class Fitted(NamedTuple):
    """What a training gave, and what it cost.

    Attributes:
        params: The moving average of the parameters.
        minutes: Wall time of the steps, without compilation.
        memory: MiB of arguments, results and intermediate arrays of a step; nan if XLA does not state them.
    """

    params: PyTree
    minutes: float
    memory: float


def fit(
    params: PyTree,
    loss: Callable[..., Array],
    draw: Callable[[], Sequence[Any]],
    *,
    optimizer: optax.GradientTransformation,
    num_steps: int,
) -> Fitted:
    """Trains for some steps and prints the loss of every fiftieth.

    Args:
        params: What is trained; left as it is.
        loss: Parameters and the arrays of a batch to a scalar.
        draw: Makes the arrays of the next batch.
        optimizer: Of the parameters.
        num_steps: Steps.

    Returns:
        The moving average of the parameters, with time and memory.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, *batch):
        return train.train_step(state, lambda params: loss(params, *batch), optimizer=optimizer, ema_decay=_EMA_DECAY)

    state = train.init_state(jax.tree.map(jnp.copy, params), optimizer)
    batch = list(map(jnp.asarray, draw()))
    compiled = step.lower(state, *batch).compile()
    used, start = compiled.memory_analysis(), time.perf_counter()
    memory = np.nan
    if used is not None:
        results = used.output_size_in_bytes - used.alias_size_in_bytes  # the rest lies where the arguments were
        memory = (used.argument_size_in_bytes + results + used.temp_size_in_bytes) / 2**20
    for i in range(num_steps):
        state, values = compiled(state, *batch)
        if i + 1 < num_steps:
            batch = list(map(jnp.asarray, draw()))  # while the step runs
        if i % 50 == 0 or i == num_steps - 1:
            print(f"  step {i}: loss {float(values['loss']):.3f}", flush=True)
    jax.block_until_ready(state.ema)
    return Fitted(state.ema, (time.perf_counter() - start) / 60, memory)
