"""The sampler at the size of the paper: masks of 256 x 256, codes of 32 dimensions, a million accepted draws.

An autoencoder of ``cardiojax train vae --model.latent-size 32`` is needed. Its own grid may be coarser than the masks:
its logits are interpolated to 256 x 256 (``--model.size 256`` trains one without that). For each widening c of the
Parzen window of the 1,600 codes: k = c^32, which is proved; the acceptance expected, c^-32, and measured. With one of
them a million draws are made and timed; of a sample of them the shapes are decoded at 256 x 256 and checked.

Run: ``python -m experiments.latent.paper_size --data DIR/camus_224 --weights runs/vae/weights.safetensors --out
runs/paper_size`` (about three minutes on two cores). Writes ``scores.json`` and ``table.md``. Expected: acceptances of
53 %, 21 % and 4.7 %.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import anatomy, latent, ops
from cardiojax.correction.anatomical import load_shapes
from cardiojax.recipes.bank import encode_all
from experiments.common.frames import training_labels, validation_frames
from experiments.common.results import write_results


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is drawn.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``.
        weights: Of the autoencoder.
        model: Its name in the zoo, as the file states it.
        size: Height and width of the masks that are decoded and checked.
        out: Folder for the results.
        widenings: Factors on the width of the kernels.
        num_draws: Accepted draws, with the first of them.
        num_tried: Accepted draws with each of the others.
        num_checked: Draws that are decoded and checked.
        limit: Masks, 0 for all.
    """

    data: Path
    weights: Path
    out: Path
    model: str = "cvae_camus"
    size: int = 256
    widenings: tuple[float, ...] = (1.02, 1.05, 1.1)
    num_draws: int = 1_000_000
    num_tried: int = 20_000
    num_checked: int = 2_000
    limit: int = 0


def draw(window: latent.Parzen, widening: float, num: int) -> tuple[latent.Samples, dict[str, float]]:
    """Accepted draws, and a row of the table."""
    start, processor = time.perf_counter(), time.process_time()
    samples = latent.rejection_sample(
        jax.random.key(0), window, window.widened(widening), num, block_size=4096, max_proposals=2 * 10**9
    )
    jax.block_until_ready(samples)
    seconds = time.process_time() - processor
    return samples, {
        "draws": num,
        "k": float(jnp.exp(samples.log_scale)),
        "expected_acceptance": widening ** -window.codes.shape[1],
        "acceptance": float(samples.acceptance),
        "mass_above_k": float(samples.mass_exceeded),
        "wall_seconds": time.perf_counter() - start,
        "processor_seconds": seconds,
        "draws_per_processor_second": num / seconds,
    }


def reconstruction(shapes: Any, masks: np.ndarray) -> dict[str, float]:
    """Mean Dice coefficients of reconstructed masks, on the grid of the masks, and the share that is valid."""
    decoded = ops.map_batches(jax.jit(lambda m: shapes.decode(shapes.encode(m), *m.shape[1:])), masks, batch_size=20)
    pairs = [(np.isin(decoded, k), np.isin(masks, k)) for k in ((1,), (1, 2), (3,))]
    dice = [float(np.mean(2 * (a & b).sum((1, 2)) / (a.sum((1, 2)) + b.sum((1, 2))))) for a, b in pairs]
    valid = ops.map_batches(jax.jit(anatomy.is_valid), decoded, batch_size=50)
    return {**dict(zip(("lv", "epicardium", "la"), dice, strict=True)), "valid": float(valid.mean())}


def main(config: Config) -> dict[str, Any]:
    """Draws with every widening; returns the results."""
    shapes = load_shapes(config.model, weights=config.weights)
    masks = training_labels(config.data)[: config.limit or None].astype(np.int32)
    codes = encode_all(shapes, masks, batch_size=20)
    window = latent.fit_parzen(jnp.asarray(codes))
    found: dict[str, Any] = {
        "codes": codes.shape,
        "bandwidth": float(window.scale_tril[0, 0]),
        "reconstruction": reconstruction(shapes, validation_frames(config.data, config.limit).labels),
        "widenings": {},
    }
    first, *others = config.widenings
    samples, found["widenings"][str(first)] = draw(window, first, config.num_draws)
    for widening in others:
        found["widenings"][str(widening)] = draw(window, widening, config.num_tried)[1]
    step = max(config.num_draws // config.num_checked, 1)
    checked = np.asarray(samples.values)[::step][: config.num_checked]
    is_valid = jax.jit(lambda z: anatomy.is_valid(shapes.decode(z, config.size, config.size)))
    found["valid_share"] = float(ops.map_batches(is_valid, checked, batch_size=20).mean())
    found["checked"] = len(checked)
    lines = ["| c | k | acceptance expected | measured | mass above k | draws | draws/s |", "|---" * 7 + "|"]
    for name, row in found["widenings"].items():
        lines.append(
            f"| {name} | {row['k']:.3f} | {row['expected_acceptance']:.3f} | {row['acceptance']:.3f} "
            f"| {row['mass_above_k']:.3f} | {row['draws']:,} | {row['draws_per_processor_second']:,.0f} |"
        )
    write_results(config.out, "\n".join(lines) + "\n", found)
    print(json.dumps(found, indent=2))
    return found


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
