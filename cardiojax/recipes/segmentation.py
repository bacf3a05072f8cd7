"""``cardiojax train unet``: from arrays on disk to a checkpoint and a weight file."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from cardiojax import labels, losses, metrics, models, ops, train, zoo
from cardiojax.data.arrays import ResampledSource, camus_224
from cardiojax.data.augment import AugmentConfig, augment
from cardiojax.data.loader import LoaderConfig, make_loader


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainUNetConfig:
    """A U-Net on 224 x 224 CAMUS arrays.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``, or that of ``cardiojax data build camus``.
        out: The run's folder; a run found there is resumed.
        init: Weight file to start from; random if not given.
        seed: Seed of the parameters, of the order of the data and of the augmentation.
        batch_size: Images a step.
        ema_decay: Decay of the moving average of the parameters, which is what is scored and kept.
        model: Sizes of the network.
        optimizer: Rates.
        loop: Length and intervals.
        augmentation: Ranges of the augmentation.
    """

    data: Path
    out: Path
    init: Path | None = None
    seed: int = 0
    batch_size: int = 8
    ema_decay: float = 0.998
    model: models.UNetConfig = models.UNetConfig()
    optimizer: train.OptimizerConfig = train.OptimizerConfig()
    loop: train.LoopConfig = train.LoopConfig()
    augmentation: AugmentConfig = AugmentConfig()


def train_unet(config: TrainUNetConfig, *, reporter: train.Reporter | None = None) -> train.FitResult:
    """Trains a U-Net, resuming if the folder holds a run, and writes the best weights.

    Writes ``config.json``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoints/`` and, at the end,
    ``weights.safetensors`` with the moving average of the best checkpoint.

    Args:
        config: The run.
        reporter: Where progress is told.

    Returns:
        The last state and the best score.

    Raises:
        ValueError: If the folder holds a run of another configuration.
    """
    return fit_segmenter(
        config,
        models.UNet(config.model),
        optimizer=train.make_optimizer(config.optimizer, config.loop.num_steps),
        loss=lambda output, target: region_loss(output.logits, target),
        reporter=reporter,
    )


def fit_segmenter(
    config: Any,
    model: Any,
    *,
    optimizer: optax.GradientTransformation,
    loss: Callable[[Any, Array], Array],
    side: int = 224,
    reporter: train.Reporter | None = None,
) -> train.FitResult:
    """Trains a segmentation network on CAMUS frames, resuming if the folder holds a run, and writes the best weights.

    Args:
        config: A dataclass with the common fields of `TrainUNetConfig`.
        model: The network.
        optimizer: Its optimizer.
        loss: The network's output and the labels to one value an image.
        side: Side of the square grid to which the frames are brought.
        reporter: Where progress is told.

    Returns:
        The last state and the best score.

    Raises:
        ValueError: If the folder holds a run of another configuration.
    """
    source, validation = (open_split(config.data, split, side=side) for split in ("train", "validation"))
    keep_config(config)
    abstract = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32))
    if config.init is None:
        smallest = jnp.zeros((1, *np.broadcast_to(model.divisor, 2), 1))
        params = model.init(jax.random.key(config.seed), smallest)["params"]
    else:
        params = zoo.load_weights(config.init, abstract["params"])

    def apply(params, images, *, key):
        return model.apply({"params": params}, images, train=True, rngs={"dropout": key})

    @functools.partial(jax.jit, donate_argnums=0, compiler_options=ops.compiler_options())
    def step(state, batch):
        return train.train_step(
            jax.random.key(config.seed),
            state,
            batch,
            apply=apply,
            loss=loss,
            augment=functools.partial(augment, config=config.augmentation),
            optimizer=optimizer,
            ema_decay=config.ema_decay,
        )

    loader = make_loader(source, LoaderConfig(batch_size=config.batch_size, seed=config.seed))
    state = train.init_state(params, optimizer)
    result = train.fit(
        state,
        Batches(loader, lambda batch: train.Batch(batch["image"], batch["label"])),
        step=step,
        evaluate=_make_evaluate(model, validation),
        directory=config.out,
        config=config.loop,
        reporter=reporter,
    )
    save_best(config.out, result)
    return result


def region_loss(logits: Array, target: Array) -> Array:
    """Cross-entropy plus Dice loss, of each image.

    Args:
        logits: ``[*b, h, w, k]``.
        target: True classes, ``[*b, h, w]``.

    Returns:
        One value an image.
    """
    return losses.cross_entropy_loss(logits, target) + losses.dice_loss(logits, target)


class Batches:
    """Grain's batches as a step wants them.

    Args:
        loader: What `make_loader` returned.
        convert: From a dictionary of arrays to the batch.
    """

    def __init__(self, loader: Any, convert: Callable[[dict[str, Any]], Any]):
        self._loader, self._convert = loader, convert

    def __iter__(self):
        return self

    def __next__(self) -> Any:
        return self._convert(next(self._loader))

    def get_state(self) -> Any:
        """The loader's position."""
        return self._loader.get_state()

    def set_state(self, state: Any) -> None:
        """Moves the loader."""
        self._loader.set_state(state)


