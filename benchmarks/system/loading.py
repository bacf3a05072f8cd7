"""Batches a loader gives against those that a training step takes, on videos of the layout of EchoNet-Dynamic.

Run: ``python -m benchmarks.system.loading`` (about two minutes). Rates are those of one core by processor time, which
other programs on the machine do not change much; those of the loader by wall time too, for a machine without others.
"""

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cardiojax import models, ops, train
from cardiojax.data import datasets
from cardiojax.data.loader import LoaderConfig, make_loader
from cardiojax.recipes.segmentation import region_loss
from tests.helpers.datasets import write_echonet

#: Videos of EchoNet-Dynamic, and their median length.
NUM_VIDEOS, NUM_FRAMES = 10_030, 171
BATCH = 8


class Seconds(NamedTuple):
    """Times of a call in seconds."""

    processor: float
    wall: float


def seconds(function, repeats: int) -> Seconds:
    """Mean times of a call."""
    function()
    start = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        function()
    return Seconds((time.process_time() - start[0]) / repeats, (time.perf_counter() - start[1]) / repeats)


def main() -> None:
    """Builds a made-up set, reads it and trains on it."""
    with tempfile.TemporaryDirectory() as folder:
        root, layout = (
            write_echonet(Path(folder) / "download", splits=("TRAIN",) * 16, num_frames=NUM_FRAMES),
            datasets.LAYOUTS["echonet"],
        )
        for kind in ("frames", "loops"):
            start = time.process_time()
            datasets.build_dataset(layout, root, folder, datasets.BuildConfig(kind=kind, validation_share=0))
            print(f"build {kind}: {1000 * (time.process_time() - start) / 16:.0f} ms a video")
        sources = {
            "annotated frames": datasets.open_frames(folder, "train", size=112),
            "whole loops": datasets.open_dataset(folder, "echonet/loops", "train"),
        }
        for name, source in sources.items():
            for threads in (1, 2):
                loader = make_loader(source, LoaderConfig(batch_size=BATCH, num_threads=threads, prefetch=16))
                images = next(loader)["image"].size / BATCH / 112**2
                # more batches than are prefetched, so that the wall time is not that of waiting ones
                taken = seconds(lambda loader=loader: next(loader), 40)
                core, wall = (f"{BATCH / t:.0f} examples, {BATCH * images / t:.0f} images" for t in taken)
                print(f"{name}, {threads} threads: {core} a core and second; {wall} a second of wall time")
        model = models.UNet(models.UNetConfig(num_classes=2))
        params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
        optimizer = optax.adam(1e-3)

        def loss(key, params, batch, *, step):
            return region_loss(model.apply({"params": params}, batch.images[..., None] / 255.0).logits, batch.labels)

        step = train.make_step(jax.random.key(0), loss, optimizer=optimizer, compiler_options=ops.compiler_options())
        state = [train.init_state(params, optimizer)]
        batch = train.Batch(np.zeros((BATCH, 112, 112), np.float32), np.zeros((BATCH, 112, 112), np.int32))

        def advance() -> None:
            state[0], metrics = step(state[0], batch)
            metrics["loss"].block_until_ready()

        taken = seconds(advance, 4).processor / BATCH
        print(f"training step of the U-Net: {1 / taken:.0f} images a core and second")


if __name__ == "__main__":
    main()
