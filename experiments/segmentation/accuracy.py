"""Outlines and ejection fraction of single networks, their averages, and averages over changed copies of each image.

Run: ``python -m experiments.segmentation.accuracy --data DIR --models unet_camus nnunet_camus --augmentations``

``DIR`` holds ``camus224_val.npz``. A model is a name of the zoo or a weight file that `zoo.save` wrote. Prints the
scores of each model, of their average, and, with ``--augmentations``, of each averaged over rotations, scales and
gammas; three of each: all patients, and two halves by patient, of which each serves to choose the method that is
reported on the other. About a minute per model on two CPU cores, fifteen with ``--augmentations``.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, UInt8

from cardiojax import anatomy, clinical, uncertainty, zoo
from cardiojax.analysis.segmentation import clean_labels
from cardiojax.data.arrays import ArraySource, camus_224, stack_examples
from cardiojax.evaluation.segmentation import Ejections, Scores, ejections, score
from cardiojax.labels import PHASES
from cardiojax.uncertainty import AUGMENTATIONS, Augmentation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is scored.

    Attributes:
        data: Folder of ``camus224_val.npz``.
        models: Names of the zoo or weight files.
        augmentations: Whether averages over `AUGMENTATION_SETS` are scored too.
        anatomy: Whether anatomically invalid masks are counted, and those of them of which myocardium and atrium touch
            and nothing else is wrong.
        separate_atrium: As of `cardiojax.analysis.AnalyzeConfig`.
        out: JSON file for the rows.
        batch_size: Images a call.
    """

    data: Path
    models: tuple[str, ...] = ("unet_camus",)
    augmentations: bool = False
    anatomy: bool = False
    separate_atrium: bool = True
    out: Path | None = None
    batch_size: int = 10


#: Changes of the images over which predictions are averaged, by the suffix of the title; the first is none.
AUGMENTATION_SETS = {
    "": (Augmentation(),),
    " over rotations": (Augmentation(), Augmentation(rotation=-6.0), Augmentation(rotation=6.0)),
    " over scales": (Augmentation(), Augmentation(scale=0.93), Augmentation(scale=1.08)),
    " over gammas": (Augmentation(), Augmentation(gamma=0.8), Augmentation(gamma=1.25)),
    " over seven copies": AUGMENTATIONS,
}

#: The contact of myocardium and atrium among the criteria.
_CONTACT = anatomy.NAMES.index("frontier_ratio_between_myo_and_atrium")

Apply = Callable[[Float[Array, "n h w 1"]], Float[Array, "n h w k"]]


def predict(apply: Apply, images: np.ndarray, *, batch_size: int = 10) -> np.ndarray:
    """Probabilities of images.

    Args:
        apply: Images ``[n, h, w, c]`` in [0, 1] to probabilities.
        images: uint8 ``[n, h, w, c]``.
        batch_size: Images a call; divides their number.

    Returns:
        float16 ``[n, h, w, k]``.
    """
    compiled = jax.jit(lambda x: apply(x).astype(jnp.float16))
    parts = [
        np.asarray(compiled(jnp.asarray(images[i : i + batch_size], jnp.float32) / 255))
        for i in range(0, len(images), batch_size)
    ]
    return np.concatenate(parts)


def with_other_phase(source: ArraySource) -> UInt8[np.ndarray, "n h w 2"]:
    """Each frame with that of the other phase of its view as second channel.

    Args:
        source: Both phases of each view.
    """
    arrays = stack_examples(source)
    names = list(zip(arrays["patient"], arrays["view"], arrays["phase"], strict=True))
    index = {name: i for i, name in enumerate(names)}
    others = [index[p, v, "ES" if phase == "ED" else "ED"] for p, v, phase in names]
    return np.stack([arrays["image"], arrays["image"][others]], -1)


def outlines(probs: np.ndarray, *, separate_atrium: bool = True) -> Int[np.ndarray, "n h w"]:
    """Most likely labels, of each structure its largest region, as `cardiojax.analysis` makes them.

    Args:
        probs: ``[n, h, w, k]``.
        separate_atrium: Whether myocardium is separated from the atrium.
    """
    return clean_labels(probs.argmax(-1).astype(np.int32), batch_size=8, separate_atrium=separate_atrium)


