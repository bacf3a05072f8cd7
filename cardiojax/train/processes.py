"""Runs of several processes: each holds a part of the arrays, and the first writes the files."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from cardiojax import storage


class OtherProcessError(OSError):
    """The first process of a run could not do its part."""


def is_writer() -> bool:
    """Whether this process writes the files of a run: the first does.

    Example:
        >>> is_writer()
        True
    """
    return jax.process_index() == 0


@contextlib.contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Locks a folder for all processes of a run, see `cardiojax.storage.lock_folder`.

    Args:
        folder: The folder; made if absent.

    Raises:
        FolderInUseError: If another run has it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, lock_folder(folder):
        ...     pass
    """
    with storage.lock_folder(folder) if is_writer() else contextlib.nullcontext():
        yield


def on_writer(action: Callable[[], Any]) -> None:
    """Does something in the first process alone; all wait for it, and all end if it fails.

    Args:
        action: Writes files.

    Raises:
        OtherProcessError: In the other processes, if it fails.
        Exception: In the first, what it raises.

    Example:
        >>> on_writer(lambda: print("written"))
        written
    """
    failure = None
    if is_writer():
        try:
            action()
        except Exception as error:
            failure = error
    if any_process(failure is not None):
        raise failure or OtherProcessError("the first process could not write; its own message says why")


def wait_for_all(name: str) -> None:
    """Waits until all processes are here.

    Args:
        name: Of the place.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_process(flag: bool) -> bool:
    """Whether a truth value holds in any process; all get the same answer.

    Args:
        flag: That of this process.
    """
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def to_host(leaf: Any) -> np.ndarray:
    """The whole of an array, of which this process may hold a part.

    Args:
        leaf: The array.
    """
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    return np.asarray(leaf)


def local_copy(tree: PyTree) -> PyTree:
    """Arrays that this process can use alone: those of a run of several processes are gathered.

    Args:
        tree: Arrays.

    Example:
        >>> local_copy({"w": 1.5})
        {'w': 1.5}
    """
    return jax.tree.map(to_host, tree) if jax.process_count() > 1 else tree
