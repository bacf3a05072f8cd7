"""Anatomically invalid masks before and after correction, and the cost: the table of Painchaud et al., IEEE TMI 2020.

Validation masks of CAMUS predicted by the packaged U-Net, by the same network on images corrupted by noise, and by any
other method whose masks are given in a file. An invalid mask is encoded by the constrained autoencoder, walks to
the nearest codes of the bank and back by dichotomy, and comes out as the closest shape that passes the 12 criteria;
valid ones are untouched. The first row says how many of the experts' own masks fail the criteria.

Run: ``python -m experiments.anatomy.painchaud2020 --data DIR/camus_224 --out runs/painchaud2020 --others MASKS.npz``
(about two minutes on two cores). Published: no invalid mask is left, at nearly the same accuracy. Expected: 30 of
200 masks of the U-Net and 49 of the corrupted images are invalid, none after correction (15 of the experts' are);
the Dice coefficient of the left ventricle goes from .938 to .938 and from .908 to .906, its Hausdorff distance falls.
"""

import dataclasses
import json
import time
from pathlib import Path

import jax
import numpy as np

from cardiojax import anatomy, labels
from cardiojax.analysis.recording import AnalyzeConfig, keep_largest, make_segment
from cardiojax.correction.anatomical import AnatomicalCorrector, make_anatomical_corrector
from cardiojax.data.arrays import camus_224, stack_examples
from cardiojax.evaluation import METRICS, score
from experiments.common.results import write_results


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is corrected.

    Attributes:
        data: Folder with ``camus224_val.npz``.
        out: Folder for ``table.md`` and ``scores.json``.
        others: Masks of other methods: ``.npz`` with ``label`` or ``mask`` ``[n, 224, 224]``, n a multiple of the
            number of validation frames and in their order.
        shapes: The autoencoder, with a packaged bank.
        noise: Standard deviation of the noise that corrupts the images.
        num_neighbours: Codes of the bank to walk towards; the published method takes 1.
        limit: Frames, 0 for all.
        seed: Of the noise.
    """

    data: Path
    out: Path
    others: tuple[Path, ...] = ()
    shapes: str = "cvae_camus"
    noise: float = 0.25
    num_neighbours: int = 2
    limit: int = 0
    seed: int = 0


def main(config: Config) -> dict[str, dict]:
    """Corrects, scores and writes the table; returns scores by method."""
    source = camus_224(config.data / "camus224_val.npz")
    arrays = stack_examples(source, limit=config.limit)
    truth, images = arrays["label"].astype(np.int32), arrays["image"].astype(np.float32)[..., None] / 255
    noise = np.random.default_rng(config.seed).normal(0, config.noise, images.shape)
    segment = make_segment(AnalyzeConfig())

    def predict(images):
        return segment(images.astype(np.float32)).argmax(-1).astype(np.int32)

    methods = {"U-Net": predict(images)}
    methods["U-Net, largest regions"] = np.stack([keep_largest(mask) for mask in methods["U-Net"]])
    methods[f"U-Net, noise {config.noise}"] = predict(np.clip(images + noise, 0, 1))
    methods |= {path.stem: _read(path, len(source), len(truth)) for path in config.others}

    corrector = make_anatomical_corrector(config.shapes, num_neighbours=config.num_neighbours, batch_size=16)
    rows = {"experts": {"frames": len(truth), "invalid_before": int((~_are_valid(truth)).sum())}}
    for name, masks in methods.items():
        rows[name] = _row(corrector, masks, arrays)
        print(name, json.dumps(rows[name]))
    write_results(config.out, _table(rows), rows)
    return rows


def _read(path: Path, num_frames: int, limit: int) -> np.ndarray:
    with np.load(path) as archive:
        masks = archive["label" if "label" in archive else "mask"].astype(np.int32)
    return masks.reshape(-1, num_frames, *masks.shape[1:])[:, :limit].reshape(-1, *masks.shape[1:])


def _are_valid(masks: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(anatomy.is_valid)(masks))


def _row(corrector: AnatomicalCorrector, masks: np.ndarray, arrays: dict[str, np.ndarray]) -> dict:
    start = time.perf_counter()
    corrected = corrector(masks)
    seconds = time.perf_counter() - start
    repeats, truth = len(masks) // len(arrays["label"]), arrays["label"].astype(np.int32)
    reference, spacing = np.tile(truth, (repeats, 1, 1)), np.tile(arrays["spacing"], (repeats, 1))
    phases = np.tile(arrays["phase"], repeats)
    before, after = (score(m, reference, spacing, phases).values for m in (masks, corrected.labels))
    wrong = ~corrected.was_valid

    def mean(scores, rows):
        return {
            name: {m: float(np.nanmean(scores[name][m][rows])) for m in METRICS} if rows.any() else {}
            for name in labels.STRUCTURES
        }

    return {
        "frames": len(masks),
        "invalid_before": int(wrong.sum()),
        "invalid_after": int((~_are_valid(corrected.labels)).sum()),
        "valid_untouched": bool((corrected.labels[corrected.was_valid] == masks[corrected.was_valid]).all()),
        "seconds": seconds,
        "before": mean(before, np.ones(len(masks), bool)),
        "after": mean(after, np.ones(len(masks), bool)),
        "corrected_before": mean(before, wrong),
        "corrected_after": mean(after, wrong),
        "changed": float(corrected.changed[wrong].mean()) if wrong.any() else 0.0,
    }


def _table(rows: dict[str, dict]) -> str:
    lines = [
        "| | frames | invalid | "
        + " | ".join(f"{name}: Dice / HD / MAD (mm)" for name in labels.STRUCTURES)
        + " | Dice of the corrected |",
        "|---" * (len(labels.STRUCTURES) + 4) + "|",
    ]
    for method, row in rows.items():
        if "after" not in row:
            lines.append(f"| {method} | {row['frames']} | {row['invalid_before']} |" + " |" * 4)
            continue

        def pair(name, metric, digits, row=row):
            values = (row[when][name][metric] for when in ("before", "after"))
            return " → ".join(f"{value:.{digits}f}" for value in values)

        cells = [
            " / ".join(pair(name, metric, digits) for metric, digits in zip(METRICS, (4, 1, 2), strict=True))
            for name in labels.STRUCTURES
        ]
        corrected = [
            np.mean([row[when][name]["dice"] for name in labels.STRUCTURES]) if row["invalid_before"] else np.nan
            for when in ("corrected_before", "corrected_after")
        ]
        cells.append(f"{corrected[0]:.4f} → {corrected[1]:.4f}")
        counts = f"{row['invalid_before']} → {row['invalid_after']}"
        lines.append(f"| {method} | {row['frames']} | {counts} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
