"""Faults of a run: clocks that jump, and what its checkpoints say of it."""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cardiojax import train
from cardiojax.data.arrays import ArraySource
from cardiojax.recipes.run import RunConfig, run, training_batches

DATA = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
OPTIMIZER = optax.adam(0.1)


class Config(RunConfig):
    batch_size = 4


def loss(key, params, batch, *, step):
    noise = jax.random.normal(key, (3,))
    return jnp.square(batch["x"] @ (params["w"] + 0.1 * noise) - 1)


def fit(folder: Path, *, seed: int = 0, num_steps: int = 4):
    task = train.Task(
        init=lambda key: {"w": jax.random.normal(key, (3,))}, loss=loss, evaluate=lambda params: {"score": 0.0}
    )
    loop = train.LoopConfig(num_steps=num_steps, log_every=1, eval_every=2)
    config = Config(out=folder, seed=seed, loop=loop)
    batches = training_batches(ArraySource({"x": DATA}), config)
    return run(task, batches, config=config, optimizer=OPTIMIZER, data_checksum=77)


def test_a_checkpoint_holds_configuration_versions_and_a_fingerprint_of_the_data(tmp_path):
    result = fit(tmp_path)
    restored = train.CheckpointStore(tmp_path / "checkpoints").restore(result.state)
    assert restored is not None
    described = restored.metadata["run"]
    assert (described["data_checksum"], described["seed"], described["loop"]["num_steps"]) == (77, 0, 4)
    assert described["versions"]["jax"] == jax.__version__


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path):
    first, second, other = (fit(tmp_path / name, seed=seed).state for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert (np.asarray(first.params["w"]) != np.asarray(other.params["w"])).any()


def test_a_clock_that_jumps_does_not_change_which_checkpoint_is_the_latest(tmp_path):
    whole = fit(tmp_path / "whole", num_steps=6)
    fit(tmp_path / "run")
    for path in (tmp_path / "run").rglob("*"):  # the clock was a year ahead at first, then it was put right
        age = 365 * 86400 * (1 if "/2" in str(path) else -1)
        os.utime(path, (path.stat().st_mtime + age,) * 2)
    resumed = fit(tmp_path / "run", num_steps=6)
    jax.tree.map(np.testing.assert_array_equal, resumed.state, whole.state)
    assert train.read_log(tmp_path / "run") == train.read_log(tmp_path / "whole")


def test_the_run_of_an_older_version_is_resumed(tmp_path):
    fit(tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    del config["mesh"]
    path.write_text(json.dumps(config))
    assert int(fit(tmp_path / "run", num_steps=6).state.step) == 6
