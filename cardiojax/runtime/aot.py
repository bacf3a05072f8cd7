"""Ahead-of-time compilation in the background, and the folder of JAX's persistent compilation cache."""

import contextlib
import errno
import importlib
import os
import platform
import re
import stat
import sys
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jaxlib
from jax.experimental.compilation_cache import compilation_cache

from cardiojax import ops, storage

#: XLA compiles without holding Python's lock. Two at a time: each compilation has threads of its own.
_POOL = ThreadPoolExecutor(2, thread_name_prefix="compile")
#: Tracing holds Python's lock: one after the other, the first function is ready in half the time.
_TRACING = threading.Lock()
_OTHERS_CAN_WRITE = stat.S_IWGRP | stat.S_IWOTH
#: Bytes of the entries that are kept, the newest first: the programs for some forty sizes of images.
_MOST_BYTES = 2**26
#: A file whose time is that of the last check of the entries.
_CHECKED = "checked"
#: Seconds by which the times of files may be rounded.
_CLOCK_STEP = 2.0
#: First bytes of the entries of JAX's cache where zstd is installed; else they are compressed by zlib.
_ZSTD = b"\x28\xb5\x2f\xfd"


def cache_folder(parent: str | Path) -> Path:
    """Names the folder for the compiled functions of this jaxlib and this processor; others would be stale or crash.

    Args:
        parent: A folder for all of them.

    Returns:
        A folder in it, named after the version of jaxlib, the model of the processor and its features.
    """
    model, features = platform.processor() or platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", cpuinfo.read_text("utf-8", "replace"), re.MULTILINE))
        model, features = fields.get("model name", model), fields.get("flags", fields.get("Features", ""))
    name = re.sub(r"[^a-z0-9]+", "-", f"{model} {zlib.crc32(features.encode()):08x}".lower()).strip("-")
    return Path(parent).resolve() / f"jaxlib-{jaxlib.__version__}-{name}"


def make_private(folder: Path) -> Path:
    """Makes a folder of `cache_folder` and its parent for the user alone, if they are absent.

    Args:
        folder: The folder.

    Returns:
        The folder.

    Raises:
        OSError: If it cannot be written to.
        ValueError: If it is not private.
    """
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    for path in (folder.parent, folder):
        path.mkdir(mode=0o700, exist_ok=True)
        require_private(path)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return folder


def set_cache_folder(parent: str | Path) -> None:
    """Turns JAX's persistent compilation cache on, from now on.

    Machine code that lies in the folder is run. Therefore the folder is made for its owner alone, and one that another
    user can write to, or that holds a file of another user, is refused. Entries that a killed process left half written
    are removed, since JAX replaces none, and the oldest of those over 64 MiB for a version of jaxlib and a processor.

    Args:
        parent: A folder for the caches of all versions of jaxlib and all processors.

    Raises:
        ValueError: If it cannot be written to, or is not private.
    """
    try:
        folder = make_private(cache_folder(parent))
        _clear(folder)
    except OSError as error:
        raise ValueError(f"{parent} cannot hold compiled functions ({error.strerror})") from error
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()  # JAX keeps the folder of its first compilation otherwise


def use_user_cache() -> None:
    """Turns the cache on in the user's cache folder.

    It stays off where JAX's own settings name another folder or turn it off, or where this one cannot be used: it
    cannot be written to, or another user could put another folder in its place.
    """
    if (
        jax.config.values["jax_compilation_cache_dir"] is not None
        or not jax.config.values["jax_enable_compilation_cache"]
    ):
        return
    with contextlib.suppress(ValueError, OSError, RuntimeError):  # the last if there is no home folder
        parent = storage.user_cache_folder().resolve()
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not can_be_replaced(parent):
            set_cache_folder(parent / "programs")


def check_cache_folder() -> None:
    """Checks the folder that JAX's own settings name, such as ``JAX_COMPILATION_CACHE_DIR``.

    Raises:
        ValueError: If another user can write to it, or it holds a file of another user.
    """
    folder = Path(jax.config.values["jax_compilation_cache_dir"] or "")
    if folder.name and folder.is_dir():  # absent, JAX makes it; the address of a bucket is no folder
        require_private(folder)
        _require_private_files(folder)