def half_of(patients: Sequence[str] | np.ndarray, half: int) -> np.ndarray:
    """Every second patient in the order of their names: half 0 serves to choose, half 1 to report.

    Args:
        patients: Name of each frame's patient.
        half: 0 or 1.

    Returns:
        Which frames belong to it.
    """
    rank = {patient: i for i, patient in enumerate(sorted(set(patients)))}
    return np.array([rank[p] % 2 == half for p in patients])


def summarize(scores: Scores, ejected: Ejections, which: np.ndarray, patients: np.ndarray) -> dict[str, float]:
    """One row of the table.

    Args:
        scores: Of all frames.
        ejected: Of all patients.
        which: Frames that count.
        patients: Name of each frame's patient.

    Returns:
        Dice and Hausdorff distance by structure and phase; of the ejection fraction, correlation, mean absolute error,
        bias, largest error and the number of patients off by more than 20 points; mean error of the volumes.
    """
    row = {}
    for structure, values in scores.values.items():
        for phase in PHASES:
            rows = which & (scores.phases == phase)
            row[f"{structure}_{phase}_dice"] = float(values["dice"][rows].mean())
            if structure != "left_atrium":
                row[f"{structure}_{phase}_hd"] = float(np.nanmean(values["hausdorff"][rows]))
    chosen = np.isin(ejected.patients, patients[which])
    measured, reference = (jax.tree.map(lambda x: x[chosen], side) for side in (ejected.measured, ejected.reference))
    agreement = clinical.agreement(jnp.asarray(measured.fraction), jnp.asarray(reference.fraction))
    error = np.abs(measured.fraction - reference.fraction)
    row |= {
        "ef_r": float(agreement.correlation),
        "ef_mae": float(agreement.mean_absolute_error),
        "ef_bias": float(agreement.bias),
        "ef_worst": float(np.nanmax(error)),
        "ef_over_20": int((~(error <= 20)).sum()),
        "edv_bias": float(np.nanmean(measured.end_diastolic - reference.end_diastolic)),
        "esv_bias": float(np.nanmean(measured.end_systolic - reference.end_systolic)),
    }
    return row


def rows(
    name: str,
    probs: np.ndarray,
    source: ArraySource,
    *,
    with_anatomy: bool = False,
    separate_atrium: bool = True,
) -> dict[str, dict]:
    """Scores of predictions over all patients and over either half.

    Args:
        name: Title.
        probs: ``[n, h, w, k]`` in the order of the source.
        source: The frames.
        with_anatomy: Whether anatomically invalid masks are counted.
        separate_atrium: As of `outlines`.

    Returns:
        Rows by title.
    """
    arrays = stack_examples(source)
    truth, spacing, patients, phases = (arrays[key] for key in ("label", "spacing", "patient", "phase"))
    masks = outlines(probs, separate_atrium=separate_atrium)
    scores, ejected = score(masks, truth.astype(np.int32), spacing, phases), ejections(masks, source)
    parts = {"all": np.ones(len(masks), bool), "half 0": half_of(patients, 0), "half 1": half_of(patients, 1)}
    table = {f"{name}, {part}": summarize(scores, ejected, which, patients) for part, which in parts.items()}
    if with_anatomy:
        violated = ~np.asarray(jax.jit(lambda m: anatomy.check(m).passes)(jnp.asarray(masks)))
        table[f"{name}, all"]["invalid"] = int(violated.any(-1).sum())
        table[f"{name}, all"]["contact_alone"] = int((violated[:, _CONTACT] & (violated.sum(-1) == 1)).sum())
    return table


