"""A foundation model with few labels: LiteMedSAM against a U-Net that starts from random weights.

For growing numbers of CAMUS patients (four frames each):

- LiteMedSAM's image encoder is frozen, and every frame is encoded once; its mask decoder and a learned prompt for each
  structure are trained (`models.sam.PromptFreeSAM`), from the released weights and mean boxes of the training masks;
- a U-Net is trained from random weights, with the augmentation of ``cardiojax train unet``.

Both train for a fixed number of steps and nothing is chosen on the validation patients, on whom both are scored. The
processor time of LiteMedSAM does not hold that of the encoding. The training data of its weights are not documented:
these frames may be among them.

Run: ``python -m experiments.segmentation.few_labels --data DIR/camus_224 --out runs/few_labels --figure
experiments/figures/few_labels.png`` after ``cardiojax zoo fetch lite_medsam``. Encoding takes two seconds of processor
time a frame; it is kept in the folder, as are the scores of what is done. Writes ``table.md`` and ``scores.json``.
"""

import dataclasses
import functools
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from cardiojax import labels, models, ops, train, zoo
from cardiojax.models import sam
from cardiojax.recipes.segmentation import TrainUNetConfig, region_loss, train_unet
from experiments.common.fitting import fit
from experiments.common.frames import boxes_of, read_frames, rows_of_patients, validation_frames
from experiments.common.phases import dice_by_phase, structures_of, table
from experiments.common.results import KeptScores, write_results

