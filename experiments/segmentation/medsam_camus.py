"""Ways to fine-tune a Segment Anything model on CAMUS, with a box for each structure.

The two regimes of the lectures and their neighbours: the prompt encoder frozen, image encoder and decoder tuned
(MedSAM); or the image encoder frozen, with adapters in it (SAM-Med2D) or low-rank updates (LoRA), prompts and decoder
tuned; the decoder alone; nothing. Training boxes are those of the true structures, each side moved outwards by up to
2 % of the image, as MedSAM does.

- LiteMedSAM as it is released, after ``cardiojax zoo fetch lite_medsam``, on one GPU:
  ``python -m experiments.segmentation.medsam_camus --data DIR/camus_224 --out RUN --model lite_medsam
  --dtype bfloat16 --batch-size 16 --num-steps 600 --seeds 0 1 2``
- A small SAM that first learns on simulated frames to find what a box holds (about ten minutes of one core):
  ``python -m experiments.segmentation.medsam_camus --data DIR/camus_224 --out RUN``

Scores on the validation frames: Dice at end-diastole and end-systole, Hausdorff distance of the cavity, and
anatomically invalid label maps, with true boxes moved outwards by 1 % of the image; mean Dice with boxes whose sides
are moved at random by up to 5, 10 and 20 pixels of 224, and with boxes of the outlines that a network draws. Writes
``table.md``, ``scores.json`` and, of each way, a weight file with the trained leaves alone.
"""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from cardiojax import anatomy, labels, losses, metrics, ops, train, zoo
from cardiojax.analysis import AnalyzeConfig, make_segment
from cardiojax.data import phantom
from cardiojax.evaluation import predict
from cardiojax.labels import PHASES
from cardiojax.models import sam
from experiments.common import fitting
from experiments.common.frames import Frames, boxes_of, read_frames, rows_of_patients, validation_frames
from experiments.common.phases import dice_by_phase, structures_of, table
from experiments.common.results import write_results

#: Patterns of the trained leaves; the encoder's attention gets low-rank updates too if the second is true.
_PROMPTS = ("prompt_encoder/*", "!*/gaussian_matrix")
WAYS: dict[str, tuple[tuple[str, ...], bool]] = {
    "decoder": (("mask_decoder/*",), False),
    "decoder, prompts, LoRA": (("mask_decoder/*", *_PROMPTS), True),
    "decoder, prompts, adapters": (("mask_decoder/*", *_PROMPTS, "*/adapter/*"), False),
    "decoder, encoder": (("mask_decoder/*", "image_encoder/*"), False),
}
#: Images in [0, 1] and labels, ``[n, s, s]``.
Examples = tuple[np.ndarray, np.ndarray]
_STRUCTURES = [jnp.array(members) for members in labels.STRUCTURES.values()]
#: Largest error of each side of a box when it is scored, pixels of 224.
_ERRORS = (5, 10, 20)
#: Frames a call when they are scored.
_BATCH = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is trained.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``.
        out: Folder for the results.
        model: ``"small"`` for one that is pretrained on simulated frames, or ``"lite_medsam"`` as it is released.
        weights: Those of LiteMedSAM; that of ``cardiojax zoo fetch lite_medsam`` if not given.
        patients: Training patients, 0 for all.
        num_hearts: Simulated hearts, of two frames each in both views.
        pretrain_steps: Steps on simulated frames.
        num_steps: Steps of each way on real ones.
        batch_size: Frames a step, each with one box.
        learning_rate: At its peak.
        rank: Of the low-rank updates.
        limit: Validation frames, 0 for all.
        seeds: Of everything, one training of each way for each.
        dtype: Type of the computation.
        small: Sizes of the small model.
    """

    data: Path
    out: Path
    model: Literal["small", "lite_medsam"] = "small"
    weights: Path | None = None
    patients: int = 0
    num_hearts: int = 100
    pretrain_steps: int = 400
    num_steps: int = 200
    batch_size: int = 8
    learning_rate: float = 1e-3
    rank: int = 4
    limit: int = 0
    seeds: tuple[int, ...] = (0,)
    dtype: str = "float32"
    small: sam.SAMConfig = sam.SAMConfig(
        image_size=128,
        patch_size=8,
        width=96,
        depth=4,
        num_heads=4,
        global_blocks=(1, 3),
        window=8,
        prompt_dim=64,
        attention_rows=None,
    )

    @property
    def sizes(self) -> sam.SAMConfig:
        """Sizes of the model."""
        sizes = self.small if self.model == "small" else sam.SAM_PRESETS[self.model]
        return dataclasses.replace(sizes, dtype=self.dtype)


def simulated(config: Config) -> Examples:
    """End-diastole and end-systole of both views of many hearts: images in [0, 1] and labels ``[n, s, s]``."""
    image_size = config.sizes.image_size

    @functools.partial(jax.jit, static_argnames="view")
    def frames(key, view):
        patient_key, loop_key = jax.random.split(key)
        heart = phantom.sample_patient(patient_key).heart
        loop = phantom.simulate(
            loop_key,
            heart,
            view=view,
            num_frames=2,
            frame_rate=1 / 0.35,
            shape=(image_size, image_size),
            num_scatterers=10_000,
        )
        return loop.images[..., 0], loop.labels

    keys = jax.random.split(jax.random.key(config.seeds[0]), config.num_hearts)
    parts = [jax.tree.map(np.asarray, frames(key, view)) for key in keys for view in ("2CH", "4CH")]
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))  # type: ignore[return-value]


def at_model_size(images: np.ndarray, label_maps: np.ndarray, config: Config) -> Examples:
    """Frames at the model's size."""
    shape = (len(images), *(config.sizes.image_size,) * 2)
    small = jax.image.resize(images, shape, "linear")
    return np.asarray(small), np.asarray(jax.image.resize(label_maps, shape, "nearest"))


