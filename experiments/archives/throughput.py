"""Studies an hour at the default size with all corrections, for one and two workers.

::

    python -m experiments.archives.throughput --out runs/throughput --num-studies 24

Each study holds a two- and a four-chamber loop of the phantom, 30 frames of 240 x 320 pixels, as DICOM or MP4. Compiled
programs are kept in a folder that a first run of two studies fills. Printed: time, processor time of all processes and
median time of a study for each number of workers.
"""

import dataclasses
import functools
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pyarrow.parquet
import tyro

from cardiojax.data import phantom
from tests.helpers import identity

_NUM_HEARTS = 3
_SHAPE, _NUM_FRAMES = (240, 320), 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The archive.

    Attributes:
        out: Folder for the archive, the tables and the compiled programs.
        num_studies: Studies.
        workers: Numbers of workers, one run each.
        seed: Of the archive.
    """

    out: Path
    num_studies: int = 24
    workers: tuple[int, ...] = (1, 2)
    seed: int = 0


def simulate(seed: int) -> list[dict[str, np.ndarray]]:
    """Both views of some hearts, uint8 ``[t, h, w]``."""
    studies = []
    for i in range(_NUM_HEARTS):
        heart_key, *keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), i), 3)
        heart, views = phantom.sample_heart(heart_key), {}
        for view, key in zip(("2CH", "4CH"), keys, strict=True):
            scan = functools.partial(phantom.simulate, view=view, num_frames=_NUM_FRAMES, shape=_SHAPE, frame_rate=30.0)
            views[view] = np.asarray(255 * jax.jit(scan)(key, heart).images[..., 0]).astype(np.uint8)
        studies.append(views)
    return studies


def make_archive(root: Path, studies: list[dict[str, np.ndarray]], num: int) -> Path:
    """Writes the studies, every second one as DICOM; each differs from the others in brightness."""
    rng = np.random.default_rng(0)
    for i in range(num):
        folder = root / f"{i:04d}"
        folder.mkdir(parents=True)
        for number, (view, loop) in enumerate(studies[i % len(studies)].items()):
            frames = np.clip(loop * rng.uniform(0.8, 1.2), 0, 255).astype(np.uint8)
            if i % 2:
                identity.write_video(folder / f"{view}.mp4", frames)
            else:
                uids = {"StudyInstanceUID": f"1.2.3.{i}", "SOPInstanceUID": f"1.2.3.{i}.{number}"}
                identity.write_dicom(folder / f"{view}.dcm", frames, FrameTime=1000 / 30, **uids)
    return root


def run(root: Path, table: Path, cache: Path, workers: int) -> str:
    """One run as a row of a Markdown table."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    arguments = ["batch", root, "--out", table, "--workers", workers, "--cache-dir", cache]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-m", "cardiojax", *map(str, arguments)], env=environment, check=True)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rows = pyarrow.parquet.read_table(table).to_pylist()
    num_measured = sum(row["status"] == "measured" for row in rows)
    both = sum(row["ejection_fraction_biplane_percent"] is not None for row in rows)
    median = statistics.median(row["seconds"] for row in rows)
    return (
        f"| {workers} | {len(rows)} | {num_measured}, {both} | {wall:.0f} s | {used:.0f} s | {median:.1f} s | "
        f"{3600 * len(rows) / wall:.0f} | {3600 * len(rows) / used:.0f} |"
    )


def main(config: Config) -> str:
    """Makes the archive and runs it with each number of workers."""
    config.out.mkdir(parents=True)
    cache, studies = config.out / "cache", simulate(config.seed)
    cache.mkdir(mode=0o700)
    root = make_archive(config.out / "archive", studies, config.num_studies)
    warm = make_archive(config.out / "warm", studies, 2)
    run(warm, config.out / "warm.parquet", cache, 1)
    lines = [
        "| workers | studies | measured, biplane | time | processor time | median of a study | studies an hour | "
        "studies an hour of one core |",
        "|---" * 8 + "|",
    ]
    lines += [run(root, config.out / f"{workers}.parquet", cache, workers) for workers in config.workers]
    return (
        "\n".join(lines) + f"\n\nLoad of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n"
    )


if __name__ == "__main__":
    print(main(tyro.cli(Config)), end="")
