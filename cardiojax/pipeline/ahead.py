"""Programs that compile while something else is done, and where compiled programs are kept."""

import platform
import re
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jaxlib

#: XLA compiles without holding Python's lock. Two at a time: each of them has threads of its own.
_POOL = ThreadPoolExecutor(2, thread_name_prefix="compile")
#: Tracing does hold it: one after the other, the first is ready in half the time.
_TRACING = threading.Lock()


def cache_folder(parent: str | Path) -> Path:
    """Where the programs of this jaxlib and this processor are kept: elsewhere they are stale, or crash.

    Args:
        parent: A folder for all of them.

    Returns:
        A folder in it, named after the version of jaxlib, the model of the processor and what it can do.
    """
    model, features = platform.processor() or platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        facts = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", cpuinfo.read_text("utf-8", "replace"), re.MULTILINE))
        model, features = facts.get("model name", model), facts.get("flags", facts.get("Features", ""))
    name = re.sub(r"[^a-z0-9]+", "-", f"{model} {zlib.crc32(features.encode()):08x}".lower()).strip("-")
    return Path(parent).resolve() / f"jaxlib-{jaxlib.__version__}-{name}"


class Program:
    """A function that is compiled once for each set of shapes, as by `jax.jit`, but may be compiled ahead.

    Args:
        function: A pure function of arrays.
        **options: Of `jax.jit`; static arguments are given by name.
    """

    def __init__(self, function: Callable[..., Any], **options: Any):
        self._jitted = jax.jit(function, **options)
        self._compiled: dict[Any, Future] = {}
        self._lock = threading.Lock()

    def compile(self, *arguments: Any, **static: Any) -> Future:
        """Begins to compile in the background.

        Args:
            *arguments: Arrays, or their shapes and types.
            **static: Static arguments.

        Returns:
            The compiled program, some time.
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
        return lowered.compile()

    def __call__(self, *arguments: Any, **static: Any) -> Any:
        """Runs the program, waiting for it if it is not compiled yet."""
        return self.compile(*arguments, **static).result()(*arguments)
