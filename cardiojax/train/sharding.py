"""Devices of a run, and where its arrays lie: batches split, parameters copied or split by the names of their axes.

::

    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    state = jax.device_put(state, shardings(state, mesh))         # parameters, their average, the optimizer's moments
    images = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    state, metrics = step(state, images)                          # the jitted step as it is: XLA adds the collectives
"""

import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from cardiojax import ops
from cardiojax.validation import MAX_COUNT, check_range

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Devices and processes of a run.

    Attributes:
        data: Devices over which each batch is split; 0 for all that ``tensor`` leaves.
        tensor: Devices over which the heads and hidden layers of transformers are split.
        fully_sharded: Whether parameters, their average and the optimizer's state are split over the devices of
            ``data``, too, instead of being copied to each.
        coordinator: Address ``HOST:PORT`` of the first process, for a run of several; ``auto`` in a cluster that JAX
            knows, which states it.
        num_processes: How many there are.
        process_id: Which one this is, from 0.
    """

    data: int = 1
    tensor: int = 1
    fully_sharded: bool = False
    coordinator: str | None = None
    num_processes: int = 1
    process_id: int = 0

    def __post_init__(self):
        check_range(self, "data", low=0, high=MAX_COUNT)
        check_range(self, "tensor", "num_processes", low=1, high=MAX_COUNT)
        check_range(self, "process_id", low=0, high=self.num_processes - 1)
        if self.num_processes > 1 and self.coordinator is None:
            raise ValueError(f"{self.num_processes} processes need a coordinator, HOST:PORT of the first")


def start_processes(config: MeshConfig) -> None:
    """Connects the processes of a run; must come before the first computation.

    Args:
        config: Of a run of one process, for which nothing is done, or of several.

    Raises:
        RuntimeError: If the coordinator cannot be reached.

    Example:
        >>> start_processes(MeshConfig())
    """
    if config.coordinator == "auto":
        jax.distributed.initialize()
    elif config.coordinator is not None:
        jax.distributed.initialize(config.coordinator, config.num_processes, config.process_id)


def make_mesh(config: MeshConfig) -> Mesh | None:
    """Makes the mesh of a run.

    Args:
        config: Its devices.

    Returns:
        A mesh with the axes ``"data"`` and ``"tensor"``; None for a single device.

    Raises:
        ValueError: If there are fewer devices, or some would have no part in a run of several processes.

    Example:
        >>> make_mesh(MeshConfig()) is None
        True
    """
    num = jax.device_count()
    data = config.data or max(num // config.tensor, 1)
    if data * config.tensor > num:
        raise ValueError(f"the mesh has {data} x {config.tensor} devices, but there are {num}")
    if jax.process_count() > 1 and data * config.tensor < num:
        raise ValueError(f"the mesh has {data} x {config.tensor} devices, expected all {num} of the processes")
    if num == 1 or data * config.tensor == 1:
        return None
    devices = np.array(jax.devices()[: data * config.tensor]).reshape(data, config.tensor)
    return Mesh(devices, ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)


def place(tree: PyTree, places: PyTree) -> PyTree:
    """Puts arrays where they belong; each process holds the whole of them before.

    Args:
        tree: Arrays.
        places: What `shardings` returned.

    Returns:
        The arrays on the mesh.

    Example:
        >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        >>> params = {"w": np.ones((2, 3))}
        >>> tuple(place(params, shardings(params, mesh, fully_sharded="data"))["w"].sharding.spec)
        (None, 'data')
    """

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        if jax.process_count() == 1:
            return jax.device_put(leaf, sharding)
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, tree, places)


class MeshBatches:
    """Batches split over the axis ``"data"`` of a mesh; each process gives its share.

    Args:
        batches: An iterator with ``get_state`` and ``set_state``.
        mesh: Devices.
    """

    def __init__(self, batches: Any, mesh: Mesh):
        self._batches, self._sharding = batches, NamedSharding(mesh, PartitionSpec("data"))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        def put(leaf: Any) -> jax.Array:
            try:
                return jax.make_array_from_process_local_data(self._sharding, np.asarray(leaf))
            except ValueError as error:
                num = self._sharding.mesh.shape["data"]
                raise ValueError(
                    f"a batch of {len(leaf)} cannot be split over {num} devices: choose a multiple"
                ) from error

        return jax.tree.map(put, next(self._batches))

    def get_state(self) -> Any:
        """The position, as JSON."""
        return self._batches.get_state()

    def set_state(self, state: Any) -> None:
        """Goes to a position."""
        self._batches.set_state(state)


def shardings(
    tree: PyTree,
    mesh: Mesh,
    *,
    axes: Sequence[tuple[str, tuple[str, ...]]] = AXES,
    rules: Mapping[str, str] = RULES,
    fully_sharded: str | None = None,
) -> PyTree:
    """Finds where each leaf lies: parameters, or a whole `TrainState` of them.

    The heads and hidden layers of the transformers of the zoo are split by ``rules``.

    An axis that its devices do not divide evenly, or whose rule names an axis that the mesh lacks, is not split.

    Args:
        tree: Arrays or shapes.
        mesh: Devices.
        axes: Names of the last axes by the pattern of the path; the first that fits counts.
        rules: Axis of the mesh by the name.
        fully_sharded: Axis of the mesh over which the parameters of any network are split, too: the largest of the
            axes of each leaf that it divides evenly and that is not split yet. Its devices hold ``1 / N`` each.

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
        spec = [*map(split, names, leaf.shape)]
        if fully_sharded is not None and fully_sharded not in spec:
            free = [i for i, n in enumerate(leaf.shape) if spec[i] is None and n and n % mesh.shape[fully_sharded] == 0]
            if free:
                spec[max(free, key=lambda i: leaf.shape[i])] = fully_sharded
        return NamedSharding(mesh, PartitionSpec(*spec))

    def split(name: str | None, size: int) -> str | None:
        axis = rules.get(name) if name else None
        return axis if axis in mesh.shape and size % mesh.shape[axis] == 0 else None

    return jax.tree_util.tree_map_with_path(place, tree)
