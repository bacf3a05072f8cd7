"""``cardiojax train vae``: shape autoencoders from masks."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cardiojax import anatomy, losses, models, ops, train, zoo
from cardiojax.data.arrays import source_checksum, stack_examples
from cardiojax.data.augment import AugmentConfig, random_grid
from cardiojax.data.datasets import open_frames
from cardiojax.data.loader import MappedBatches
from cardiojax.data.shapes import ShapePairs, resize_masks, soft_labels
from cardiojax.labels import CAMUS
from cardiojax.recipes.run import RunConfig, RunResult, initializer, run, training_batches, zoo_model
from cardiojax.recipes.scoring import mean_scores, structure_dice
from cardiojax.validation import check_range

#: Validation masks a call of the network.
_EVAL_BATCH = 20
#: The autoencoders of the zoo by the configuration they are made with.
_ZOO = {
    "shape_vae_camus": models.VAE_PRESETS["shape_vae"],
    "cvae_camus": models.VAE_PRESETS["cvae"],
    "arvae_camus": models.VAE_PRESETS["arvae"],
    "cvae_paper": models.VAE_PRESETS["cvae_paper"],
}
#: Moderate changes of pose, so that the code represents the position as well as the shape.
POSES = AugmentConfig(rotation=12.0, scale=(0.85, 1.15), aspect=0.08, shift=0.06, probability=0.6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAELossConfig:
    """Weights of the terms of the loss, as in the authors' code where it has them.

    Attributes:
        cross_entropy: Reconstruction, mean over the pixels.
        dice: Reconstruction, one minus the mean soft Dice of the structures.
        kl: Divergence of the code from the standard normal distribution.
        free_bits: Nats of each latent dimension that cost nothing.
        kl_warmup: Steps over which the weight of the divergence rises linearly.
        phase: Squared error of the phase of the cycle, where the model regresses it.
        attributes: Order of the first seven latent dimensions by the seven attributes of `anatomy.attributes`.
        delta: How fast the difference of two codes saturates in that term.
    """

    cross_entropy: float = 0.1
    dice: float = 1.0
    kl: float = 1e-4
    free_bits: float = 0.0
    kl_warmup: int = 500
    phase: float = 0.3
    attributes: float = 0.0
    delta: float = 16.0

    def __post_init__(self):
        check_range(self, "cross_entropy", "dice", "kl", "free_bits", "kl_warmup", "phase", "attributes", low=0)
        check_range(self, "delta", low=0, open_low=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainVAEConfig(RunConfig):
    """A shape autoencoder on the masks of CAMUS.

    Each example is a shape between a patient's end-diastole and end-systole in one view: one of the two references, or,
    half of the time, a shape interpolated between them, moved and turned a little.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``, or that of ``cardiojax data build camus``.
        batch_size: Shapes a step.
        model: Sizes of the network.
        loss: Weights of the loss.
        optimizer: Rates.
        loop: Length and intervals.
        augmentation: Ranges of the changes of pose.
    """

    data: Path
    batch_size: int = 16
    model: models.VAEConfig = models.VAEConfig()
    loss: VAELossConfig = VAELossConfig()
    optimizer: train.OptimizerConfig = train.OptimizerConfig(learning_rate=1.5e-3)
    loop: train.LoopConfig = train.LoopConfig(num_steps=3000, eval_every=1000)
    augmentation: AugmentConfig = POSES


def train_vae(config: TrainVAEConfig, **options: Any) -> RunResult:
    """Trains a shape autoencoder, resuming if the folder holds a run, and writes the best weights.

    The score is the mean Dice of the reconstructed validation masks.

    Args:
        config: The run.
        **options: ``reporter`` and ``should_stop`` of `run`.

    Returns:
        The best parameters and the last state.

    Raises:
        Exception: What `run` raises.
    """
    source, validation = (open_frames(config.data, split, structures=CAMUS) for split in ("train", "validation"))
    model, size = models.VAE(config.model), config.model.size
    loader = training_batches(ShapePairs(source, size=size), config)

    init = initializer(model, (1, size, size, config.model.num_classes))

    def loss(key, params, maps, *, step):
        shape_key, latent_key = jax.random.split(key)
        keys = jax.random.split(shape_key, len(maps))
        shapes, phase = jax.vmap(functools.partial(random_shape, config=config.augmentation))(keys, maps)
        output: Any = model.apply({"params": params}, shapes, train=True, rngs={"latent": latent_key})
        return vae_loss(output, shapes, phase, step=step, config=config.loss)

    name, overrides = zoo_model(config.model, _ZOO)
    return run(
        train.Task(init=init, loss=loss, evaluate=_make_evaluate(model, validation)),
        MappedBatches(loader, lambda batch: batch["maps"]),
        config=config,
        optimizer=train.make_optimizer(config.optimizer, config.loop.num_steps),
        save=lambda path, params: zoo.save(path, name, params, **overrides),
        data_checksum=source_checksum(source),
        **options,
    )


def random_shape(
    key: Key[Array, ""], maps: Float[Array, "2 h w k"], *, config: AugmentConfig = POSES
) -> tuple[Float[Array, "h w k"], Float[Array, ""]]:
    """Draws a shape of half a cycle in a random pose.

    Args:
        key: Random key.
        maps: Signed distances at end-diastole and at end-systole.
        config: Ranges of the pose.

    Returns:
        Class probabilities, and the phase: 0 or 1 in a quarter of the draws each, between them in the others.
    """
    phase_key, pose_key = jax.random.split(key)
    phase = jnp.clip(jax.random.uniform(phase_key, minval=-0.5, maxval=1.5), 0, 1)
    first, last = maps.astype(jnp.float32)
    distances = (1 - phase) * first + phase * last
    rows, cols = random_grid(pose_key, distances.shape[:2], config=config)
    return soft_labels(_sample(distances, rows, cols)), phase


def _sample(maps: Float[Array, "h w k"], rows: Float[Array, "h w"], cols: Float[Array, "h w"]) -> Array:
    """Bilinear interpolation that reads all channels of a pixel at once, as `map_coordinates` does not."""
    h, w, _ = maps.shape
    rows, cols = jnp.clip(rows, 0, h - 1), jnp.clip(cols, 0, w - 1)
    top, left = jnp.floor(rows), jnp.floor(cols)
    down, right = (rows - top)[..., None], (cols - left)[..., None]
    first = (top * w + left).astype(jnp.int32)
    pixels = maps.reshape(h * w, -1)

    def read(offset):
        return jnp.take(pixels, first + offset, axis=0, mode="clip")  # past the last row or column the weight is zero

    return (1 - down) * ((1 - right) * read(0) + right * read(1)) + down * ((1 - right) * read(w) + right * read(w + 1))


def vae_loss(
    output: models.VAEOutput,
    probs: Float[Array, "n h w k"],
    phase: Float[Array, " n"],
    *,
    step: int | Array,
    config: VAELossConfig = VAELossConfig(),
) -> Float[Array, " n"]:
    """The loss of each shape.

    Args:
        output: What the model made of the shapes.
        probs: The shapes.
        phase: Their phases.
        step: Training step, for the rise of the divergence.
        config: Weights.

    Returns:
        One value per shape.
    """
    logits = output.logits
    warmup = jnp.minimum(1.0, step / max(config.kl_warmup, 1))
    loss = config.cross_entropy * losses.cross_entropy_loss(logits, probs)
    loss += config.dice * losses.dice_loss(logits, probs)
    loss += warmup * config.kl * losses.kl_loss(*output.posterior, free_bits=config.free_bits)
    if output.phase is not None:
        loss += config.phase * losses.squared_error_loss(output.phase, phase)
    if config.attributes:
        measured = jnp.stack(anatomy.attributes(probs.argmax(-1)), -1)
        followers = output.codes[:, : measured.shape[-1]]
        loss += config.attributes * losses.attribute_loss(followers, measured, delta=config.delta)
    return loss


def _make_evaluate(model: models.VAE, source: Any) -> Callable[[Any], dict[str, float]]:
    truth = stack_examples(source)["label"].astype(np.int32)

    @jax.jit
    def scores(params, truth):
        output: Any = model.apply({"params": params}, resize_masks(truth, model.config.size))
        logits = jax.image.resize(output.logits, (*truth.shape, model.config.num_classes), "linear")
        predicted = logits.argmax(-1)
        return structure_dice(predicted, truth), anatomy.is_valid(predicted)

    def evaluate(params) -> dict[str, float]:
        dice, valid = ops.map_batches(functools.partial(scores, params), truth, batch_size=_EVAL_BATCH)
        return {**mean_scores(dice), "valid": float(valid.mean())}

    return evaluate
