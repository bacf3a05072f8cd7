"""Time of common uses from an empty process to the first result, and the programs that they compile.

Each is run with an empty and with a warm compilation cache.

Run: ``python -m benchmarks.system.uses``
"""

import collections
import os
import re
import subprocess
import sys
import tempfile
import time

from benchmarks.harness import Section, main

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


def run() -> Section:
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
    return Section(title="Time to the first result", text="\n".join(lines), data=data)


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
