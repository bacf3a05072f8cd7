"""Threads that do not delay the end of an interrupted process."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor


@contextlib.contextmanager
def thread_pool(num_threads: int | None) -> Iterator[ThreadPoolExecutor]:
    """Gives a pool that is waited for only if all goes well.

    `ThreadPoolExecutor` as a context waits after an exception too, for a compilation that may take a minute more.

    Args:
        num_threads: Threads of the pool.

    Yields:
        The pool.

    Example:
        >>> with thread_pool(2) as pool:
        ...     print(list(pool.map(abs, [-1, -2])))
        [1, 2]
    """
    pool = ThreadPoolExecutor(num_threads)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
