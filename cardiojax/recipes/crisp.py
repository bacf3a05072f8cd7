"""``cardiojax train crisp``: images and shapes in one latent space, and the bank of shapes that goes with it."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer

from cardiojax import labels, losses, models, ops, train, uncertainty, zoo
from cardiojax.data.arrays import source_checksum, stack_examples
from cardiojax.data.augment import AugmentConfig, augment
from cardiojax.data.datasets import open_frames
from cardiojax.data.loader import MappedBatches
from cardiojax.data.shapes import resize_masks
from cardiojax.recipes.run import RunConfig, RunResult, initializer, run, training_batches, zoo_model
from cardiojax.recipes.scoring import mean_scores, structure_dice
from cardiojax.validation import check_range

#: The image and its mask move together, so that both codes represent the position; grey values change on their own.
CHANGES = AugmentConfig(rotation=12.0, scale=(0.85, 1.15), aspect=0.08, shift=0.06, probability=0.6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CRISPLossConfig:
    """Weights of the terms of the loss, as in the authors' code.

    Attributes:
        contrast: Symmetric contrastive loss.
        cross_entropy: Reconstruction of the masks, mean over the pixels.
        dice: Reconstruction, one minus the mean soft Dice of the structures.
        kl: Divergence of the codes of the masks from the standard normal distribution; if 0, the code that is decoded
            is the mean, as in the released model.
    """

    contrast: float = 1.0
    cross_entropy: float = 0.1
    dice: float = 1.0
    kl: float = 0.0

    def __post_init__(self):
        check_range(self, "contrast", "cross_entropy", "dice", "kl", low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainCRISPConfig(RunConfig):
    """CRISP on the frames of CAMUS.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``, or that of ``cardiojax data build camus``.
        batch_size: Pairs a step, among which each image is matched with its mask.
        num_samples: Shapes whose consensus is scored.
        model: Sizes of the network.
        loss: Weights of the loss.
        optimizer: Rates.
        loop: Length and intervals.
        augmentation: Ranges of the changes.
    """

    data: Path
    batch_size: int = 32
    num_samples: int = 50
    model: models.CRISPConfig = models.CRISPConfig()
    loss: CRISPLossConfig = CRISPLossConfig()
    optimizer: train.OptimizerConfig = train.OptimizerConfig(learning_rate=1e-3)
    loop: train.LoopConfig = train.LoopConfig(num_steps=4000, eval_every=500)
    augmentation: AugmentConfig = CHANGES


class Frames(NamedTuple):
    """Images and their masks at the size of the model."""

    images: Float[Array, "n h w 1"]
    masks: Int[Array, "n h w"]


def train_crisp(config: TrainCRISPConfig, **options: Any) -> RunResult:
    """Trains CRISP, resuming if the folder holds a run, and writes the best weights.

    Writes ``bank.safetensors`` with the codes of all training masks beside them. The score is the mean Dice, over the
    validation images, of the consensus of the nearest training shapes.

    Args:
        config: The run.
        **options: ``reporter`` and ``should_stop`` of `run`.

    Returns:
        The best parameters and the last state.

    Raises:
        Exception: What `run` raises.
    """
    source, validation = (
        open_frames(config.data, "train", structures=labels.CAMUS),
        open_frames(config.data, "validation", structures=labels.CAMUS),
    )
    model, size = models.CRISP(config.model), config.model.size
    loader = training_batches(source, config)
    known_masks = _all_frames(source, size).masks
    name, overrides = zoo_model(config.model, models.CRISP_PRESETS)
    result = run(
        train.Task(
            init=initializer(model, (1, size, size, 1)),
            loss=_make_loss(model, config),
            evaluate=_make_evaluate(model, known_masks, _all_frames(validation, size), config.num_samples),
        ),
        MappedBatches(loader, lambda batch: train.Batch(batch["image"], batch["label"])),
        config=config,
        optimizer=train.make_optimizer(config.optimizer, config.loop.num_steps),
        save=lambda path, params: zoo.save(path, name, params, **overrides),
        data_checksum=source_checksum(source),
        **options,
    )
    if not result.interrupted:
        known = _encode_shapes(model)({"params": result.params}, known_masks).posterior.mean
        zoo.save_weights(config.out / "bank.safetensors", {"codes": known})
    return result


def _make_loss(model: models.CRISP, config: TrainCRISPConfig) -> train.LossFn:
    size, shape = config.model.size, config.model.shape
    change = functools.partial(augment, config=config.augmentation)

    def loss(key, params, batch, *, step):
        augment_key, latent_key = jax.random.split(key)
        frames = prepare(batch.images, batch.labels, size=size)
        keys = jax.random.split(augment_key, len(frames.masks))
        images, masks = jax.vmap(change)(keys, frames.images[..., 0], frames.masks)
        probs = resize_masks(masks, shape.size, num_classes=shape.num_classes)
        is_sampled, rngs = config.loss.kl > 0, {"latent": latent_key}
        output: Any = model.apply({"params": params}, images[..., None], probs, train=is_sampled, rngs=rngs)
        return crisp_loss(output, probs, config=config.loss)

    return loss


def crisp_loss(
    output: models.CRISPOutput, probs: Float[Array, "n h w k"], *, config: CRISPLossConfig = CRISPLossConfig()
) -> Float[Array, " n"]:
    """The loss of each pair.

    Args:
        output: What the model made of the pairs.
        probs: The masks, as class probabilities.
        config: Weights.

    Returns:
        One value per pair.
    """
    loss = config.contrast * losses.contrastive_loss(output.image_codes, output.shapes.joint, output.log_scale)
    loss += config.cross_entropy * losses.cross_entropy_loss(output.logits, probs)
    loss += config.dice * losses.dice_loss(output.logits, probs)
    if config.kl:
        loss += config.kl * losses.kl_loss(*output.shapes.posterior)
    return loss


def prepare(images: Integer[Array, "n h w"], masks: Integer[Array, "n h w"], *, size: int) -> Frames:
    """Brings stored frames to the size of a model.

    Args:
        images: Grey values, 0 to 255.
        masks: Label maps.
        size: Height and width of the result.

    Returns:
        Images in [0, 1], and label maps.
    """
    grey = jax.image.resize(images.astype(jnp.float32) / 255, (len(images), size, size), "linear")
    return Frames(grey[..., None], resize_masks(masks.astype(jnp.int32), size).argmax(-1).astype(jnp.int32))


def _all_frames(source: Any, size: int, batch_size: int = 50) -> Frames:
    arrays, resize = stack_examples(source), jax.jit(functools.partial(prepare, size=size))
    frames = ops.map_batches(resize, arrays["image"], arrays["label"], batch_size=batch_size)
    return Frames(*map(jnp.asarray, frames))


def _encode_shapes(model: models.CRISP) -> Callable[[Any, Array], models.ShapeCodes]:
    """Masks to codes, a few at a time."""

    @jax.jit
    def encode(variables, masks):
        def one(mask):
            return model.apply(variables, resize_masks(mask, model.config.shape.size), method="encode_shape")

        return jax.lax.map(one, masks, batch_size=32)

    return encode


def _make_evaluate(
    model: models.CRISP, known_masks: Array, validation: Frames, num_samples: int
) -> Callable[[Any], dict[str, float]]:
    encode_shapes = _encode_shapes(model)
    masks = known_masks.astype(jnp.uint8)

    @jax.jit
    def encode_images(variables):
        def one(image):
            return model.apply(variables, image, method="encode_image")

        return jax.lax.map(one, validation.images, batch_size=32)

    @jax.jit
    def consensus(codes, image_codes):
        shapes = uncertainty.retrieve_shapes(image_codes, uncertainty.ShapeBank(codes, masks), num_samples=num_samples)

        def vote(args):
            indices, weights = args
            return jnp.stack(
                [(weights[:, None, None] * (masks[indices] == k)).sum(0) for k in range(labels.NUM_CLASSES)]
            ).argmax(0)

        return jax.lax.map(vote, shapes)

    @jax.jit
    def scores(predicted, reconstructed):
        return structure_dice(predicted, validation.masks), structure_dice(reconstructed, validation.masks)

    @jax.jit
    def reconstruct(variables, codes):
        logits = jax.lax.map(lambda z: model.apply(variables, z, method="decode"), codes, batch_size=32)
        return jax.image.resize(logits, (*validation.masks.shape, logits.shape[-1]), "linear").argmax(-1)

    def evaluate(params) -> dict[str, float]:
        variables = {"params": params}
        predicted = consensus(encode_shapes(variables, known_masks).joint, encode_images(variables))
        own = encode_shapes(variables, validation.masks)
        dice, reconstructed = map(
            mean_scores, jax.device_get(scores(predicted, reconstruct(variables, own.posterior.mean)))
        )
        return {**dice, **{f"reconstructed_{name}": reconstructed[name] for name in labels.STRUCTURES}}

    return evaluate