#: Leaves of the prompt-free model that are trained.
_TRAINED = ("mask_decoder/*", "structure_prompts")
#: The methods.
_RELEASED, _DECODER = "LiteMedSAM as released, mean boxes", "LiteMedSAM, decoder and prompts trained"
_NETWORK = "U-Net from random weights"
#: Structures in the figure.
_TITLES = {"lv": "left ventricle", "epicardium": "epicardium", "left_atrium": "left atrium"}
#: Frames a call of the encoder, and of the decoder when it is scored.
_BATCH = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is trained.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``.
        out: Folder for features, runs and scores.
        weights: LiteMedSAM; that of ``cardiojax zoo fetch lite_medsam`` if not given.
        figure: The figure; none if not given.
        patients: Numbers of training patients.
        decoder_steps: Steps of the decoder, of four frames.
        unet_steps: Steps of the U-Net, of eight frames.
        seed: Of the choice of patients, of the order and of the U-Net.
        limit: Validation frames, 0 for all.
    """

    data: Path
    out: Path
    weights: Path | None = None
    figure: Path | None = None
    patients: tuple[int, ...] = (10, 50)
    decoder_steps: int = 400
    unet_steps: int = 800
    seed: int = 0
    limit: int = 0


def encode(model: sam.PromptFreeSAM, variables: PyTree, images: np.ndarray, folder: Path) -> np.ndarray:
    """Features of frames in half precision, kept in a file that the frames name."""
    path = folder / f"features_{zlib.crc32(np.ascontiguousarray(images))}.npy"
    if not path.exists():
        embed = jax.jit(functools.partial(model.apply, variables, method="embed"))
        features = ops.map_batches(lambda batch: embed(batch[..., None]).astype(jnp.float16), images, batch_size=_BATCH)
        part = path.with_suffix(".part.npy")
        np.save(part, features)
        part.replace(path)
    return np.load(path)


def train_decoder(
    model: sam.PromptFreeSAM, variables: PyTree, features: np.ndarray, masks: np.ndarray, config: Config
) -> PyTree:
    """Trains decoder and prompts on encoded frames; returns the variables."""
    params, size = variables["params"], masks.shape[1:]
    trained, frozen = train.partition(params, train.trainable(params, _TRAINED))
    num_steps, batch_size = config.decoder_steps, 4
    optimizer = train.make_optimizer(train.OptimizerConfig(learning_rate=3e-4, warmup_steps=20), num_steps)

    rng = np.random.default_rng(config.seed)

    def loss(trained, features, masks):
        merged = {"params": train.merge(frozen, trained)}
        logits = model.apply(merged, features.astype(jnp.float32), size, method="decode")
        return region_loss(logits, masks).mean()

    def draw():
        rows = rng.integers(0, len(masks), batch_size)
        return features[rows], masks[rows]

    return {"params": train.merge(frozen, fit(trained, loss, draw, optimizer=optimizer, num_steps=num_steps).params)}


def train_network(rows: np.ndarray, config: Config) -> Path:
    """Trains a U-Net on some rows of the training frames; returns its weight file."""
    folder = config.out / f"unet_{len(rows)}_seed{config.seed}_{config.unet_steps}"
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(config.data / "camus224_train.npz") as archive:
        total = len(archive["label"])
        part = {name: array[rows] if len(array) == total else array for name, array in archive.items()}
    np.savez(folder / "camus224_train.npz", **part)
    if not (folder / "camus224_val.npz").exists():
        (folder / "camus224_val.npz").symlink_to((config.data / "camus224_val.npz").absolute())
    settings = TrainUNetConfig(
        data=folder,
        out=folder / "run",
        seed=config.seed,
        batch_size=min(8, len(rows)),
        model=models.UNetConfig(features=(32, 64, 128, 256), patch=2),
        optimizer=train.OptimizerConfig(learning_rate=1e-3),
        loop=train.LoopConfig(num_steps=config.unet_steps, eval_every=config.unet_steps),  # the last is kept
    )
    train_unet(settings)
    return settings.out / "weights.safetensors"


def _label_maps(apply: Any, inputs: np.ndarray) -> np.ndarray:
    compiled = jax.jit(lambda batch: apply(batch.astype(jnp.float32)).argmax(-1).astype(jnp.int8))
    return np.asarray(ops.map_batches(compiled, inputs, batch_size=_BATCH))


def main(config: Config) -> str:
    """Trains what is not done yet; returns the table."""
    config.out.mkdir(parents=True, exist_ok=True)
    split = read_frames(config.data / "camus224_train.npz")
    validation = validation_frames(config.data, config.limit)
    truth = structures_of(validation.labels)
    options = (config.seed, config.decoder_steps, config.unet_steps, config.limit)
    kept = KeptScores(config.out / f"measured_{'_'.join(map(str, options))}.json")

    def score(predict: Callable[[], np.ndarray]) -> dict[str, Any]:
        start = time.process_time()
        dice = dice_by_phase(structures_of(predict()), truth, validation.phases)
        return {**dice, "processor_minutes": (time.process_time() - start) / 60}

    model = zoo.create("lite_medsam_prompt_free")
    assert isinstance(model, sam.PromptFreeSAM)
    _, original = zoo.load("lite_medsam", weights=config.weights)
    largest = rows_of_patients(split, max(config.patients), config.seed)
    released = sam.from_sam(model.config.sam, original, jnp.zeros((len(labels.STRUCTURES), 4)))
    encoded = encode(model, released, split.images[largest], config.out)
    encoded_validation = encode(model, released, validation.images, config.out)
    size = validation.labels.shape[1:]

    def with_prompts(rows: np.ndarray) -> PyTree:
        boxes = boxes_of(split.labels[rows]).mean(0) * model.config.sam.image_size / split.labels.shape[1]
        return sam.from_sam(model.config.sam, original, jnp.asarray(boxes))

    def from_decoder(num: int, config: Config) -> np.ndarray:
        rows = rows_of_patients(split, num, config.seed)
        tuned = with_prompts(rows)
        if config.decoder_steps:
            tuned = train_decoder(model, tuned, encoded[np.isin(largest, rows)], split.labels[rows], config)
        return _label_maps(lambda batch: model.apply(tuned, batch, size, method="decode"), encoded_validation)

    def from_network(num: int) -> np.ndarray:
        file = train_network(rows_of_patients(split, num, config.seed), config)
        network, params = zoo.load(file)
        return _label_maps(lambda batch: network.apply(params, batch[..., None]).logits, validation.images)

    untrained = dataclasses.replace(config, decoder_steps=0)
    for num in config.patients:
        for title, predict in (
            (_RELEASED, functools.partial(from_decoder, num, untrained)),
            (_DECODER, functools.partial(from_decoder, num, config)),
            (_NETWORK, functools.partial(from_network, num)),
        ):
            kept.measure(f"{title}, {num} patients", functools.partial(score, predict))
    scores = kept.values
    minutes = {name: f"{row['processor_minutes']:.0f}" for name, row in scores.items()}
    text = table(scores, more={"processor time, min": minutes})
    write_results(config.out, text, scores)
    if config.figure:
        _draw(scores, config)
    return text


def _draw(scores: dict[str, Any], config: Config) -> None:
    """Mean Dice of both phases against the number of patients, one panel a structure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(labels.STRUCTURES)), labels.STRUCTURES, strict=True):
        for method, colour in ((_RELEASED, "#999999"), (_DECODER, "#0072b2"), (_NETWORK, "#d55e00")):
            rows = [scores[f"{method}, {num} patients"][name] for num in config.patients]
            axis.plot(config.patients, [(r["ED"] + r["ES"]) / 2 for r in rows], "o-", color=colour, label=method)
        axis.set_xscale("log")
        axis.set_xticks(config.patients, map(str, config.patients))
        axis.minorticks_off()
        axis.set_xlabel("training patients")
        axis.set_title(f"Dice, {_TITLES[name]}", fontsize=9)
        axis.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=7)
    figure.savefig(config.figure, dpi=100)


if __name__ == "__main__":
    import tyro

    print(main(tyro.cli(Config)), end="")
