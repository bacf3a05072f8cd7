"""Flax NNX modules with the ``init`` and ``apply`` of Flax Linen, for the zoo, training and analysis."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import PyTree


@dataclasses.dataclass(frozen=True)
class NNXModel:
    """An NNX module as a pair of pure functions: parameters are an argument, nested dictionaries of arrays.

    The module may use random streams, as those of dropout; other state, such as the statistics of batch normalisation,
    has no place in a weight file and is refused.

    Attributes:
        make: Makes the module from random streams.
        config: Its configuration, for whoever asks the model for it.

    Example:
        >>> class Head(nnx.Module):
        ...     def __init__(self, rngs):
        ...         self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        ...
        ...     def __call__(self, images):
        ...         return self.conv(images)
        >>> model, images = NNXModel(Head), jnp.zeros((2, 16, 16, 1))
        >>> variables = model.init(jax.random.key(0), images)
        >>> variables["params"]["conv"]["kernel"].shape
        (3, 3, 1, 4)
        >>> jax.jit(model.apply)(variables, images).shape
        (2, 16, 16, 4)
    """

    make: Callable[[nnx.Rngs], nnx.Module]
    config: Any = None

    @functools.cached_property
    def _abstract(self) -> tuple[Any, Any, Any]:
        """Structure, and shapes of parameters and random streams."""
        module = nnx.eval_shape(lambda: self.make(nnx.Rngs(0)))
        structure, params, streams, rest = nnx.split(module, nnx.Param, nnx.RngState, ...)
        if others := jax.tree.leaves(nnx.to_pure_dict(rest)):
            raise ValueError(f"a model of the zoo has parameters only, this module has {len(others)} other variables")
        return structure, params, streams

    def init(self, rngs: Any, /, *args: Any, **kwargs: Any) -> PyTree:
        """Draws parameters.

        Args:
            rngs: A random key, or a dictionary with that of ``"params"``.
            *args: Not used: an NNX module knows its shapes.
            **kwargs: Not used.

        Returns:
            ``{"params": ...}``; the keys of lists are their numbers as text.

        Raises:
            ValueError: If the module has other variables than parameters and random streams.
        """
        _ = self._abstract
        key = rngs["params"] if isinstance(rngs, Mapping) else rngs
        params = nnx.split(self.make(nnx.Rngs(key)), nnx.Param, ...)[1]
        return {"params": _text_keys(nnx.to_pure_dict(params))}

    def apply(
        self,
        variables: PyTree,
        /,
        *args: Any,
        train: bool = False,
        rngs: Mapping[str, Any] | None = None,
        method: str = "__call__",
        **kwargs: Any,
    ) -> Any:
        """Calls the module with given parameters.

        Args:
            variables: What `init` returned.
            *args: Arguments of the module.
            train: Whether dropout is active (``module.train()``).
            rngs: Random keys; all streams of the module begin at the first.
            method: Name of the method to call.
            **kwargs: Arguments of the module.

        Returns:
            What the method returns.

        Raises:
            ValueError: If ``train`` is set, the module has random streams, and no key is given.
        """
        structure, params, streams = (jax.tree.map(lambda leaf: leaf, part) for part in self._abstract)
        nnx.replace_by_pure_dict(params, _own_keys(nnx.to_pure_dict(params), variables["params"]))
        if train and not rngs and jax.tree.leaves(streams):
            raise ValueError('a module with random streams needs a key to train: rngs={"dropout": key}')
        key = next(iter(rngs.values())) if rngs else jax.random.key(0)  # streams are idle outside of training
        module = nnx.merge(structure, params, _begin(streams, key))
        (module.train if train else module.eval)()
        return getattr(module, method)(*args, **kwargs)


def _begin(streams: PyTree, key: Any) -> PyTree:
    """Random streams that begin at a key: a key of its own for each, and counts of zero."""
    leaves, structure = jax.tree.flatten(streams)
    begun = [
        jax.random.split(jax.random.fold_in(key, number), leaf.shape)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jnp.zeros(leaf.shape, leaf.dtype)
        for number, leaf in enumerate(leaves)
    ]
    return structure.unflatten(begun)


def _text_keys(tree: Any) -> Any:
    return {str(key): _text_keys(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _own_keys(template: Any, tree: Any) -> Any:
    if not isinstance(template, dict):
        return tree
    return {key: _own_keys(value, tree[str(key)]) for key, value in template.items()}