class Way(NamedTuple):
    """One way to fine-tune: a model, what is trained, and how the model's parameters come of it."""

    model: sam.SAM
    trained: PyTree
    build: Callable[[PyTree], PyTree]


def as_inputs(images: Array) -> Array:
    """Grey images ``[n, s, s]`` as the model takes them."""
    return jnp.broadcast_to(images[..., None], (*images.shape, 3))


def logits_in_boxes(out: sam.SAMOutput, *, image_size: int, size: int) -> Array:
    """Logits ``[n, size, size]`` of the first mask."""
    first = out.logits[..., :1]
    return sam.postprocess(first, image_size=image_size, size=(size, size), keep_aspect=False)[..., 0]


def segment(model: sam.SAM, params: PyTree, images: Array, boxes: Array) -> Array:
    """Logits of what each box holds, at the images' size."""
    out: Any = model.apply({"params": params}, as_inputs(images), sam.Prompts(boxes=boxes))
    return logits_in_boxes(out, image_size=model.config.image_size, size=model.config.image_size)


def _loss(logits: Array, target: Array) -> Array:
    pair = jnp.stack([jnp.zeros_like(logits), logits], axis=-1)  # a sigmoid is a softmax against zero
    return losses.cross_entropy_loss(pair, target) + losses.dice_loss(pair, target)


