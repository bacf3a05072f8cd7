"""What a run optimizes: a task of three functions, and the training step made of it."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from cardiojax import ops
from cardiojax.train.state import TrainState, train_step

#: ``loss(key, params, batch, *, step) -> [n]``, one value per example.
LossFn = Callable[..., Array]
#: A network: ``apply(params, images [n, h, w, 1], *, key) -> logits [n, h, w, k]``.
ApplyFn = Callable[..., Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A model with its loss and its score, for any kind of module (Flax Linen, Flax NNX, plain functions).

    Attributes:
        init: A random key to the initial parameters, any pytree of arrays.
        loss: ``loss(key, params, batch, *, step)`` to one value per example, ``[n]``. It augments the batch and runs
            the model in training mode; the key depends on the step, so that a resumed run draws the same numbers.
        evaluate: Parameters to numbers by name, ``"score"`` among them (higher is better).
    """

    init: Callable[[Key[Array, ""]], PyTree]
    loss: LossFn
    evaluate: Callable[[PyTree], Mapping[str, float]]


class Batch(NamedTuple):
    """Images and masks as they are stored, and which classes are annotated in each image; None if all are."""

    images: Float[Array, "n h w"] | Int[Array, "n h w"]
    labels: Int[Array, "n h w"]
    present: Bool[Array, "n k"] | None = None


def make_step(
    key: Key[Array, ""],
    loss: LossFn,
    *,
    optimizer: optax.GradientTransformation,
    ema_decay: float = 0.998,
    compiler_options: dict[str, Any] | None = None,
    places: PyTree = None,
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, Array]]]:
    """Makes the jitted training step of a loss, for `fit`.

    Args:
        key: The run's random key; the step is folded in.
        loss: ``loss(key, params, batch, *, step)`` to one value per example.
        optimizer: The optimizer of the state.
        ema_decay: Decay of the moving average of the parameters, reached after a short warm-up.
        compiler_options: Options of XLA.
        places: Shardings of the state, which it keeps, see `shardings`; those that XLA chooses if not given.

    Returns:
        State and batch to the next state, ``"loss"`` and ``"grad_norm"``. The state is donated.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from cardiojax.train import init_state
        >>> def loss(key, params, batch, *, step):
        ...     return (batch - params) ** 2
        >>> optimizer = optax.sgd(0.25)
        >>> step = make_step(jax.random.key(0), loss, optimizer=optimizer)
        >>> state, metrics = step(init_state(jnp.array(0.0), optimizer), jnp.array([2.0, 2.0]))
        >>> float(metrics["loss"]), float(state.params)
        (4.0, 1.0)
    """

    @functools.partial(jax.jit, donate_argnums=0, compiler_options=compiler_options)
    def step(state: TrainState, batch: Any):
        step_key = jax.random.fold_in(key, state.step)

        def mean_loss(params: PyTree) -> Array:
            values = loss(step_key, params, batch, step=state.step)
            if jnp.ndim(values) != 1:
                raise TypeError(f"the loss must return one value per example [n], got shape {list(jnp.shape(values))}")
            return values.mean()

        state, metrics = train_step(state, mean_loss, optimizer=optimizer, ema_decay=ema_decay)
        return (state if places is None else jax.lax.with_sharding_constraint(state, places)), metrics

    return step


def augmented_loss(
    key: Key[Array, ""],
    params: PyTree,
    batch: Any,
    *,
    apply: ApplyFn,
    loss: Callable[..., Array],
    augment: Callable[[Array, Array, Array], tuple[Array, Array]],
) -> Float[Array, " n"]:
    """The loss of a segmentation network on augmented images.

    Args:
        key: Random key.
        params: Parameters of the network.
        batch: A `Batch`, or another tuple with such fields: images, integers of 0 to 255 or reals in [0, 1], and masks.
        apply: The network: ``apply(params, images [n, h, w, 1], *, key)``.
        loss: What ``apply`` returns and labels ``[n, h, w]`` to one value per example; where the batch has ``present``,
            it is called with that too.
        augment: Key, image ``[h, w]`` and mask ``[h, w]`` to an augmented image and mask.

    Returns:
        One value per example.

    Raises:
        TypeError: If the batch, ``augment`` or ``loss`` are not as described.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from cardiojax import losses
        >>> from cardiojax.train import Batch
        >>> batch = Batch(jnp.ones((2, 4, 4)), jnp.ones((2, 4, 4), int))
        >>> def apply(params, images, *, key):
        ...     return images * params
        >>> def augment(key, image, mask):
        ...     return image, mask
        >>> options = {"apply": apply, "loss": losses.cross_entropy_loss, "augment": augment}
        >>> augmented_loss(jax.random.key(0), jnp.array([0.0, 9.0]), batch, **options).shape
        (2,)
    """
    if not (hasattr(batch, "images") and hasattr(batch, "labels")):
        raise TypeError(f"the batch must have images and labels (see Batch), got a {type(batch).__name__}")
    if batch.images.shape != batch.labels.shape or batch.images.ndim < 3:
        raise TypeError(
            f"images and labels must both be [n, h, w], got {list(batch.images.shape)} and {list(batch.labels.shape)}"
        )
    ops.require_auto_axes(batch.images, batch.labels)
    num = len(batch.labels)
    augment_key, apply_key = jax.random.split(key)
    keys = jax.random.split(augment_key, num)
    images, labels = map(jnp.asarray, (batch.images, batch.labels))
    images, labels = jax.vmap(augment)(keys, _to_unit_range(images), labels.astype(jnp.int32))
    if images.shape != labels.shape:
        raise TypeError(
            f"augment must return an image and a mask of one shape, got {list(images.shape)} and {list(labels.shape)}"
        )
    present = getattr(batch, "present", None)
    options = {} if present is None else {"present": present}
    values = loss(apply(params, images[..., None], key=apply_key), labels, **options)
    if jnp.shape(values) != (num,):
        raise TypeError(f"the loss must return one value per example [{num}], got shape {list(jnp.shape(values))}")
    return values


def _to_unit_range(images: Array) -> Array:
    return images.astype(jnp.float32) / 255 if jnp.issubdtype(images.dtype, jnp.integer) else images
