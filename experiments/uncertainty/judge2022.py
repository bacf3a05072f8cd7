"""CRISP and the methods it was compared with, on CAMUS: the table and the figure of Judge et al., MICCAI 2022.

For every method: correlation of the score of a frame with one minus its Dice coefficient, expected calibration error
and mutual information as published, detection of failed frames, and what conformal risk control makes of the map: the
share of the image that must be looked at to find 90 % of the wrong pixels. Intervals are 95 %, by resampling patients.

As in the paper, the frames are also perturbed in brightness and contrast and with diffuse blobs of light, so that there
are errors of every size; ``--no-perturb`` takes them as they are.

Run: ``python -m experiments.uncertainty.judge2022 --data DIR/camus_224 --out runs/judge2022 --networks runs/networks``
(about eight minutes on two cores), after `experiments.uncertainty.confidence_networks` has trained the baselines;
without ``--networks`` they are left out. Published: CRISP ahead of entropy and of MC dropout in correlation (.71, .66,
.67) and in mutual information (.20, .02, .03). Measured: not so, see docs/results/uncertainty.md;
`experiments.uncertainty.crisp_ablation` says why.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import metrics, uncertainty, zoo
from cardiojax.analysis.crisp import Matcher, load_matcher
from experiments.common.frames import perturb, training_labels, validation_frames
from experiments.common.results import write_results
from experiments.uncertainty.confidence_networks import load_methods

THRESHOLDS = jnp.linspace(0, 1, 201)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is compared.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``.
        out: Folder for ``table.md``, ``scores.json`` and ``maps.png``.
        model: The segmentation under test.
        crisp: Name of a CRISP model in the zoo.
        weights: A weight file for it, its bank beside it; the packaged ones if not given.
        ensemble: Other segmentations of the zoo, whose probabilities are averaged with those of the model under test.
        networks: Folder of the trained baselines, see `experiments.uncertainty.confidence_networks`; without them if
            not given.
        perturb: Whether frames are perturbed.
        failure: Mean Dice coefficient below which a frame has failed.
        alpha: Share of the wrong pixels that may be missed.
        num_samples: Shapes that CRISP compares.
        num_copies: Copies of a frame for test-time augmentation.
        num_bootstrap: Resamplings.
        limit: Frames, 0 for all.
        seed: Of the perturbation, the copies and the resampling.
    """

    data: Path
    out: Path
    model: str = "unet_camus"
    crisp: str = "crisp_camus"
    weights: Path | None = None
    ensemble: tuple[str, ...] = ("nnunet_camus",)
    networks: Path | None = None
    perturb: bool = True
    failure: float = 0.85
    alpha: float = 0.1
    num_samples: int = 50
    num_copies: int = 8
    num_bootstrap: int = 1000
    limit: int = 0
    seed: int = 0


def methods(
    config: Config, matcher: Matcher, masks: np.ndarray, temperature: float
) -> dict[str, Callable[..., uncertainty.Uncertainty]]:
    """Each method as a function of key, images, logits and codes; the sampling ones also run the network."""
    model: Any
    model, variables = zoo.load(config.model)
    real = matcher.bank._replace(masks=jnp.asarray(masks))

    def apply(images):
        return model.apply(variables, images).logits

    def softmax(key, images, logits, codes):
        return uncertainty.softmax_entropy(images, jax.nn.softmax(logits))

    def scaled(key, images, logits, codes):
        return uncertainty.softmax_entropy(images, jax.nn.softmax(logits / temperature))

    def edge(key, images, logits, codes):
        return uncertainty.edge(images, logits.argmax(-1).astype(jnp.int32))

    def augmented(key, images, logits, codes):
        return uncertainty.tta(key, images, apply, num_samples=config.num_copies)

    others: list[Any] = [zoo.load(name) for name in config.ensemble]

    def packaged(key, images, logits, codes):
        probs = [jax.nn.softmax(x) for x in (logits, *(net.apply(v, images).logits for net, v in others))]
        return uncertainty.softmax_entropy(images, sum(probs) / len(probs))

    def crisp(key, images, logits, codes, *, bank, normalize=True):
        labels = logits.argmax(-1).astype(jnp.int32)
        return uncertainty.crisp(images, labels, codes, bank, num_samples=config.num_samples, normalize=normalize)

    def trained(key, images, logits, codes, *, method):
        return method(key, images)

    baselines = {} if config.networks is None else load_methods(config.networks, model, variables["params"])
    return {
        "entropy": softmax,
        "entropy, temperature": scaled,
        "edge": edge,
        "test-time augmentation": augmented,
        f"ensemble of {1 + len(others)} packaged": packaged,
        **{name: functools.partial(trained, method=method) for name, method in baselines.items()},
        "CRISP": functools.partial(crisp, bank=real),
        "CRISP, not normalised": functools.partial(crisp, bank=real, normalize=False),
        "CRISP, decoded shapes": functools.partial(crisp, bank=matcher.bank),
    }