def _clear(folder: Path) -> None:
    """Removes entries that are not whole, and the oldest of too many; all must be private.

    Entries older than the last call are known to be whole.
    """
    _require_private_files(folder)
    marker = folder / _CHECKED
    checked = marker.stat().st_mtime if marker.exists() else 0.0
    marker.touch(mode=0o600)
    entries = []
    for path in folder.glob("*-cache"):
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            status = path.lstat()
            entries.append((status.st_mtime, status.st_size, path))
    total = 0
    for modified, size, path in sorted(entries, reverse=True):
        total += size
        with contextlib.suppress(FileNotFoundError):
            if total > _MOST_BYTES or (modified >= checked - _CLOCK_STEP and not _is_whole(path)):
                path.unlink()


def _is_whole(entry: Path) -> bool:
    """Whether an entry of the cache can be decompressed to its end."""
    content = entry.read_bytes()
    try:
        if content.startswith(_ZSTD):
            name = "compression.zstd" if sys.version_info >= (3, 14) else "zstandard"
            importlib.import_module(name).decompress(content)
        else:
            zlib.decompress(content)
    except Exception:  # the packages raise kinds of their own
        return False
    return True


def _require_private_files(folder: Path) -> None:
    """Refuses files of another user, and those that another user can write to."""
    others_can_enter = folder.stat().st_mode & 0o077
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            require_private(path, _OTHERS_CAN_WRITE if others_can_enter else 0)


def require_private(path: Path, forbidden: int = _OTHERS_CAN_WRITE) -> None:
    """Refuses a path that another user owns, or can write to.

    Args:
        path: The path.
        forbidden: Bits of the mode that must not be set.

    Raises:
        ValueError: If it is not private.
    """
    if not hasattr(os, "getuid"):  # Windows has access lists instead
        return
    status = path.lstat()
    if status.st_uid != os.getuid() or (status.st_mode & forbidden and not stat.S_ISLNK(status.st_mode)):
        raise ValueError(
            f"{path} can be written to by other users, and compiled functions found there would be run; "
            "choose a folder of your own"
        )


def can_be_replaced(path: Path) -> bool:
    """Whether another user, but root, can rename what lies in a folder, or one of the folders that it lies in.

    Args:
        path: The folder, absolute and without links.

    Returns:
        Whether one can.
    """
    if not hasattr(os, "getuid"):
        return False

    def others_can_rename_in(folder: Path) -> bool:
        status = folder.stat()
        can_write = status.st_mode & _OTHERS_CAN_WRITE and not status.st_mode & stat.S_ISVTX
        return bool(can_write) or status.st_uid not in (0, os.getuid())

    return any(map(others_can_rename_in, (path, *path.parents)))


class CompiledFunction:
    """A function that is compiled once for each set of shapes, as by `jax.jit`, and that can be compiled in advance.

    Args:
        function: A pure function of arrays.
        options: Makes the compiler's options once the backend is known; `dict` for XLA's own.
        **jit: Further options of `jax.jit`; static arguments are given by name.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        options: Callable[[], dict[str, Any]] = ops.brief_compiler_options,
        **jit: Any,
    ):
        self._jitted, self._options = jax.jit(function, **jit), options
        self._compiled: dict[Any, Future] = {}
        self._lock = threading.Lock()

    def compile(self, *arguments: Any, **static: Any) -> Future:
        """Begins to compile in the background.

        Args:
            *arguments: Arrays, or their shapes and types.
            **static: Static arguments.

        Returns:
            The compiled function, in the future.
        """
        leaves, tree = jax.tree.flatten(arguments)
        key = (tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves), tuple(sorted(static.items())))
        with self._lock:
            if key not in self._compiled:
                shapes = tree.unflatten([jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves])
                self._compiled[key] = _POOL.submit(self._compile, shapes, static)
            return self._compiled[key]

    def _compile(self, shapes: Any, static: dict[str, Any]) -> Any:
        with _TRACING:
            lowered = self._jitted.lower(*shapes, **static)
        return lowered.compile(self._options())

    def __call__(self, *arguments: Any, **static: Any) -> Any:
        """Runs the compiled function, waiting for it if it is not compiled yet."""
        return self.compile(*arguments, **static).result()(*arguments)
