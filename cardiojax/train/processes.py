"""Runs of several processes: each holds a part of the arrays, and the first writes the files."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import PyTree

from cardiojax import storage

T = TypeVar("T")


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
        OtherProcessError: In the other processes then.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, lock_folder(folder):
        ...     pass
    """
    with contextlib.ExitStack() as stack:
        on_writer(lambda: stack.enter_context(storage.lock_folder(folder)))
        yield


def on_writer(action: Callable[[], T]) -> T | None:
    """Does something in the first process alone; all wait for it, and all end if it fails.

    Args:
        action: Writes files.

    Returns:
        What it returns; None in the other processes.

    Raises:
        OtherProcessError: In the other processes, if it fails.
        Exception: In the first, what it raises.

    Example:
        >>> on_writer(lambda: print("written"))
        written
    """
    result = failure = None
    if is_writer():
        try:
            result = action()
        except Exception as error:
            failure = error
    if any_process(failure is not None):
        raise failure or OtherProcessError("the first process could not write; its own message says why")
    return result


def from_writer(tree: PyTree) -> PyTree:
    """Numbers as the first process has them, bit by bit: what each computes alone may differ by rounding.

    Args:
        tree: Arrays of the same shapes and types in every process.

    Returns:
        NumPy arrays.

    Example:
        >>> from_writer({"codes": jax.numpy.arange(2)})
        {'codes': array([0, 1], dtype=int32)}
    """

    def send(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        if jax.process_count() == 1:
            return array
        numbers = np.frombuffer(array.tobytes(), np.uint8)
        received = np.asarray(multihost_utils.broadcast_one_to_all(numbers))
        return np.frombuffer(received.tobytes(), array.dtype).reshape(array.shape)

    return jax.tree.map(send, tree)


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
