"""Trained baselines of CRISP: dropout, an ensemble, hints, ConfidNet and learned scales, on the packaged U-Net.

Each starts from the packaged network and is trained on the same frames for the same number of steps: with channel
dropout after the deepest level; as members of an ensemble, each with a decoder of its own from random values; with a
head of confidences that buys hints (DeVries and Taylor); with a head of scales (Kendall and Gal); and, for more steps
as the network itself stays frozen, with ConfidNet's head. A network whose file is there already is not trained again.
The ensemble's decoders have not converged after so few steps; the packaged networks together are the better ensemble.

Run: ``python -m experiments.uncertainty.confidence_networks --data DIR/camus_224 --out runs/networks`` (about an hour
of two cores), then ``python -m experiments.uncertainty.judge2022 --data DIR/camus_224 --out runs/judge2022 --networks
runs/networks``.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from cardiojax import losses, models, ops, train, uncertainty, zoo
from cardiojax.data.arrays import camus_224, stack_examples
from cardiojax.data.augment import AugmentConfig, augment
from cardiojax.recipes.segmentation import region_loss

#: Parameters, key, images, labels and the penalty of hints, to the mean loss and other values.
Loss = Callable[..., tuple[Array, dict[str, Array]]]
#: Rate of the channel dropout after the deepest level.
DROPOUT = 0.3
HEADS: dict[str, Any] = {
    "hints": models.ConfidenceHead(),
    "confidnet": models.ConfidenceHead(features=(32, 32, 16)),
    "scales": models.ConfidenceHead(num_outputs=4),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is trained.

    Attributes:
        data: Folder with ``camus224_train.npz``.
        out: Folder for the weight files.
        model: The network to start from.
        num_members: Networks of the ensemble.
        num_steps: Steps of each network.
        head_steps: Steps of ConfidNet's head, whose network stays as it is.
        batch_size: Frames a step.
        learning_rate: At its peak.
        limit: Frames, 0 for all.
        seed: Of everything.
        augmentation: Ranges of the augmentation.
    """

    data: Path
    out: Path
    model: str = "unet_camus"
    num_members: int = 3
    num_steps: int = 250
    head_steps: int = 800
    batch_size: int = 8
    learning_rate: float = 1e-3
    limit: int = 0
    seed: int = 0
    augmentation: AugmentConfig = AugmentConfig(probability=0.4)


def with_dropout(model: models.UNet) -> models.UNet:
    """The same network with dropout after its deepest level."""
    return models.UNet(dataclasses.replace(model.config, dropout=DROPOUT))


def make_losses(model: models.UNet) -> dict[str, Loss]:
    """The loss of each method."""

    def member(params, key, images, labels, penalty):
        return region_loss(model.apply({"params": params}, images).logits, labels).mean(), {}

    def dropout(params, key, images, labels, penalty):
        output: Any = with_dropout(model).apply({"params": params}, images, train=True, rngs={"dropout": key})
        return region_loss(output.logits, labels).mean(), {}

    def hints(params, key, images, labels, penalty):
        logits, raw = read("hints", model, params, images)
        loss = losses.learned_confidence_loss(key, logits, raw[..., 0], labels, penalty=penalty)
        return loss.mean(), {"spent": losses.confidence_penalty_loss(raw[..., 0]).mean()}

    def confidnet(params, key, images, labels, penalty):
        logits, raw = read("confidnet", model, params, images)
        return losses.confidnet_loss(raw[..., 0], logits, labels).mean(), {}

    def scales(params, key, images, labels, penalty):
        logits, raw = read("scales", model, params, images)
        return losses.heteroscedastic_loss(key, logits, jax.nn.softplus(raw), labels, num_samples=4).mean(), {}

    return {"member": member, "dropout": dropout, "hints": hints, "confidnet": confidnet, "scales": scales}


def read(name: str, model: models.UNet, params: PyTree, images: Float[Array, "n h w 1"]) -> tuple[Array, Array]:
    """Logits of a network, and what its head reads from its last features."""
    output: Any = model.apply({"params": params["network"]}, images)
    return output.logits, HEADS[name].apply({"params": params["head"]}, output.features)


def init(config: Config, name: str, model: models.UNet, params: PyTree) -> PyTree:
    """The parameters before training of ``member0``, ``member1``, ..., ``dropout``, or a network with a head."""
    if name == "dropout":
        return params
    if name.startswith("member"):
        key = jax.random.fold_in(jax.random.key(config.seed), int(name.removeprefix("member")))
        fresh = model.init(key, jnp.zeros((1, model.divisor, model.divisor, 1)))["params"]
        return {part: fresh[part] if part.startswith(("up", "head")) else leaf for part, leaf in params.items()}
    features = jnp.zeros((1, 8, 8, model.config.features[0]))
    return {"network": params, "head": HEADS[name].init(jax.random.key(config.seed), features)["params"]}


