"""Shardings of the parameters of a model, by the names of their axes.

::

    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    state = jax.device_put(state, shardings(state, mesh))         # parameters, their average, the optimizer's moments
    images = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    state, metrics = step(state, images)                          # the jitted step as it is: XLA adds the collectives
"""

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from cardiojax import ops

#: What the last axes of a parameter are, by the end of its path. A path that fits none is copied to every device, as
#: are the axes before the named ones (layers that a scan runs over).
AXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("*/attn/qkv/kernel", ("embed", "heads")),
    ("*/attn/qkv/bias", ("heads",)),
    ("*/attn/proj/kernel", ("heads", "embed")),
    ("*/[qkv]_proj/kernel", ("embed", "heads")),
    ("*/[qkv]_proj/bias", ("heads",)),
    ("*/out_proj/kernel", ("heads", "embed")),
    ("*/mlp/fc1/kernel", ("embed", "hidden")),
    ("*/mlp/fc1/bias", ("hidden",)),
    ("*/mlp/fc2/kernel", ("hidden", "embed")),
    ("*/mlp/lin1/kernel", ("embed", "hidden")),
    ("*/mlp/lin1/bias", ("hidden",)),
    ("*/mlp/lin2/kernel", ("hidden", "embed")),
    ("*/patch_embed/kernel", ("embed",)),
)
#: The axis of the mesh over which an axis of a parameter is split. Add ``"embed": "data"`` to split the parameters over
#: the data axis too (FSDP).
RULES: Mapping[str, str] = {"heads": "tensor", "hidden": "tensor"}


def shardings(
    tree: PyTree,
    mesh: Mesh,
    *,
    axes: Sequence[tuple[str, tuple[str, ...]]] = AXES,
    rules: Mapping[str, str] = RULES,
) -> PyTree:
    """Finds where each leaf lies: parameters of the transformers of the zoo, or a whole `TrainState` of them.

    An axis that its devices do not divide evenly, or whose rule names an axis that the mesh lacks, is not split.

    Args:
        tree: Arrays or shapes.
        mesh: Devices.
        axes: Names of the last axes by the pattern of the path; the first that fits counts.
        rules: Axis of the mesh by the name.

    Returns:
        A `NamedSharding` for each leaf.

    Raises:
        ValueError: If the mesh has explicit axes.

    Example:
        >>> mesh = jax.make_mesh((1, 1), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
        >>> kernel = jax.ShapeDtypeStruct((8, 32), "float32")
        >>> (placed,) = jax.tree.leaves(shardings({"mlp": {"fc1": {"kernel": kernel}}}, mesh))
        >>> tuple(placed.spec)
        (None, 'tensor')

    References:
        Shoeybi et al., "Megatron-LM", 2019. Xu et al., "GSPMD", 2021.
    """
    ops.require_auto_mesh(mesh)

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = "/".join(["", *(str(getattr(key, "key", getattr(key, "name", ""))) for key in path)])
        names = next((names for pattern, names in axes if fnmatch.fnmatchcase(name, pattern)), ())
        names = (None,) * (len(leaf.shape) - len(names)) + names
        return NamedSharding(mesh, PartitionSpec(*map(split, names, leaf.shape)))

    def split(name: str | None, size: int) -> str | None:
        axis = rules.get(name) if name else None
        return axis if axis in mesh.shape and size % mesh.shape[axis] == 0 else None

    return jax.tree_util.tree_map_with_path(place, tree)
