"""Anatomical correction of masks damaged in every way that comes to mind: is any left invalid?

Reference masks of the CAMUS training split on grids of 64 to 512 pixels, square or not, damaged at random: cuts, blobs
of any class, swapped classes, noise, a structure erased, shifts over the border, rotations, or all of it. Every one is
corrected; counted are the masks that were invalid, that are invalid after (checked once more), and valid ones that were
changed.

The segments to the neighbours are not bisected (``--num-bisections 0``): the neighbours themselves are taken. A
bisection only accepts what is valid, so that it cannot change the counts, and it takes three quarters of the time.
``--num-bisections 6`` is what the library does.

Run: ``python -m experiments.latent.damaged_masks --data DIR/camus_224 --out runs/damaged`` (it is resumed where it
stopped, and ``--seconds`` bounds a run). Writes ``damaged.json``. Expected: no mask is left invalid, no valid mask is
changed.
"""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
from jaxtyping import Int
from scipy import ndimage

from cardiojax import storage
from cardiojax.correction.anatomical import AnatomicalCorrector, make_anatomical_corrector
from experiments.common.frames import training_labels

#: Heights and widths.
GRIDS = ((64, 64), (96, 128), (128, 128), (224, 224), (160, 288), (256, 256), (400, 320), (512, 512))
#: Masks of one grid before the next. They are corrected in one call, and one call runs at a time.
_BATCH = 128
#: By place in `GRIDS`: small grids more often, because they take less time.
_FREQUENT = (0, 1, 2, 0, 3, 1, 4, 0, 2, 5, 1, 0, 3, 6, 2, 1, 0, 4, 7, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is damaged.

    Attributes:
        data: Folder with ``camus224_train.npz``.
        out: Folder for ``damaged.json``.
        num_masks: Masks in all.
        seconds: When to stop; not before all are done if 0.
        num_bisections: Of each segment.
        grids: Heights and widths of one batch after the other, by their place in `GRIDS`.
        seed: Of the damage; that of a mask depends on it and its number alone.
    """

    data: Path
    out: Path
    num_masks: int = 100_000
    seconds: float = 0
    num_bisections: int = 0
    grids: tuple[int, ...] = _FREQUENT
    seed: int = 0


def damage(rng: np.random.Generator, mask: Int[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """A damaged copy of a mask: one to four random defects.

    Args:
        rng: Source of randomness.
        mask: Label map.

    Returns:
        The damaged label map.
    """
    mask = mask.copy()
    for _ in range(rng.integers(1, 5)):
        mask = _DEFECTS[rng.integers(len(_DEFECTS))](rng, mask)
    return mask


def _cut(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Removes a band across the image."""
    angle, offset = rng.uniform(0, np.pi), rng.uniform(0.2, 0.8)
    rows, cols = (np.arange(n)[:, None] / n - 0.5 for n in mask.shape)
    across = rows * np.cos(angle) + cols.T * np.sin(angle) + 0.5 - offset
    mask[np.abs(across) < rng.uniform(0.005, 0.08)] = 0
    return mask


def _blob(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Fills an ellipse with any class."""
    rows, cols = (np.arange(n)[:, None] / n for n in mask.shape)
    centre, radii = rng.uniform(0, 1, 2), rng.uniform(0.005, 0.2, 2)
    inside = np.square((rows - centre[0]) / radii[0]) + np.square((cols.T - centre[1]) / radii[1]) <= 1
    mask[inside] = rng.integers(4)
    return mask


def _swap(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Permutes the classes."""
    return rng.permutation(4).astype(mask.dtype)[mask]


def _noise(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Gives single pixels random classes."""
    is_hit = rng.random(mask.shape) < 10 ** rng.uniform(-4, -0.5)
    return np.where(is_hit, rng.integers(0, 4, mask.shape), mask).astype(mask.dtype)


def _erase(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Removes a structure."""
    return np.where(mask == rng.integers(1, 4), 0, mask).astype(mask.dtype)


def _shift(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Moves the heart, over the border if so."""
    return ndimage.shift(mask, rng.uniform(-0.4, 0.4, 2) * mask.shape, order=0)


def _rotate(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Turns the heart about the centre."""
    return ndimage.rotate(mask, rng.uniform(-180, 180), reshape=False, order=0)


def _erode(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Thins a structure."""
    chosen = mask == rng.integers(1, 4)
    kept = ndimage.binary_erosion(chosen, iterations=int(rng.integers(1, 6)))
    return np.where(chosen & ~kept, 0, mask).astype(mask.dtype)


_DEFECTS = (_cut, _blob, _swap, _noise, _erase, _shift, _rotate, _erode)


def resized(mask: Int[np.ndarray, "h w"], height: int, width: int) -> Int[np.ndarray, "rows cols"]:
    """A mask on another grid, by nearest neighbours."""
    rows, cols = ((np.arange(n) * size // n) for n, size in zip((height, width), mask.shape, strict=True))
    return mask[rows[:, None], cols]


def run_batch(
    corrector: AnatomicalCorrector, masks: Int[np.ndarray, "n h w"], numbers: range, config: Config
) -> dict[str, int]:
    """Damages and corrects the masks of some numbers, all on one grid."""
    height, width = GRIDS[config.grids[numbers[0] // _BATCH % len(config.grids)]]
    damaged = []
    for number in numbers:
        rng = np.random.default_rng((config.seed, number))
        damaged.append(damage(rng, resized(masks[rng.integers(len(masks))], height, width)))
    before = np.stack(damaged).astype(np.int32)
    found = corrector(before)
    valid = corrector(found.labels).was_valid
    return {
        "masks": len(before),
        "invalid_before": int((~found.was_valid).sum()),
        "invalid_after": int((~valid).sum()),
        "valid_changed": int((found.labels != before).any((1, 2))[found.was_valid].sum()),
    }


def main(config: Config) -> dict[str, dict[str, int]]:
    """Corrects until all are done or the time is up; returns the counts of each grid."""
    masks = training_labels(config.data)
    corrector = make_anatomical_corrector(batch_size=_BATCH, num_bisections=config.num_bisections, optimization_level=3)
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / "damaged.json"
    done = json.loads(path.read_text()) if path.exists() else {"next": 0, "grids": {}}
    start = time.monotonic()
    while done["next"] < config.num_masks and not 0 < config.seconds < time.monotonic() - start:
        processor = time.process_time()
        numbers = range(done["next"], min(done["next"] + _BATCH, config.num_masks))
        counts = run_batch(corrector, masks, numbers, config)
        name = "{} x {}".format(*GRIDS[config.grids[numbers[0] // _BATCH % len(config.grids)]])
        total = done["grids"].setdefault(name, dict.fromkeys(counts, 0))
        done["grids"][name] = {key: total[key] + value for key, value in counts.items()}
        done["next"] = numbers[-1] + 1
        done["processor_seconds"] = done.get("processor_seconds", 0.0) + time.process_time() - processor
        storage.write_atomic(path, json.dumps(done, indent=2) + "\n")
        print(done["next"], name, counts, flush=True)
    return done["grids"]


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
