"""A bank is the same whether its writer lived or was killed, and says what it is."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import latent, storage
from cardiojax.data.bank import BankError, read_bank
from cardiojax.recipes.densify import DensifyConfig, densify

CODES = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
CONFIG = DensifyConfig(num_codes=700, block_size=16, blocks_per_round=4, chunk_size=90, seed=3)
METADATA = {"model": "none", "criteria": "the first is positive"}


def fill(folder, config=CONFIG, metadata=METADATA, **options):
    density = latent.fit_parzen(jnp.asarray(CODES), bandwidth=0.5)
    options = {"decode": lambda z: z, "is_valid": lambda z: z[:, 0] > 0.25} | options
    return densify(folder, density, config=config, metadata=metadata, **options)


def slow(folder):
    """What is killed: every round takes a while."""
    fill(folder, progress=lambda _: time.sleep(0.2))


def shared(folder, coordinator, index):
    """One of two processes with two devices each."""
    jax.distributed.initialize(coordinator, 2, index)
    fill(folder, mesh=jax.sharding.Mesh(np.array(jax.devices()), ("data",)), progress=lambda _: time.sleep(0.1))


def start_two(folder):
    with socket.socket() as server:
        server.bind(("localhost", 0))
        address = f"localhost:{server.getsockname()[1]}"
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    code = f"import tests.recipes.test_densify as t; t.shared({str(folder)!r}, {address!r}, "
    command = [sys.executable, "-c"]
    return [subprocess.Popen([*command, f"{code}{i})"], stderr=subprocess.PIPE, env=os.environ | flags) for i in (0, 1)]


def finish(processes):
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err.decode()[-2000:]


def wait_for_codes(folder, num, process):
    started = time.monotonic()
    while time.monotonic() - started < 120:
        try:
            if read_bank(folder).progress.num_codes >= num:
                break
        except BankError:
            assert process.poll() is None
        time.sleep(0.02)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_keeps_valid_codes_and_says_what_it_is(tmp_path):
    seen = []
    bank = fill(tmp_path / "bank.zarr", progress=seen.append)
    assert bank.codes.shape == (700, 4)
    assert bank.codes.dtype == np.float16
    assert (bank.codes[:, 0] > 0.25).all()
    assert len(np.unique(bank.codes, axis=0)) > 690
    np.testing.assert_array_equal(bank.density.codes, CODES)
    assert bank.metadata["model"] == "none"
    assert bank.metadata["draws"]["seed"] == 3
    assert [s.num_codes for s in seen] == sorted(s.num_codes for s in seen)
    assert seen[-1].num_codes == 700
    assert 700 <= bank.progress.num_valid < bank.progress.num_drawn
    # A finished bank is not filled again.
    again = fill(tmp_path / "bank.zarr", progress=lambda _: pytest.fail("drew again"))
    np.testing.assert_array_equal(again.codes, bank.codes)


def test_killed_and_resumed_is_the_same_bank(tmp_path):
    whole = fill(tmp_path / "whole.zarr")
    code = f"import tests.recipes.test_densify as t; t.slow({str(tmp_path / 'killed.zarr')!r})"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"JAX_PLATFORMS": "cpu"})
    wait_for_codes(tmp_path / "killed.zarr", 180, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stopped = read_bank(tmp_path / "killed.zarr")
    assert 180 <= len(stopped.codes) < 700
    np.testing.assert_array_equal(stopped.codes, whole.codes[: len(stopped.codes)])
    resumed = fill(tmp_path / "killed.zarr")
    np.testing.assert_array_equal(resumed.codes, whole.codes)
    assert resumed.progress == whole.progress


def test_two_processes_fill_the_bank_of_one_and_resume_when_one_is_killed(tmp_path):
    fill(tmp_path / "one.zarr")
    whole = contents(tmp_path / "one.zarr")
    finish(start_two(tmp_path / "two.zarr"))
    assert contents(tmp_path / "two.zarr") == whole
    first, second = start_two(tmp_path / "killed.zarr")
    wait_for_codes(tmp_path / "killed.zarr", 180, first)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    first.kill()  # as a scheduler does; it waits for the other
    first.communicate()
    assert 180 <= len(read_bank(tmp_path / "killed.zarr").codes) < 700
    finish(start_two(tmp_path / "killed.zarr"))
    assert contents(tmp_path / "killed.zarr") == whole
    # what the first process cannot do ends both
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    messages = [process.communicate(timeout=300)[1].decode() for process in start_two(tmp_path / "full")]
    assert "is not empty and holds no bank" in messages[0]
    assert "the first process could not write" in messages[1]


def test_a_bank_of_other_metadata_is_not_touched(tmp_path):
    fill(tmp_path / "bank.zarr")
    with pytest.raises(BankError, match="holds another bank"):
        fill(tmp_path / "bank.zarr", metadata={"model": "another"})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(BankError, match="not empty"):
        fill(tmp_path / "full")
    with pytest.raises(BankError, match="holds no bank"):
        read_bank(tmp_path / "none")


def test_a_writer_that_died_before_its_manifest_does_not_lock_the_folder(tmp_path, monkeypatch):
    whole = fill(tmp_path / "whole.zarr")
    shutil.copytree(tmp_path / "whole.zarr", tmp_path / "died.zarr")
    (tmp_path / "died.zarr" / "zarr.json").unlink()
    (tmp_path / "died.zarr" / ".123.abc.tmp").write_bytes(b"half")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    np.testing.assert_array_equal(fill("../died.zarr").codes, whole.codes)
    np.testing.assert_array_equal(fill("../new.zarr").codes, whole.codes)
    with storage.lock_folder("../new.zarr"), pytest.raises(storage.FolderInUseError):
        fill("../new.zarr")


def test_gives_up_where_nothing_is_valid(tmp_path):
    with pytest.raises(BankError, match="none of 3200 shapes"):
        fill(tmp_path / "bank.zarr", is_valid=lambda z: jnp.zeros(len(z), bool))


def test_a_mesh_fills_the_same_bank(tmp_path):
    """One device in a mesh; that eight draw the same is shown in the tests of the sampler."""
    bank = fill(tmp_path / "a.zarr", mesh=jax.make_mesh((1,), ("data",)))
    np.testing.assert_array_equal(bank.codes, fill(tmp_path / "b.zarr").codes)
