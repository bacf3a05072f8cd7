"""The tables of the CAMUS paper, as Markdown, CSV and JSON."""

import csv
import io
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import clinical
from cardiojax.evaluation.scores import METRICS, Ejections, MeanScore, Scores, phase_groups, summary

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
_STRUCTURES = {"lv": "LV", "epicardium": "LV + myocardium", "left_atrium": "left atrium"}
_CLINICAL = {"fraction": ("EF", "points"), "end_diastolic": ("EDV", "ml"), "end_systolic": ("ESV", "ml")}


def format_table(rows: dict[str, Scores], *, intra_observer: bool = True) -> str:
    """Writes the table of the CAMUS paper: mean ± standard deviation of Dice and of two distances in mm.

    Args:
        rows: Scores by the name of the method, of the same structures and frames.
        intra_observer: Whether the row of the cardiologist of CAMUS is added.

    Returns:
        Markdown, with the number of frames of each column in its head. Where a method
        misses a structure, the cell says in how many frames; that of no frames is empty.

    Example:
        >>> import numpy as np
        >>> from cardiojax.evaluation import score
        >>> masks = np.zeros((2, 32, 32), np.int32)
        >>> masks[:, 4:24, 8:24], masks[:, 8:24, 12:20], masks[:, 24:30, 8:24] = 2, 1, 3
        >>> scores = score(masks, masks, np.ones((2, 2), np.float32), np.array(["ED", "ES"]))
        >>> "mine" in format_table({"mine": scores})
        True
    """
    first = next(iter(rows.values()))
    columns = [(name, phase) for name in first.values for phase in phase_groups(first.phases)]
    means = {method: summary(scores) for method, scores in rows.items()}
    heads = [
        f"{_STRUCTURES.get(name, name.replace('_', ' '))} {phase} (n = {_num_annotated(first, name, phase)})"
        for name, phase in columns
    ]
    lines = [["Dice / HD mm / MAD mm", *heads], ["---"] * (len(columns) + 1)]
    lines += [[method, *(_cell(table[name][phase]) for name, phase in columns)] for method, table in means.items()]
    observer = [INTRA_OBSERVER.get(column) for column in columns]
    if intra_observer:
        lines.append(["intra-observer", *(f"{_share(v[0])} / {v[1]:.1f} / {v[2]:.1f}" if v else "" for v in observer)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def format_clinical(method: str, ejected: Ejections, *, intra_observer: bool = True) -> str:
    """Writes the agreement of ejection fraction and volumes with those of the true masks, with 95 % intervals.

    Args:
        method: Name of the method.
        ejected: What `ejections` returned.
        intra_observer: Whether the row of the cardiologist of CAMUS is added.

    Returns:
        Markdown, with the patients without an ejection fraction below the table; without the
        table if fewer than two patients have one.
    """
    failures = "".join(
        f"\nNo ejection fraction of {patient}: {reason}.\n" for patient, reason in ejected.failed.items()
    )
    for names, problem in ((ejected.incomplete, "absent"), (ejected.repeated, "there more than once")):
        if num := len(names):
            whose = f"{num} patients" if num > 1 else names[0]
            failures += f"\nNo ejection fraction of {whose}: one of the four frames is {problem}.\n"
    valid = np.isfinite(ejected.measured.fraction) & np.isfinite(ejected.reference.fraction)
    if valid.sum() < 2:
        return failures
    ours, spans, theirs, head = [], [], [], []
    intervals = jax.jit(clinical.agreement_intervals)
    for name, (title, unit) in _CLINICAL.items():
        pair = [jnp.asarray(getattr(side, name)) for side in (ejected.measured, ejected.reference)]
        agreement, span = clinical.agreement(*pair), intervals(jax.random.key(0), *pair)
        head += [f"{title} correlation", f"{title} MAE, {unit}", f"{title} bias"]
        for metric, style in (
            ("correlation", _share),
            ("mean_absolute_error", "{:.1f}".format),
            ("bias", "{:+.1f}".format),
        ):
            ours.append(style(float(getattr(agreement, metric))))
            spans.append(" to ".join(style(float(getattr(end, metric))) for end in span))
        correlation, error = INTRA_OBSERVER_CLINICAL[name]
        theirs += [_share(correlation), f"{error:.1f}", ""]
    rows = [[f"{valid.sum()} patients, biplane, CAMUS rule", *head], ["---"] * (len(head) + 1)]
    rows += [[method, *ours], ["95 % interval", *spans]]
    if intra_observer:
        rows.append(["intra-observer", *theirs])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + failures


def to_csv(scores: Scores, examples: list[dict[str, Any]]) -> str:
    """Writes the scores of each frame; a distance that does not exist is left empty.

    Args:
        scores: Scores of each frame.
        examples: ``patient``, ``view`` and ``phase`` of each.

    Returns:
        CSV with a head.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = [(name, metric) for name in scores.values for metric in METRICS]
    writer.writerow(["patient", "view", "phase", *(f"{name}_{metric}" for name, metric in columns)])
    for i, example in enumerate(examples):
        values = [float(scores.values[name][metric][i]) for name, metric in columns]
        numbers = [f"{value:.5f}" if math.isfinite(value) else "" for value in values]
        writer.writerow([example["patient"], example["view"], example["phase"], *numbers])
    return buffer.getvalue()


def to_dict(scores: Scores, ejected: Ejections) -> dict[str, Any]:
    """Gathers the means as JSON values.

    Args:
        scores: Scores of each frame.
        ejected: What `ejections` returned.

    Returns:
        A dictionary: structures by phase and metric, and the ejection fractions in percent by patient.
    """
    means = {
        name: {phase: {metric: mean._asdict() for metric, mean in table.items()} for phase, table in phases.items()}
        for name, phases in summary(scores).items()
    }
    fractions = {
        patient: {
            "measured_percent": float(ejected.measured.fraction[i]),
            "reference_percent": float(ejected.reference.fraction[i]),
        }
        for i, patient in enumerate(ejected.patients)
    }
    return {
        "structures": means,
        "ejection_fractions": fractions,
        "failed": ejected.failed,
        "incomplete": ejected.incomplete,
        "repeated": ejected.repeated,
    }


def _num_annotated(scores: Scores, name: str, phase: str) -> int:
    """Frames of a phase in which a structure is annotated: its Dice coefficient is a number."""
    return int(np.isfinite(scores.values[name]["dice"][scores.phases == phase]).sum())


def _cell(table: dict[str, MeanScore]) -> str:
    dice, *distances = (table[metric] for metric in METRICS)
    if not dice.count:  # no such frames
        return ""
    cells = [f"{_share(dice.mean)} ± {_share(dice.std)}"]
    cells += [f"{d.mean:.1f} ± {d.std:.1f}" if d.count else "-" for d in distances]
    return " / ".join(cells) + (f" ({dice.num_missed} missed)" if dice.num_missed else "")


def _share(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)
