"""``cardiojax train unet``: a segmentation network."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from cardiojax import losses, models, ops, runtime, train, zoo
from cardiojax.data.arrays import source_checksum, stack_examples
from cardiojax.data.augment import AugmentConfig, augment
from cardiojax.data.datasets import FrameSource, open_frames
from cardiojax.data.loader import MappedBatches
from cardiojax.recipes.run import RunConfig, RunResult, initializer, run, training_batches, zoo_model
from cardiojax.recipes.scoring import mean_scores, structure_dice

#: Validation images a call of the network.
_EVAL_BATCH = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainUNetConfig(RunConfig):
    """A U-Net on annotated frames.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``, or that of ``cardiojax data build``.
        datasets: Built datasets in it, which are merged by the names of their structures; the only one if not given.
        init: Weight file to start from; random if not given.
        size: Height and width of the square grid on which it trains.
        batch_size: Images a step.
        implementation: ``"native"`` computes convolutions and normalisation by kernels that the C++ compiler of this
            machine compiles, on the one device of a CPU: less time a step.
        model: Sizes of the network.
        optimizer: Rates.
        augmentation: Ranges of the augmentation.
    """

    data: Path
    datasets: tuple[str, ...] = ()
    init: Path | None = None
    size: int = 224
    batch_size: int = 8
    implementation: Literal["xla", "native"] = "xla"
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
        models.UNet,
        config.model,
        models.UNET_PRESETS,
        optimizer=train.make_optimizer(config.optimizer, config.loop.num_steps),
        loss=lambda output, target, **absent: region_loss(output.logits, target, **absent),
        **options,
    )


def train_segmenter(
    config: Any,
    module: Callable[..., Any],
    model_config: Any,
    presets: Mapping[str, Any],
    *,
    optimizer: optax.GradientTransformation,
    loss: Callable[..., Array],
    **options: Any,
) -> RunResult:
    """Trains a segmentation network on frames, resuming if the folder holds a run, and writes the best weights.

    The network gets a class for each structure of the data, and the weight file their names.

    Args:
        config: A `RunConfig` with ``data``, ``datasets``, ``init``, ``size``, ``batch_size``, ``implementation`` and
            ``augmentation``.
        module: Makes the network of its configuration and its implementation.
        model_config: The configuration, whose number of classes is that of the data.
        presets: Configurations by the name of the network in the zoo.
        optimizer: Its optimizer.
        loss: The network's output, the labels and, where some are not annotated, ``present`` to one value an image.
        **options: ``reporter`` and ``should_stop`` of `run`.

    Returns:
        The best parameters and the last state.

    Raises:
        ValueError: If the network does not take images of that size, or was asked to have another number of classes,
            or if its implementation has one device and the mesh more, or computes in another precision.
        Exception: What `run` raises.
    """
    implementation = _implementation(config, model_config)
    source, validation = (
        open_frames(config.data, split, size=config.size, datasets=config.datasets) for split in ("train", "validation")
    )
    structures = source.structures
    default = {preset.num_classes for preset in presets.values()}
    if model_config.num_classes not in (*default, len(structures)):
        raise ValueError(f"the masks have {len(structures)} classes, the network {model_config.num_classes}")
    model_config = dataclasses.replace(model_config, num_classes=len(structures))
    name, overrides = zoo_model(model_config, presets)
    loader = training_batches(source, config)
    change = functools.partial(augment, config=config.augmentation)
    return run(
        segmentation_task(
            module(model_config, implementation=implementation),
            loss=loss,
            augment=change,
            size=config.size,
            validation=validation,
            init=config.init,
        ),
        MappedBatches(loader, lambda batch: train.Batch(batch["image"], batch["label"], batch.get("present"))),
        config=config,
        optimizer=optimizer,
        save=lambda path, params: zoo.save(
            path, name, params, card={"structures": list(structures.names)}, **overrides
        ),
        data_checksum=source_checksum(source),
        compiler_options=ops.compiler_options(),
        **options,
    )


def _implementation(config: Any, model_config: Any) -> str:
    """What computes the layers: on accelerators XLA; the compiled kernels, built if asked for, are for CPU."""
    if config.implementation == "native" and model_config.dtype != "float32":
        raise ValueError(f'implementation="native" computes in float32, not in {model_config.dtype}')
    if config.implementation == "xla" or jax.default_backend() != "cpu":
        return "xla"
    if train.make_mesh(config.mesh) is not None:
        raise ValueError('implementation="native" computes on one device, not on those of a mesh')
    runtime.build_kernels()
    return "native"


def segmentation_task(
    model: Any,
    *,
    loss: Callable[..., Array],
    augment: Callable[[Array, Array, Array], tuple[Array, Array]],
    size: int,
    validation: Any,
    init: Path | None = None,
) -> train.Task:
    """Makes the task of a segmentation network of this library.

    The score is the mean Dice of the structures at end-diastole and end-systole.

    Args:
        model: A Flax Linen module with ``divisor``, whose output has ``logits``.
        loss: The network's output, the labels and, where some are not annotated, ``present`` to one value an image.
        augment: Key, image and mask to an augmented image and mask.
        size: Height and width of the images.
        validation: A `FrameSource`.
        init: Weight file to start from; random if not given.

    Returns:
        The task.

    Raises:
        ValueError: If the network has another number of classes than the masks.
    """
    image = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    abstract = jax.eval_shape(model.init, jax.random.key(0), image)["params"]
    num_classes = jax.eval_shape(model.apply, {"params": abstract}, image).logits.shape[-1]
    if num_classes != len(validation.structures):
        raise ValueError(f"the masks have {len(validation.structures)} classes, the network {num_classes}")

    smallest = (1, *np.broadcast_to(model.divisor, 2).tolist(), 1)
    init_params = initializer(model, smallest) if init is None else lambda key: zoo.load_weights(init, abstract)

    def apply(params, images, *, key):
        return model.apply({"params": params}, images, train=True, rngs={"dropout": key})

    def task_loss(key, params, batch, *, step):
        return train.augmented_loss(key, params, batch, apply=apply, loss=loss, augment=augment)

    return train.Task(init=init_params, loss=task_loss, evaluate=_make_evaluate(model, validation))


def region_loss(logits: Array, target: Array, *, present: Array | None = None) -> Array:
    """Cross-entropy plus Dice loss, of each image.

    Args:
        logits: ``[*b, h, w, k]``.
        target: True classes, ``[*b, h, w]``.
        present: Which classes are annotated in each image, ``[*b, k]``; all if not given.

    Returns:
        One value an image.
    """
    cross_entropy = losses.cross_entropy_loss(logits, target, present=present)
    return cross_entropy + losses.dice_loss(logits, target, present=present)


def _make_evaluate(model: Any, source: FrameSource) -> Callable[[Any], dict[str, float]]:
    arrays = stack_examples(source)
    columns = [arrays[name] for name in ("image", "label", "present") if name in arrays]

    @jax.jit
    def scores(params, images, truth, present=None):
        output: Any = model.apply({"params": params}, images[..., None].astype(jnp.float32) / 255)
        predicted = output.logits.argmax(-1)
        return structure_dice(predicted, truth.astype(jnp.int32), present, structures=source.structures)

    def evaluate(params) -> dict[str, float]:
        score = functools.partial(scores, params)
        return mean_scores(ops.map_batches(score, *columns, batch_size=_EVAL_BATCH), arrays["phase"])

    return evaluate
