"""The state of a training run and the pure functions that advance it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from cardiojax import ops


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


class Batch(NamedTuple):
    """Images and masks as they are stored."""

    images: Float[Array, "n h w"] | Int[Array, "n h w"]
    labels: Int[Array, "n h w"]


class TrainState(NamedTuple):
    """Everything a training step needs and returns."""

    step: Int[Array, ""]
    params: PyTree
    opt_state: PyTree
    ema: PyTree


#: A network: ``apply(params, images [n, h, w, 1], *, key) -> logits [n, h, w, k]``.
ApplyFn = Callable[..., Array]


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Builds the optimizer for a run of ``num_steps``.

    Args:
        config: Rates.
        num_steps: Length of the run.

    Returns:
        An Optax transformation.
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
    """
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), jax.tree.map(jnp.copy, params))


def train_step(
    key: Key[Array, ""],
    state: TrainState,
    batch: Batch,
    *,
    apply: ApplyFn,
    loss: Callable[[Array, Array], Array],
    augment: Callable[[Array, Array, Array], tuple[Array, Array]],
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.998,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Advances a run by one batch. Jit it with the state donated.

    Args:
        key: The run's random key; the step is folded in, so a resumed run draws the same numbers.
        state: State before the step.
        batch: Images and masks.
        apply: The network.
        loss: Logits and labels to one value per example.
        augment: Key, image ``[h, w]`` and mask ``[h, w]`` to an augmented image and mask.
        optimizer: The optimizer of the state.
        ema_decay: Decay of the moving average of the parameters, reached after a short warm-up.

    Returns:
        The next state, and the mean loss and the gradient's norm.
    """
    ops.require_auto_axes(batch.images, batch.labels)
    key = jax.random.fold_in(key, state.step)
    augment_key, apply_key = jax.random.split(key)
    keys = jax.random.split(augment_key, batch.labels.shape[0])
    images, labels = jax.vmap(augment)(keys, _to_float(batch.images), batch.labels.astype(jnp.int32))

    def mean_loss(params: PyTree) -> Array:
        return loss(apply(params, images[..., None], key=apply_key), labels).mean()

    return gradient_step(state, mean_loss, optimizer=optimizer, ema_decay=ema_decay)


def gradient_step(
    state: TrainState,
    loss: Callable[[PyTree], Any],
    *,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.998,
    has_aux: bool = False,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Moves the parameters down the gradient of a loss and lets their moving average follow.

    Args:
        state: State before the step.
        loss: Parameters to one number.
        optimizer: The optimizer of the state.
        ema_decay: Decay of the moving average of the parameters, reached after a short warm-up.
        has_aux: Whether the loss also returns a dictionary of other numbers to be told.

    Returns:
        The next state, and the loss, the gradient's norm and what else the loss told.
    """
    value, grads = jax.value_and_grad(loss, has_aux=has_aux)(state.params)
    value, told = value if has_aux else (value, {})
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
    ema = jax.tree.map(lambda e, p: decay * e + (1 - decay) * p, state.ema, params)
    metrics = {"loss": value, "grad_norm": optax.tree.norm(grads), **told}
    return TrainState(state.step + 1, params, opt_state, ema), metrics


def _to_float(images: Array) -> Array:
    return images.astype(jnp.float32) / 255 if jnp.issubdtype(images.dtype, jnp.integer) else images


def _is_kernel(params: PyTree) -> Any:
    return jax.tree.map(lambda p: p.ndim > 1, params)
