"""How XLA is asked to compile."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

#: XLA:CPU gives 3 x 3 convolutions to a library that runs them on one thread, unless only reductions are left to it.
_CPU = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


def compiler_options() -> dict[str, Any]:
    """Options of `jax.jit` under which convolutional networks run fast on the default backend.

    On two CPU cores they take an eighth off the time of a U-Net's train step and a quarter off that of its forward
    pass. They are for the outermost `jax.jit` only.

    Returns:
        Names and values; none on accelerators, nor where this version of XLA does not know them.

    Example:
        >>> double = jax.jit(lambda x: 2 * x, compiler_options=compiler_options())
        >>> double(3)
        Array(6, dtype=int32, weak_type=True)
    """
    return _known(_CPU)


def brief_compiler_options(level: int = 1) -> dict[str, Any]:
    """Options under which a program that runs only a few times is compiled soon.

    The anatomical criteria compile on CPU in half the time at level 0, with a third of the work, and run at half the
    speed; level 1 saves a third and costs nothing.

    Args:
        level: How far LLVM optimises, 0 to 3.

    Returns:
        Names and values, as of `compiler_options`.
    """
    return _known({"xla_backend_optimization_level": level, "xla_cpu_use_fusion_emitters": False})


def _known(options: dict[str, Any]) -> dict[str, Any]:
    """The options if the default backend is a CPU and knows them."""
    return dict(options) if jax.default_backend() == "cpu" and _is_known(tuple(options.items())) else {}


@functools.cache
def _is_known(options: tuple[tuple[str, Any], ...]) -> bool:
    try:
        jax.jit(lambda: jnp.zeros(()), compiler_options=dict(options)).lower().compile()
    except jax.errors.JaxRuntimeError:  # an option may go as it came
        return False
    return True
