"""``cardiojax evaluate``: the table of the CAMUS paper for a model of the zoo."""

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import clinical, labels, metrics
from cardiojax.analysis.recording import AnalyzeConfig, Segment, keep_largest, make_segment
from cardiojax.data.arrays import ArraySource, camus_224
from cardiojax.report import figures

METRICS = ("dice", "hausdorff", "mean_absolute_distance")

#: Dice, Hausdorff distance and mean absolute distance (mm) of one cardiologist against herself, months apart
#: (Leclerc et al., IEEE TMI 2019). The left atrium was not repeated.
INTRA_OBSERVER: dict[tuple[str, str], tuple[float, float, float]] = {
    ("lv", "ED"): (0.945, 4.6, 1.4),
    ("lv", "ES"): (0.930, 4.5, 1.3),
    ("epicardium", "ED"): (0.957, 5.0, 1.7),
    ("epicardium", "ES"): (0.951, 5.0, 1.7),
}
#: Correlation and mean absolute error of the ejection fraction (points) and the two volumes (ml) of the same
#: cardiologist.
INTRA_OBSERVER_CLINICAL: dict[str, tuple[float, float]] = {
    "fraction": (0.896, 4.7),
    "end_diastolic": (0.978, 6.5),
    "end_systolic": (0.981, 4.5),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is scored.

    Attributes:
        data: An ``.npz`` of CAMUS frames of 224 x 224 with their masks.
        out: Folder for ``table.md``, ``scores.csv``, ``scores.json`` and ``bland_altman.svg``; only printed if not
            given.
        weights: A weight file for the model; the packaged one if not given.
        segment: The model and how it is used.
    """

    data: Path
    out: Path | None = None
    weights: Path | None = None
    segment: AnalyzeConfig = AnalyzeConfig()


class Scores(NamedTuple):
    """Scores of each frame: ``values[structure][metric]`` is ``[n]``, distances in mm."""

    values: dict[str, dict[str, np.ndarray]]
    phases: np.ndarray


class Ejections(NamedTuple):
    """Biplane volumes and ejection fractions by the CAMUS rule for patients with both views and both phases."""

    patients: list[str]
    measured: clinical.Ejection
    reference: clinical.Ejection


def score(predictions: np.ndarray, truth: np.ndarray, spacing: np.ndarray, phases: np.ndarray) -> Scores:
    """Scores label maps.

    Args:
        predictions: ``[n, h, w]``.
        truth: ``[n, h, w]``.
        spacing: ``(dy, dx)`` of each frame in mm, ``[n, 2]``.
        phases: ``"ED"`` or ``"ES"`` of each frame, ``[n]``.

    Returns:
        The scores of each frame.
    """

    @jax.jit
    def one_batch(predicted, true, spacing):
        result = {}
        for name, members in labels.STRUCTURES.items():
            a, b = (jnp.isin(x, jnp.array(members)) for x in (predicted, true))
            result[name] = {
                "dice": metrics.dice(a, b),
                "hausdorff": metrics.hausdorff(a, b, spacing),
                "mean_absolute_distance": metrics.mean_absolute_distance(a, b, spacing),
            }
        return result

    batch = max(d for d in range(1, min(50, len(truth)) + 1) if len(truth) % d == 0)
    parts = [
        one_batch(*(jnp.asarray(a[i : i + batch]) for a in (predictions, truth, spacing)))
        for i in range(0, len(truth), batch)
    ]
    values = jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts)
    return Scores(values, np.asarray(phases))


def ejections(predictions: np.ndarray, source: ArraySource) -> Ejections:
    """Biplane volumes and ejection fractions by the CAMUS rule, from predictions and from the true masks.

    Args:
        predictions: ``[n, h, w]`` in the order of the source.
        source: Examples with patient, view, phase, label and spacing.

    Returns:
        Patients that have all four frames.
    """
    examples = [source[i] for i in range(len(source))]
    spacing = jnp.asarray(np.stack([e["spacing"] for e in examples]))
    index = {(str(e["patient"]), str(e["view"]), str(e["phase"])): i for i, e in enumerate(examples)}
    frames = [(view, phase) for view in ("2CH", "4CH") for phase in ("ED", "ES")]
    patients = [p for p in sorted({key[0] for key in index}) if all((p, *frame) in index for frame in frames)]
    if not patients:
        nothing = clinical.Ejection(*(np.zeros(0, np.float32),) * 3)  # pyright: ignore[reportArgumentType]
        return Ejections([], nothing, nothing)

    @jax.jit
    def eject(masks):
        cuts = clinical.disks(masks, spacing)
        rows = [jnp.array([index[(p, *frame)] for p in patients]) for frame in frames]
        two_ed, two_es, four_ed, four_es = (clinical.Disks(cuts.diameters[r], cuts.length[r]) for r in rows)
        return clinical.biplane_ejection((two_ed, two_es), (four_ed, four_es), rule="camus")

    truth = np.stack([e["label"] for e in examples])
    measured, reference = (
        jax.tree.map(np.asarray, eject(jnp.asarray(masks, jnp.int32))) for masks in (predictions, truth)
    )
    return Ejections(patients, measured, reference)


def evaluate(config: EvaluateConfig) -> str:
    """Predicts, scores, writes and tabulates.

    Args:
        config: What is scored.

    Returns:
        The table as Markdown.

    Raises:
        ValueError: If the data cannot be read.
        WeightsError: If the weights do not fit the model.
    """
    source = camus_224(config.data)
    examples = [source[i] for i in range(len(source))]
    images = np.stack([e["image"] for e in examples]).astype(np.float32)[..., None] / 255
    segment, side = make_segment(config.segment, weights=config.weights), config.segment.size
    if images.shape[1:3] == (side, side):
        predictions = segment(images).argmax(-1).astype(np.int32)
    else:
        predictions = np.concatenate([_resegment(segment, images[i : i + 20], side) for i in range(0, len(images), 20)])
    if config.segment.largest_component:
        predictions = np.stack([keep_largest(p) for p in predictions])
    truth = np.stack([e["label"] for e in examples]).astype(np.int32)
    scores = score(
        predictions, truth, np.stack([e["spacing"] for e in examples]), np.array([str(e["phase"]) for e in examples])
    )
    ejected = ejections(predictions, source)
    title = " + ".join((config.segment.model, *config.segment.ensemble))
    table = format_table({title: scores}) + "\n" + format_clinical(title, ejected)
    if config.out is not None:
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "table.md").write_text(table, "utf-8")
        (config.out / "scores.csv").write_text(_rows(scores, examples), "utf-8")
        (config.out / "scores.json").write_text(json.dumps(summary(scores), indent=2) + "\n", "utf-8")
        if len(ejected.patients) > 1:
            both = [np.asarray(side.fraction) for side in (ejected.measured, ejected.reference)]
            found = clinical.agreement(*map(jnp.asarray, both))
            picture = figures.bland_altman(both[0], both[1], found, name="ejection fraction", unit="%")
            (config.out / "bland_altman.svg").write_bytes(picture)
    return table


def _resegment(segment: Segment, images: np.ndarray, side: int) -> np.ndarray:
    """Label maps on the images' grid of a model that works on another; its probabilities are brought back."""
    num, h, w, _ = images.shape
    probs = segment(np.asarray(jax.image.resize(images, (num, side, side, 1), "linear")))
    return np.asarray(jax.image.resize(probs, (num, h, w, probs.shape[-1]), "linear").argmax(-1), np.int32)


def summary(scores: Scores) -> dict[str, Any]:
    """Means and standard deviations: ``[structure][phase][metric] = (mean, std, frames left out)``.

    Args:
        scores: Scores of each frame.
    """
    return {
        name: {
            phase: {
                metric: _mean(values[metric][scores.phases == phase]) for metric in METRICS
            }
            for phase in ("ED", "ES")
        }
        for name, values in scores.values.items()
    }  # fmt: skip


def format_table(rows: dict[str, Scores]) -> str:
    """The layout of the CAMUS paper: Dice, Hausdorff and mean absolute distance in mm, mean ± standard deviation.

    Args:
        rows: Scores by the name of the method.

    Returns:
        Markdown, with the intra-observer row last.
    """
    columns = [(name, phase) for name in labels.STRUCTURES for phase in ("ED", "ES")]
    titles = {"lv": "LV", "epicardium": "LV + myocardium", "left_atrium": "left atrium"}
    lines = [
        "| Dice / HD mm / MAD mm | " + " | ".join(f"{titles[n]} {p}" for n, p in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for method, scores in rows.items():
        cells, missing = [], 0
        for name, phase in columns:
            dice, hd, mad = (summary(scores)[name][phase][metric] for metric in METRICS)
            missing += hd[2]
            cells.append(
                f"{_short(dice[0])} ± {_short(dice[1])} / {hd[0]:.1f} ± {hd[1]:.1f} / {mad[0]:.1f} ± {mad[1]:.1f}"
            )
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
        if missing:
            lines[-1] += f" ({missing} empty predictions without a distance)"
    cells = [
        "{} / {:.1f} / {:.1f}".format(_short(value[0]), *value[1:]) if (value := INTRA_OBSERVER.get(column)) else ""
        for column in columns
    ]
    lines.append("| intra-observer | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def format_clinical(method: str, ejected: Ejections) -> str:
    """Agreement of ejection fraction and volumes with those of the true masks, with 95 % bootstrap intervals.

    Args:
        method: Name of the method.
        ejected: What `ejections` returned.

    Returns:
        Markdown, with the intra-observer row last; empty with fewer than two patients.
    """
    titles = {"fraction": ("EF", "points"), "end_diastolic": ("EDV", "ml"), "end_systolic": ("ESV", "ml")}
    ours, spans, theirs, head = [], [], [], []
    intervals = jax.jit(clinical.agreement_intervals)
    valid = np.isfinite(ejected.measured.fraction) & np.isfinite(ejected.reference.fraction)
    if valid.sum() < 2:
        return ""
    for name, (title, unit) in titles.items():
        pair = [jnp.asarray(getattr(side, name)) for side in (ejected.measured, ejected.reference)]
        found, span = clinical.agreement(*pair), intervals(jax.random.key(0), *pair)
        head += [f"{title} correlation", f"{title} MAE, {unit}", f"{title} bias"]
        ours += [_short(float(found.correlation)), f"{found.mean_absolute_error:.1f}", f"{found.bias:+.1f}"]
        for metric, style in (
            ("correlation", _short),
            ("mean_absolute_error", "{:.1f}".format),
            ("bias", "{:+.1f}".format),
        ):
            spans.append(" to ".join(style(float(getattr(end, metric))) for end in span))
        correlation, error = INTRA_OBSERVER_CLINICAL[name]
        theirs += [_short(correlation), f"{error:.1f}", ""]
    rows = [[f"{valid.sum()} patients, biplane, CAMUS rule", *head], ["---"] * (len(head) + 1)]
    rows += [[method, *ours], ["95 % interval", *spans], ["intra-observer", *theirs]]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _mean(values: np.ndarray) -> tuple[float, float, int]:
    known = values[np.isfinite(values)]
    if not known.size:
        return float("nan"), float("nan"), len(values)
    return float(known.mean()), float(known.std()), int(len(values) - known.size)


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


def _rows(scores: Scores, examples: list[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = [(name, metric) for name in scores.values for metric in METRICS]
    writer.writerow(["patient", "view", "phase", *(f"{name}_{metric}" for name, metric in columns)])
    for i, example in enumerate(examples):
        numbers = [f"{scores.values[name][metric][i]:.5f}" for name, metric in columns]
        writer.writerow([example["patient"], example["view"], example["phase"], *numbers])
    return buffer.getvalue()
