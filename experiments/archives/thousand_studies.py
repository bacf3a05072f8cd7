"""An archive of simulated studies, analysed while the program is killed: is every study in the table, and once?

::

    python -m experiments.archives.thousand_studies --out runs/archive --num-studies 1000 --workers 2

Loops of the phantom, 64 to 96 pixels and 8 to 20 frames, as DICOM, MP4, NIfTI and PNG; one study in fifty is broken, in
eight ways. The program is killed (SIGKILL) after a third and after two thirds of the studies, and resumed by the same
command. Checked: the table holds each study once, and the broken ones are named with their reasons. Printed: studies an
hour, and the peak memory of the processes early and late.

The networks see a grid of ``--size`` pixels, smaller than that of the published results, since two cores must suffice:
the numbers of the table mean nothing here.
"""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import tyro

from cardiojax.archive import study_label
from cardiojax.data import phantom
from tests.helpers import identity

#: Different hearts that are simulated; studies differ by brightness, shift and length beside.
_NUM_HEARTS = 6
_LENGTHS = (8, 12, 16, 20)
_SIZES = ((64, 80), (80, 80), (96, 96))
BROKEN = ("empty", "text", "torn_dicom", "torn_nifti", "torn_png", "no_pixels", "modality", "folder_of_text")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The archive and how it is analysed.

    Attributes:
        out: Folder for the archive and the table.
        num_studies: Studies.
        workers: Processes.
        size: Grid of the networks.
        corrections: Whether outlines are corrected.
        kills: How often the program is killed.
        seed: Of the archive.
    """

    out: Path
    num_studies: int = 1000
    workers: int = 2
    size: int = 96
    corrections: bool = True
    kills: int = 2
    seed: int = 0


def simulate(seed: int) -> list[np.ndarray]:
    """Loops uint8 ``[20, h, w]`` of some hearts in each of the sizes."""
    loops = []
    for i in range(_NUM_HEARTS):
        heart_key, key = jax.random.split(jax.random.fold_in(jax.random.key(seed), i))
        shape = _SIZES[i % len(_SIZES)]
        scan = functools.partial(
            phantom.simulate, view="4CH", num_frames=max(_LENGTHS), shape=shape, frame_rate=25.0, num_scatterers=8000
        )
        images = jax.jit(scan)(key, phantom.sample_heart(heart_key)).images[..., 0]
        loops.append(np.asarray(255 * images).astype(np.uint8))
    return loops


def make_archive(root: Path, config: Config) -> dict[str, str]:
    """Writes the archive; the broken studies by label, with what is wrong with each."""
    loops, rng, broken = simulate(config.seed), np.random.default_rng(config.seed), {}
    for i in range(config.num_studies):
        folder = root / f"{i // 100:02d}" / f"Mustermann_{i:04d}"
        folder.mkdir(parents=True)
        loop = loops[rng.integers(len(loops))][: rng.choice(_LENGTHS)]
        frames = np.clip(loop * rng.uniform(0.7, 1.3), 0, 255).astype(np.uint8)
        key = str(folder.relative_to(root))
        if i % 50 == 49:
            kind = BROKEN[i // 50 % len(BROKEN)]
            key = _break(folder, kind, frames, i)
            broken[study_label(key or str(folder.relative_to(root)))] = kind
            continue
        suffix = rng.choice([*identity.WRITERS], p=[0.5, 0.3, 0.15, 0.05])
        options = {"StudyInstanceUID": f"1.2.3.{i}", "SOPInstanceUID": f"1.2.3.{i}.1"} if suffix == ".dcm" else {}
        identity.WRITERS[suffix](folder / f"Erika{suffix}", frames, **options)
    return broken


def _break(folder: Path, kind: str, frames: np.ndarray, index: int) -> str | None:
    """Writes a study that cannot be read; its key if that is not the folder."""
    uid = {"StudyInstanceUID": f"1.2.3.{index}", "SOPInstanceUID": f"1.2.3.{index}.1"}
    if kind == "empty":
        (folder / "a.dcm").touch()
    elif kind == "text":
        (folder / "a.mp4").write_bytes(b"no video")
    elif kind == "torn_dicom":
        path = identity.write_dicom(folder / "a.dcm", frames, **uid)
        path.write_bytes(path.read_bytes()[:1800])
    elif kind == "torn_nifti":
        path = identity.write_nifti(folder / "a.nii.gz", frames)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "torn_png":
        path = identity.write_picture(folder / "a.png", frames)
        path.write_bytes(path.read_bytes()[:300])
    elif kind == "no_pixels":
        path = identity.write_dicom(folder / "a.dcm", frames, **uid)
        content = path.read_bytes()
        path.write_bytes(content[: content.rindex(b"\xe0\x7f\x10\x00")])
    elif kind == "modality":
        identity.write_dicom(folder / "a.dcm", frames, Modality="CT", **uid)
    else:
        (folder / "notes.txt").write_text("no recording")
    return uid["StudyInstanceUID"] if kind in ("torn_dicom", "no_pixels") else None


def command(root: Path, table: Path, config: Config) -> list[str]:
    """The command that is run, killed and run again."""
    options = ["--view", "4CH", "--size", str(config.size), "--workers", str(config.workers), "--grid-sizes", "128"]
    if not config.corrections:
        options += ["--no-anatomical-correction", "--no-temporal-correction"]
    return [sys.executable, "-m", "cardiojax", "batch", str(root), "--out", str(table), *options]


def run(root: Path, table: Path, config: Config) -> Iterator[str]:
    """Runs, kills and resumes; lines of a report."""
    journal, start = table.with_name(table.name + ".journal") / "journal.jsonl", time.monotonic()
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "JAX_ENABLE_COMPILATION_CACHE": "false"}
    for kill in range(1, config.kills + 1):
        target = config.num_studies * kill // (config.kills + 1)
        process = subprocess.Popen(command(root, table, config), env=environment, start_new_session=True)
        while process.poll() is None and _num_lines(journal) <= target:
            time.sleep(0.5)
        if process.poll() is not None:
            raise RuntimeError("the program ended before it was killed")
        memory = _peak_memory(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        seconds = time.monotonic() - start
        yield f"killed after {seconds:.0f} s with {_num_lines(journal) - 1} studies in the journal; {memory}"
    process = subprocess.Popen(command(root, table, config), env=environment, stdout=subprocess.PIPE, text=True)
    memory = ""
    while process.poll() is None:
        memory = _peak_memory(process.pid) or memory
        time.sleep(1)
    yield f"finished after {time.monotonic() - start:.0f} s: {process.communicate()[0].strip()}; {memory}"


def _num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _peak_memory(pid: int) -> str:
    """Peak resident memory of a process and of its workers, MiB."""
    peaks = []
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for each in [str(pid), *(children.read_text().split() if children.exists() else [])]:
        status = Path(f"/proc/{each}/status")
        if status.exists():
            peaks += [int(x.split()[1]) // 1024 for x in status.read_text().splitlines() if x.startswith("VmHWM")]
    return f"peak memory of each process {peaks} MiB" if peaks else ""


def check(table: Path, broken: dict[str, str], num_studies: int) -> Iterator[str]:
    """Compares the table with what was written."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(table).to_pylist()
    labels = [row["study"] for row in rows]
    if not len(labels) == len(set(labels)) == num_studies:
        raise RuntimeError(f"the table has {len(labels)} rows, {len(set(labels))} different, of {num_studies} studies")
    refused = {row["study"]: row["reason"] for row in rows if row["status"] != "measured"}
    missing = {label: kind for label, kind in broken.items() if label not in refused}
    if missing:
        raise RuntimeError(f"broken studies without a reason: {missing}")
    for kind in BROKEN:
        reasons = {refused[label] for label, its_kind in broken.items() if its_kind == kind}
        yield f"{kind}: {' | '.join(sorted(reasons)) or 'none'}"
    others = [refused[label] for label in refused if label not in broken]
    yield f"{len(rows)} studies, each once; {len(broken)} broken, all named; {len(others)} others not measured"
    yield from sorted(set(others))[:5]
    seconds = np.sort([row["seconds"] for row in rows])
    yield f"seconds a study: median {np.median(seconds):.2f}, 90 % below {seconds[len(rows) * 9 // 10]:.2f}"


def main(config: Config) -> None:
    """Makes the archive, if it is not there, analyses and checks it."""
    root, labels = config.out / "archive", config.out / "broken.json"
    if not labels.exists():
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(json.dumps(make_archive(root, config)))
    table = config.out / "table.parquet"
    for line in run(root, table, config):
        print(line, flush=True)
    for line in check(table, json.loads(labels.read_text()), config.num_studies):
        print(line, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config))
