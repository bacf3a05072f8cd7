"""``cardiojax data``: prepares datasets."""

from pathlib import Path
from typing import Annotated

import tyro

from cardiojax.data.camus import build_camus
from cardiojax.data.phantom import PhantomSet, build_phantom


def build_camus_command(*, manual_dir: Path, data_dir: Path, config: str = "nifti") -> None:
    """Writes CAMUS as array_record files for training.

    Args:
        manual_dir: The unpacked release.
        data_dir: Where datasets are kept.
        config: nifti, mhd or nifti_sequence.
    """
    counts = build_camus(manual_dir, data_dir, config=config)
    print(f"camus/{config} in {data_dir}: " + ", ".join(f"{n} in {split}" for split, n in counts.items()))


def build_phantom_command(
    *, data_dir: Path, config: Annotated[PhantomSet, tyro.conf.arg(name="")] = PhantomSet()
) -> None:
    """Simulates annotated loops and writes them as array_record files.

    Args:
        data_dir: Where datasets are kept.
        config: What is simulated.
    """
    counts = build_phantom(data_dir, config)
    print(f"phantom/{config.name} in {data_dir}: " + ", ".join(f"{n} in {split}" for split, n in counts.items()))