def open_split(folder: Path, split: str, *, side: int = 224) -> Any:
    """Opens CAMUS frames brought to a square grid.

    Args:
        folder: That of ``camus224_train.npz`` and ``camus224_val.npz``, or of ``cardiojax data build camus``.
        split: ``"train"`` or ``"validation"``.
        side: Height and width.

    Returns:
        A random-access source.
    """
    arrays = folder / f"camus224_{'val' if split == 'validation' else split}.npz"
    if arrays.exists() or not (folder / "camus").is_dir():
        source = camus_224(arrays)
        return source if side == 224 else ResampledSource(source, side)
    from cardiojax.data.camus import open_camus

    return ResampledSource(open_camus(folder, split), side)


def _make_evaluate(model, source: Any, batch_size: int = 20) -> Callable[[train.TrainState], dict[str, float]]:
    examples = [source[i] for i in range(len(source))]
    images = np.stack([e["image"] for e in examples])
    truth = np.stack([e["label"] for e in examples])
    is_end_diastole = np.array([e["phase"] == "ED" for e in examples])

    @jax.jit
    def scores(params, images, truth):
        output: Any = model.apply({"params": params}, images[..., None].astype(jnp.float32) / 255)
        predicted = output.logits.argmax(-1)
        return {
            name: metrics.dice(jnp.isin(predicted, jnp.array(members)), jnp.isin(truth, jnp.array(members)))
            for name, members in labels.STRUCTURES.items()
        }

    def evaluate(state: train.TrainState) -> dict[str, float]:
        rows = [
            scores(state.ema, images[i : i + batch_size], truth[i : i + batch_size])
            for i in range(0, len(images), batch_size)
        ]
        table = {}
        for name in labels.STRUCTURES:
            values = np.concatenate([np.asarray(row[name]) for row in rows])
            table[f"{name}_ed"] = float(values[is_end_diastole].mean())
            table[f"{name}_es"] = float(values[~is_end_diastole].mean())
        return {"score": float(np.mean(list(table.values()))), **table}

    return evaluate


def save_best(out: Path, result: train.FitResult) -> None:
    """Writes ``weights.safetensors`` with the moving average of a run's best checkpoint.

    Args:
        out: The run's folder.
        result: How it ended.
    """
    store = train.CheckpointStore(out / "checkpoints")
    best = store.restore(jax.eval_shape(lambda s: s, result.state), step=result.best_step)
    assert best is not None  # the run has just written it
    zoo.save_weights(out / "weights.safetensors", best.state.ema)


def keep_config(config: Any) -> None:
    """Writes a configuration into its ``out`` folder.

    Args:
        config: A dataclass with a field ``out``.

    Raises:
        ValueError: If the folder holds a run of another configuration.
    """
    text = json.dumps(dataclasses.asdict(config), indent=2, default=str) + "\n"
    path = config.out / "config.json"
    if path.exists() and path.read_text() != text:
        raise ValueError(f"{config.out} holds a run of another configuration (see {path}); choose another folder")
    config.out.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
