"""The table of Painchaud et al., IEEE TMI 2022, on real masks as far as there are any.

1. End-diastole and end-systole of the 50 validation patients of CAMUS, which have references, but no frames between
   them: what each method does to single frames. ``as drawn`` (`unet_camus`), ``AR-VAE`` (encoded and decoded, which
   every smoothing of codes does) and ``anatomical`` (the anatomical correction). Dice coefficients and Hausdorff
   distances to the references, invalid frames, the biplane ejection fraction.
2. Real loops, which have no references: inconsistent and invalid frames, the Dice coefficient to the outlines as drawn
   and the change of the area of the cavity from the largest to the smallest, for the methods of
   ``experiments.temporal.painchaud2022``. The bounds of the attributes are those of the CAMUS training masks.

The published table measures both on 98 annotated loops, which are not public.

Run: ``python -m experiments.temporal.real_masks --data DIR/camus_224 --out runs/real_masks --recordings loop.dcm
loop.mp4`` (about five minutes on two cores). Writes ``scores.json`` and ``table.md``. Expected: the autoencoder alone
costs Dice on real frames; the published smoothing makes every loop consistent; the smallest weights do not.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import anatomy, labels, ops, temporal
from cardiojax.analysis.recording import AnalyzeConfig, analyze, make_segment
from cardiojax.correction.anatomical import load_shapes, make_anatomical_corrector
from cardiojax.correction.temporal import assumed_spacing
from cardiojax.data import read
from cardiojax.data.arrays import camus_224
from cardiojax.evaluation import ejections, score
from cardiojax.labels import PHASES
from cardiojax.measurement.motion import consistency_limits
from experiments.common.frames import training_labels
from experiments.common.results import write_results
from experiments.temporal.painchaud2022 import corrected_outlines, smoothed

#: Frame time in seconds that is assumed where a recording states none.
_FRAME_TIME = 0.04


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is compared.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``.
        out: Folder for the results.
        recordings: Real loops.
        limit: Validation frames, 0 for all.
        max_frames: First frames of a loop that are used.
    """

    data: Path
    out: Path
    recordings: tuple[Path, ...] = ()
    limit: int = 0
    max_frames: int = 60


def frames_table(config: Config) -> dict[str, dict[str, float]]:
    """The methods on single frames that have references."""
    source = camus_224(config.data / "camus224_val.npz")
    examples = [source[i] for i in range(config.limit or len(source))]
    images = np.stack([e["image"] for e in examples]).astype(np.float32)[..., None] / 255
    truth = np.stack([e["label"] for e in examples]).astype(np.int32)
    spacing, phases = np.stack([e["spacing"] for e in examples]), np.array([str(e["phase"]) for e in examples])
    drawn = np.asarray(make_segment(AnalyzeConfig())(images)).argmax(-1).astype(np.int32)
    shapes = load_shapes("arvae_camus")
    through = jax.jit(lambda m: shapes.decode(shapes.encode(m), *m.shape[1:]))
    methods = {
        "as drawn": drawn,
        "AR-VAE": ops.map_batches(through, drawn, batch_size=20).astype(np.int32),
        "anatomical": make_anatomical_corrector(batch_size=16)(drawn).labels,
    }
    return {name: frame_scores(masks, truth, spacing, phases, source, examples) for name, masks in methods.items()}


def frame_scores(
    masks: np.ndarray, truth: np.ndarray, spacing: np.ndarray, phases: np.ndarray, source: Any, examples: list
) -> dict[str, float]:
    """The row of a method."""
    values = score(masks, truth, spacing, phases).values
    row = {"invalid frames": invalid_share(masks)}
    for phase in PHASES:
        for name in labels.STRUCTURES:
            row[f"Dice {name} {phase}"] = float(np.nanmean(values[name]["dice"][phases == phase]))
        row[f"HD lv {phase}, mm"] = float(np.nanmean(values["lv"]["hausdorff"][phases == phase]))
    if len(examples) == len(source):
        found = ejections(masks, source)
        error = np.asarray(found.measured.fraction) - np.asarray(found.reference.fraction)
        row |= {"EF MAE": float(np.abs(error).mean()), "EF bias": float(error.mean())}
    return row


def invalid_share(masks: np.ndarray) -> float:
    """Share of label maps ``[n, h, w]`` that violate an anatomical criterion."""
    return float((~ops.map_batches(jax.jit(anatomy.is_valid), masks, batch_size=20)).mean())


def loop_table(path: Path, known: np.ndarray, config: Config) -> dict[str, dict[str, float]]:
    """The methods on a real loop."""
    recording = read(path)
    recording = recording._replace(frames=recording.frames[: config.max_frames])
    result = analyze(recording, make_segment(AnalyzeConfig()))
    drawn, frame_time = result.labels.astype(np.int32), recording.frame_time or _FRAME_TIME
    stated = result.grid.spacing(result.recording.spacing) if result.recording.spacing else None
    spacing = stated or assumed_spacing(drawn)
    methods = {"as drawn": drawn[None], **smoothed(drawn[None], known, [frame_time])}
    methods |= corrected_outlines(drawn[None], [spacing], [frame_time])
    return {name: loop_scores(masks[0], drawn, spacing, frame_time) for name, masks in methods.items()}


def loop_scores(
    masks: np.ndarray, drawn: np.ndarray, spacing: tuple[float, float], frame_time: float
) -> dict[str, float]:
    """The row of a method."""
    attributes = jnp.stack(jax.jit(anatomy.attributes)(masks, jnp.asarray(spacing, jnp.float32)), -1)
    # the limits of the stated frame time, the same for all methods, whether or not their beats look credible
    bounds, thresholds = map(jnp.asarray, consistency_limits(frame_time))
    is_consistent = temporal.consistency(attributes, bounds, thresholds).is_frame_consistent
    cavity, before = masks == labels.LV, drawn == labels.LV
    overlap = 2 * (cavity & before).sum((1, 2)) / np.maximum(cavity.sum((1, 2)) + before.sum((1, 2)), 1)
    area = cavity.sum((1, 2))
    return {
        "inconsistent frames": float((~np.asarray(is_consistent)).mean()),
        "invalid frames": invalid_share(masks),
        "Dice lv to as drawn": float(overlap.mean()),
        "area change": float(1 - area.min() / max(area.max(), 1)),
    }


def format_rows(rows: dict[str, dict[str, float]]) -> str:
    """Rows as Markdown."""
    names = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {method} | " + " | ".join(f"{row[n]:.3f}" for n in names) + " |" for method, row in rows.items()]
    return "\n".join(lines) + "\n"


def main(config: Config) -> str:
    """Compares; returns the tables as Markdown."""
    found, text = {"frames": frames_table(config)}, ""
    known = training_labels(config.data).astype(np.int32)
    for path in (None, *config.recordings):
        if path is not None:
            found[path.name] = loop_table(path, known, config)
        text = "\n".join(f"{name}\n\n{format_rows(rows)}" for name, rows in found.items())
        write_results(config.out, text, found)  # after each, so that a kill loses one at most
    return text


if __name__ == "__main__":
    import tyro

    print(main(tyro.cli(Config)))
