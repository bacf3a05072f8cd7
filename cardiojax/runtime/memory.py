"""Settings of the C library's memory allocator."""

import ctypes

import jax

#: Parameters of ``mallopt`` in glibc's ``malloc.h``.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
#: Bytes by which the heap grows at a time.
_GROWTH = 2**26


def keep_freed_memory() -> bool:
    """Makes the C library keep the memory that is freed, for the program's next allocation.

    XLA allocates the intermediate results of a CPU program anew at each call. glibc maps them afresh, and the operating
    system clears every page: a sixth of a train step of a U-Net. Afterwards the process keeps the most that it has
    used, and free blocks between others. Programs run in the thread that calls them from then on. To be called before
    JAX starts its backend: later, programs still run in other threads, whose large blocks are mapped afresh.

    Returns:
        Whether the C library has such settings: glibc has.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS have no such function, Windows no such library
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, _GROWTH))
    if sum(mallopt(name, value) for name, value in settings) < len(settings):
        return False
    # other threads than the main one have heaps of 64 MiB at most, beyond which memory is mapped afresh
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return True
