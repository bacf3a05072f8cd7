"""Damaged files by the hundred thousand: ``python -m tests.helpers.fuzz READER COUNT [FIRST]``.

Each number gives one file, made of a small valid one by one to eight changes. A child process reads them one after
another. What kills it, stops it, raises anything but the one sentence, warns, or takes more memory than is stated is
printed with the number of the file.
"""

import collections
import gzip
import io
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cardiojax import data, zoo
from cardiojax.data.datasets.layouts.tables import read_xlsx
from cardiojax.data.formats.volumes.matlab import read_array
from tests.helpers import fuzz_seeds as seeds

#: Seconds after which an input counts as one that does not end.
PATIENCE = 60.0
#: MiB beside what is stated for the frames.
SLACK = 96.0
_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 2**15 - 1, 2**15, 2**16 - 1, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_NUMBERS += (2**32, 2**48, 2**63 - 1, 2**63, 2**64 - 1)


class Reader(NamedTuple):
    """What is tested.

    Attributes:
        seeds: Makes valid files.
        read: Reads a file.
        factor: Memory it may take, as a multiple of the float32 frames.
        suffix: Of its files.
        error: What it raises for a file that it cannot read.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], Any]
    factor: float = 1.5
    suffix: str = ""
    error: type[Exception] = data.UnreadableFileError


READERS = {
    "dicom": Reader(seeds.dicom, data.read),
    "nifti": Reader(seeds.nifti, data.read),
    "nifti_labels": Reader(seeds.nifti, data.read_labels, 2.0),
    "video": Reader(seeds.video, data.read),
    "mat": Reader(seeds.mat, lambda path: read_array(path, seeds.VARIABLE)),
    "xlsx": Reader(seeds.xlsx, lambda path: read_xlsx(path, seeds.COLUMNS), suffix=".xlsx"),
    "picture": Reader(seeds.picture, data.read, 3.0),
    "numpy": Reader(seeds.numpy, data.read),
    "metaimage": Reader(seeds.metaimage, data.read),
    "torch": Reader(seeds.torch, zoo.read_checkpoint, suffix=".pth", error=zoo.WeightsError),
    "safetensors": Reader(seeds.safetensors, zoo.read_checkpoint, suffix=".safetensors", error=zoo.WeightsError),
}


def damaged(files: list[bytes], number: int) -> bytes:
    """The file of a number; the same in every run."""
    rng = random.Random(number)
    content = rng.choice(files)
    if rng.random() < 0.5:  # what is compressed is changed inside, too
        if content[:2] == b"\x1f\x8b":
            return gzip.compress(_changed(gzip.decompress(content), files, rng), 1, mtime=0)
        if content[:4] == b"PK\x03\x04":
            chosen = rng.choice(_members(content))
            method = zipfile.ZIP_STORED if chosen.startswith("archive/") else zipfile.ZIP_DEFLATED  # as PyTorch does
            return seeds.rezip(
                content, lambda name, part: _changed(part, files, rng) if name == chosen else part, method
            )
        if b"MATLAB 5.0" in content[:128] and content[128:129] == b"\x0f":
            return content[:128] + _changed_elements(content[128:], files, rng)
    return _changed(content, files, rng)


def _members(archive: bytes) -> list[str]:
    import zipfile

    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return opened.namelist()


def _changed_elements(content: bytes, files: list[bytes], rng: random.Random) -> bytes:
    """Changes inside the compressed elements of a MATLAB file."""
    parts = []
    while len(content) >= 8:
        size = int.from_bytes(content[4:8], "little")
        inner = zlib.compress(_changed(zlib.decompress(content[8 : 8 + size]), files, rng), 1)
        parts.append(content[:4] + len(inner).to_bytes(4, "little") + inner)
        content = content[8 + size :]
    return b"".join(parts)


def _changed(content: bytes, files: list[bytes], rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        rng.choice(_CHANGES)(changed, files, rng)
    return bytes(changed)


def _place(changed: bytearray, rng: random.Random) -> int:
    """An offset: half of them in the first 512 bytes, where headers are."""
    return rng.randrange(min(len(changed), 512) if rng.random() < 0.5 else len(changed)) if changed else 0


def _flip(changed: bytearray, files: list[bytes], rng: random.Random) -> None:
    if changed:
        changed[_place(changed, rng)] ^= 1 << rng.randrange(8)


def _byte(changed: bytearray, files: list[bytes], rng: random.Random) -> None:
    if changed:
        changed[_place(changed, rng)] = rng.randrange(256)


def _number(changed: bytearray, files: list[bytes], rng: random.Random) -> None:
    start, size = _place(changed, rng), rng.choice((1, 2, 4, 4, 8))
    value = rng.choice(_NUMBERS) if rng.random() < 0.7 else rng.getrandbits(8 * size)
    changed[start : start + size] = (value % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))


def _digits(changed: bytearray, files: list[bytes], rng: random.Random) -> None:
    """Another number in place of one that is written in digits."""
    start = _place(changed, rng)
    at = next((i for i in range(start, len(changed)) if chr(changed[i]) in "0123456789"), None)
    if at is not None:
        words = ("0", "-1", "99999", "999999999", "1e308", "nan", "-0", "1.5", "00", "9" * 40)
        changed[at : at + 1] = rng.choice(words).encode()


def _delete(changed: bytearray, files: list[bytes], rng: random.Random) -> None:
    start = _place(changed, rng)
    del changed[start : start + rng.choice((1, 2, 4, 8, 16, 64))]


def _insert(changed: bytearray, files: list[bytes], rng: random.Random) -> None:
    start, size = _place(changed, rng), rng.choice((1, 2, 4, 8, 64))
    changed[start:start] = rng.randbytes(size) if rng.random() < 0.5 else bytes([rng.choice((0, 255, 65))]) * size


def _repeat(changed: bytearray, files: list[bytes], rng: random.Random) -> None:
    start, size = _place(changed, rng), rng.choice((4, 8, 16, 64, 256))
    to = _place(changed, rng)
    part = changed[start : start + size]
    changed[to : to + (size if rng.random() < 0.5 else 0)] = part * rng.choice((1, 1, 2, 50))


def _cut(changed: bytearray, files: list[bytes], rng: random.Random) -> None:
    del changed[_place(changed, rng) :]


def _splice(changed: bytearray, files: list[bytes], rng: random.Random) -> None:
    other = rng.choice(files)
    start, size = rng.randrange(len(other)), rng.choice((8, 64, 512))
    at = _place(changed, rng)
    changed[at : at + size] = other[start : start + size]


_CHANGES = (_flip, _flip, _byte, _byte, _number, _number, _number, _digits, _delete, _insert, _repeat, _cut, _splice)


def peak_memory(reset: bool = False) -> float:
    """Highest resident memory of this process since the last reset, MiB."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def outcome(reader: Reader, path: Path) -> tuple[str, str]:
    """``"read"`` or ``"refused"``, or what must not happen; and its details."""
    before = peak_memory(reset=True)
    frames = 0.0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = reader.read(path)
        except reader.error as error:
            kind, details = "refused", str(error)
            if "\n" in details or not details.isprintable() or len(details) > 300 + len(str(path)) + 10:
                return "no sentence", details
        except BaseException:
            return "raised", traceback.format_exc()
        else:
            kind, details = "read", ""
            values = getattr(result, "frames", getattr(result, "labels", result))
            frames = getattr(values, "size", 0) * 4 / 2**20
    if caught:
        return "warned", f"{kind}: {caught[0].category.__name__}: {caught[0].message} ({caught[0].filename})"
    taken = peak_memory() - before
    if taken > SLACK + reader.factor * frames + path.stat().st_size / 2**20:
        return "memory", f"{kind} with {taken:.0f} MiB for frames of {frames:.1f} MiB; {details}"
    return kind, details