def fit(config: Config, name: str, params: PyTree, loss: Loss, frames: tuple[np.ndarray, np.ndarray]) -> PyTree:
    """Trains on random frames.

    Args:
        config: Steps and rates.
        name: Of the network; ConfidNet's trains its head alone.
        params: What `init` returned.
        loss: Of the method.
        frames: Images 0 to 255 and labels ``[n, h, w]``.

    Returns:
        The moving average of the parameters.
    """
    num_steps = config.head_steps if name == "confidnet" else config.num_steps
    rates = train.OptimizerConfig(learning_rate=config.learning_rate, warmup_steps=max(num_steps // 10, 1))
    optimizer = train.make_optimizer(rates, num_steps)
    seed = [config.seed, *name.encode()]
    rng, key = np.random.default_rng(seed), jax.random.key(np.random.default_rng(seed).integers(2**31))
    patterns = ("head/*",) if name == "confidnet" else ("*",)
    trained, frozen = train.partition(params, train.trainable(params, patterns))

    @functools.partial(jax.jit, donate_argnums=0, compiler_options=ops.compiler_options())
    def step(state, frozen, images, labels, penalty):
        augment_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
        change = functools.partial(augment, config=config.augmentation)
        keys = jax.random.split(augment_key, len(images))
        images, labels = jax.vmap(change)(keys, images.astype(jnp.float32) / 255, labels.astype(jnp.int32))

        def mean_loss(trained):
            return loss(train.merge(frozen, trained), loss_key, images[..., None], labels, penalty)

        return train.train_step(state, mean_loss, optimizer=optimizer, ema_decay=0.98, has_aux=True)

    state, penalty = train.init_state(jax.tree.map(jnp.copy, trained), optimizer), jnp.asarray(0.1)
    for i in range(num_steps):
        rows = rng.integers(0, len(frames[0]), config.batch_size)
        state, values = step(state, frozen, *(jnp.asarray(each[rows]) for each in frames), penalty)
        if "spent" in values:
            penalty = losses.hint_penalty(penalty, values["spent"])
        if i % 25 == 0 or i == num_steps - 1:
            print(f"  step {i}: " + ", ".join(f"{k} {float(v):.3f}" for k, v in values.items()), flush=True)
    return train.merge(frozen, state.ema)


def main(config: Config) -> list[Path]:
    """Trains what is missing; returns the weight files."""
    arrays = stack_examples(camus_224(config.data / "camus224_train.npz"), limit=config.limit)
    frames = arrays["image"], arrays["label"]
    model: Any
    model, variables = zoo.load(config.model)
    each = make_losses(model)
    config.out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in network_names(config.num_members):
        path = config.out / f"{name}.safetensors"
        paths.append(path)
        if path.exists():
            continue
        print(name, flush=True)
        params = init(config, name, model, variables["params"])
        zoo.save_weights(path, fit(config, name, params, each[name.rstrip("0123456789")], frames))
    return paths


def network_names(num_members: int) -> list[str]:
    """Names of the weight files."""
    return ["confidnet", "dropout", "hints", *(f"member{i}" for i in range(num_members)), "scales"]


def load_methods(folder: Path, model: models.UNet, params: PyTree, *, num_passes: int = 10) -> dict[str, Any]:
    """The trained methods, as functions of key and images.

    Args:
        folder: Where `main` wrote its files.
        model: The network they started from.
        params: Its parameters.
        num_passes: Passes with dropout.

    Returns:
        Functions to `cardiojax.uncertainty.Uncertainty` by the name of the method.
    """
    abstract = jax.eval_shape(lambda: params)
    config = Config(data=folder, out=folder)

    def load(name):
        shapes = jax.eval_shape(lambda p: init(config, name, model, p), abstract)
        return zoo.load_weights(folder / f"{name}.safetensors", shapes)

    members = [load(path.stem) for path in sorted(folder.glob("member*.safetensors"))]
    stacked = uncertainty.stack_members(members)
    dropped, (confidnet, hints, scales) = load("dropout"), (load(name) for name in ("confidnet", "hints", "scales"))

    def dropout(key, images):
        def apply(key, images):
            output: Any = with_dropout(model).apply({"params": dropped}, images, train=True, rngs={"dropout": key})
            return output.logits

        return uncertainty.mc_dropout(key, images, apply, num_passes=num_passes)

    def ensemble(key, images):
        def apply(params, images):
            output: Any = model.apply({"params": params}, images)
            return output.logits

        return uncertainty.deep_ensemble(images, apply, stacked)

    def confident(name, params, key, images):
        logits, raw = read(name, model, params, images)
        labels = logits.argmax(-1).astype(jnp.int32)
        return uncertainty.learned_confidence(images, labels, jax.nn.sigmoid(raw[..., 0]))

    def scaled(key, images):
        logits, raw = read("scales", model, scales, images)
        return uncertainty.heteroscedastic(images, logits, jax.nn.softplus(raw))

    return {
        "MC dropout": dropout,
        f"ensemble of {len(members)}": ensemble,
        "learned confidence": functools.partial(confident, "hints", hints),
        "ConfidNet": functools.partial(confident, "confidnet", confidnet),
        "learned scales": scaled,
    }


if __name__ == "__main__":
    import tyro

    print(*main(tyro.cli(Config)), sep="\n")
