"""A U-Net that sees both phases of a view, trained on CAMUS within minutes on one GPU.

    python -m experiments.segmentation.train_camus_gpu pack --data DIR --out frames.zip  # 46 MB become about 35 MB
    python -m experiments.segmentation.train_camus_gpu --data frames.zip --out RUN  # 9 minutes; RUN/weights.safetensors

Frames and masks of the whole training set lie in device memory; drawing pairs, augmentation, forward and backward pass
are one compiled program of ``steps_per_call`` steps. The network computes in bfloat16 and starts at full resolution;
each of the two frames of a pair is segmented with the other beside it, or, for a share of the pairs, alone. The number
of steps is what fits into ``minutes`` at the speed of the first calls, unless ``num_steps`` says it; the moving average
at the end is kept, and nothing is chosen on the validation patients, who are scored at the end. ``fold`` leaves out
every fifth training patient and scores those instead: five calls are a cross-validation.

The weights are half precision, 11.4 MB for the default network. Beside JAX the machine needs flax, optax, safetensors,
scipy, Pillow, dm-pix and tyro. On CPU: ``--steps-per-call 1 --dtype float32 --implementation native``, and ``--features
8 16 --num-steps 10`` for a trial.
"""

import dataclasses
import functools
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from cardiojax import losses, models, ops, runtime, zoo
from cardiojax.data.augment import AugmentConfig, augment
from experiments.common.pairs import Frames, pack, read, split_fold
from experiments.segmentation import accuracy