def child(name: str, first: int, last: int, folder: Path) -> None:
    """Reads the files of some numbers; the one at hand is in a file, so that its death can be told."""
    reader = READERS[name]
    limit = 12 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    files = reader.seeds()
    path, counts = folder / f"input{reader.suffix}", collections.Counter()
    for content in files:
        path.write_bytes(content)
        kind, details = outcome(reader, path)
        assert kind == "read", (name, kind, details)
    slowest = 0.0
    for number in range(first, last):
        (folder / "number").write_text(str(number))
        path.write_bytes(damaged(files, number))
        start = time.process_time()
        kind, details = outcome(reader, path)
        slowest = max(slowest, time.process_time() - start)
        counts[kind] += 1
        if kind not in ("read", "refused"):
            print(f"{name} {number} {kind}: {details}", flush=True)
        (folder / "counts").write_text(f"{dict(counts)} slowest {slowest:.2f} s")


def run(name: str, count: int, first: int = 0) -> tuple[str, list[str]]:
    """Reads damaged files in child processes.

    Args:
        name: Of the reader.
        count: How many.
        first: Number of the first.

    Returns:
        Counts, in words, and a line for each finding.
    """
    findings, counts, last = [], [], first + count
    while first < last:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            command = [sys.executable, "-m", "tests.helpers.fuzz", "--child", name, str(first), str(last), folder]
            with (Path(folder) / "output").open("w+") as output:
                process = subprocess.Popen(
                    command, stdout=output, stderr=output, env=os.environ | {"OMP_NUM_THREADS": "1"}
                )
                number, since = "", time.monotonic()
                while process.poll() is None:
                    time.sleep(0.2)
                    at = Path(folder) / "number"
                    now = at.read_text() if at.exists() else ""
                    number, since = (number, since) if now == number else (now, time.monotonic())
                    if time.monotonic() - since > PATIENCE:
                        process.kill()
                        process.wait()
                output.seek(0)
                findings += output.read().splitlines()
            counts.append((Path(folder) / "counts").read_text() if (Path(folder) / "counts").exists() else "none")
            if process.returncode == 0:
                break
            died = (Path(folder) / "number").read_text() if (Path(folder) / "number").exists() else "start"
            findings.append(f"{name} {died} died: {process.returncode}")
            if died == "start":
                break
            first = int(died) + 1
    return "; ".join(counts), findings


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        started = time.monotonic()
        summary, lines = run(sys.argv[1], *map(int, sys.argv[2:4]))
        print(*lines, f"{sys.argv[1]}: {summary}, {time.monotonic() - started:.0f} s", sep="\n")
