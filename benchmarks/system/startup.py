"""From nothing to the first result: import, the example's report, and what each common use compiles.

Each is a new process, with an empty and with a warm compilation cache.

Run: ``python -m benchmarks.system.startup``
"""

import collections
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.harness import Section, main

ANALYZE = (sys.executable, "-m", "cardiojax", "analyze", "--example")


def _seconds(*command: str) -> float:
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
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
        seconds = [_seconds(*ANALYZE, "--out", f"{folder}/report") for _ in range(rounds)]
    return _section({"cardiojax analyze --example": seconds})


def warm(rounds: int = 5) -> Section:
    """Times it with the programs that an earlier call compiled."""
    with tempfile.TemporaryDirectory() as folder:
        command = (*ANALYZE, "--out", f"{folder}/report", "--cache-dir", f"{folder}/cache")
        first = _seconds(*command)
        seconds = [_seconds(*command) for _ in range(rounds)]
    return _section({"the same with an empty --cache-dir": [first], "and with a warm one": seconds})


#: Common uses by name, as Python code; FOLDER holds `_write_frames`, and results go there.
USES = {
    "zoo.load and apply": """
import jax, jax.numpy as jnp
from cardiojax import zoo
model, variables = zoo.load("unet_camus")
jax.jit(model.apply)(variables, jnp.zeros((1, 224, 224, 1))).logits.block_until_ready()""",
    "anatomy.check of 8 masks": """
import numpy as np
from cardiojax import anatomy
anatomy.check(np.zeros((8, 224, 224), np.int32)).valid.block_until_ready()""",
    "metrics.hausdorff of 8 masks": """
import jax.numpy as jnp, numpy as np
from cardiojax import metrics
metrics.hausdorff(np.ones((8, 224, 224), bool), np.ones((8, 224, 224), bool), jnp.ones(2)).block_until_ready()""",
    "the correction of one mask": """
import numpy as np
from cardiojax.correction.anatomical import make_anatomical_corrector
make_anatomical_corrector()(np.zeros((1, 224, 224), np.int32))""",
    "cardiojax train unet, one step": """
from cardiojax.cli import main
loop = ["--loop.num-steps", "1", "--loop.eval-every", "1"]
main(["train", "unet", "--data", "FOLDER", "--out", "FOLDER/run", *loop])""",
    "cardiojax evaluate": """
from cardiojax.cli import main
main(["evaluate", "--data", "FOLDER"])""",
    "cardiojax analyze --example": """
from cardiojax.cli import main
main(["analyze", "--example", "--out", "FOLDER/report"])""",
}
_COMPILED = re.compile(r"Finished XLA compilation of (\S+) in ([0-9.e-]+) sec")


def _write_frames(folder: str) -> None:
    """Two patients as the commands take them."""
    import numpy as np

    rows, cols = np.mgrid[:224, :224] - 112
    heart = np.select([np.hypot(rows, 2 * cols) < 50, np.hypot(rows, 2 * cols) < 80], [1, 2], 0)
    heart[(rows > 30) & (np.hypot(rows - 60, cols) < 30)] = 3
    frames = [(patient, view, phase) for patient in "ab" for view in ("2CH", "4CH") for phase in ("ED", "ES")]
    columns = dict(zip(("patient", "view", "phase"), map(np.array, zip(*frames, strict=True)), strict=True))
    masks = np.repeat(heart[None].astype(np.uint8), len(frames), 0)
    spacing = np.full((len(frames), 2), 0.6, np.float32)
    for split in ("train", "val"):
        path = f"{folder}/camus224_{split}.npz"
        np.savez(path, image=60 * masks, label=masks, spacing_rc_mm=spacing, **columns)


def uses() -> Section:
    """Times common uses, and counts the programs they compile."""
    lines = ["| | cold, s | warm, s | programs | compiling, s | compiled more than once |", "|---|---|---|---|---|---|"]
    data = {}
    for name, code in USES.items():
        with tempfile.TemporaryDirectory() as folder:
            _write_frames(folder)
            environment = {**os.environ, "JAX_LOG_COMPILES": "1", "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
            environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
            command, seconds, logs = (sys.executable, "-c", code.replace("FOLDER", folder)), [], []
            for _ in range(2):
                start = time.perf_counter()
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                seconds.append(time.perf_counter() - start)
                logs.append(done.stderr)
        compiled = _COMPILED.findall(logs[0])
        often = [f"{n} ({k})" for n, k in collections.Counter(n for n, _ in compiled).items() if k > 1]
        total = sum(float(each) for _, each in compiled)
        data[name] = {"seconds": seconds, "compiled": compiled}
        cells = (f"{seconds[0]:.1f}", f"{seconds[1]:.1f}", len(compiled), f"{total:.1f}", ", ".join(often))
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return Section(title="Start-up", text="\n".join(lines), data=data)


PARTS = {"imports": imports, "cold": cold, "warm": warm, "uses": uses}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