def format_rows(table: dict[str, dict]) -> str:
    """The rows as Markdown.

    Args:
        table: Rows by title.
    """
    lines = [
        "| | LV Dice ED / ES | LV HD ED / ES, mm | epicardium ED / ES | LA ED / ES | EF r | EF error | EF bias | worst "
        "| over 20 | volume bias ED / ES, ml |",
        "|---" * 11 + "|",
    ]
    for name, r in table.items():
        lines.append(
            f"| {name} | {r['lv_ED_dice']:.4f} / {r['lv_ES_dice']:.4f} | {r['lv_ED_hd']:.2f} / {r['lv_ES_hd']:.2f} "
            f"| {r['epicardium_ED_dice']:.4f} / {r['epicardium_ES_dice']:.4f} "
            f"| {r['left_atrium_ED_dice']:.4f} / {r['left_atrium_ES_dice']:.4f} "
            f"| {r['ef_r']:.3f} | {r['ef_mae']:.2f} | {r['ef_bias']:+.2f} | {r['ef_worst']:.1f} | {r['ef_over_20']} "
            f"| {r['edv_bias']:+.1f} / {r['esv_bias']:+.1f} |"
        )
    return "\n".join(lines) + "\n"


def cross_fit(table: dict[str, dict], *, score: str = "ef_mae") -> str:
    """Chooses a method on one half of the patients and reports it on the other, and the reverse.

    Args:
        table: Rows of `rows`, with both halves.
        score: What the chosen method has the least of.

    Returns:
        Two lines of Markdown.
    """
    methods = [title.removesuffix(", all") for title in table if title.endswith(", all")]
    lines = []
    for half in (0, 1):
        best = min(methods, key=lambda method, half=half: table[f"{method}, half {half}"][score])
        other = table[f"{best}, half {1 - half}"][score]
        lines.append(f"- chosen on half {half}: {best}, {score} {other:.2f} on half {1 - half}\n")
    return "".join(lines)


def inputs(model: Any, source: ArraySource) -> dict[str, np.ndarray]:
    """What a network can be shown, by name: frames alone, and with the other phase if it takes two.

    Args:
        model: The network.
        source: The frames.
    """
    shown = {"": stack_examples(source)["image"][..., None]}
    if getattr(model.config, "frames", 1) == 2:
        shown[", both phases"] = with_other_phase(source)
    return shown


def score_model(name: str | Path, source: ArraySource, *, batch_size: int = 10) -> dict[str, dict]:
    """Rows of one network, of each way in which it can be used.

    Args:
        name: A name of the zoo or a weight file.
        source: The frames.
        batch_size: Images a call.

    Returns:
        Rows by title.
    """
    model, variables = zoo.load(name)
    table: dict[str, dict] = {}
    for kind, images in inputs(model, source).items():
        probs = predict(probabilities(model, variables), images, batch_size=batch_size)
        table |= rows(Path(name).stem + kind, probs, source)
    return table


def main(config: Config) -> dict[str, dict]:
    """Predicts and scores.

    Args:
        config: What is scored.

    Returns:
        Rows by title.
    """
    source = camus_224(config.data / "camus224_val.npz")
    options = {"with_anatomy": config.anatomy, "separate_atrium": config.separate_atrium}
    scored = functools.partial(rows, source=source, **options)
    table: dict[str, dict] = {}
    for suffix, augmentations in list(AUGMENTATION_SETS.items())[: None if config.augmentations else 1]:
        total: dict[str, np.ndarray] = {}
        for name in config.models:
            model, variables = zoo.load(name)
            for kind, images in inputs(model, source).items():
                apply = functools.partial(
                    uncertainty.average_over_augmentations,
                    apply=probabilities(model, variables),
                    augmentations=augmentations,
                )
                probs = predict(apply, images, batch_size=config.batch_size)
                total[name] = probs.astype(np.float32)  # of a network that takes two frames, the prediction with both
                table |= scored(Path(name).stem + kind + suffix, probs)
        if len(config.models) > 1:
            table |= scored("average" + suffix, np.sum(list(total.values()), 0))
    print(format_rows(table) + cross_fit(table))
    if config.out is not None:
        config.out.write_text(json.dumps(table, indent=1) + "\n", "utf-8")
    return table


def probabilities(model: Any, variables: PyTree) -> Apply:
    """A network as `predict` calls it.

    Args:
        model: The network.
        variables: Its weights.
    """
    return lambda images: jax.nn.softmax(model.apply(variables, images).logits)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
