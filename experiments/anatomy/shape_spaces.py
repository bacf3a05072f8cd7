"""What three autoencoders make of the space of heart shapes: plain, constrained by the phase, ordered by attributes.

On the validation masks of CAMUS: Dice coefficients of the reconstructions and the share of them that pass the 12
criteria; how straight the way from end-diastole to end-systole is in the latent space, measured on shapes interpolated
in space, not in the code; how well a linear function of the code predicts the phase of other patients; the share of
valid shapes among codes drawn from a Parzen density of the training codes, and half-way between two patients; and
the correlation of the first seven dimensions with the seven attributes.

Run: ``python -m experiments.anatomy.shape_spaces --data DIR/camus_224 --out runs/shape_spaces`` (about a minute a model
on two cores). Expected, plain / constrained / by attributes: Dice of the left ventricle .968 / .964 / .961, valid
reconstructions .95 / .98 / .92 and samples .98 / .97 / .86, phase read off linearly .70 / .76 / .71, attributes of the
third .97 and more.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import anatomy, labels, latent, metrics
from cardiojax.correction.anatomical import Shapes, load_shapes
from cardiojax.data.arrays import camus_224
from cardiojax.data.shapes import ShapePairs, soft_labels
from experiments.common.results import write_results


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``.
        out: Folder for ``scores.json`` and ``table.md``.
        models: Names in the zoo.
        weights: Weight files for them, in their order; the packaged ones if not given.
        num_samples: Codes drawn, and pairs of patients.
        num_phases: Shapes between end-diastole and end-systole, both included.
        limit: Frames of each split, 0 for all.
        seed: Of the draws.
    """

    data: Path
    out: Path
    models: tuple[str, ...] = ("shape_vae_camus", "cvae_camus", "arvae_camus")
    weights: tuple[Path, ...] = ()
    num_samples: int = 2000
    num_phases: int = 9
    limit: int = 0
    seed: int = 0


def main(config: Config) -> dict[str, dict[str, float]]:
    """Measures and writes the table; returns scores by model."""
    masks = read_masks(config)
    scores = {}
    for i, name in enumerate(config.models):
        shapes = load_shapes(name, weights=config.weights[i] if config.weights else None)
        scores[name] = measure(shapes, masks, config)
        print(name, json.dumps(scores[name]))
    rows = "\n".join(
        f"| {key} | " + " | ".join(f"{scores[name][key]:.4f}" for name in scores) + " |" for key in scores[name]
    )
    header = f"| | {' | '.join(scores)} |\n|---|{'---|' * len(scores)}\n"
    write_results(config.out, header + rows + "\n", scores)
    return scores


class Masks(NamedTuple):
    """The masks of both splits.

    Attributes:
        splits: Sources of the training and the validation frames.
        train: Label maps of the first, ``[n, h, w]``.
        val: Label maps of the second.
    """

    splits: list[Any]
    train: np.ndarray
    val: np.ndarray


def read_masks(config: Config) -> Masks:
    """Reads both splits."""
    splits = [_Limited(camus_224(config.data / f"camus224_{split}.npz"), config.limit) for split in ("train", "val")]
    arrays = (np.stack([split[i]["label"] for i in range(len(split))]).astype(np.int32) for split in splits)
    return Masks(splits, *arrays)


def measure(shapes: Shapes, masks: Masks, config: Config) -> dict[str, float]:
    """All scores of one autoencoder."""
    encode = _jitted(shapes, lambda s, m: s.encode(m))
    codes = _by_batch(encode, masks.train), _by_batch(encode, masks.val)
    pairs = ShapePairs(masks.splits[1], size=shapes.model.config.size)
    return {
        **_reconstruction(shapes, masks.val),
        **_straightness(shapes, pairs, config.num_phases),
        "phase_by_linear_readout": _readout(codes, masks.splits),
        **_samples(shapes, codes[0], config),
        **_attributes(codes[1], masks.val),
    }


class _Limited:
    def __init__(self, source, limit: int):
        self._source, self._length = source, limit or len(source)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int):
        return self._source[index]


