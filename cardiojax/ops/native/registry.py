"""The library of compiled kernels: where its source is, and how its functions become targets of XLA's foreign calls."""

import ctypes
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

#: C++ sources of the library; they include the headers beside them.
KERNEL_SOURCES = tuple(Path(__file__).parent / name for name in ("convolution.cc", "normalization.cc"))
#: Functions of the library.
_FUNCTIONS = ("convolve", "convolve_kernel_gradient", "normalize", "normalize_gradient")
#: Name under which each function is registered. XLA keeps a name for good, so that another library needs other names.
_targets: dict[str, str] = {}
_numbers = itertools.count()


def register_kernels(library: str | Path) -> None:
    """Makes the functions of a compiled library known to XLA, for programs that are traced afterwards.

    Args:
        library: Shared library, compiled from `KERNEL_SOURCES`.

    Raises:
        OSError: If it cannot be loaded.
        AttributeError: If it lacks one of the functions.
    """
    _targets.update(_register(Path(library).resolve()))


@functools.cache
def _register(library: Path) -> dict[str, str]:
    loaded, number = ctypes.CDLL(str(library)), next(_numbers)
    targets = {name: f"cardiojax_{name}_{number}" for name in _FUNCTIONS}
    for name, target in targets.items():
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(getattr(loaded, name)), platform="cpu")
    return targets


def foreign_function(name: str, result: Any) -> Callable[..., Any]:
    """A function of the library as a JAX function of arrays; under `jax.vmap` it is called for one example at a time.

    Args:
        name: Of the function.
        result: Shapes and types that it returns.

    Returns:
        Function of arrays and attributes.

    Raises:
        RuntimeError: If no library has been registered.
    """
    if not _targets:
        raise RuntimeError(
            'implementation="native" needs compiled kernels: call cardiojax.runtime.build_kernels() first'
        )
    return jax.ffi.ffi_call(_targets[name], result, vmap_method="sequential")
