"""How functions of batches go through `jax.jit`, `jax.vmap` and explicit meshes."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.sharding import PartitionSpec
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


def over_leading_axes(*num_axes: int | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a function of arrays ``[*b, ...]`` take mapped and sharded axes as leading axes.

    Under `jax.vmap` the mapped axis becomes one more leading axis. So the loops of the function run once for the whole
    batch, as in a call on the batch itself. Arrays that are split along leading axes over an explicit mesh
    (`jax.make_mesh` makes such) are worked on where they are: each device runs the function on its share by itself. The
    function is compiled once for each shape, as by `jitted`.

    There are no derivatives in reverse mode: the decorator is for functions of masks and labels, and for searches whose
    results are integers.

    Args:
        *num_axes: For each positional argument the number of its axes after the leading ones, or None if it is shared
            by the whole batch. Keyword-only arguments are static options.

    Returns:
        The decorator. The function returns arrays with the leading axes, which are broadcast.

    Example:
        >>> @over_leading_axes(1, None)
        ... def count_above(values, limit):
        ...     return (values > limit).sum(-1)
        >>> jax.vmap(count_above, (0, None))(jnp.arange(6).reshape(2, 3), 2).tolist()
        [0, 3]
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(function).parameters.values()
        options = tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)

        @jitted(static=options)
        @functools.wraps(function)
        def call(*arrays: Any, **options: Any) -> Any:
            bound = functools.partial(function, **options)

            @custom_vmap
            def apply(*arrays: Array) -> Any:
                return _on_each_device(bound, _broadcast(arrays, num_axes), num_axes)

            @apply.def_vmap
            def apply_to_batch(axis_size: int, in_batched: list[bool], *arrays: Array) -> Any:
                if any(is_batched and n is None for is_batched, n in zip(in_batched, num_axes, strict=True)):
                    axes = [0 if is_batched else None for is_batched in in_batched]
                    out = jax.vmap(bound, in_axes=axes, axis_size=axis_size)(*arrays)
                else:
                    ranks = [jnp.ndim(a) - is_batched for a, is_batched in zip(arrays, in_batched, strict=True)]
                    num_leading = max(r - n for r, n in zip(ranks, num_axes, strict=True) if n is not None)
                    out = apply(
                        *(
                            _insert_axes(a, n, num_leading) if is_batched and n is not None else a
                            for a, is_batched, n in zip(arrays, in_batched, num_axes, strict=True)
                        )
                    )
                return out, jax.tree.map(lambda _: True, out)

            return apply(*arrays)

        return call

    return decorate


def _insert_axes(array: Array, num_axes: int, num_leading: int) -> Array:
    """Axes of size 1 after the mapped one, so that it lies before all leading axes of the other arrays."""
    missing = num_leading - (array.ndim - 1 - num_axes)
    return array.reshape(array.shape[0], *[1] * missing, *array.shape[1:])


def _broadcast(arrays: tuple[Array, ...], num_axes: tuple[int | None, ...]) -> list[Array]:
    """Gives all arrays that are not shared the same leading axes."""
    arrays = tuple(map(jnp.asarray, arrays))
    leading = [a.shape[: a.ndim - n] for a, n in zip(arrays, num_axes, strict=True) if n is not None]
    batch = jnp.broadcast_shapes(*leading)
    return [
        a if n is None or a.shape[: a.ndim - n] == batch else jnp.broadcast_to(a, (*batch, *a.shape[a.ndim - n :]))
        for a, n in zip(arrays, num_axes, strict=True)
    ]


def _on_each_device(function: Callable[..., Any], arrays: list[Array], num_axes: tuple[int | None, ...]) -> Any:
    """Calls a function on each device's share of arrays that are split over the axes of an explicit mesh."""
    shardings = [jax.typeof(a).sharding for a in arrays]
    meshes = [s.mesh for s in shardings if any(axis is not None for axis in s.spec)]
    if not meshes:
        return function(*arrays)
    splits = [tuple(s.spec)[: a.ndim - n] for s, a, n in zip(shardings, arrays, num_axes, strict=True) if n is not None]
    leading = next((split for split in splits if any(axis is not None for axis in split)), ())
    specs = [PartitionSpec() if n is None else PartitionSpec(*leading) for n in num_axes]
    arrays = [jax.sharding.reshard(a, jax.sharding.NamedSharding(meshes[0], s)) for a, s in zip(arrays, specs, strict=True)]
    # The check asks loops to say that what they start from differs by device; the functions here do not know.
    share = jax.shard_map(
        function, mesh=meshes[0], in_specs=tuple(specs), out_specs=PartitionSpec(*leading), check_vma=False
    )
    return share(*arrays)
