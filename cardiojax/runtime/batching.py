"""Batches of one size, which several threads compute."""

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from cardiojax import ops

#: Shared by all calls, so that those of several threads together keep each core busy, and no more.
_POOL = ThreadPoolExecutor(
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(), thread_name_prefix="batch"
)


def map_full_batches(function: Callable[..., Any], *arrays: np.ndarray, batch_size: int) -> Any:
    """Applies a function that is compiled for one size of batch to all examples, on a thread for each core.

    A call of most compiled functions keeps little more than one core busy.

    Args:
        function: As of `ops.map_batches`; called from several threads. It does not call this function.
        arrays: Each ``[n, ...]`` with one ``n`` of at least 1.
        batch_size: Examples of a call; the last ones are filled up.

    Returns:
        The function's pytree with NumPy arrays ``[n, ...]``.

    Raises:
        ValueError: If there is no example, or the arrays differ in length.

    Example:
        >>> map_full_batches(np.negative, np.arange(3), batch_size=2).tolist()
        [0, -1, -2]
    """
    return ops.map_batches(function, *arrays, batch_size=batch_size, is_fixed=True, map=_POOL.map)


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
