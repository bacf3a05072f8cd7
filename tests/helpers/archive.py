"""A stand-in for the networks: its answers are known, its failures are of every kind."""

import os
import time
from pathlib import Path

from cardiojax.archive.rows import REFUSED, row_of_failure
from cardiojax.data import UnreadableFileError, read


def make_sizes(config):
    """Each study's row holds the number of its pixels; some files end the process or raise."""

    def analyze_files(label, files):
        time.sleep(float(os.environ.get("CARDIOJAX_TEST_DELAY", 0)))
        pixels, refused = 0, []
        for number, file in enumerate(files, 1):
            if "kills" in Path(file).name:
                os._exit(9)
            if "raises" in Path(file).name:
                raise RuntimeError(f"a bug at {file}")
            try:
                pixels += read(file).frames.size
            except UnreadableFileError as error:
                refused.append(f"clip {number}: {error.problem}")
        if not pixels:
            return row_of_failure("; ".join(refused), status=REFUSED)
        return {"status": "measured", "heart_rate_per_min": float(pixels), "refused": "; ".join(refused)}

    return analyze_files