#: Share of the time that is left for compilation and scoring.
_RESERVE = 0.12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One training.

    Attributes:
        data: A file that ``pack`` wrote, or the folder of ``camus224_train.npz`` and ``camus224_val.npz``.
        out: Folder for ``weights.safetensors``, ``config.json`` and ``scores.json``.
        minutes: Time for everything.
        num_steps: Number of steps, in place of what fits into ``minutes``.
        init: Model of the zoo, or weight file, to start from: one of the same sizes, or one with levels above, of which
            the levels of the same sizes are taken (see `deeper_levels`). Random weights if not given.
        fold: Fifth of the training patients that is left out and scored, 0 to 4; none if not given.
        features: Channels of each level.
        patch: See `models.UNetConfig`.
        dtype: Type of the computation.
        implementation: See `models.UNet`.
        num_pairs: Pairs of frames a step.
        size: Height and width of the training images.
        final_size: Their height and width in the last steps, whose number must then be known; ``size`` if not given.
        final_share: Share of the steps that are of this size.
        pair_share: Share of the pairs whose frames are shown together.
        area_weight: Weight of the relative error of the cavity's area.
        learning_rate: Its peak.
        weight_decay: Decoupled, on kernels.
        ema_decay: Decay of the moving average of the parameters.
        steps_per_call: Steps of one compiled call.
        seed: Seed of everything.
        augmentation: Ranges of the augmentation.
    """

    data: Path
    out: Path
    minutes: float = 9.0
    num_steps: int | None = None
    init: str | None = None
    fold: int | None = None
    features: tuple[int, ...] = (32, 64, 128, 256, 320)
    patch: int = 1
    dtype: str = "bfloat16"
    implementation: str = "xla"
    num_pairs: int = 16
    size: int = 224
    final_size: int | None = None
    final_share: float = 0.25
    pair_share: float = 0.6
    area_weight: float = 0.1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    ema_decay: float = 0.9995
    steps_per_call: int = 50
    seed: int = 0
    augmentation: AugmentConfig = AugmentConfig(probability=0.7, elastic=0.03)

    def __post_init__(self):
        if self.final_size is not None and self.num_steps is None:
            raise ValueError("a final size needs the number of steps: it is planned from the speed at the first size")

    @property
    def overrides(self) -> dict:
        """Fields of the network's configuration that differ from those of the zoo's ``unet``."""
        return {"features": self.features, "patch": self.patch, "frames": 2}


class State(NamedTuple):
    """What a step needs and returns."""

    step: Int[Array, ""]
    params: PyTree
    opt_state: PyTree
    ema: PyTree


def segmentation_loss(
    logits: Float[Array, "n h w k"], labels: Int[Array, "n h w"], *, area_weight: float
) -> Float[Array, " n"]:
    """Cross-entropy, Dice loss, and the relative error of the cavity's area, which is at most one half.

    Args:
        logits: Scores.
        labels: True classes.
        area_weight: Weight of the last.
    """
    area, truth = (x.sum((1, 2)) for x in (jax.nn.softmax(logits)[..., 1], (labels == 1).astype(jnp.float32)))
    relative = jnp.clip(jnp.abs(area - truth) / (truth + 50.0), 0.0, 0.5)
    return losses.cross_entropy_loss(logits, labels) + losses.dice_loss(logits, labels) + area_weight * relative


def draw_batch(
    key: Key[Array, ""], images: Array, labels: Array, pairs: Int[Array, "p 2"], *, config: Config, size: int
) -> tuple[Float[Array, "n h w 2"], Int[Array, "n h w"]]:
    """Augmented pairs; the two frames of a pair are changed alike but for the noise.

    Args:
        key: Random key.
        images: All frames, uint8.
        labels: Their masks.
        pairs: Which frames belong together.
        config: The training.
        size: Height and width of the result.

    Returns:
        Images with the other frame, or themselves, as second channel, and masks.
    """
    pair_key, augment_key, share_key = jax.random.split(key, 3)
    chosen = pairs[jax.random.randint(pair_key, (config.num_pairs,), 0, len(pairs))]

    def one(key, frame, index):
        image = images[index].astype(jnp.float32) / 255
        return augment(key, image, labels[index].astype(jnp.int32), config=config.augmentation, size=size, frame=frame)

    keys = jax.random.split(augment_key, config.num_pairs)
    augmented = jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, 0))(keys, jnp.arange(2), chosen)
    together = jax.random.bernoulli(share_key, config.pair_share, (config.num_pairs, 1, 1, 1))
    other = jnp.where(together, augmented.image[:, ::-1], augmented.image)
    inputs, masks = jnp.stack([augmented.image, other], -1), augmented.labels
    return inputs.reshape(-1, *inputs.shape[2:]), masks.reshape(-1, *masks.shape[2:])


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """AdamW without a rate: `run_steps` applies that of the moment.

    Args:
        config: The training.
    """
    decay = optax.add_decayed_weights(config.weight_decay, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p))
    return optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), decay)


def run_steps(
    key: Key[Array, ""],
    state: State,
    images: Array,
    labels: Array,
    pairs: Array,
    num_steps: Int[Array, ""],
    *,
    model: Any,
    config: Config,
    size: int,
) -> tuple[State, Float[Array, ""]]:
    """Advances the training by ``steps_per_call`` steps.

    Args:
        key: The run's random key; the step is folded in.
        state: State before.
        images: All frames, uint8.
        labels: Their masks.
        pairs: Which frames belong together.
        num_steps: Length of the run: the rate falls to zero over it as a cosine, after a short rise.
        model: The network.
        config: The training.
        size: Height and width of the images.

    Returns:
        State after, and the mean loss.
    """
    optimizer = make_optimizer(config)

    def step(state, _):
        step_key = jax.random.fold_in(key, state.step)
        x, y = draw_batch(step_key, images, labels, pairs, config=config, size=size)

        def mean_loss(params):
            logits = model.apply({"params": params}, x).logits
            return segmentation_loss(logits, y, area_weight=config.area_weight).mean()

        value, grads = jax.value_and_grad(mean_loss)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        share = jnp.minimum(state.step / num_steps, 1.0)
        rate = config.learning_rate * jnp.minimum(1.0, (state.step + 1) / 200) * 0.5 * (1 + jnp.cos(jnp.pi * share))
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
        ema = jax.tree.map(lambda e, p: decay * e + (1 - decay) * p, state.ema, params)
        return State(state.step + 1, params, opt_state, ema), value

    if config.steps_per_call == 1:  # no loop: XLA's convolutions on CPU are several times slower within one
        return step(state, None)
    state, values = jax.lax.scan(step, state, length=config.steps_per_call)
    return state, values.mean()


def deeper_levels(params: PyTree, num_levels: int) -> PyTree:
    """The deepest levels of a U-Net under the names they have in a network that consists of these alone.

    Args:
        params: Parameters of a U-Net.
        num_levels: Levels to keep.

    Returns:
        Parameters without those of higher levels and of the head.

    Raises:
        ValueError: If the network has fewer levels.
    """
    level = {name: int(name.removeprefix("down").removeprefix("up").split("_")[0]) for name in params if name != "head"}
    above = max(level.values()) + 1 - num_levels
    if above < 0:
        raise ValueError(f"the network to start from has {above + num_levels} levels, expected at least {num_levels}")
    return {name.replace(str(i), str(i - above), 1): params[name] for name, i in level.items() if i >= above}


def initial_params(config: Config, model: models.UNet) -> PyTree:
    """Random parameters, or those that ``init`` names where they have the shapes of the network.

    Args:
        config: The training.
        model: The network.

    Raises:
        ValueError: If it has no layer of the same shapes.
    """
    params = jax.jit(model.init)(jax.random.key(config.seed), jnp.zeros((1, 64, 64, 2)))["params"]
    if config.init is None:
        return params
    given = zoo.load(config.init)[1]["params"]
    chosen = deeper_levels(given, len(config.features)) | {"head": given["head"]}
    same = {
        name: chosen[name]
        for name, layer in params.items()
        if name in chosen and jax.tree.map(jnp.shape, chosen[name]) == jax.tree.map(jnp.shape, layer)
    }
    if not same:
        raise ValueError(f"{config.init} has no layer of the shapes of features {config.features}")
    print(f"from {config.init}: {', '.join(same)}; random: {', '.join(sorted(set(params) - set(same))) or 'none'}")
    return params | same


def train(config: Config, frames: Frames) -> State:
    """Trains within the time, or for the number of steps.

    Args:
        config: The training.
        frames: The training frames.

    Returns:
        The last state.
    """
    start = time.monotonic()
    model_config = models.UNetConfig(dtype=config.dtype, **config.overrides)
    model = models.UNet(model_config, implementation=config.implementation)
    params = initial_params(config, model)
    state = State(jnp.zeros((), jnp.int32), params, make_optimizer(config).init(params), jax.tree.map(jnp.copy, params))
    arrays = [jnp.asarray(x) for x in (frames.images, frames.labels, frames.pairs)]
    run = functools.partial(jax.jit, donate_argnames="state", compiler_options=ops.compiler_options())
    sizes = (config.size, config.final_size or config.size)
    runs = {size: run(functools.partial(run_steps, model=model, config=config, size=size)) for size in sizes}
    key, seconds = jax.random.key(config.seed + 1), 60 * config.minutes * (1 - _RESERVE)
    num_steps, done, first = config.num_steps or 10**6, 0, 0.0
    while done < num_steps and time.monotonic() - start < seconds:
        began = time.monotonic()
        size = sizes[done >= num_steps * (1 - config.final_share)]
        state, value = runs[size](key, state, *arrays, jnp.asarray(num_steps))
        done, value = done + config.steps_per_call, float(value)
        if config.num_steps is None and done == 2 * config.steps_per_call:  # the first call compiled
            first = time.monotonic() - began
            left = seconds - (time.monotonic() - start)
            num_steps = done + config.steps_per_call * int(left / first)
        if done % (10 * config.steps_per_call) == 0 or done >= num_steps:
            print(f"step {done} of {num_steps}, loss {value:.4f}, {time.monotonic() - start:.0f} s", flush=True)
    return state


def main(config: Config) -> dict[str, dict]:
    """Trains, writes the weights and scores them.

    Args:
        config: The training.

    Returns:
        Rows of `accuracy.rows`: each frame alone, and with the other phase.
    """
    if config.implementation == "native":
        runtime.keep_freed_memory()
        runtime.build_kernels()
    frames = read(config.data, "train")
    if config.fold is None:
        held_out = read(config.data, "val")
    else:
        frames, held_out = split_fold(frames, config.fold)
    state = train(config, frames)
    config.out.mkdir(parents=True, exist_ok=True)
    zoo.save(config.out / "weights.safetensors", "unet", state.ema, file_dtype="float16", **config.overrides)
    record = {**dataclasses.asdict(config), "steps": int(state.step), "device": jax.devices()[0].device_kind}
    (config.out / "config.json").write_text(json.dumps(record, default=str, indent=1) + "\n", "utf-8")
    table = accuracy.score_model(config.out / "weights.safetensors", held_out.source())
    (config.out / "scores.json").write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    print(accuracy.format_rows(table))
    return table


if __name__ == "__main__":
    import tyro

    if sys.argv[1:2] == ["pack"]:
        tyro.cli(pack, args=sys.argv[2:])
    else:
        main(tyro.cli(Config))
