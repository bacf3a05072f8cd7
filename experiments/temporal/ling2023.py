"""A gold standard without annotators: the three steps of Ling et al. from one centre to another.

1. A network trained on CAMUS (`unet_camus`, packaged) stands for the first centre.
2. It outlines every frame of the loops of a second centre, which here is the phantom with another scanner, so that the
   exact masks are known; the outlines are corrected anatomically and over time, and become the gold standard.
3. A 2-D and a 2-D+t network are trained on that, the same clips, steps and augmentation for both, and tested on other
   patients of the second centre against the gold standard, as published, and against the exact masks, which the paper
   could not; and on the phantom with the scanner of the first centre.

Run: ``python -m experiments.temporal.ling2023 --data PHANTOM --out runs/ling2023`` (about a quarter of an hour of one
core; what is in the folder already is not done again). The networks are far smaller than the paper's, see 11,200 frames
each, and work at 64 x 64. Published, against the gold standard: Dice coefficient of the ventricle .961 and .942
(end-diastole and end-systole) in 2-D, .968 and .960 in 2-D+t. Measured, 8 patients: .897 and .812 in 2-D, .865 and .775
in 2-D+t, so time does not help after so short a training. Against the exact masks: `unet_camus` .879 and .734, the gold
standard .873 and .791, the 2-D network trained on it .885 and .845. There no row comes near the intra-observer error of
the ejection fraction (best 14.3 points, 4.7).
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cardiojax import losses, metrics, models, train
from cardiojax.analysis.recording import keep_largest
from cardiojax.correction.anatomical import make_anatomical_corrector
from cardiojax.correction.temporal import make_temporal_corrector
from cardiojax.data import phantom
from cardiojax.data.arrays import ArraySource
from cardiojax.data.augment import AugmentConfig, augment
from cardiojax.data.loader import LoaderConfig, MappedBatches, make_loader
from cardiojax.evaluation import ejections, format_clinical, format_table, score
from cardiojax.recipes import RunConfig, run
from experiments.temporal.loops import Loops, keep, outline, phases, read_loops

_NUM_AXES = {"2D": 2, "2D+t": 3}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is trained and tested.

    Attributes:
        data: Folder of simulated datasets; they are made if they are not there.
        out: The run's folder; what is there already is not done again.
        second: The second centre; its last fifth of patients is the test.
        first: The phantom with the scanner of the first centre.
        size: Side of the grid on which the networks work.
        clip: Frames of a clip.
        batch_size: Clips a step.
        features: Channels of the stages of the 2-D network; the 2-D+t network has half as many.
        loop: Length of the training.
        optimizer: Rates.
        seed: Of parameters, order and augmentation.
    """

    data: Path
    out: Path
    second: phantom.PhantomSet = phantom.PhantomSet(vendor="philips_like", num_patients=40, num_frames=32)
    first: phantom.PhantomSet = phantom.PhantomSet(vendor="ge_like", num_patients=16, num_frames=32)
    size: int = 64
    clip: int = 8
    batch_size: int = 2
    features: tuple[int, ...] = (16, 32, 64)
    loop: train.LoopConfig = train.LoopConfig(num_steps=700, eval_every=350)
    optimizer: train.OptimizerConfig = train.OptimizerConfig(warmup_steps=50)
    seed: int = 0


def gold_standard(loops: Loops, outlines: np.ndarray) -> np.ndarray:
    """Outlines of every frame, corrected anatomically and over time.

    Args:
        loops: The second centre.
        outlines: Label maps by the network of the first.

    Returns:
        Label maps, ``[n, t, h, w]``.
    """
    correct = make_anatomical_corrector()
    correct_in_time = make_temporal_corrector(anatomical_corrector=correct)
    made = []
    for masks, (dy, dx), frame_time in zip(outlines, loops.spacing, loops.frame_time, strict=True):
        corrected = correct(masks).labels
        made.append(correct_in_time(corrected, spacing=(float(dy), float(dx)), frame_time=float(frame_time)).labels)
    return np.stack(made)


