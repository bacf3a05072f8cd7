"""Training a part of a model: which leaves, and low-rank updates of those that stay.

::

    mask = trainable(params, ("mask_decoder/*", "*/adapter/*"))
    trained, frozen = partition(params, mask)
    state = init_state(trained, optimizer)            # nor do its checkpoints hold anything else
    model.apply({"params": merge(frozen, state.params)}, images)

The mask is a tree of booleans, as `optax.masked` and `optax.multi_transform` want it too.
"""

import fnmatch
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree


def trainable(params: PyTree, patterns: Sequence[str]) -> PyTree:
    """Marks the leaves that shall be trained.

    Args:
        params: Nested dictionaries of arrays or shapes.
        patterns: Shell-style patterns of paths with slashes; a leaf follows the last one that fits it, and one that
            begins with ``!`` leaves it as it is.

    Returns:
        A tree of booleans, a mask for Optax.

    Raises:
        ValueError: If a pattern fits nothing.

    Example:
        >>> trainable({"encoder": {"bias": 0.0}, "head": {"bias": 0.0, "kernel": 0.0}}, ("head/*", "!*/bias"))
        {'encoder': {'bias': False}, 'head': {'bias': False, 'kernel': True}}
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
    names = [_name(path) for path, _ in leaves]
    chosen = dict.fromkeys(names, False)
    for pattern in patterns:
        fitting = fnmatch.filter(names, pattern.removeprefix("!"))
        if not fitting:
            raise ValueError(f"no parameter is named like {pattern!r}; there are {names[0]}, {names[-1]} and others")
        chosen |= dict.fromkeys(fitting, not pattern.startswith("!"))
    return treedef.unflatten([chosen[name] for name in names])


def partition(params: PyTree, mask: PyTree) -> tuple[PyTree, PyTree]:
    """Splits parameters in two.

    Args:
        params: Nested dictionaries.
        mask: What `trainable` returned.

    Returns:
        The marked leaves, and the others; dictionaries without leaves are left out.

    Example:
        >>> partition({"encoder": {"w": 1}, "head": {"w": 2}}, {"encoder": {"w": False}, "head": {"w": True}})
        ({'head': {'w': 2}}, {'encoder': {'w': 1}})
    """
    return _keep(params, mask, True), _keep(params, mask, False)


def merge(params: PyTree, changes: PyTree) -> PyTree:
    """Puts trained leaves back in their places.

    Args:
        params: Nested dictionaries: what was frozen, or a whole model's parameters.
        changes: Leaves to add or to replace.

    Returns:
        The tree of both; a leaf of ``changes`` wins.

    Example:
        >>> merge({"encoder": {"w": 1}}, {"head": {"w": 2}})
        {'encoder': {'w': 1}, 'head': {'w': 2}}
    """
    if not isinstance(changes, dict):
        return changes
    both = dict(params)
    for name, change in changes.items():
        both[name] = merge(params[name], change) if name in params else change
    return dict(sorted(both.items()))


def init_lora(key: Key[Array, ""], params: PyTree, patterns: Sequence[str], *, rank: int = 4) -> PyTree:
    """Makes low-rank updates that change nothing yet.

    Args:
        key: Random key.
        params: A model's parameters.
        patterns: Which kernels get one, as for `trainable`; convolutions take part as matrices of all their inputs.
        rank: Of the updates.

    Returns:
        A dictionary ``down [inputs, rank]`` and ``up [rank, outputs]`` in the place of each kernel.

    Raises:
        ValueError: If a pattern fits nothing, or a leaf that is no kernel.

    References:
        Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> params = {"dense": {"kernel": jnp.ones((6, 5)), "bias": jnp.ones(5)}}
        >>> lora = init_lora(jax.random.key(0), params, ["dense/kernel"], rank=2)
        >>> jax.tree.map(jnp.shape, lora)
        {'dense': {'kernel': {'down': (6, 2), 'up': (2, 5)}}}
    """
    chosen, _ = partition(params, trainable(params, patterns))
    leaves, treedef = jax.tree_util.tree_flatten_with_path(chosen)
    updates = []
    for each, (path, kernel) in zip(jax.random.split(key, len(leaves)), leaves, strict=True):
        if kernel.ndim < 2:
            raise ValueError(f"{_name(path)} has shape {kernel.shape}: only kernels take a low-rank update")
        num_in, num_out = kernel.size // kernel.shape[-1], kernel.shape[-1]
        down = jax.random.normal(each, (num_in, rank)) / jnp.sqrt(num_in)
        updates.append({"down": down, "up": jnp.zeros((rank, num_out))})
    return treedef.unflatten(updates)


def add_lora(params: PyTree, lora: PyTree, *, scale: float = 1.0) -> PyTree:
    """Adds low-rank updates to the kernels they belong to, for training and for good.

    Args:
        params: The model's parameters; no gradient reaches the kernels if these are constants.
        lora: What `init_lora` returned, trained.
        scale: Factor of the updates.

    Returns:
        Parameters of the same shapes, for the model as it is.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> params = {"dense": {"kernel": jnp.ones((6, 5)), "bias": jnp.ones(5)}}
        >>> lora = init_lora(jax.random.key(0), params, ["dense/kernel"], rank=2)
        >>> bool((add_lora(params, lora)["dense"]["kernel"] == 1).all())
        True
    """
    if set(lora) == {"down", "up"}:
        return params + scale * (lora["down"] @ lora["up"]).reshape(params.shape)
    return {name: add_lora(leaf, lora[name], scale=scale) if name in lora else leaf for name, leaf in params.items()}


def _keep(params: PyTree, mask: PyTree, wanted: bool) -> dict[str, Any]:
    kept = {}
    for name, value in params.items():
        if isinstance(value, dict):
            below = _keep(value, mask[name], wanted)
            if below:
                kept[name] = below
        elif mask[name] is wanted:
            kept[name] = value
    return kept


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(key.key) for key in path)
