"""Real loops without any mask: the network that knows CAMUS, before and after it is adapted to all their frames.

Compared by anatomical validity, by consistency from frame to frame, and by looking: ``overlays.png`` has a row of
frames before and one after for every loop.

Measured on a 4-chamber DICOM and an apical MP4 with one round, 200 steps of the reward and 120 of the value: valid
frames of the first from 0 to 17 %, of the second none before or after; Dice between neighbours .955 to .952 and .973
to .974. By eye the outlines fit the walls before and after, and little changes.

Run: ``python -m experiments.rl4seg2024.adapt_loops --run.out runs/rl4seg --run.domain.kind camus --loops a.dcm b.mp4``,
after `experiments.rl4seg2024.table` has left the images and the network of that domain there.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from cardiojax import anatomy, metrics, zoo
from cardiojax.analysis.sector import crop, find_sector
from cardiojax.data.files import read
from cardiojax.report.figures import overlay
from experiments.rl4seg2024 import networks
from experiments.rl4seg2024.domains import FINE, load_domains, resize
from experiments.rl4seg2024.methods import make_guarantee, reinforce


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is adapted to.

    Attributes:
        run: Networks and schedule; its folder holds the source's images and network.
        loops: Recordings, 2- or 4-chamber views.
    """

    run: networks.Config
    loops: tuple[Path, ...]


def frames_of(path: Path) -> np.ndarray:
    """The sector of a loop as the arrays of CAMUS have it, ``[t, FINE, FINE, 1]``."""
    frames = read(path).frames
    inside = crop(frames, find_sector(frames))
    inside = np.clip(inside / max(np.percentile(inside, 99.9), 1e-3), 0, 1)
    return resize(inside[..., None].astype(np.float32), FINE)


def consistency_scores(masks: np.ndarray) -> dict[str, Any]:
    """Share of valid masks, Dice between neighbours, and how far the cavity's area jumps from theirs, as a share."""
    valid = np.concatenate([np.asarray(_is_valid(np.resize(part, (8, *part.shape[1:]))))[: len(part)]
                            for part in (masks[i : i + 8] for i in range(0, len(masks), 8))])  # fmt: skip
    similarity = [metrics.dice(jnp.asarray(masks[1:] == k), jnp.asarray(masks[:-1] == k)) for k in (1, 2, 3)]
    area = (masks == 1).sum((1, 2))
    jump = np.abs(area[1:-1] - (area[2:] + area[:-2]) / 2).mean() / max(area.mean(), 1)
    return {"valid": float(valid.mean()), "similarity": float(np.mean(similarity)), "jump": float(jump)}


_is_valid = jax.jit(anatomy.is_valid)


def main(config: Config) -> dict[str, Any]:
    """Adapts to all loops together and scores each before and after.

    Args:
        config: Loops, networks and schedule.

    Returns:
        Figures by loop, and the history of the adaptation.
    """
    run = config.run
    nets, init = networks.make_nets(run)
    source = zoo.load_weights(run.out / f"{run.domain.kind}_source.safetensors", init(jax.random.key(0))[0])
    loops = {path.name: frames_of(path) for path in config.loops}
    images = jnp.concatenate([jnp.asarray(resize(loop, run.domain.size)) for loop in loops.values()])
    correct = make_guarantee(np.asarray(images))
    known = networks.known_frames(load_domains(run.domain, run.out).source, len(images))
    adapted = reinforce(jax.random.key(0), source, images, known, nets, init, correct, run)

    @jax.jit
    def draw(params, image):
        logits = nets.policy(params, image[None])[0]
        return jax.image.resize(logits, (FINE, FINE, 4), "linear").argmax(-1).astype(jnp.int32)

    result: dict[str, Any] = {"history": adapted.history}
    rows, first = [], 0
    for name, loop in loops.items():
        small = images[first : first + len(loop)]
        first += len(loop)
        for title, params in (("before", source), ("after", adapted.params)):
            masks = np.stack([np.asarray(draw(params, image)) for image in small])
            result[f"{name} {title}"] = consistency_scores(masks)
            shown = np.linspace(0, len(loop) - 1, 5).astype(int)
            rows.append(np.concatenate([overlay(loop[i, ..., 0], masks[i])[::3, ::3] for i in shown], 1))
    Image.fromarray(np.concatenate(rows)).save(run.out / "overlays.png")
    (run.out / "loops.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


if __name__ == "__main__":
    import tyro

    print(json.dumps(main(tyro.cli(Config)), indent=2))
