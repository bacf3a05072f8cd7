"""Does a larger bank of valid codes bring the correction closer to the input?

The invalid ones among 600 masks are corrected with banks of growing size: predictions of ``unet_camus`` on the CAMUS
validation frames, the same on images with noise, and reference masks with random defects. For each size: distance of
the move in the latent space and to the nearest code, Dice coefficient and Hausdorff distance between input and result,
Dice coefficient of the result against the experts' masks, the time of an exact search for neighbours, and the size of
the codes on disk.

The sizes beyond the codes of the given bank are filled with further draws of the same sampler whose shapes are not
checked beforehand (96.6 % are valid): the correction decodes and checks what it walks to, so that an invalid neighbour
is skipped.

Run: ``python -m experiments.latent.bank_size --data DIR/camus_224 --bank BANK.zarr --out docs/results`` (about
ten minutes on two cores). Writes ``bank_size.json`` and ``bank_size.png``. Expected: from 4,096 to five million
codes the nearest code comes closer by a third, and the corrected mask hardly changes.
"""

import dataclasses
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from cardiojax import labels, latent
from cardiojax.analysis.recording import AnalyzeConfig, make_segment
from cardiojax.correction.anatomical import AnatomicalCorrector, load_shapes
from cardiojax.data.arrays import camus_224
from cardiojax.data.bank import LatentBank, read_bank
from cardiojax.evaluation import score
from cardiojax.recipes.bank import encode_all
from experiments.latent.damaged_masks import damage

#: Of a corrector with two neighbours: those tried in all, and the codes tried last.
_NUM_TRIED, _NUM_FALLBACKS = 16, 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is compared.

    Attributes:
        data: Folder with ``camus224_val.npz``.
        bank: A bank of ``cardiojax densify``.
        out: Folder for the results.
        sizes: Codes.
        noise: Standard deviation of the noise in the images.
        limit: Frames, 0 for all.
    """

    data: Path
    bank: Path
    out: Path
    sizes: tuple[int, ...] = (4_096, 100_000, 1_000_000, 5_000_000)
    noise: float = 0.25
    limit: int = 0


def enlarge(bank: LatentBank, num: int) -> Float[np.ndarray, "n d"]:
    """The codes of a bank, and further draws of its density by rejection sampling if there are too few."""
    if num <= len(bank.codes):
        return bank.codes[:num]
    assert isinstance(bank.density, latent.Parzen)
    window = latent.Parzen(*map(jnp.asarray, bank.density))
    widened = window.widened(bank.metadata["draws"]["widening"])
    missing = num - len(bank.codes)
    more = latent.rejection_sample(jax.random.key(1), window, widened, missing, block_size=4096).values
    return np.concatenate([bank.codes, np.asarray(more, bank.codes.dtype)])


def inputs(config: Config) -> tuple[Int[np.ndarray, "n h w"], list[dict]]:
    """Masks to be corrected, and the frame of each."""
    source = camus_224(config.data / "camus224_val.npz")
    frames = [source[i] for i in range(config.limit or len(source))]
    images = np.stack([f["image"] for f in frames]).astype(np.float32)[..., None] / 255
    noise = np.random.default_rng(0).normal(0, config.noise, images.shape)
    segment = make_segment(AnalyzeConfig())
    noisy = np.clip(images + noise, 0, 1).astype(np.float32)
    predicted = [np.asarray(segment(i)).argmax(-1).astype(np.int32) for i in (images, noisy)]
    damaged = [damage(np.random.default_rng(i), f["label"].astype(np.int32)) for i, f in enumerate(frames)]
    return np.concatenate([*predicted, np.stack(damaged)]), 3 * frames


def reduce(
    bank: Float[np.ndarray, "n d"], codes: Float[np.ndarray, "m d"], num_neighbours: int
) -> Float[np.ndarray, "k d"]:
    """The part of a bank that the correction of some codes can use: their neighbours, and the fall-backs.

    The rest of the rows is filled with nan, which is no neighbour, so that all banks have one shape.
    """
    rows = np.asarray(latent.nearest(jnp.asarray(codes), jnp.asarray(bank), num_neighbours).indices)
    used = np.union1d(rows[rows >= 0], np.arange(_NUM_FALLBACKS))
    reduced = np.full((len(codes) * num_neighbours + _NUM_FALLBACKS, bank.shape[1]), np.nan, np.float32)
    reduced[: len(used)] = bank[used]
    return reduced


def measure(
    corrector: AnatomicalCorrector, masks: Int[np.ndarray, "n h w"], frames: list[dict], num_predicted: int
) -> dict[str, float]:
    """Corrects masks and compares them with the input and with the experts' masks."""
    found = corrector(masks)
    spacing, phases = np.stack([f["spacing"] for f in frames]), np.array([str(f["phase"]) for f in frames])
    truth = np.stack([f["label"] for f in frames]).astype(np.int32)
    to_input = score(found.labels, masks, spacing, phases).values
    to_truth = score(found.labels, truth, spacing, phases).values

    def mean(scores, metric, rows):
        return float(np.nanmean([scores[name][metric][rows] for name in labels.STRUCTURES]))

    wrong = {"predicted": ~found.was_valid & (np.arange(len(masks)) < num_predicted)}
    wrong["damaged"] = ~found.was_valid & ~wrong["predicted"]
    row = {"invalid_after": float((~found.valid).sum())}
    for name, rows in wrong.items():
        row |= {
            f"{name}_num": float(rows.sum()),
            f"{name}_moved": float(found.distance[rows & np.isfinite(found.distance)].mean()),
            f"{name}_dice_to_input": mean(to_input, "dice", rows),
            f"{name}_hausdorff_to_input": mean(to_input, "hausdorff", rows),
            f"{name}_dice_to_truth": mean(to_truth, "dice", rows),
        }
    return row


