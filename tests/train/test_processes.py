"""One run on one device, on eight, and in two processes of which one is killed."""

import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from cardiojax import train
from cardiojax.recipes.run import RunConfig, training_batches


def start(folder, *, steps=8, num=1, index=0, kill_at=0, port=0, devices=1):
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    command = [
        sys.executable,
        "-m",
        "tests.train.multiprocess",
        folder,
        f"localhost:{port}",
        num,
        index,
        steps,
        kill_at,
    ]
    return subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | flags
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()[-2000:]
    return out.decode()


def free_port():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def losses(folder):
    return [record["loss"] for record in train.read_log(folder) if "loss" in record]


def test_eight_devices_have_the_loss_curve_of_one_and_an_eighth_of_the_parameters(tmp_path):
    *runs, odd = [start(tmp_path / f"{n}", devices=n) for n in (1, 8, 3)]
    one, eight = map(finish, runs)
    assert b"a batch of 8 cannot be split over 3 devices: choose a multiple" in odd.communicate()[1]
    assert "part (8, 16)" in one
    assert "part (8, 2)" in eight
    np.testing.assert_allclose(losses(tmp_path / "8"), losses(tmp_path / "1"), rtol=1e-5)
    # a checkpoint of one mesh is resumed on another
    assert "part (8, 16)" in finish(start(tmp_path / "8", steps=12))
    assert len(losses(tmp_path / "8")) == 12


def test_two_processes_of_which_one_is_killed_resume_with_the_same_losses(tmp_path):
    port = free_port()
    whole = [start(tmp_path / "whole", num=2, index=i, port=port) for i in (0, 1)]
    assert all("part (8, 8)" in finish(process) for process in whole)
    assert len(losses(tmp_path / "whole")) == 8
    port = free_port()
    first, second = (start(tmp_path / "killed", num=2, index=i, port=port, kill_at=6 if i else 0) for i in (0, 1))
    second.communicate(timeout=300)
    assert second.returncode == -signal.SIGKILL
    first.kill()  # as a scheduler does; it waits for the other
    first.communicate()
    port = free_port()
    again = [start(tmp_path / "killed", num=2, index=i, port=port) for i in (0, 1)]
    assert all("part (8, 8)" in finish(process) for process in again)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    # one process takes over what two have begun
    assert "part (8, 16)" in finish(start(tmp_path / "killed", steps=12))
    assert losses(tmp_path / "killed")[:8] == losses(tmp_path / "whole")


def test_meshes_that_cannot_be_are_sentences(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="2 processes need a coordinator"):
        train.MeshConfig(num_processes=2)
    with pytest.raises(ValueError, match="process_id must be"):
        train.MeshConfig(coordinator="localhost:1", num_processes=2, process_id=2)
    with pytest.raises(ValueError, match="the mesh has 1024 x 1 devices, but there are"):
        train.make_mesh(train.MeshConfig(data=1024))
    monkeypatch.setattr("jax.process_count", lambda: 3)

    class Config(RunConfig):
        batch_size = 8

    with pytest.raises(ValueError, match="batch_size must be a multiple of the 3 processes, got 8"):
        training_batches(None, Config(out=tmp_path))


def test_what_does_not_fit_into_memory_says_which_batch_would(tmp_path, monkeypatch):
    import jax
    import jax.numpy as jnp
    import optax

    from cardiojax.data.arrays import ArraySource
    from cardiojax.recipes.run import run
    from cardiojax.train import memory

    class Config(RunConfig):
        batch_size = 64

    optimizer, data = optax.sgd(0.1), np.zeros((64, 1000), np.float32)

    def loss(key, params, batch, *, step):
        return jnp.tanh(jnp.sin(batch["x"] * params["w"]) @ params["v"]).sum(-1)

    params = {"w": jnp.ones(1000), "v": jnp.ones((1000, 1000))}
    state, batch = train.init_state(params, optimizer), {"x": jnp.asarray(data)}
    step = train.make_step(jax.random.key(0), loss, optimizer=optimizer)
    sizes = {n: memory.step_bytes(step, state, batch, n) for n in (8, 16, 32, 64)}
    assert sizes[8] < sizes[16] < sizes[32] < sizes[64]
    fitting = memory.largest_batch(step, state, batch, limit=sizes[32])
    assert 24 <= fitting <= 40
    assert memory.largest_batch(step, state, batch, limit=sizes[32], multiple=16) in (16, 32)
    assert memory.largest_batch(step, state, batch, limit=1000) == 0

    def full(*_, **__):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes")

    monkeypatch.setattr(train, "fit", full)
    monkeypatch.setattr(memory, "device_bytes", lambda: sizes[32])
    task = train.Task(init=lambda key: params, loss=loss, evaluate=lambda params: {"score": 0.0})
    config = Config(out=tmp_path / "run")
    with pytest.raises(train.OutOfMemoryError, match=r"batch of 64 needs 0\.\d+ GiB of .*; a batch of \d+ would fit"):
        run(task, training_batches(ArraySource({"x": data}), config), config=config, optimizer=optimizer)
