"""Where a network's cavity is too large or too small: by phase, view, image quality and part of the wall.

Run: ``python -m experiments.segmentation.volume_errors --data DIR --patients CSV --model unet_camus --out
docs/results``

``DIR`` holds ``camus224_val.npz``; ``CSV`` has the columns ``Patient`` and ``ImageQuality``. Prints three tables as
Markdown and draws the four frames of the worst patient. A minute on two CPU cores.
"""

import csv
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from cardiojax import clinical, zoo
from cardiojax.clinical.axis import long_axis
from cardiojax.data.arrays import ArraySource, camus_224, stack_examples
from cardiojax.evaluation.segmentation import Ejections, ejections
from cardiojax.labels import PHASES
from experiments.segmentation import accuracy

#: Parts of the cavity along its true long axis, by the share of its length from the base.
PARTS = {"basal": (-np.inf, 1 / 3), "middle": (1 / 3, 2 / 3), "apical": (2 / 3, np.inf)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is looked at.

    Attributes:
        data: Folder of ``camus224_val.npz``.
        patients: Table of the patients' image quality.
        model: A name of the zoo or a weight file.
        out: Folder for the figure.
    """

    data: Path
    patients: Path
    model: str = "unet_camus"
    out: Path = Path("docs/results")


def by_group(
    error: Float[np.ndarray, "n"], dice: Float[np.ndarray, "n"], groups: dict[str, np.ndarray], phases: np.ndarray
) -> str:
    """Relative error of the cavity's area and Dice, by group and phase.

    Args:
        error: Relative error of each frame, in percent.
        dice: LV Dice of each frame.
        groups: Group of each frame, by title.
        phases: Phase of each frame.

    Returns:
        Markdown.
    """
    lines = ["| | frames | area error ED, % | area error ES, % | LV Dice ED | LV Dice ES |", "|---" * 6 + "|"]
    for title, values in groups.items():
        for value in dict.fromkeys(sorted(values)):
            ed, es = ((values == value) & (phases == phase) for phase in PHASES)
            areas = " | ".join(f"{error[rows].mean():+.1f} ± {error[rows].std():.1f}" for rows in (ed, es))
            scores = " | ".join(f"{dice[rows].mean():.3f}" for rows in (ed, es))
            lines.append(f"| {title} {value} | {ed.sum()} + {es.sum()} | {areas} | {scores} |")
    return "\n".join(lines) + "\n"


def by_part(
    predicted: Int[np.ndarray, "n h w"], truth: Int[np.ndarray, "n h w"], spacing: np.ndarray, phases: np.ndarray
) -> str:
    """Net gain of cavity area by part along the true long axis and side, with the area that differs.

    Args:
        predicted: Label maps.
        truth: True ones.
        spacing: mm a pixel, ``[n, 2]``.
        phases: Phase of each frame.

    Returns:
        Markdown; percent of the true area.
    """
    axis = jax.tree.map(np.asarray, jax.jit(long_axis)(jnp.asarray(truth), jnp.asarray(spacing)))
    points = np.moveaxis(np.mgrid[: truth.shape[1], : truth.shape[2]], 0, -1)[None] * spacing[:, None, None]
    along = (axis.apex - axis.base)[:, None, None] / axis.length[:, None, None, None]
    offset = points - axis.base[:, None, None]
    height = (offset * along).sum(-1) / axis.length[:, None, None]
    is_left = offset[..., 1] * along[..., 0] - offset[..., 0] * along[..., 1] > 0  # the axis points up the image
    gain = (predicted == 1).astype(float) - (truth == 1)
    area = (truth == 1).sum((1, 2))
    lines = ["| | ED left | ED right | ES left | ES right |", "|---" * 5 + "|"]
    for name, (low, high) in PARTS.items():
        cells = []
        for phase in PHASES:
            for side in (is_left, ~is_left):
                inside = gain * ((height >= low) & (height < high) & side)
                net, both = (100 * (x.sum((1, 2)) / area)[phases == phase].mean() for x in (inside, np.abs(inside)))
                cells.append(f"{net:+.1f} ({both:.1f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def worst_patients(ejected: Ejections, quality: dict[str, str], num: int = 6) -> str:
    """Ejection fraction and volumes of the patients with the largest errors.

    Args:
        ejected: Measured and true ones.
        quality: Image quality of each patient.
        num: How many.

    Returns:
        Markdown.
    """
    ours, true = ejected.measured, ejected.reference
    lines = ["| patient | quality | EF, true | EDV, true | ESV, true |", "|---" * 5 + "|"]
    for i in np.argsort(-np.abs(ours.fraction - true.fraction))[:num]:
        cells = [f"{getattr(ours, n)[i]:.0f}, {getattr(true, n)[i]:.0f}" for n in clinical.Ejection._fields]
        order = " | ".join((cells[2], cells[0], cells[1]))
        lines.append(f"| {ejected.patients[i]} | {quality[ejected.patients[i]]} | {order} |")
    return "\n".join(lines) + "\n"


def draw(path: Path, source: ArraySource, predicted: np.ndarray, patient: str) -> None:
    """Draws the outlines of the four frames of a patient.

    Args:
        path: The picture.
        source: The frames.
        predicted: Label maps.
        patient: Name.
    """
    import matplotlib.pyplot as plt

    chosen = np.flatnonzero(stack_examples(source)["patient"] == patient).tolist()
    figure, axes = plt.subplots(1, len(chosen), figsize=(3 * len(chosen), 3.2), layout="constrained")
    for axis, i in zip(axes, chosen, strict=True):
        example = source[i]
        axis.imshow(example["image"], cmap="gray")
        axis.contour(example["label"] == 1, [0.5], colors="#2ca02c", linewidths=1.2)
        axis.contour(predicted[i] == 1, [0.5], colors="#ff7f0e", linewidths=1.2)
        axis.set(title=f"{example['view']} {example['phase']}", xticks=[], yticks=[])
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main(config: Config) -> str:
    """Predicts, tabulates and draws.

    Args:
        config: What is looked at.

    Returns:
        The tables.
    """
    source = camus_224(config.data / "camus224_val.npz")
    arrays = stack_examples(source)
    truth, spacing, patients, views, phases = (arrays[key] for key in ("label", "spacing", "patient", "view", "phase"))
    with config.patients.open(newline="", encoding="utf-8") as lines:
        quality = {row["Patient"]: row["ImageQuality"] for row in csv.DictReader(lines)}
    model, variables = zoo.load(config.model)
    images = list(accuracy.inputs(model, source).values())[-1]
    predicted = accuracy.outlines(accuracy.predict(accuracy.probabilities(model, variables), images))
    a, b = predicted == 1, truth == 1
    error = 100 * (a.sum((1, 2)) / b.sum((1, 2)) - 1)
    dice = 2 * (a & b).sum((1, 2)) / (a.sum((1, 2)) + b.sum((1, 2)))
    groups = {"view": views, "quality": np.array([quality[str(p)] for p in patients])}
    ejected = ejections(predicted, source)
    worst = ejected.patients[int(np.nanargmax(np.abs(ejected.measured.fraction - ejected.reference.fraction)))]
    config.out.mkdir(parents=True, exist_ok=True)
    draw(config.out / f"worst_{Path(config.model).stem}.webp", source, predicted, worst)
    tables = [by_group(error, dice, groups, phases), by_part(predicted, truth.astype(np.int32), spacing, phases)]
    text = "\n".join([*tables, worst_patients(ejected, quality)])
    print(text)
    return text


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