def make_model(config: Config, kind: str) -> models.NNUNet:
    """A small nnU-Net; with time as the first axis it is halved there below the first stage."""
    num_axes, num_stages = _NUM_AXES[kind], len(config.features)
    strides = [(1,) * num_axes] + [(2,) * num_axes] * (num_stages - 1)
    if kind == "2D+t":
        strides = [(2 if i > 0 else 1, *s[1:]) for i, s in enumerate(strides)]
    plan = models.Plan(
        spacing=(1.0,) * num_axes,
        patch_size=(config.clip, config.size, config.size)[-num_axes:],
        features=tuple(f // (num_axes - 1) for f in config.features),
        kernels=((1, 3, 3)[-num_axes:], *[(3,) * num_axes] * (num_stages - 1)),
        strides=tuple(strides),
        blocks=(2,) * num_stages,
    )
    return models.NNUNet(plan)


class Clips:
    """Clips of a few frames with their masks, from every fourth frame on."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, length: int):
        self._images, self._labels, self._length = images, labels, length
        self._starts = list(range(0, images.shape[1] - length + 1, 4))

    def __len__(self) -> int:
        return len(self._images) * len(self._starts)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        loop, start = divmod(index, len(self._starts))
        frames = slice(self._starts[start], self._starts[start] + self._length)
        return {"image": self._images[loop, frames], "label": self._labels[loop, frames]}


def shrink(stack: np.ndarray, size: int, *, masks: bool = False) -> np.ndarray:
    """Resizes stored frames, ``[n, t, h, w]``: grey values with antialiasing, masks to the nearest pixel."""
    method = "nearest" if masks else "linear"
    resize = jax.jit(lambda x: jax.image.resize(x.astype(jnp.float32), (len(x), size, size), method))
    return np.stack([np.rint(np.asarray(resize(loop))) for loop in stack]).astype(np.uint8)


def make_predict(model: models.NNUNet) -> Callable[[Any, Array], Array]:
    """Grey values of loops ``[n, t, h, w]`` to logits, in clips as long as those of the training, which divide t."""
    length = model.config.patch_size[0] if len(model.config.patch_size) == _NUM_AXES["2D+t"] else 1

    @jax.jit
    def predict(params, images):
        def one(loop):
            clips = loop.reshape(-1, length, *loop.shape[1:]) if length > 1 else loop
            output: Any = model.apply({"params": params}, (clips.astype(jnp.float32) / 255)[..., None])
            return output.logits.reshape(*loop.shape, -1)

        return jax.lax.map(one, images)

    return predict


def train_network(config: Config, kind: str, data: dict[str, tuple[np.ndarray, np.ndarray]]) -> Any:
    """Trains a network on the gold standard, resuming if the folder holds a run.

    Args:
        config: The run.
        kind: ``"2D"``, which takes the frames of a clip one by one, or ``"2D+t"``.
        data: Images and masks, ``[n, t, size, size]``, of ``"train"`` and ``"validation"``.

    Returns:
        The moving average of the parameters at the end.
    """
    model = make_model(config, kind)
    images, masks = data["train"]
    change = functools.partial(augment, config=AugmentConfig())

    def augment_clip(key, clip, masks):
        return jax.vmap(lambda image, mask: change(key, image, mask))(clip, masks)  # every frame alike

    def apply(params, images, *, key):
        output: Any = model.apply({"params": params}, images)
        return output.logits

    def clip_loss(logits, masks):
        return (losses.cross_entropy_loss(logits, masks) + losses.dice_loss(logits, masks)).mean(-1)  # over the frames

    def loss(key, params, batch, *, step):
        return train.augmented_loss(key, params, batch, apply=apply, loss=clip_loss, augment=augment_clip)

    predict = make_predict(model)
    held_out = tuple(map(jnp.asarray, data["validation"]))
    overlap = jax.jit(
        lambda logits, true: [metrics.dice(jnp.isin(logits.argmax(-1), s), jnp.isin(true, s)).mean() for s in _INNER]
    )

    def evaluate(params: Any) -> dict[str, float]:
        lv, epicardium = map(float, overlap(predict(params, held_out[0]), held_out[1]))
        return {"score": (lv + epicardium) / 2, "lv": lv, "epicardium": epicardium}

    def init(key):
        return model.init(key, jnp.zeros((1, *model.divisor, 1)))["params"]

    loader = make_loader(
        Clips(images, masks, config.clip), LoaderConfig(batch_size=config.batch_size, seed=config.seed)
    )
    result = run(
        train.Task(init=init, loss=loss, evaluate=evaluate),
        MappedBatches(loader, lambda batch: train.Batch(batch["image"], batch["label"])),
        config=RunConfig(out=config.out / kind, seed=config.seed, loop=config.loop),
        optimizer=train.make_optimizer(config.optimizer, config.loop.num_steps),
        reporter=Printer(),
    )
    return result.state.ema


_INNER = (jnp.array([1]), jnp.array([1, 2]))


class Printer(train.Reporter):
    """Prints what is worth reading."""

    def say(self, message: str) -> None:
        """Is called with a sentence worth reading."""
        print(message, flush=True)


def tables(rows: dict[str, np.ndarray], loops: Loops, reference: np.ndarray) -> str:
    """The geometric and the clinical table of the paper, end-diastole and end-systole, intra-observer row last.

    Args:
        rows: Masks of all frames, ``[n, t, h, w]``, by method.
        loops: The loops.
        reference: Masks they are compared with.

    Returns:
        Markdown.
    """
    truth, examples = phases(loops, reference)
    spacing, names = (np.stack([example[name] for example in examples]) for name in ("spacing", "phase"))
    source = ArraySource({name: np.stack([example[name] for example in examples]) for name in examples[0]})
    geometric, clinical = {}, ""
    for method, masks in rows.items():
        chosen, _ = phases(loops, masks)
        geometric[method] = score(chosen, truth, spacing, names)
        clinical += format_clinical(method, ejections(chosen, source)) + "\n"
    return f"{format_table(geometric)}\n{clinical}"


def main(config: Config) -> str:
    """Does the three steps and tabulates.

    Args:
        config: What is trained and tested.

    Returns:
        The tables as Markdown.
    """
    second = {split: read_loops(config.data, split, config.second) for split in ("train", "validation")}
    drawn = {
        name: keep(config.out / f"outlines_{name}.npz", lambda x=loops: outline(x.images))
        for name, loops in second.items()
    }
    gold = {
        name: keep(config.out / f"gold_{name}.npz", lambda x=loops, y=drawn[name]: gold_standard(x, y))
        for name, loops in second.items()
    }
    data = {
        name: (shrink(loops.images, config.size), shrink(gold[name], config.size, masks=True))
        for name, loops in second.items()
    }
    trained = {kind: train_network(config, kind, data) for kind in _NUM_AXES}

    def predicted(loops: Loops) -> dict[str, np.ndarray]:
        rows, shape = {}, loops.labels.shape[-2:]
        small = jnp.asarray(shrink(loops.images, config.size))
        enlarge = jax.jit(
            lambda logits: jax.image.resize(logits, (len(logits), *shape, logits.shape[-1]), "linear").argmax(-1)
        )
        for kind, params in trained.items():
            logits = make_predict(make_model(config, kind))(params, small)
            rows[kind] = np.stack([[keep_largest(mask) for mask in np.asarray(enlarge(loop))] for loop in logits])
        return rows

    test, first = second["validation"], read_loops(config.data, "train+validation", config.first)
    rows = predicted(test)
    text = "## Second centre against the gold standard\n\n" + tables(rows, test, gold["validation"])
    text += "\n## Second centre against the exact masks\n\n"
    text += tables({**rows, "gold standard": gold["validation"], "unet_camus": drawn["validation"]}, test, test.labels)
    text += "\n## First centre's scanner against the exact masks\n\n"
    known = keep(config.out / "outlines_first.npz", lambda: outline(first.images))
    text += tables({**predicted(first), "unet_camus": known}, first, first.labels)
    (config.out / "table.md").write_text(text, "utf-8")
    return text


if __name__ == "__main__":
    import tyro

    print(main(tyro.cli(Config)))