def _jitted(shapes: Shapes, function: Callable[[Shapes, Any], Any]) -> Callable[[Any], Any]:
    """A compiled function of an autoencoder, whose weights are arguments: autoencoders of one size share it."""
    compiled = jax.jit(lambda variables, x: function(dataclasses.replace(shapes, variables=variables), x))
    return lambda x: compiled(shapes.variables, x)


def _by_batch(function, rows: np.ndarray, size: int = 100) -> np.ndarray:
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    return np.concatenate([np.asarray(function(np.resize(p, (size, *p.shape[1:]))))[: len(p)] for p in parts])


def _reconstruction(shapes: Shapes, masks: np.ndarray) -> dict[str, float]:
    decoded = _by_batch(_jitted(shapes, lambda s, m: s.decode(s.encode(m), *m.shape[1:])), masks)
    scores = {
        f"dice_{name}": float(metrics.dice(jnp.isin(decoded, jnp.array(k)), jnp.isin(masks, jnp.array(k))).mean())
        for name, k in labels.STRUCTURES.items()
    }
    return {**scores, "valid_reconstructions": _share_valid(decoded)}


def _straightness(shapes: Shapes, pairs: ShapePairs, num_phases: int) -> dict[str, float]:
    """Of the way that shapes interpolated in space take in the latent space, against the straight line."""
    phases = np.linspace(0, 1, num_phases)

    def encode_between(shapes, maps):
        first, last = maps.astype(jnp.float32)
        between = jax.vmap(lambda phase: soft_labels((1 - phase) * first + phase * last))(phases)
        return shapes.model.apply(shapes.variables, between, method="encode").mean

    encode = _jitted(shapes, encode_between)
    ways = np.stack([np.asarray(encode(pairs[i]["maps"])) for i in range(len(pairs))])
    line = (ways[:, -1] - ways[:, 0])[:, None]
    length = np.linalg.norm(line, axis=-1)
    position = ((ways - ways[:, :1]) * line).sum(-1) / length**2
    away = np.linalg.norm(ways - ways[:, :1] - position[..., None] * line, axis=-1) / length
    correlation = [np.corrcoef(phases, p)[0, 1] for p in position]
    return {"phase_along_line": float(np.mean(correlation)), "largest_departure": float(away.max(1).mean())}


def _readout(codes: tuple[np.ndarray, np.ndarray], splits: list[_Limited]) -> float:
    """Correlation, on the validation patients, of the phase with the linear function fitted on the others."""
    phases = [np.array([split[i]["phase"] == "ES" for i in range(len(split))], float) for split in splits]
    design = [np.column_stack([c, np.ones(len(c))]) for c in codes]
    weights = np.linalg.lstsq(design[0], phases[0], rcond=None)[0]
    return float(np.corrcoef(design[1] @ weights, phases[1])[0, 1])


def _samples(shapes: Shapes, codes: np.ndarray, config: Config) -> dict[str, float]:
    key, *keys = jax.random.split(jax.random.key(config.seed), 4)
    density = latent.fit_parzen(jnp.asarray(codes), key=key)
    drawn = density.sample(keys[0], config.num_samples)
    first, second = (codes[jax.random.randint(k, (config.num_samples,), 0, len(codes))] for k in keys[1:])
    decode = _jitted(shapes, lambda s, z: s.decode(z, 224, 224))
    return {
        "bandwidth": float(density.scale_tril[0, 0]),
        "valid_samples": _share_valid(_by_batch(decode, np.asarray(drawn))),
        "valid_half_way": _share_valid(_by_batch(decode, (first + second) / 2)),
    }


def _attributes(codes: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    measured = jax.jit(anatomy.attributes)(masks.astype(np.int32))
    correlations = {}
    for k, (name, values) in enumerate(zip(measured._fields, measured, strict=True)):
        known = np.isfinite(values)
        correlations[name] = float(np.corrcoef(codes[known, k], np.asarray(values)[known])[0, 1])
    return correlations


def _share_valid(masks: np.ndarray) -> float:
    return float(np.mean(_by_batch(jax.jit(anatomy.is_valid), masks)))


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
