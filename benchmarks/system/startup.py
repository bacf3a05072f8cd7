"""From nothing to the first result: import, and the example's report with an empty and with a warm compilation cache.

Run: ``python -m benchmarks.system.startup``
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.harness import Section, main

ANALYZE = (sys.executable, "-m", "cardiojax", "analyze", "--example")


def _seconds(*command: str, **variables: str) -> float:
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"} | variables
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def _section(seconds: dict[str, list[float]]) -> Section:
    lines = ["| | s (median) | min | max |", "|---|---|---|---|"]
    lines += [f"| `{n}` | {statistics.median(s):.2f} | {min(s):.2f} | {max(s):.2f} |" for n, s in seconds.items()]
    return Section(title="Start-up", text="\n".join(lines), data={"seconds": seconds})


def imports(rounds: int = 5) -> Section:
    """Times the import beside that of what it needs."""
    codes = ("pass", "import jax, flax.linen, optax", "import cardiojax", "import cardiojax.cli.analyze")
    return _section({f"python -c '{c}'": [_seconds(sys.executable, "-c", c) for _ in range(rounds)] for c in codes})


def cold(rounds: int = 3) -> Section:
    """Times the example's report, everything compiled anew."""
    with tempfile.TemporaryDirectory() as folder:
        command = (*ANALYZE, "--out", f"{folder}/report")
        seconds = [_seconds(*command, JAX_ENABLE_COMPILATION_CACHE="false") for _ in range(rounds)]
    return _section({"cardiojax analyze --example": seconds})


def warm(rounds: int = 5) -> Section:
    """Times it with the programs that an earlier call compiled."""
    with tempfile.TemporaryDirectory() as folder:
        command = (*ANALYZE, "--out", f"{folder}/report", "--cache-dir", f"{folder}/cache")
        first = _seconds(*command)
        seconds = [_seconds(*command) for _ in range(rounds)]
    return _section({"the same with an empty --cache-dir": [first], "and with a warm one": seconds})


PARTS = {"imports": imports, "cold": cold, "warm": warm}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
