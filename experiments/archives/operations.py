"""What the analysis of a study costs, program by program, from which the time on other hardware is worked out.

::

    python -m experiments.archives.operations

A study of two loops of the phantom (two- and four-chamber view, 30 frames of 240 x 320 pixels, MP4) is analysed with
all corrections as in ``cardiojax batch``; the second analysis is counted, when everything is compiled. Printed for each
compiled program: calls, floating-point operations and bytes that XLA counts (``cost_analysis``; what a loop repeats
counts once), and time; then the time of reading the files and of everything else. Times are processor times of this
process.
"""

import functools
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from cardiojax.analysis.recording import AnalyzeConfig
from cardiojax.analysis.view import make_view_classifier
from cardiojax.archive.worker import GRID_SIZES
from cardiojax.data import read
from cardiojax.runtime import aot
from cardiojax.study import Analyzer, analyze_study
from experiments.archives.throughput import make_archive, simulate


class Counts(dict):
    """Calls, operations, bytes and processor seconds of each program."""

    def __init__(self):
        super().__init__()
        self.reading = 0.0

    def start(self) -> None:
        """Counts the calls of compiled functions from now on."""
        counts = self

        def call(function: aot.CompiledFunction, *arguments: Any, **static: Any) -> Any:
            compiled = function.compile(*arguments, **static).result()
            start = time.process_time()
            result = jax.block_until_ready(compiled(*arguments))
            seconds = time.process_time() - start
            cost = compiled.cost_analysis() or {}
            entry = counts.setdefault(_name(function), [0, 0.0, 0.0, 0.0])
            for i, value in enumerate((1, cost.get("flops", 0.0), cost.get("bytes accessed", 0.0), seconds)):
                entry[i] += value
            return result

        aot.CompiledFunction.__call__ = call

    def read(self, path: Path) -> Any:
        """Reads a file and adds its time."""
        start = time.process_time()
        recording = read(path)
        self.reading += time.process_time() - start
        return recording


def _name(function: aot.CompiledFunction) -> str:
    wrapped = function._jitted.__wrapped__
    while isinstance(wrapped, functools.partial):
        wrapped = wrapped.func
    return f"{wrapped.__module__.removeprefix('cardiojax.')}.{wrapped.__qualname__.lstrip('_')}"


def main() -> str:
    """Analyses a study twice and counts the second time."""
    counts, config = Counts(), AnalyzeConfig(grid_sizes=GRID_SIZES)
    analyzer, classify = Analyzer(config), make_view_classifier(config=config)
    with tempfile.TemporaryDirectory() as folder:
        root = make_archive(Path(folder) / "archive", simulate(0)[:1], 2)
        files = sorted((root / "0001").iterdir())
        views = {file: file.stem for file in files}
        run = functools.partial(analyze_study, files, analyze=analyzer, classify=classify, views=views)
        run()
        counts.start()
        start = time.process_time()
        run(read=counts.read)
        total = time.process_time() - start
    lines = ["| program | calls | GFLOP | GB | processor time |", "|---" * 5 + "|"]
    for name, (calls, flops, size, seconds) in sorted(counts.items(), key=lambda item: -item[1][3]):
        lines.append(f"| `{name}` | {calls:.0f} | {flops / 1e9:.2f} | {size / 1e9:.2f} | {seconds:.2f} s |")
    programs = sum(entry[3] for entry in counts.values())
    lines.append(f"| reading two files | | | | {counts.reading:.2f} s |")
    lines.append(f"| everything else | | | | {total - programs - counts.reading:.2f} s |")
    lines.append(f"| all | | | | {total:.2f} s |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(main(), end="")