def measure(result: uncertainty.Uncertainty, truth: jax.Array) -> dict[str, jax.Array]:
    """The figures of each frame, from which those of the table are made."""
    errors, foreground = result.labels != truth, result.labels > 0
    dice = jnp.stack([metrics.dice(result.labels == k, truth == k) for k in (1, 2, 3)]).mean(0)
    diagrams = jax.vmap(functools.partial(metrics.reliability, open_edges=True))(
        1 - result.map, ~errors, where=foreground
    )
    return {
        "score": jnp.where(foreground.any((-2, -1)), result.score, jnp.inf),
        "dice": dice,
        "information": metrics.mutual_information(result.map, errors),
        "errors": errors.sum((-2, -1)),
        "confidence": jnp.nan_to_num(diagrams.confidence * diagrams.count),
        "accuracy": jnp.nan_to_num(diagrams.accuracy * diagrams.count),
        "pixels": diagrams.total,
        "ause": jax.lax.map(lambda args: metrics.sparsification(*args).area, (result.map, errors)),
        "missed": uncertainty.missed_errors(result.map, errors, THRESHOLDS),
        "flagged": 1 - uncertainty.missed_errors(result.map, jnp.ones_like(errors), THRESHOLDS),
    }


def figures(rows: dict[str, np.ndarray], config: Config) -> dict[str, float]:
    """The figures of a set of frames."""
    ranked = _rank(rows["score"], 1 - rows["dice"], 1 - config.failure)
    gap = np.abs(rows["confidence"].sum(0) - rows["accuracy"].sum(0)).sum() / max(rows["pixels"].sum(), 1)
    weights = rows["errors"] / max(rows["errors"].sum(), 1)
    return {
        "corr": float(ranked[0]),
        "ece": float(gap),
        "mi": float((weights * rows["information"]).sum()),
        "auroc": float(ranked[1]),
        "ause": float(rows["ause"].mean()),
        "aurc": float(ranked[2]),
    }


@jax.jit
def _rank(scores: jax.Array, loss: jax.Array, failure: float) -> tuple[jax.Array, ...]:
    return (
        metrics.correlation(scores, loss),
        metrics.auroc(scores, loss > failure),
        metrics.risk_coverage(scores, loss).area,
    )


