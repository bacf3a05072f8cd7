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
from cardiojax.data.arrays import ArraySource, camus_224
from cardiojax.pipeline.analyze import AnalyzeConfig, keep_largest, make_segment

METRICS = ("dice", "hausdorff", "mean_absolute_distance")

#: Dice, Hausdorff distance and mean absolute distance (mm) of one cardiologist against herself, months apart
#: (Leclerc et al., IEEE TMI 2019). The left atrium was not repeated.
INTRA_OBSERVER: dict[tuple[str, str], tuple[float, float, float]] = {
    ("lv", "ED"): (0.945, 4.6, 1.4),
    ("lv", "ES"): (0.930, 4.5, 1.3),
    ("epicardium", "ED"): (0.957, 5.0, 1.7),
    ("epicardium", "ES"): (0.951, 5.0, 1.7),
}
#: Correlation and mean absolute error of the ejection fraction of the same cardiologist.
INTRA_OBSERVER_EF = (0.896, 4.7)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is scored.

    Attributes:
        data: An ``.npz`` of CAMUS frames of 224 x 224 with their masks.
        out: Folder for ``table.md``, ``scores.csv`` and ``scores.json``; only printed if not given.
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


class EjectionFractions(NamedTuple):
    """Percent by the CAMUS rule for patients with both views and both phases."""

    patients: list[str]
    measured: np.ndarray
    reference: np.ndarray


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


def ejection_fractions(predictions: np.ndarray, source: ArraySource) -> EjectionFractions:
    """Biplane ejection fraction by the CAMUS rule, from predictions and from the true masks.

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
        return EjectionFractions([], np.zeros(0), np.zeros(0))

    @jax.jit
    def fractions(masks):
        cuts = clinical.disks(masks, spacing)
        rows = [jnp.array([index[(p, *frame)] for p in patients]) for frame in frames]
        two_ed, two_es, four_ed, four_es = (clinical.Disks(cuts.diameters[r], cuts.length[r]) for r in rows)
        length = clinical.camus_length(two_ed, two_es, four_ed, four_es)
        return clinical.ejection_fraction(
            clinical.biplane_volume(two_ed, four_ed, length=length),
            clinical.biplane_volume(two_es, four_es, length=length),
        )

    truth = np.stack([e["label"] for e in examples])
    measured, reference = (np.asarray(fractions(jnp.asarray(m, jnp.int32))) for m in (predictions, truth))
    return EjectionFractions(patients, measured, reference)


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
    probs = make_segment(config.segment, weights=config.weights)(images)
    predictions = probs.argmax(-1).astype(np.int32)
    if config.segment.largest_component:
        predictions = np.stack([keep_largest(p) for p in predictions])
    truth = np.stack([e["label"] for e in examples]).astype(np.int32)
    scores = score(
        predictions, truth, np.stack([e["spacing"] for e in examples]), np.array([str(e["phase"]) for e in examples])
    )
    fractions = ejection_fractions(predictions, source)
    table = format_table({config.segment.model: scores}) + "\n" + format_fractions(config.segment.model, fractions)
    if config.out is not None:
        config.out.mkdir(parents=True, exist_ok=True)
        (config.out / "table.md").write_text(table, "utf-8")
        (config.out / "scores.csv").write_text(_rows(scores, examples), "utf-8")
        (config.out / "scores.json").write_text(json.dumps(summary(scores), indent=2) + "\n", "utf-8")
    return table


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


def format_fractions(method: str, fractions: EjectionFractions) -> str:
    """Agreement of the ejection fraction with that of the true masks.

    Args:
        method: Name of the method.
        fractions: What `ejection_fractions` returned.
    """
    valid = np.isfinite(fractions.measured) & np.isfinite(fractions.reference)
    if valid.sum() < 2:
        return ""
    difference = fractions.measured[valid] - fractions.reference[valid]
    correlation = np.corrcoef(fractions.measured[valid], fractions.reference[valid])[0, 1]
    return (
        f"| ejection fraction, {valid.sum()} patients | correlation | mean absolute error, points | bias |\n"
        "|---|---|---|---|\n"
        f"| {method} | {_short(correlation)} | {np.abs(difference).mean():.1f} | {difference.mean():+.1f} |\n"
        f"| intra-observer | {_short(INTRA_OBSERVER_EF[0])} | {INTRA_OBSERVER_EF[1]:.1f} | |\n"
    )


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
