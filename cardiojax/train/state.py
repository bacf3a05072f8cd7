"""The state of a training run and the pure functions that advance it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from cardiojax.optimizer import OptimizerState, gradient_step
from cardiojax.validation import check_range


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with a linear warm-up, a plateau and a cosine decay to zero.

    Attributes:
        learning_rate: Peak value.
        warmup_steps: Steps of the linear rise from zero.
        decay_share: Share of the run, at its end, over which the rate falls to zero.
        weight_decay: Decoupled weight decay, on kernels only.
        clip_norm: Largest global norm of the gradient.
    """

    learning_rate: float = 2e-3
    warmup_steps: int = 150
    decay_share: float = 0.6
    weight_decay: float = 1e-4
    clip_norm: float = 1.0

    def __post_init__(self):
        check_range(self, "learning_rate", "clip_norm", low=0, open_low=True)
        check_range(self, "warmup_steps", "weight_decay", low=0)
        check_range(self, "decay_share", low=0, high=1)


class TrainState(NamedTuple):
    """Everything a training step needs and returns.

    Attributes:
        step: Steps taken.
        params: Parameters, any pytree.
        opt_state: The optimizer's state.
        ema: Exponential moving average of the parameters, of their structure.
    """

    step: Int[Array, ""]
    params: PyTree
    opt_state: PyTree
    ema: PyTree


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Builds the optimizer for a run of ``num_steps``.

    Args:
        config: Rates.
        num_steps: Length of the run.

    Returns:
        An Optax transformation.

    Example:
        >>> import jax.numpy as jnp
        >>> from cardiojax.train import init_state
        >>> optimizer = make_optimizer(OptimizerConfig(), 1000)
        >>> state = init_state({"w": jnp.ones(2)}, optimizer)
    """
    decay_steps = max(int(config.decay_share * num_steps), 1)
    plateau_end = max(num_steps - decay_steps, config.warmup_steps)
    schedule = optax.join_schedules(
        [
            optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps),
            optax.constant_schedule(config.learning_rate),
            optax.cosine_decay_schedule(config.learning_rate, decay_steps),
        ],
        [config.warmup_steps, plateau_end],
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(schedule, weight_decay=config.weight_decay, mask=_is_kernel),
    )


def init_state(params: PyTree, optimizer: optax.GradientTransformation) -> TrainState:
    """Makes the state before the first step.

    Args:
        params: Initial parameters.
        optimizer: The optimizer that will be used.

    Returns:
        A state at step 0 whose moving average equals the parameters.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> int(init_state({"w": jnp.ones(2)}, optax.adam(1e-3)).step)
        0
    """
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), jax.tree.map(jnp.copy, params))


def train_step(
    state: TrainState,
    loss: Callable[[PyTree], Any],
    *,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.998,
    has_aux: bool = False,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Updates the parameters by one `gradient_step`, and their moving average.

    ``ema <- d ema + (1 - d) params`` with ``d = min(ema_decay, (1 + step) / (10 + step))``.

    Args:
        state: State before the step.
        loss: Parameters to one number.
        optimizer: The optimizer of the state.
        ema_decay: Decay of the moving average of the parameters, reached after a short warm-up.
        has_aux: Whether the loss also returns a dictionary of other scalars.

    Returns:
        The next state, and ``"loss"``, ``"grad_norm"`` and the other scalars of the loss.

    Example:
        >>> sgd = optax.sgd(0.5)
        >>> state, metrics = train_step(init_state(jnp.array(4.0), sgd), lambda x: x**2 / 2, optimizer=sgd)
        >>> float(state.params), float(metrics["loss"])
        (2.0, 8.0)
    """
    before = OptimizerState(state.params, state.opt_state)
    (params, opt_state), value, grads = gradient_step(before, loss, optimizer=optimizer, has_aux=has_aux)
    value, scalars = value if has_aux else (value, {})
    decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
    ema = jax.tree.map(lambda e, p: (decay * e + (1 - decay) * p).astype(e.dtype), state.ema, params)
    metrics = {"loss": value, "grad_norm": optax.tree.norm(grads), **scalars}
    return TrainState(state.step + 1, params, opt_state, ema), metrics


def _is_kernel(params: PyTree) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)