def conformal(rng: np.random.Generator, rows: dict[str, np.ndarray], patients: np.ndarray, alpha: float) -> dict:
    """Calibrates on half of the patients and counts on the others: wrong pixels missed, image flagged."""
    missed, flagged = [], []
    names = np.unique(patients)
    choose = jax.jit(functools.partial(uncertainty.control_risk, alpha=alpha))
    for _ in range(50):
        first = np.isin(patients, rng.permutation(names)[: len(names) // 2])
        index = int(np.searchsorted(THRESHOLDS, choose(jnp.asarray(rows["missed"][first]), THRESHOLDS).value))
        missed.append(rows["missed"][~first, index].mean())
        flagged.append(rows["flagged"][~first, index].mean())
    return {"missed": float(np.mean(missed)), "flagged": float(np.mean(flagged))}


def draw(path: Path, images: np.ndarray, truth: np.ndarray, results: dict[str, Any], frames: list[int]) -> None:
    """Image, prediction, error and the map of each method, a row a frame."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = ["image", "prediction", "error", *results]
    figure = Figure(figsize=(1.7 * len(columns), 1.8 * len(frames)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(frames), len(columns), squeeze=False)
    labels = results["entropy"].labels
    for row, i in zip(grid, frames, strict=True):
        row[0].imshow(images[i, ..., 0], cmap="gray", vmin=0, vmax=1)
        row[1].imshow(np.ma.masked_equal(labels[i], 0), cmap="viridis", vmin=0, vmax=3)
        row[2].imshow(labels[i] != truth[i], cmap="gray")
        for axes, result in zip(row[3:], results.values(), strict=True):
            axes.imshow(result.map[i], cmap="inferno", vmin=0, vmax=1)
        for axes, title in zip(row, columns, strict=True):
            axes.set_axis_off()
            axes.set_title(title if i == frames[0] else "", fontsize=7)
    figure.savefig(path, dpi=110)


def main(config: Config) -> str:
    """Compares, writes and tabulates.

    Args:
        config: What is compared.

    Returns:
        The table as Markdown.
    """
    rng = np.random.default_rng(config.seed)
    frames, masks = validation_frames(config.data, config.limit), training_labels(config.data)
    images = (np.stack([perturb(rng, image) for image in frames.images]) if config.perturb else frames.images)[
        ..., None
    ]
    truth, patients = frames.labels, frames.patients

    model: Any
    model, variables = zoo.load(config.model)
    matcher = load_matcher(config.crisp, size=truth.shape[-1], weights=config.weights)
    matcher = matcher._replace(bank=matcher.bank._replace(codes=matcher.encode_masks(masks)))
    batch = max(d for d in range(1, 11) if len(images) % d == 0)
    starts = range(0, len(images), batch)
    predict = jax.jit(lambda x: model.apply(variables, x).logits)
    parts = [(predict(images[i : i + batch]), matcher.encode_images(images[i : i + batch])) for i in starts]
    # the temperature comes from the frames as they were recorded: what a user could have fitted beforehand
    clean = frames.images[::4, ..., None]
    fitted = uncertainty.fit_temperature(
        jnp.concatenate([predict(clean[i : i + batch]) for i in range(0, len(clean), batch)])[:, ::4, ::4],
        jnp.asarray(truth[::4, ::4, ::4]),
    )
    table, results = {}, {}
    key, measured = jax.random.key(config.seed), jax.jit(measure)
    for name, method in methods(config, matcher, masks, float(fitted.value)).items():
        method, collected = jax.jit(method), []
        jax.block_until_ready(method(key, images[:batch], *parts[0]))
        start = time.perf_counter()
        for i, part in zip(starts, parts, strict=True):
            collected.append(jax.block_until_ready(method(jax.random.fold_in(key, i), images[i : i + batch], *part)))
        seconds = time.perf_counter() - start
        rows = [measured(r, truth[i : i + batch]) for i, r in zip(starts, collected, strict=True)]
        rows = jax.tree.map(lambda *leaves: np.concatenate(leaves), *rows)
        results[name] = jax.tree.map(lambda *leaves: np.concatenate(leaves), *collected)
        table[name] = {
            "value": figures(rows, config),
            "interval": bootstrap(np.random.default_rng(config.seed), rows, patients, config),
            **conformal(np.random.default_rng(config.seed), rows, patients, config.alpha),
            "ms": 1e3 * seconds / len(images),
        }
    dice = rows["dice"]
    head = (
        f"{len(images)} frames{', perturbed' * config.perturb}: mean Dice {dice.mean():.3f}, "
        f"{(dice < config.failure).sum()} below {config.failure}; temperature {float(fitted.value):.2f}\n\n"
    )
    text = head + format_table(table, config)
    write_results(config.out, text, table)
    order = np.argsort(dice)
    draw(config.out / "maps.png", images, truth, results, [int(order[k * (len(order) - 1) // 3]) for k in range(4)])
    return text


def bootstrap(rng: np.random.Generator, rows: dict[str, np.ndarray], patients: np.ndarray, config: Config) -> dict:
    """95 % intervals of the figures over resampled patients."""
    names = np.unique(patients)
    groups = [np.flatnonzero(patients == name) for name in names]
    light = {k: v for k, v in rows.items() if k not in ("missed", "flagged")}
    values = []
    for _ in range(config.num_bootstrap):
        chosen = np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])
        values.append(figures({k: v[chosen] for k, v in light.items()}, config))
    return {k: [float(q) for q in np.nanpercentile([v[k] for v in values], [2.5, 97.5])] for k in values[0]}


def format_table(table: dict[str, dict[str, Any]], config: Config) -> str:
    """Markdown, a row a method."""
    titles = {"corr": "Corr", "ece": "ECE", "mi": "MI", "auroc": "AUROC of failures", "ause": "AUSE", "aurc": "AURC"}
    last = f"image flagged to find {1 - config.alpha:.0%} of the wrong pixels (found)"
    lines = [f"| | {' | '.join(titles.values())} | {last} | ms an image |", "|---" * (len(titles) + 3) + "|"]
    for name, row in table.items():
        cells = [f"{row['value'][k]:.2f} ({row['interval'][k][0]:.2f} to {row['interval'][k][1]:.2f})" for k in titles]
        flagged = f"{row['flagged']:.1%} ({1 - row['missed']:.1%})"
        lines.append(f"| {name} | {' | '.join(cells)} | {flagged} | {row['ms']:.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import tyro

    print(main(tyro.cli(Config)))
