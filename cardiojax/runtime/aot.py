"""Ahead-of-time compilation in the background, and the folder of JAX's persistent compilation cache."""

import contextlib
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


def set_cache_folder(parent: str | Path) -> None:
    """Turns JAX's persistent compilation cache on, from now on.

    Machine code that lies in the folder is run. Therefore the folder is made for its owner alone, and one that another
    user can write to, or that holds a file of another user, is refused. Entries that a killed process left half written
    are removed, since JAX replaces none, and the oldest of those over 64 MiB in all.

    Args:
        parent: A folder for the caches of all versions of jaxlib and all processors.

    Raises:
        ValueError: If it cannot be written to, or is not private.
    """
    folder = cache_folder(parent)
    try:
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for path in (folder.parent, folder):
            path.mkdir(mode=0o700, exist_ok=True)
            _require_private(path)
        _clear(folder)
    except OSError as error:
        raise ValueError(f"{parent} cannot hold compiled functions ({error.strerror})") from error
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()  # JAX keeps the folder of its first compilation otherwise


def _clear(folder: Path) -> None:
    """Removes entries that are not whole, and the oldest of too many; all must be private."""
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            _require_private(path)
            if path.name.endswith("-cache"):
                entries.append((path.lstat().st_mtime, path.lstat().st_size, path))
    total = 0
    for _, size, path in sorted(entries, reverse=True):
        total += size
        with contextlib.suppress(FileNotFoundError):
            if total > _MOST_BYTES or not _is_whole(path):
                path.unlink()


def use_user_cache() -> None:
    """Turns the cache on in the user's cache folder, unless JAX's own settings name one or this one cannot be used."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        with contextlib.suppress(ValueError):
            set_cache_folder(storage.user_cache_folder() / "programs")


def check_cache_folder() -> None:
    """Checks the folder that JAX's own settings name, such as ``JAX_COMPILATION_CACHE_DIR``.

    Raises:
        ValueError: If another user can write to it, or it holds a file of another user.
    """
    folder = Path(jax.config.values["jax_compilation_cache_dir"] or "")
    if folder.name and folder.is_dir():  # absent, JAX makes it; the address of a bucket is no folder
        for path in (folder, *folder.iterdir()):
            _require_private(path)


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


def _require_private(path: Path) -> None:
    """Refuses what another user owns, or can write to."""
    if not hasattr(os, "getuid"):  # Windows has access lists instead
        return
    status = path.lstat()
    if status.st_uid != os.getuid() or (status.st_mode & _OTHERS_CAN_WRITE and not stat.S_ISLNK(status.st_mode)):
        raise ValueError(
            f"{path} can be written to by other users, and compiled functions found there would be run; "
            "choose a folder of your own"
        )


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
