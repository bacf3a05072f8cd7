"""Batches a loader gives against those that a training step takes, on videos of the layout of EchoNet-Dynamic.

Run: ``python -m benchmarks.system.loading`` (about two minutes). Times are processor time of one core, which other
programs on the machine do not change much.
"""

import tempfile
import time
from pathlib import Path

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


def seconds(function, repeats: int) -> float:
    """Processor time of a call in seconds."""
    function()
    start = time.process_time()
    for _ in range(repeats):
        function()
    return (time.process_time() - start) / repeats


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
                taken = seconds(lambda loader=loader: next(loader), 6) / BATCH
                rates = f"{1 / taken:.0f} examples, {images / taken:.0f} images a core and second"
                print(f"{name}, {threads} threads: {rates}")
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

        taken = seconds(advance, 4) / BATCH
        print(f"training step of the U-Net: {1 / taken:.0f} images a core and second")


if __name__ == "__main__":
    main()
