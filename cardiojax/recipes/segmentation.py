"""``cardiojax train unet``: a segmentation network on CAMUS frames."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from cardiojax import labels, losses, models, ops, train, zoo
from cardiojax.data.arrays import source_checksum, stack_examples
from cardiojax.data.augment import AugmentConfig, augment
from cardiojax.data.camus import open_frames
from cardiojax.data.loader import LoaderConfig, MappedBatches, make_loader
from cardiojax.recipes.run import RunConfig, RunResult, run, zoo_model
from cardiojax.recipes.scoring import mean_scores, structure_dice

#: Validation images a call of the network.
_EVAL_BATCH = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainUNetConfig(RunConfig):
    """A U-Net on CAMUS frames.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``, or that of ``cardiojax data build camus``.
        init: Weight file to start from; random if not given.
        size: Height and width of the square grid on which it trains.
        batch_size: Images a step.
        model: Sizes of the network.
        optimizer: Rates.
        augmentation: Ranges of the augmentation.
    """

    data: Path
    init: Path | None = None
    size: int = 224
    batch_size: int = 8
    model: models.UNetConfig = models.UNetConfig()
    optimizer: train.OptimizerConfig = train.OptimizerConfig()
    augmentation: AugmentConfig = AugmentConfig()


def train_unet(config: TrainUNetConfig, **options: Any) -> RunResult:
    """Trains a U-Net, resuming if the folder holds a run, and writes the best weights.

    Args:
        config: The run.
        **options: ``reporter`` and ``should_stop`` of `run`.

    Returns:
        The best parameters and the last state.

    Raises:
        Exception: What `run` raises.
    """
    return train_segmenter(
        config,
        models.UNet(config.model),
        optimizer=train.make_optimizer(config.optimizer, config.loop.num_steps),
        loss=lambda output, target: region_loss(output.logits, target),
        name=zoo_model(config.model, models.UNET_PRESETS),
        **options,
    )


def train_segmenter(
    config: Any,
    model: Any,
    *,
    optimizer: optax.GradientTransformation,
    loss: Callable[[Any, Array], Array],
    name: tuple[str, dict[str, Any]],
    **options: Any,
) -> RunResult:
    """Trains a segmentation network on CAMUS frames, resuming if the folder holds a run, and writes the best weights.

    Args:
        config: A `RunConfig` with ``data``, ``init``, ``size``, ``batch_size`` and ``augmentation``.
        model: The network.
        optimizer: Its optimizer.
        loss: The network's output and the labels to one value an image.
        name: Name and overrides of the network in the zoo.
        **options: ``reporter`` and ``should_stop`` of `run`.

    Returns:
        The best parameters and the last state.

    Raises:
        ValueError: If the network does not take images of that size, or has another number of classes than the masks.
        Exception: What `run` raises.
    """
    source, validation = (open_frames(config.data, split, size=config.size) for split in ("train", "validation"))
    loader = make_loader(source, LoaderConfig(batch_size=config.batch_size, seed=config.seed))
    change = functools.partial(augment, config=config.augmentation)
    return run(
        segmentation_task(model, loss=loss, augment=change, size=config.size, validation=validation, init=config.init),
        MappedBatches(loader, lambda batch: train.Batch(batch["image"], batch["label"])),
        config=config,
        optimizer=optimizer,
        save=lambda path, params: zoo.save(path, name[0], params, **name[1]),
        data_checksum=source_checksum(source),
        compiler_options=ops.compiler_options(),
        **options,
    )


def segmentation_task(
    model: Any,
    *,
    loss: Callable[[Any, Array], Array],
    augment: Callable[[Array, Array, Array], tuple[Array, Array]],
    size: int,
    validation: Any,
    init: Path | None = None,
) -> train.Task:
    """Makes the task of a segmentation network of this library.

    The score is the mean Dice of the structures at end-diastole and end-systole.

    Args:
        model: A Flax Linen module with ``divisor``, whose output has ``logits``.
        loss: The network's output and the labels to one value an image.
        augment: Key, image and mask to an augmented image and mask.
        size: Height and width of the images.
        validation: Examples with ``image``, ``label`` and ``phase``.
        init: Weight file to start from; random if not given.

    Returns:
        The task.

    Raises:
        ValueError: If the network has another number of classes than the masks.
    """
    image = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    abstract = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    num_classes = jax.eval_shape(model.apply, {"params": abstract}, image).logits.shape[-1]
    if num_classes != labels.NUM_CLASSES:
        raise ValueError(f"the masks have {labels.NUM_CLASSES} classes, the network {num_classes}")

    def init_params(key):
        if init is not None:
            return zoo.load_weights(init, abstract)
        return model.init(key, jnp.zeros((1, *np.broadcast_to(model.divisor, 2), 1)))["params"]  # compiles fastest

    def apply(params, images, *, key):
        return model.apply({"params": params}, images, train=True, rngs={"dropout": key})

    def task_loss(key, params, batch, *, step):
        return train.augmented_loss(key, params, batch, apply=apply, loss=loss, augment=augment)

    return train.Task(init=init_params, loss=task_loss, evaluate=_make_evaluate(model, validation))


def region_loss(logits: Array, target: Array) -> Array:
    """Cross-entropy plus Dice loss, of each image.

    Args:
        logits: ``[*b, h, w, k]``.
        target: True classes, ``[*b, h, w]``.

    Returns:
        One value an image.
    """
    return losses.cross_entropy_loss(logits, target) + losses.dice_loss(logits, target)


def _make_evaluate(model: Any, source: Any) -> Callable[[Any], dict[str, float]]:
    arrays = stack_examples(source)
    images, truth, phases = (arrays[name] for name in ("image", "label", "phase"))

    @jax.jit
    def scores(params, images, truth):
        output: Any = model.apply({"params": params}, images[..., None].astype(jnp.float32) / 255)
        return structure_dice(output.logits.argmax(-1), truth.astype(jnp.int32))

    def evaluate(params) -> dict[str, float]:
        score = functools.partial(scores, params)
        return mean_scores(ops.map_batches(score, images, truth, batch_size=_EVAL_BATCH), phases)

    return evaluate
