"""Which batch size fits into the memory of a device."""

import os
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree


class OutOfMemoryError(MemoryError):
    """A training step does not fit into memory; the sentence says which batch size would."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether XLA or the system could not allocate memory.

    Args:
        error: An exception of a computation.

    Example:
        >>> is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes"))
        True
    """
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def step_bytes(step: Callable[..., Any], state: PyTree, batch: PyTree, batch_size: int) -> int | None:
    """Computes the memory of a training step from its compiled program; nothing is run.

    Args:
        step: The jitted step.
        state: Arrays, or their shapes.
        batch: Arrays whose first axis is the batch.
        batch_size: Number of examples.

    Returns:
        Bytes of arguments, results and intermediate arrays on a device; None if XLA does not state them.
    """

    def shape(leaf: Any, sizes: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, leaf.dtype, sharding=getattr(leaf, "sharding", None))

    shapes = jax.tree.map(lambda leaf: shape(leaf, leaf.shape), state)
    examples = jax.tree.map(lambda leaf: shape(leaf, (batch_size, *leaf.shape[1:])), batch)
    lower: Any = getattr(step, "lower", None)
    used = None if lower is None else lower(shapes, examples).compile().memory_analysis()
    if used is None:
        return None
    return used.argument_size_in_bytes + used.output_size_in_bytes + used.temp_size_in_bytes - used.alias_size_in_bytes


def largest_batch(step: Callable[..., Any], state: PyTree, batch: PyTree, *, limit: int, multiple: int = 1) -> int:
    """Estimates the largest batch that fits: memory grows linearly with it.

    Args:
        step: The jitted step.
        state: Arrays, or their shapes.
        batch: A batch that does not fit.
        limit: Bytes of the device.
        multiple: Of which the size must be one, such as the number of devices.

    Returns:
        Its size; 0 if none fits or XLA does not state the memory.
    """
    num = len(jax.tree.leaves(batch)[0])
    sizes = (multiple, max(num // 2 // multiple * multiple, 2 * multiple))
    small, large = (step_bytes(step, state, batch, size) for size in sizes)
    if small is None or large is None or small > limit:
        return 0
    slope = max((large - small) / (sizes[1] - sizes[0]), 1.0)
    fitting = int((limit - small) / slope) // multiple * multiple + multiple
    return min(fitting, num - 1) // multiple * multiple


def describe_shortage(step: Callable[..., Any], state: PyTree, batch: PyTree, *, multiple: int = 1) -> str:
    """Says how much memory a step needs and which batch size would fit.

    Args:
        step: The jitted step.
        state: Arrays, or their shapes.
        batch: The batch that does not fit.
        multiple: Of which the size must be one, such as the number of devices.

    Returns:
        A sentence.

    Example:
        >>> step = jax.jit(lambda state, batch: (state + batch.sum(), {}))
        >>> describe_shortage(step, jax.numpy.zeros(()), jax.numpy.zeros((4, 2)))
        'a step with a batch of 4 needs 0.00 GiB of ... GiB; a batch of 3 would fit'
    """
    num, limit = len(jax.tree.leaves(batch)[0]), device_bytes()
    needed = step_bytes(step, state, batch, num)
    fitting = largest_batch(step, state, batch, limit=limit, multiple=multiple)
    stated = "" if needed is None else f" needs {needed / 2**30:.2f} GiB of {limit / 2**30:.2f} GiB"
    advice = f"a batch of {fitting} would fit" if fitting else "not even the smallest batch would fit"
    return f"a step with a batch of {num}{stated}; {advice}"


def device_bytes() -> int:
    """Memory of the first device that computations may take; on a CPU that of the machine."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and stats.get("bytes_limit"):
        return int(stats["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
