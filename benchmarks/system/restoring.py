"""Memory of a process while a state is restored: four processes, each with its quarter or with the whole.

``python -m benchmarks.system.restoring``; Linux, a minute.
"""

import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cardiojax import train

#: A state of so many leaves of so many bytes.
_LEAVES, _LEAF_BYTES = 32, 2**24
_PROCESSES = 4


def peak_memory(*, reset: bool = False) -> float:
    """Highest resident memory of this process since the last reset, MiB."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def run(folder: str, coordinator: str, index: int, fully_sharded: bool) -> None:
    """Saves a state in one of several processes, or restores the one that is there.

    Prints by how many MiB the latter raises the memory of the process at most.
    """
    config = train.MeshConfig(
        data=0, fully_sharded=fully_sharded, coordinator=coordinator, num_processes=_PROCESSES, process_id=index
    )
    train.start_processes(config)
    mesh = train.make_mesh(config)
    assert mesh is not None
    shapes = {f"{i:02d}": jax.ShapeDtypeStruct((_LEAF_BYTES // 4096, 1024), np.float32) for i in range(_LEAVES)}
    places = train.shardings(shapes, mesh, fully_sharded="data" if fully_sharded else None)
    store = train.CheckpointStore(folder)
    if not store.steps:
        store.save(
            1,
            train.place({name: np.ones(leaf.shape, leaf.dtype) for name, leaf in shapes.items()}, places),
            metadata={},
        )
        return

    def describe(leaf: Any, place: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

    before = peak_memory(reset=True)
    restored = store.restore(jax.tree.map(describe, shapes, places))
    assert restored is not None
    print("grown by", peak_memory() - before)


def main() -> None:
    """Prints the memory of both ways."""
    for fully_sharded in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            for _ in ("save", "restore"):
                with socket.socket() as server:
                    server.bind(("localhost", 0))
                    address = f"localhost:{server.getsockname()[1]}"
                calls = [f"run({folder!r}, {address!r}, {index}, {fully_sharded})" for index in range(_PROCESSES)]
                command = [sys.executable, "-c", "from benchmarks.system.restoring import run; "]
                runs = [
                    subprocess.Popen([*command[:2], command[2] + call], stdout=subprocess.PIPE, text=True)
                    for call in calls
                ]
                printed = [each.communicate()[0] for each in runs]
        grown = " and ".join(f"{float(text.split('grown by')[1]):.0f}" for text in printed)
        print(f"{_LEAVES * _LEAF_BYTES / 2**20:.0f} MiB, fully sharded {fully_sharded}: {grown} MiB")


if __name__ == "__main__":
    main()
