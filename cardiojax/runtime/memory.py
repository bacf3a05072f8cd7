"""Settings of the C library's memory allocator."""

import ctypes

#: Parameters of ``mallopt`` in glibc's ``malloc.h``.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
#: Bytes by which the heap grows at a time.
_GROWTH = 2**26


def keep_freed_memory() -> bool:
    """Makes the C library keep the memory that is freed, for the program's next allocation.

    XLA allocates the intermediate results of a CPU program anew at each call. glibc maps them afresh, and the kernel
    clears every page: a sixth of a train step of a U-Net. Afterwards the process keeps the most that it has used.
    To be called before JAX starts its backend, whose threads would have heaps of their own.

    Returns:
        Whether the C library has such settings: glibc has.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS have no such function, Windows no such library
        return False
    settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, _GROWTH))
    return all([mallopt(name, value) == 1 for name, value in settings])
