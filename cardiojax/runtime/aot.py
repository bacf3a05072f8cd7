"""Programs that compile while something else is done, and where compiled programs are kept."""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pickle
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
from jax.experimental import serialize_executable

import cardiojax
from cardiojax import ops

#: XLA compiles without holding Python's lock. Two at a time: each of them has threads of its own.
_POOL = ThreadPoolExecutor(2, thread_name_prefix="compile")
#: Tracing does hold it: one after the other, the first is ready in half the time.
_TRACING = threading.Lock()
_FOLDER = "programs"  # in that of JAX's cache


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


def set_cache_folder(parent: str | Path) -> None:
    """Keeps compiled programs, JAX's own and each `CompiledFunction`, from now on.

    Args:
        parent: A folder that only trusted users can write to: what is found there is run.

    Raises:
        ValueError: If it cannot be written to.
    """
    folder = cache_folder(parent)
    try:
        (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{parent} cannot hold compiled programs ({error.strerror})") from error
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


class CompiledFunction:
    """A function that is compiled once for each set of shapes, as by `jax.jit`, but may be compiled ahead.

    With a folder made by `set_cache_folder` it is kept there whole, so that the next process neither traces nor
    lowers it, which takes longer than to load it.

    Args:
        function: A pure function of arrays.
        options: Makes the compiler's options once the backend is known.
        identity: Says what a function closes over that shapes its program, so that it can be kept: two functions of one
            name with one identity are the same. One that closes over nothing needs none; others are not kept without.
        **jit: Further options of `jax.jit`; static arguments are given by name.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        options: Callable[[], dict[str, Any]] = ops.brief_compiler_options,
        identity: Any = None,
        **jit: Any,
    ):
        self._jitted, self._options = jax.jit(function, **jit), options
        is_plain = getattr(function, "__closure__", None) is None and not hasattr(function, "__self__")
        is_known = identity is not None or (is_plain and "<lambda>" not in function.__qualname__)
        self._name = f"{function.__module__}.{function.__qualname__} {identity!r}" if is_known else None
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
                self._compiled[key] = _POOL.submit(self._compile, shapes, static, repr(key))
            return self._compiled[key]

    def _compile(self, shapes: Any, static: dict[str, Any], key: str) -> Any:
        options = self._options()
        path = _path(f"{self._name} {key} {options}") if self._name else None
        if path is not None and path.exists():
            with contextlib.suppress(Exception):  # whatever is wrong with it, it can be compiled
                return serialize_executable.deserialize_and_load(*pickle.loads(path.read_bytes()))
        with _TRACING:
            lowered = self._jitted.lower(*shapes, **static)
        compiled = lowered.compile(options)
        if path is not None and _is_self_contained(compiled):
            with contextlib.suppress(OSError, ValueError, jax.errors.JaxRuntimeError):
                _write(path, pickle.dumps(serialize_executable.serialize(compiled)))
        return compiled

    def __call__(self, *arguments: Any, **static: Any) -> Any:
        """Runs the program, waiting for it if it is not compiled yet."""
        return self.compile(*arguments, **static).result()(*arguments)


def _path(identity: str) -> Path | None:
    """Where a program is kept if there is a folder for it."""
    folder = Path(jax.config.values["jax_compilation_cache_dir"] or "", _FOLDER)
    if not folder.is_dir():
        return None
    return folder / hashlib.sha256(f"{_circumstances()} {identity}".encode()).hexdigest()


def _is_self_contained(compiled: Any) -> bool:
    """Whether a program calls nothing that JAX binds while it lowers, as LAPACK: it would crash where it is loaded."""
    called = set(re.findall(r'custom_call_target="([^"]*)"', compiled.as_text()))
    return all(name == "TopK" or name.startswith("__") for name in called)


def _write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _circumstances() -> str:
    """What else a program depends on: our code, the libraries that trace and compile it, the processor, the options."""
    options = {name: value for name, value in jax.config.values.items() if "_cache" not in name}
    devices = [(d.platform, d.device_kind) for d in jax.devices()]
    versions = (jax.__version__, cache_folder("").name, os.environ.get("XLA_FLAGS"))
    return f"{_sources()} {versions} {devices} {sorted(options.items())}"


@functools.cache
def _sources() -> str:
    """A digest of the package, and of the version of Flax that traces its networks."""
    digest = hashlib.sha256(importlib.metadata.version("flax").encode())
    for path in sorted(Path(cardiojax.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
