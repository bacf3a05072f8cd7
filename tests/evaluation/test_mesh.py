"""Evaluation on eight devices, and in two processes, has the scores of one device."""

import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import zoo

PROGRAM = """
import dataclasses, sys, jax, numpy as np
from pathlib import Path
from cardiojax import train
from cardiojax.analysis.recording import AnalyzeConfig
from cardiojax.evaluation import segmentation as ev

folder = Path(sys.argv[1])
segment = AnalyzeConfig(model=str(folder / "one.safetensors"), pair_model=str(folder / "two.safetensors"), size=32)
config = ev.EvaluateConfig(data=folder / "frames.npz", segment=segment)
source = ev._open(config)
examples = [source[i] for i in range(len(source))]
expected = ev.segment_examples(config, examples)
assert 0.05 < (expected == 1).mean() < 0.95
table = ev.evaluate(config)
for mesh in (train.MeshConfig(data=8), train.MeshConfig(data=4, tensor=2, fully_sharded=True)):
    shared = dataclasses.replace(config, mesh=mesh)
    np.testing.assert_array_equal(ev.segment_examples(shared, examples), expected)
    assert ev.evaluate(shared) == table
devices = ev._devices(train.MeshConfig(data=8, fully_sharded=True))
placed = devices.place({"w": np.ones((16, 3), np.float32)})
assert placed["w"].addressable_shards[0].data.shape == (2, 3)
try:
    ev.evaluate(dataclasses.replace(config, mesh=train.MeshConfig(data=3)))
except ValueError as error:
    assert str(error) == "a batch of 8 cannot be split over 3 devices: choose a multiple"
else:
    raise AssertionError("split")
print(jax.device_count())
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Networks of random weights for one frame and for two, and frames of which all but one are of a pair."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for name, frames in (("one", 1), ("two", 2)):
        model = zoo.create("unet", features=(2, 4), frames=frames)
        params = model.init(jax.random.key(frames), jnp.zeros((1, 32, 32, frames)))["params"]
        params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), params)
        zoo.save(folder / f"{name}.safetensors", "unet", params, features=(2, 4), frames=frames)
    np.savez(
        folder / "frames.npz",
        image=rng.integers(0, 256, (7, 32, 32)).astype(np.uint8),
        label=rng.integers(0, 4, (7, 32, 32)).astype(np.uint8),
        patient=["a", "a", "a", "a", "b", "b", "c"],
        view=["2CH", "2CH", "4CH", "4CH", "2CH", "2CH", "2CH"],
        phase=["ED", "ES", "ED", "ES", "ED", "ES", "ED"],
        spacing_rc_mm=np.ones((7, 2), np.float32),
    )
    return folder


def start(command, devices):
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | flags)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    return out


def test_eight_devices_give_the_label_maps_and_the_scores_of_one(inputs):
    assert finish(start([sys.executable, "-c", PROGRAM, str(inputs)], 8)).strip() == "8"


def test_two_processes_write_once_what_one_writes(inputs, tmp_path):
    with socket.socket() as server:
        server.bind(("localhost", 0))
        address = f"localhost:{server.getsockname()[1]}"
    command = [
        *(sys.executable, "-m", "cardiojax", "evaluate", "--data", str(inputs / "frames.npz")),
        *("--segment.model", str(inputs / "one.safetensors"), "--segment.pair-model", str(inputs / "two.safetensors")),
        *("--segment.size", "32"),
    ]
    printed = finish(start([*command, "--out", str(tmp_path / "one")], 1))
    shared = [*command, "--out", str(tmp_path / "two"), "--mesh.data", "0", "--mesh.fully-sharded"]
    shared += ["--mesh.coordinator", address, "--mesh.num-processes", "2", "--mesh.process-id"]
    first, second = [finish(process) for process in [start([*shared, each], 1) for each in "01"]]
    assert first.endswith(printed)  # after a line of the library that connects them
    assert "Dice" not in second
    for name in ("table.md", "scores.csv", "scores.json"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
