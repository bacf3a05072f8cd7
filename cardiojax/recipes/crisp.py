"""``cardiojax train crisp``: images and shapes in one latent space, and the bank of shapes that goes with it."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from cardiojax import labels, losses, metrics, models, train, uncertainty, zoo
from cardiojax.data.augment import AugmentConfig, augment
from cardiojax.data.loader import LoaderConfig, make_loader
from cardiojax.data.shapes import resize_masks
from cardiojax.recipes.segmentation import Batches, keep_config, open_split, save_best

#: The image and its mask move together, so that both codes say where the heart lies; grey values change on their own.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainCRISPConfig:
    """CRISP on the frames of CAMUS.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``, or that of ``cardiojax data build camus``.
        out: The run's folder; a run found there is resumed.
        seed: Seed of the parameters, of the order of the data and of the changes.
        batch_size: Pairs a step, among which each image looks for its mask.
        num_samples: Shapes whose consensus is scored.
        ema_decay: Decay of the moving average of the parameters, which is what is scored and kept.
        model: Sizes of the network.
        loss: Weights of the loss.
        optimizer: Rates.
        loop: Length and intervals.
        augmentation: Ranges of the changes.
    """

    data: Path
    out: Path
    seed: int = 0
    batch_size: int = 32
    num_samples: int = 50
    ema_decay: float = 0.998
    model: models.CRISPConfig = models.CRISPConfig()
    loss: CRISPLossConfig = CRISPLossConfig()
    optimizer: train.OptimizerConfig = train.OptimizerConfig(learning_rate=1e-3)
    loop: train.LoopConfig = train.LoopConfig(num_steps=4000, eval_every=500)
    augmentation: AugmentConfig = CHANGES


class Frames(NamedTuple):
    """Images and their masks at the size of the model."""

    images: Float[Array, "n h w 1"]
    masks: Int[Array, "n h w"]


def train_crisp(config: TrainCRISPConfig, *, reporter: train.Reporter | None = None) -> train.FitResult:
    """Trains CRISP, resuming if the folder holds a run, and writes the best weights.

    Writes the same files as `train_unet`, and ``bank.safetensors`` with the codes of all training masks. The score is
    the mean Dice, over the validation images, of the consensus of the nearest training shapes.

    Args:
        config: The run.
        reporter: Where progress is told.

    Returns:
        The last state and the best score.

    Raises:
        ValueError: If the folder holds a run of another configuration.
    """
    source, validation = open_split(config.data, "train"), open_split(config.data, "validation")
    keep_config(config)
    model = models.CRISP(config.model)
    optimizer = train.make_optimizer(config.optimizer, config.loop.num_steps)
    side, shape = config.model.side, config.model.shape
    params = model.init(jax.random.key(config.seed), jnp.zeros((1, side, side, 1)))["params"]

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state: train.TrainState, batch: train.Batch):
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        augment_key, latent_key = jax.random.split(key)
        frames = prepare(batch.images, batch.labels, side=side)
        keys = jax.random.split(augment_key, len(frames.masks))
        change = functools.partial(augment, config=config.augmentation)
        images, masks = jax.vmap(change)(keys, frames.images[..., 0], frames.masks)
        probs = resize_masks(masks, shape.size, num_classes=shape.num_classes)

        def mean_loss(params):
            sample = config.loss.kl > 0
            rngs = {"latent": latent_key}
            output: Any = model.apply({"params": params}, images[..., None], probs, train=sample, rngs=rngs)
            return crisp_loss(output, probs, config=config.loss).mean()

        return train.gradient_step(state, mean_loss, optimizer=optimizer, ema_decay=config.ema_decay)

    loader = make_loader(source, LoaderConfig(batch_size=config.batch_size, seed=config.seed))
    known_masks = _all_frames(source, side).masks
    result = train.fit(
        train.init_state(params, optimizer),
        Batches(loader, lambda batch: train.Batch(batch["image"], batch["label"])),
        step=step,
        evaluate=_make_evaluate(model, known_masks, _all_frames(validation, side), config.num_samples),
        directory=config.out,
        config=config.loop,
        reporter=reporter,
    )
    save_best(config.out, result)
    weights = config.out / "weights.safetensors"
    best = zoo.load_weights(weights, jax.eval_shape(lambda s: s.params, result.state))
    known = _encode_shapes(model)({"params": best}, known_masks).posterior.mean
    zoo.save_weights(config.out / "bank.safetensors", {"codes": known})
    return result


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


def prepare(images: Integer[Array, "n h w"], masks: Integer[Array, "n h w"], *, side: int) -> Frames:
    """Brings stored frames to the size of a model.

    Args:
        images: Grey values, 0 to 255.
        masks: Label maps.
        side: Height and width of the result.

    Returns:
        Images in [0, 1], and label maps.
    """
    grey = jax.image.resize(images.astype(jnp.float32) / 255, (len(images), side, side), "linear")
    return Frames(grey[..., None], resize_masks(masks.astype(jnp.int32), side).argmax(-1).astype(jnp.int32))


def _all_frames(source: Any, side: int, batch_size: int = 50) -> Frames:
    convert = jax.jit(functools.partial(prepare, side=side))
    examples = [source[i] for i in range(len(source))]
    parts = []
    for i in range(0, len(examples), batch_size):
        part = examples[i : i + batch_size]
        parts.append(convert(*(np.stack([e[name] for e in part]) for name in ("image", "label"))))
    return Frames(*(jnp.concatenate(leaves) for leaves in zip(*parts, strict=True)))


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
) -> Callable[[train.TrainState], dict[str, float]]:
    encode_shapes = _encode_shapes(model)
    masks = known_masks.astype(jnp.uint8)

    @jax.jit
    def encode_images(variables):
        def one(image):
            return model.apply(variables, image, method="encode_image")

        return jax.lax.map(one, validation.images, batch_size=32)

    @jax.jit
    def consensus(codes, image_codes):
        found = uncertainty.plausible_shapes(image_codes, uncertainty.Bank(codes, masks), num_samples=num_samples)

        def vote(args):
            indices, weights = args
            return jnp.stack(
                [(weights[:, None, None] * (masks[indices] == k)).sum(0) for k in range(labels.NUM_CLASSES)]
            ).argmax(0)

        return jax.lax.map(vote, found)

    @jax.jit
    def scores(predicted, reconstructed):
        return {
            f"{prefix}{name}": metrics.dice(*(jnp.isin(m, jnp.array(members)) for m in (mask, validation.masks))).mean()
            for prefix, mask in (("", predicted), ("reconstructed_", reconstructed))
            for name, members in labels.STRUCTURES.items()
        }

    @jax.jit
    def reconstruct(variables, codes):
        logits = jax.lax.map(lambda z: model.apply(variables, z, method="decode"), codes, batch_size=32)
        return jax.image.resize(logits, (*validation.masks.shape, logits.shape[-1]), "linear").argmax(-1)

    def evaluate(state: train.TrainState) -> dict[str, float]:
        variables = {"params": state.ema}
        predicted = consensus(encode_shapes(variables, known_masks).joint, encode_images(variables))
        own = encode_shapes(variables, validation.masks)
        table = {k: float(v) for k, v in scores(predicted, reconstruct(variables, own.posterior.mean)).items()}
        return {"score": float(np.mean([table[name] for name in labels.STRUCTURES])), **table}

    return evaluate
