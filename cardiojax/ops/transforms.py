"""How functions of batches go through `jax.jit`, `jax.vmap` and explicit meshes."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def jitted(*, static: tuple[str, ...] = ()) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Decorates a function with `jax.jit` and keeps its signature for type checkers.

    A function with loops compiles them again in every call outside of `jax.jit`; with this, once for each shape.

    Args:
        static: Names of the arguments that are Python values of the compiled program, hashable.

    Returns:
        The decorator.

    Example:
        >>> @jitted(static=("num",))
        ... def repeat(x, *, num=2):
        ...     return jnp.tile(x, num)
        >>> repeat(jnp.arange(2), num=3).tolist()
        [0, 1, 0, 1, 0, 1]
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        return cast(Callable[Arguments, Result], jax.jit(function, static_argnames=static))

    return decorate


def on_each_device(*num_axes: int | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a function of arrays ``[*b, ...]`` work on arrays that are split over an explicit mesh, where they are.

    `jax.make_mesh` makes meshes with explicit axes, on which few of JAX's functions of arrays know what to do. Here
    each device runs the function on its share of the leading axes by itself. Other arrays are not affected.

    Args:
        *num_axes: For each positional argument the number of its axes after the leading ones, or None if it is shared
            by the whole batch. The leading axes are broadcast.

    Returns:
        The decorator, for functions that return arrays with the leading axes.

    Example:
        >>> import jax.numpy as jnp
        >>> area = on_each_device(2)(lambda mask: mask.sum((-2, -1)))
        >>> area(jnp.ones((3, 4, 4), int)).tolist()
        [16, 16, 16]
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arrays: Any, **options: Any) -> Any:
            values = list(map(jnp.asarray, arrays))
            shardings = [jax.typeof(a).sharding for a in values]
            meshes = [s.mesh for s in shardings if any(axis is not None for axis in s.spec)]
            if not meshes:
                return function(*values, **options)
            values = _broadcast(values, num_axes)
            trios = zip(shardings, values, num_axes, strict=True)
            splits = [tuple(s.spec)[: a.ndim - n] for s, a, n in trios if n is not None]
            split = PartitionSpec(*next((s for s in splits if any(axis is not None for axis in s)), ()))
            specs = tuple(PartitionSpec() if n is None else split for n in num_axes)
            values = map(jax.sharding.reshard, values, (NamedSharding(meshes[0], spec) for spec in specs))
            bound = functools.partial(function, **options)
            # The check asks loops to say that what they start from differs by device; the functions do not know.
            share = jax.shard_map(bound, mesh=meshes[0], in_specs=specs, out_specs=split, check_vma=False)
            return share(*values)

        return call

    return decorate


def gathered(array: Array) -> Array:
    """Gives every device of an explicit mesh all of an array that is split over them; others are returned as they are.

    For statistics over a whole batch, such as sorting or counting in bins.

    Args:
        array: An array.

    Returns:
        The same values.

    Example:
        >>> import jax.numpy as jnp
        >>> gathered(jnp.arange(3)).tolist()
        [0, 1, 2]
    """
    array = jnp.asarray(array)
    sharding = jax.typeof(array).sharding
    if all(axis is None for axis in sharding.spec):
        return array
    return jax.sharding.reshard(array, NamedSharding(sharding.mesh, PartitionSpec()))


def over_leading_axes(
    *num_axes: int | None,
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Makes a function of arrays ``[*b, ...]`` take mapped and sharded axes as leading axes.

    Under `jax.vmap` the mapped axis becomes one more leading axis. So the loops of the function run once for the whole
    batch, as in a call on the batch itself. The function is compiled once for each shape, as by `jitted`, and works on
    explicit meshes, as by `on_each_device`.

    There are no derivatives in reverse mode: the decorator is for functions of masks and labels, and for searches whose
    results are integers.

    Args:
        *num_axes: As in `on_each_device`. Keyword-only arguments of the function are static options.

    Returns:
        The decorator, for functions that return arrays with the leading axes.

    Example:
        >>> @over_leading_axes(1, None)
        ... def count_above(values, limit):
        ...     return (values > limit).sum(-1)
        >>> jax.vmap(count_above, (0, None))(jnp.arange(6).reshape(2, 3), 2).tolist()
        [0, 3]
    """

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(function)
        options = [p.name for p in signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]

        @jitted(static=tuple(options))
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            bound = functools.partial(function, **given.kwargs)

            @custom_vmap
            def apply(*arrays: Array) -> Any:
                return on_each_device(*num_axes)(bound)(*_broadcast(arrays, num_axes))

            @apply.def_vmap
            def apply_to_batch(axis_size: int, in_batched: list[bool], *arrays: Any) -> Any:
                if any(is_mapped and n is None for is_mapped, n in zip(in_batched, num_axes, strict=True)):
                    axes = [0 if is_mapped else None for is_mapped in in_batched]
                    out = jax.vmap(bound, in_axes=axes, axis_size=axis_size)(*arrays)
                else:
                    out = apply(*_with_mapped_axis_first(tuple(map(jnp.asarray, arrays)), in_batched, num_axes))
                return out, jax.tree.map(lambda _: True, out)

            return apply(*map(jnp.asarray, given.args))

        return cast(Callable[Arguments, Result], call)

    return decorate


def _with_mapped_axis_first(
    arrays: tuple[Array, ...], in_batched: list[bool], num_axes: tuple[int | None, ...]
) -> list[Array]:
    """Inserts axes of size 1 after the mapped axis, so that it lies before the leading axes of all other arrays."""
    trios = list(zip(arrays, in_batched, num_axes, strict=True))
    num_leading = max(a.ndim - is_mapped - n for a, is_mapped, n in trios if n is not None)
    return [
        jnp.expand_dims(a, tuple(range(1, 1 + num_leading - (a.ndim - 1 - n)))) if is_mapped and n is not None else a
        for a, is_mapped, n in trios
    ]


def _broadcast(arrays: Sequence[Array], num_axes: tuple[int | None, ...]) -> list[Array]:
    """Gives all arrays that are not shared the same leading axes."""
    pairs = list(zip(arrays, num_axes, strict=True))
    batch = jnp.broadcast_shapes(*(a.shape[: a.ndim - n] for a, n in pairs if n is not None))
    return [a if n is None else jnp.broadcast_to(a, (*batch, *a.shape[a.ndim - n :])) for a, n in pairs]
