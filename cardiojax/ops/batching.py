"""Functions of a batch applied to any number of examples, one shape and one compilation for all."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array


def pad_batch(array: Any, batch_size: int) -> np.ndarray:
    """Repeats the last example until a batch is full.

    Args:
        array: ``[n, ...]`` with ``1 <= n <= batch_size``.
        batch_size: Length of the result.

    Returns:
        ``[batch_size, ...]``.

    Example:
        >>> pad_batch(np.array([1, 2]), 4)
        array([1, 2, 2, 2])
    """
    array = np.asarray(array)
    return np.concatenate([array, np.repeat(array[-1:], batch_size - len(array), axis=0)])


def map_batches(
    function: Callable[..., Any],
    *arrays: Any,
    batch_size: int,
    is_fixed: bool = False,
    map: Callable[..., Iterable[Any]] = map,
) -> Any:
    """Applies a function of batches to all examples, on the host.

    The last batch is filled up by repeating an example, and what the function makes of the filling is dropped: a jitted
    function is compiled once. Only one batch and the results are in memory.

    Args:
        function: Batches ``[batch_size, ...]`` to a pytree of arrays of the same length.
        arrays: Each ``[n, ...]`` with one ``n`` of at least 1.
        batch_size: Examples a call.
        is_fixed: Whether fewer examples are filled up to that number too, for a function that is compiled for it; else
            they are a smaller batch.
        map: Makes the calls, as `map` does: that of an executor makes several at a time.

    Returns:
        The function's pytree with NumPy arrays ``[n, ...]``.

    Raises:
        ValueError: If there is no example, or the arrays differ in length.

    Example:
        >>> map_batches(lambda x: {"double": 2 * x}, np.arange(5), batch_size=2)["double"]
        array([0, 2, 4, 6, 8])
    """
    lengths = {len(array) for array in arrays}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"expected arrays of one length of at least 1, got lengths {[len(array) for array in arrays]}")
    num = lengths.pop()
    size = batch_size if is_fixed else min(batch_size, num)

    def call(start: int) -> Any:
        values = function(*(pad_batch(array[start : start + size], size) for array in arrays))
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: num - start], values)

    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *map(call, range(0, num, size)))


def map_blocks(function: Callable[[Array], Any], examples: Array, *, block_size: int | None, num_axes: int = 1) -> Any:
    """Applies a function of batches to all examples, some at a time, within a compiled program.

    What lies between the steps of the function takes no more memory than that of a block; on CPU, that of a small one
    stays in the cache of a core.

    Args:
        function: Examples ``[m, ...]`` to a pytree of arrays of the same length; m is the size of a block, or their
            number if that is smaller.
        examples: With any number of leading axes; filled up by zeros to whole blocks.
        block_size: Examples a block; all of them if None.
        num_axes: Axes of an example.

    Returns:
        The function's pytree, with the leading axes of the examples.

    Raises:
        ValueError: If the block size is below 1.

    Example:
        >>> map_blocks(lambda x: x.sum(-1), jnp.arange(6).reshape(3, 2), block_size=2).tolist()
        [1, 5, 9]
    """
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    batch, shape = examples.shape[: examples.ndim - num_axes], examples.shape[examples.ndim - num_axes :]
    num = math.prod(batch)
    flat = examples.reshape(num, *shape)
    if block_size is None or num <= block_size:
        values = function(flat)
    else:
        blocks = jnp.pad(flat, ((0, -num % block_size), *[(0, 0)] * num_axes)).reshape(-1, block_size, *shape)
        values = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:])[:num], lax.map(function, blocks))
    return jax.tree.map(lambda v: v.reshape(*batch, *v.shape[1:]), values)