def fit(config: Config, way: Way, examples: Examples, num_steps: int, seed: int) -> fitting.Fitted:
    """Trains on random boxes of random frames."""
    images, masks = examples
    boxes, rng, image_size = boxes_of(masks), np.random.default_rng(seed), config.sizes.image_size
    rates = train.OptimizerConfig(learning_rate=config.learning_rate, warmup_steps=num_steps // 10, decay_share=0.9)
    optimizer = train.make_optimizer(rates, num_steps)

    def loss(trained, images, masks, boxes, kinds):
        members = [jnp.isin(masks, each) for each in _STRUCTURES]
        target = jnp.select([kinds[:, None, None] == k for k in range(3)], members).astype(jnp.int32)
        return _loss(segment(way.model, way.build(trained), images, boxes), target).mean()

    def draw():
        rows, kinds = rng.integers(0, len(images), config.batch_size), rng.integers(0, 3, config.batch_size)
        outwards = rng.uniform(0, 0.02 * image_size, (config.batch_size, 4)) * [-1, -1, 1, 1]
        return images[rows], masks[rows], (boxes[rows, kinds] + outwards).clip(0, image_size - 1), kinds

    return fitting.fit(way.trained, loss, draw, optimizer=optimizer, num_steps=num_steps)


def boxes_to_score(frames: Frames, seed: int) -> dict[str, np.ndarray]:
    """Boxes ``[n, 3, 4]`` of the structures by the kind of their error, in pixels of the frames."""
    true, rng, size = boxes_of(frames.labels), np.random.default_rng(seed), frames.labels.shape[1]
    drawn = boxes_of(predict((255 * frames.images).astype(np.uint8), make_segment(AnalyzeConfig()), size=size))
    kinds = {"true": true + 0.01 * size * np.array([-1, -1, 1, 1])}
    kinds |= {f"up to {e} pixels": true + rng.uniform(-e, e, true.shape) * size / 224 for e in _ERRORS}
    kinds[f"of {AnalyzeConfig().model}"] = drawn
    return {kind: boxes.clip(0, size - 1).astype(np.float32) for kind, boxes in kinds.items()}


def masks_in_boxes(model: sam.SAM, params: PyTree, frames: Frames, boxes: np.ndarray, config: Config) -> np.ndarray:
    """Masks ``[n, m, h, w]`` of what each box of ``[n, m, 4]`` holds, at the size of the frames.

    A frame is encoded once for all of its boxes.
    """
    size, image_size = frames.labels.shape[1], model.config.image_size

    @jax.jit
    def one_batch(images, boxes):
        features = model.apply({"params": params}, as_inputs(images), method="embed")

        def in_box(boxes):
            out: Any = model.apply({"params": params}, features, sam.Prompts(boxes=boxes), method="decode")
            return logits_in_boxes(out, image_size=image_size, size=size) > 0

        return jax.lax.map(in_box, boxes.swapaxes(0, 1) * image_size / size).swapaxes(0, 1)

    return ops.map_batches(one_batch, at_model_size(frames.images, frames.labels, config)[0], boxes, batch_size=_BATCH)


def evaluate(
    model: sam.SAM, params: PyTree, frames: Frames, boxes: dict[str, np.ndarray], config: Config
) -> dict[str, Any]:
    """Scores of the true boxes, and mean Dice of each other kind."""
    truth = structures_of(frames.labels)
    masks = masks_in_boxes(model, params, frames, np.concatenate(list(boxes.values()), 1), config)
    scores: dict[str, Any] = {}
    for kind, drawn in zip(boxes, np.split(masks, len(boxes), 1), strict=True):
        dice = dice_by_phase(drawn, truth, frames.phases)
        scores[kind] = float(np.mean([list(of_phase.values()) for of_phase in dice.values()]))
        if kind == "true":
            scores |= {"dice": dice, **_of_outlines(drawn, truth, frames)}
    return scores


def _of_outlines(masks: np.ndarray, truth: np.ndarray, frames: Frames) -> dict[str, Any]:
    """Hausdorff distance of the cavity at each phase, and invalid label maps; the cavity lies on top, then the wall."""
    found, true = (dict(zip(labels.STRUCTURES, each.swapaxes(0, 1), strict=True)) for each in (masks, truth))
    on_top = {"lv": labels.LV, "epicardium": labels.MYOCARDIUM, "left_atrium": labels.LEFT_ATRIUM}
    drawn = np.select([found[name] for name in on_top], list(on_top.values()))
    valid = ops.map_batches(jax.jit(anatomy.is_valid), drawn, batch_size=20)
    given = map(jnp.asarray, (found["lv"], true["lv"], frames.spacing))
    distance = np.asarray(metrics.hausdorff(*given, charge_missed=True))
    of_phase = {p: float(distance[frames.phases == p].mean()) for p in PHASES}
    return {"hausdorff": of_phase, "invalid": int((~valid).sum())}


def prepare(config: Config, params: PyTree, adapters: PyTree, name: str, seed: int = 0) -> Way:
    """Chooses the leaves of a way of `WAYS`; new adapters and low-rank updates change nothing before they are trained.

    Args:
        config: Sizes.
        params: Of the trained model without adapters.
        adapters: New ones.
        name: Of the way.
        seed: Of the low-rank updates.
    """
    patterns, low_rank = WAYS[name]
    has_adapters = "*/adapter/*" in patterns
    model = sam.SAM(dataclasses.replace(config.sizes, adapters=has_adapters))
    if has_adapters:
        params = train.merge(params, jax.tree_util.tree_map_with_path(_silence, adapters))
    part, frozen = train.partition(params, train.trainable(params, patterns))
    kernels = ("image_encoder/*/attn/*/kernel",) if low_rank else ()
    lora = train.init_lora(jax.random.key(seed), params, kernels, rank=config.rank)

    def build(trained):
        return train.add_lora(train.merge(frozen, trained["params"]), trained["lora"])

    return Way(model, {"params": part, "lora": lora}, build)


def _silence(path: tuple[Any, ...], leaf: Array) -> Array:
    return jnp.zeros_like(leaf) if path[-1].key in ("scale", "bias") else leaf  # of the norm at an adapter's end


def start(config: Config) -> tuple[PyTree, PyTree]:
    """Parameters before fine-tuning, and new adapters."""
    image_size = config.sizes.image_size
    adapted = sam.SAM(dataclasses.replace(config.sizes, adapters=True))
    key = jax.random.key(config.seeds[0])
    params = jax.jit(adapted.init)(key, jnp.zeros((1, image_size, image_size, 3)))["params"]
    adapters, params = train.partition(params, train.trainable(params, ("*/adapter/*",)))
    if config.model != "small":
        return zoo.load(config.model, weights=config.weights)[1]["params"], adapters
    print("simulated frames")
    plain = Way(sam.SAM(config.sizes), params, lambda params: params)
    params = fit(config, plain, simulated(config), config.pretrain_steps, config.seeds[0]).params
    zoo.save_weights(config.out / "pretrained.safetensors", params)
    return params, adapters


def main(config: Config) -> str:
    """Trains every way and returns the table."""
    config.out.mkdir(parents=True, exist_ok=True)
    params, adapters = start(config)
    split, validation = read_frames(config.data / "camus224_train.npz"), validation_frames(config.data, config.limit)
    boxes = boxes_to_score(validation, config.seeds[0])
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    rows["nothing"] = [evaluate(sam.SAM(config.sizes), params, validation, boxes, config) | {"trained": 0}]
    for seed in config.seeds:
        chosen = rows_of_patients(split, config.patients or len(split.labels), seed)
        examples = at_model_size(split.images[chosen], split.labels[chosen], config)
        for name in WAYS:
            print(f"{name}, seed {seed}")
            way = prepare(config, params, adapters, name, seed)
            fitted = fit(config, way, examples, config.num_steps, seed)
            zoo.save_weights(config.out / f"{name.replace(', ', '_')}_{seed}.safetensors", fitted.params)
            scores = evaluate(way.model, way.build(fitted.params), validation, boxes, config)
            scores["trained"] = sum(leaf.size for leaf in jax.tree.leaves(fitted.params))
            rows[name].append(scores | {"minutes": fitted.minutes, "memory": fitted.memory})
            write_results(config.out, tabulate(rows), rows)
    return tabulate(rows)


def tabulate(rows: dict[str, list[dict[str, Any]]]) -> str:
    """The table as Markdown: means over seeds.

    Args:
        rows: Scores of each seed by the way.
    """

    def mean(name: str, key: str, digits: int) -> str:
        values = [row[key] for row in rows[name] if key in row]
        return f"{np.mean(values):,.{digits}f}" if values else ""

    def distance(name: str) -> str:
        return " / ".join(f"{np.mean([row['hausdorff'][p] for row in rows[name]]):.1f}" for p in PHASES)

    dice = {
        name: {
            structure: {p: float(np.mean([row["dice"][structure][p] for row in scored])) for p in PHASES}
            for structure in labels.STRUCTURES
        }
        for name, scored in rows.items()
    }
    kinds = [key for key in next(iter(rows.values()))[0] if key == "true" or key.startswith(("up to", "of "))]
    columns = {"trained parameters": ("trained", 0), "minutes": ("minutes", 1), "step, MiB": ("memory", 0)}
    columns |= {f"mean Dice, boxes {kind}": (kind, 3) for kind in kinds} | {"invalid": ("invalid", 0)}
    more = {title: {name: mean(name, *column) for name in rows} for title, column in columns.items()}
    return table(dice, title="tuned", more={**more, "LV HD, mm": {name: distance(name) for name in rows}})


if __name__ == "__main__":
    import tyro

    print(main(tyro.cli(Config)), end="")
