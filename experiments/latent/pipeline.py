"""From CAMUS masks to a bank of millions of valid codes and the correction of invalid masks, in one command.

1. A constrained shape autoencoder: the packaged one, or one that is trained here (``--num-steps 3000``).
2. The codes of the training masks, their Parzen density, rejection sampling from a wider window, decoding, the 12
   criteria: a bank of ``--num-codes`` valid codes.
3. The correction with that bank of 600 masks: predictions of ``unet_camus`` on the validation frames, on the same
   images with noise, and reference masks with random defects.

Each stage states its wall and processor time and the peak memory of the process so far. A command that was killed
resumes; the times of all its runs are added. ``checksum`` is that of the codes: it is the same on any number of devices
(``XLA_FLAGS=--xla_force_host_platform_device_count=8``).

Run: ``python -m experiments.latent.pipeline --data DIR/camus_224 --out runs/pipeline`` (about 50 minutes of processor
time). Writes ``bank.zarr`` and ``pipeline.json``. Expected: 46 % of the proposals accepted, 97 % of those valid, and
none of the 600 masks invalid after the correction.
"""

import contextlib
import dataclasses
import json
import resource
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cardiojax import models, train
from cardiojax.correction.anatomical import AnatomicalCorrector, load_shapes
from cardiojax.data.bank import BankProgress, LatentBank
from cardiojax.recipes.bank import BuildBankConfig, build_bank
from cardiojax.recipes.densify import DensifyConfig
from cardiojax.recipes.vae import TrainVAEConfig, train_vae
from cardiojax.runtime.devices import use_every_core
from experiments.latent import bank_size

#: Seconds between two records of the time of a stage that is not finished.
_RECORD_EVERY = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is made.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``.
        out: Folder for the bank and the results; an earlier run there is resumed.
        num_codes: Valid codes of the bank.
        num_steps: Steps of training of the autoencoder; the packaged one if 0.
        limit: Validation frames, of each of which three masks are corrected; 0 for all.
    """

    data: Path
    out: Path
    num_codes: int = 5_000_000
    num_steps: int = 0
    limit: int = 0


class Record:
    """Time and memory of the stages, kept in a file, so that the runs of a command that was killed are added.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        self._path = path
        self.values: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Callable[[], None]]:
        """Times a stage. What it yields is called now and then within it, and records the time so far."""
        before = self.values.get(name, {})
        start, last = (time.perf_counter(), time.process_time()), [0.0]

        def record(every: float = _RECORD_EVERY) -> None:
            wall, processor = time.perf_counter() - start[0], time.process_time() - start[1]
            if wall - last[0] < every:
                return
            last[0] = wall
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            self.values[name] = {
                **before,
                "wall_seconds": before.get("wall_seconds", 0) + wall,
                "processor_seconds": before.get("processor_seconds", 0) + processor,
                "peak_mib": max(before.get("peak_mib", 0), peak),
            }
            self.write()

        yield record
        record(0)

    def add(self, name: str, **values: Any) -> None:
        """Adds results to a stage."""
        self.values.setdefault(name, {}).update(values)
        self.write()

    def write(self) -> None:
        """Writes the file."""
        self._path.write_text(json.dumps(self.values, indent=2) + "\n")


def make_bank(config: Config, weights: Path | None, record: Record) -> LatentBank:
    """The bank, and its counts in the record."""
    settings = BuildBankConfig(
        data=config.data,
        out=config.out / "bank.zarr",
        weights=weights,
        draws=DensifyConfig(num_codes=config.num_codes),
    )
    with record.stage("bank") as update:

        def progress(counts: BankProgress) -> None:
            update()

        bank = build_bank(settings, progress=progress)
    counts = bank.progress
    record.add(
        "bank",
        num_codes=counts.num_codes,
        accepted_and_decoded=counts.num_drawn,
        valid_share=counts.num_valid / counts.num_drawn,
        proposed=counts.num_proposed,
        acceptance=counts.acceptance,
        k=bank.metadata["sampler"]["scale"],
        mass_above_k=bank.metadata["sampler"]["mass_exceeded"],
        checksum=zlib.crc32(np.ascontiguousarray(bank.codes).view(np.uint8).data),
        megabytes=sum(path.stat().st_size for path in settings.out.rglob("*") if path.is_file()) / 1e6,
    )
    return bank


def train_autoencoder(config: Config, record: Record) -> Path:
    """The weights of a constrained autoencoder trained on the masks."""
    settings = TrainVAEConfig(
        data=config.data,
        out=config.out / "autoencoder",
        model=models.VAE_PRESETS["cvae"],
        loop=train.LoopConfig(num_steps=config.num_steps, eval_every=min(1000, config.num_steps)),
    )
    with record.stage("autoencoder"):
        result = train_vae(settings)
    record.add("autoencoder", dice=result.best_score)
    return settings.out / "weights.safetensors"


def main(config: Config) -> dict[str, dict[str, Any]]:
    """Does what is not yet done; returns the record."""
    config.out.mkdir(parents=True, exist_ok=True)
    record = Record(config.out / "pipeline.json")
    record.add("machine", devices=jax.device_count())
    weights = train_autoencoder(config, record) if config.num_steps else None
    bank = make_bank(config, weights, record)
    masks, _ = bank_size.inputs(bank_size.Config(data=config.data, bank=config.out, out=config.out, limit=config.limit))
    with record.stage("correction"):
        found = AnatomicalCorrector(load_shapes(weights=weights), bank.codes, batch_size=16)(masks)
    is_changed = (found.labels != masks).any((1, 2))
    record.add(
        "correction",
        masks=len(masks),
        invalid_before=int((~found.was_valid).sum()),
        invalid_after=int((~found.valid).sum()),
        valid_changed=int(is_changed[found.was_valid].sum()),
        checksum=zlib.crc32(found.labels.tobytes()),
    )
    return record.values


if __name__ == "__main__":
    import tyro

    use_every_core()
    print(json.dumps(main(tyro.cli(Config)), indent=2))
