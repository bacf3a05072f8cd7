"""One of the processes of a run: ``python -m tests.train.multiprocess FOLDER COORDINATOR NUM ID STEPS [KILL_AT]``."""

import os
import signal
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax

from cardiojax import train
from cardiojax.data.arrays import ArraySource
from cardiojax.recipes.run import RunConfig, run, training_batches

DATA = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)


class Config(RunConfig):
    batch_size = 8


def loss(key, params, batch, *, step):
    return jnp.square(jnp.tanh(batch @ params["w"]) @ params["v"] - batch.sum(-1, keepdims=True)).mean(-1)


def main(folder: str, coordinator: str, num: str, index: str, steps: str, kill_at: str = "0") -> None:
    processes = {"coordinator": coordinator, "num_processes": int(num), "process_id": int(index)}
    mesh = train.MeshConfig(
        data=int(os.environ.get("MESH_DATA", "0")), fully_sharded=True, **(processes if int(num) > 1 else {})
    )
    train.start_processes(mesh)
    loop = train.LoopConfig(num_steps=int(steps), log_every=1, eval_every=4)
    config = Config(out=Path(folder), loop=loop, mesh=mesh)
    count = iter(range(1, 1000))

    def should_stop() -> bool:
        if next(count) == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    params = {"w": jnp.full((8, 16), 0.1), "v": jnp.full((16, 1), 0.1)}
    held = jnp.asarray(DATA[:8])
    task = train.Task(
        init=lambda key: params,
        loss=lambda key, params, batch, *, step: loss(key, params, batch["x"], step=step),
        evaluate=lambda params: {"score": -float(loss(None, params, held, step=0).mean())},
    )
    result = run(
        task,
        training_batches(ArraySource({"x": DATA}), config),
        config=config,
        optimizer=optax.adam(1e-2),
        should_stop=should_stop,
    )
    shard = result.state.params["w"].addressable_shards[0].data
    print("part", shard.shape, result.best_step, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
