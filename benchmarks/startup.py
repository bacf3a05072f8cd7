"""From nothing to the first result: import, and the example's report with an empty and with a warm compilation cache.

Run: ``python -m benchmarks.startup``
"""

import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.harness import Section


def _seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def run(rounds: int = 5) -> Section:
    """Times whole processes."""
    with tempfile.TemporaryDirectory() as folder:
        analyze = (sys.executable, "-m", "cardiojax.cli", "analyze", "--example", "--out", f"{folder}/report")
        cached = (*analyze, "--cache-dir", f"{folder}/cache")
        _seconds(*cached)
        seconds = {
            "python -c 'import cardiojax'": [_seconds(sys.executable, "-c", "import cardiojax") for _ in range(rounds)],
            "python -c 'pass'": [_seconds(sys.executable, "-c", "pass") for _ in range(rounds)],
            "cardiojax analyze --example": [_seconds(*analyze) for _ in range(rounds)],
            "the same with a warm --cache-dir": [_seconds(*cached) for _ in range(rounds)],
        }
    lines = ["| | s (median) | min | max |", "|---|---|---|---|"]
    lines += [f"| `{n}` | {statistics.median(s):.2f} | {min(s):.2f} | {max(s):.2f} |" for n, s in seconds.items()]
    return Section(title="Start-up", text="\n".join(lines), data={"seconds": seconds})


if __name__ == "__main__":
    print(run().text)
