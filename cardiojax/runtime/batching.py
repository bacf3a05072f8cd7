"""Batches of one size, which several threads compute."""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np

from cardiojax import ops
from cardiojax.runtime.threads import thread_pool


def map_full_batches(function: Callable[..., Any], *arrays: np.ndarray, batch_size: int) -> Any:
    """Applies a function that is compiled for one size of batch to any number of examples, on a thread for each core.

    The last batch is filled up by repeating an example, and what the function makes of the filling is dropped. A call
    of most compiled functions keeps little more than one core busy.

    Args:
        function: Batches ``[batch_size, ...]`` to a pytree of arrays of the same length; called from several threads.
        arrays: Each ``[n, ...]`` with one ``n`` of at least 1.
        batch_size: Examples of a call.

    Returns:
        The function's pytree with NumPy arrays ``[n, ...]``.

    Example:
        >>> map_full_batches(np.negative, np.arange(3), batch_size=2).tolist()
        [0, -1, -2]
    """

    def run(start: int) -> Any:
        batch = [array[start : start + batch_size] for array in arrays]
        values = function(*(ops.pad_batch(part, batch_size) for part in batch))
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(batch[0])], values)

    with thread_pool(os.cpu_count()) as pool:
        parts = list(pool.map(run, range(0, len(arrays[0]), batch_size)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


class SharedBatches:
    """Applies a function of a batch to examples of several threads, which share its batches.

    No thread waits for a batch to fill: one that finds the function idle calls it with the examples that wait, its own
    and others', oldest first; while it runs, the examples of other threads collect. So a batch is full when the
    function is the bottleneck, and the delay is short when it is not.

    Every batch is filled up to the same size, so that the result of an example depends on no other one, if the
    function treats each by itself.

    Args:
        function: Examples ``[batch_size, ...]`` to results ``[batch_size, ...]``.
        batch_size: Examples of a call.

    Attributes:
        batch_size: Examples of a call.
        num_calls: Calls of the function so far.
        num_examples: Examples of these calls, without what fills them up.

    Example:
        >>> doubled = SharedBatches(lambda x: 2 * x, batch_size=4)
        >>> doubled(np.arange(5)).tolist(), doubled.num_calls
        ([0, 2, 4, 6, 8], 2)
    """

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], *, batch_size: int):
        self._function, self.batch_size = function, batch_size
        self._waiting: deque[tuple[np.ndarray, Future]] = deque()
        self._is_running = threading.Lock()
        self.num_calls = self.num_examples = 0

    def __call__(self, examples: np.ndarray) -> np.ndarray:
        """Applies the function.

        Args:
            examples: ``[n, ...]``, n at least 1; all calls have examples of one shape and type.

        Returns:
            The results ``[n, ...]``.
        """
        futures = [Future() for _ in examples]
        self._waiting.extend(zip(examples, futures, strict=True))
        while not futures[-1].done():
            with self._is_running:
                if not futures[-1].done():
                    self._run()
        return np.stack([future.result() for future in futures])

    def _run(self) -> None:
        num = min(self.batch_size, len(self._waiting))
        examples, futures = zip(*(self._waiting.popleft() for _ in range(num)), strict=True)
        self.num_calls, self.num_examples = self.num_calls + 1, self.num_examples + num
        try:
            results = np.asarray(self._function(ops.pad_batch(np.stack(examples), self.batch_size)))
        except BaseException as error:
            for future in futures:
                future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for future, result in zip(futures, results, strict=False):
                future.set_result(result)