def search_seconds(queries: Float[np.ndarray, "q d"], codes: Float[np.ndarray, "n d"]) -> tuple[float, float]:
    """Mean distance to the nearest code, and processor time of an exact search for it, per query."""
    search = jax.jit(lambda q, bank: latent.nearest(q, bank, 1).distances)
    bank, asked = jnp.asarray(codes), jnp.asarray(queries)
    distances = np.asarray(search(asked, bank))
    start = time.process_time()
    jax.block_until_ready(search(asked, bank))
    return float(np.nanmean(distances)), (time.process_time() - start) / len(queries)


def main(config: Config) -> dict[str, dict[str, float]]:
    """Corrects with every size; returns the rows of the table."""
    bank, shapes = read_bank(config.bank), load_shapes("cvae_camus")
    masks, frames = inputs(config)
    num_predicted = 2 * len(masks) // 3
    codes = encode_all(shapes, masks)
    all_codes = enlarge(bank, max(config.sizes))
    rows = {}
    for size in config.sizes:
        reduced = reduce(all_codes[:size], codes, _NUM_TRIED)
        row = measure(AnatomicalCorrector(shapes, reduced, batch_size=16), masks, frames, num_predicted)
        row["nearest"], row["search_seconds"] = search_seconds(codes[:256], all_codes[:size])
        row["unchecked"] = float(max(size - len(bank.codes), 0))
        row["megabytes"] = all_codes[:size].nbytes / 1e6
        rows[f"{size:,}"] = row
        print(size, json.dumps(row), flush=True)
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "bank_size.json").write_text(json.dumps(rows, indent=2) + "\n")
    draw(rows, config.out / "bank_size.png")
    return rows


def draw(rows: dict[str, dict[str, float]], path: Path) -> None:
    """Draws the curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.8), layout="constrained")
    axes = figure.subplots(1, 3)
    sizes = [int(name.replace(",", "")) for name in rows]
    labels_of = {
        "moved": "latent distance",
        "dice_to_input": "Dice to the input",
        "hausdorff_to_input": "Hausdorff, mm",
    }
    for axis, (key, label) in zip(axes, labels_of.items(), strict=True):
        for name in ("predicted", "damaged"):
            axis.semilogx(sizes, [row[f"{name}_{key}"] for row in rows.values()], "o-", label=name)
        axis.set_xlabel("codes in the bank")
        axis.set_ylabel(label)
        axis.set_ylim(0, None)
    axes[0].legend()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
