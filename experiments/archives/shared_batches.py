"""How full the batches of the segmentation network are when several recordings are analysed at the same time.

::

    python -m experiments.archives.shared_batches

Simulated loops of 30 frames of 240 x 320 pixels are analysed by several threads of one process, without corrections.
Everything is compiled before. Printed as a Markdown table: size of a batch, calls of the network, frames a call, and
the time of a loop.
"""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tyro

from cardiojax.analysis.recording import AnalyzeConfig
from cardiojax.archive.worker import GRID_SIZES
from cardiojax.data import Recording
from cardiojax.study.analyzer import Analyzer
from experiments.archives.throughput import simulate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The loops and the threads.

    Attributes:
        num_loops: Loops, a multiple of the threads so that all are busy to the end.
        threads: Recordings that are analysed at the same time, one row each.
        analyze: How they are analysed.
        seed: Of the loops.
    """

    num_loops: int = 8
    threads: tuple[int, ...] = (1, 4, 8)
    analyze: AnalyzeConfig = AnalyzeConfig(grid_sizes=GRID_SIZES)
    seed: int = 0


def run(loops: list[Recording], num_threads: int, config: AnalyzeConfig) -> str:
    """One number of threads as a row of the table."""
    analyzer = Analyzer(config, num_threads=num_threads, anatomical_correction=False, temporal_correction=False)
    analyzer.load()
    analyzer(loops[0])  # compiles
    batches = analyzer.frame_batches
    calls_before, frames_before, start = batches.num_calls, batches.num_examples, time.monotonic()
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(analyzer, loops))
    seconds, num_calls = time.monotonic() - start, batches.num_calls - calls_before
    per_call, per_loop = (batches.num_examples - frames_before) / num_calls, seconds / len(loops)
    return f"| {num_threads} | {batches.batch_size} | {num_calls} | {per_call:.1f} | {per_loop:.2f} s |"


def main(config: Config) -> None:
    """Simulates the loops and analyses them with each number of threads."""
    frames = [loop for views in simulate(config.seed) for loop in views.values()]
    loops = [
        Recording(frames[i % len(frames)].astype(np.float32), (0.5, 0.5), 1 / 30, source=str(i))
        for i in range(config.num_loops)
    ]
    print("| threads | batch | calls | frames a call | time of a loop |", "|---" * 5 + "|", sep="\n")
    for num_threads in config.threads:
        print(run(loops, num_threads, config.analyze), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config))
