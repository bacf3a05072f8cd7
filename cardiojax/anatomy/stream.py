"""The criteria for arrays on many devices, and for arrays that do not fit in memory."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from cardiojax.anatomy.check import Report, apply_limits, check, criteria_values
from cardiojax.anatomy.criteria import CAMUS, Thresholds, for_view, limits
from cardiojax.ops import jitted


def check_sharded(
    labels: Int[Array, "n *b h w"],
    mesh: Mesh,
    *,
    axis: str | tuple[str, ...] | None = None,
    thresholds: Thresholds | Mapping[str, Thresholds] = CAMUS,
    view: str | None = None,
    variant: str = "paper",
    batch_size: int | None = None,
) -> Report:
    """Evaluates the 12 criteria of masks that are split over devices, each device by itself.

    Left to the compiler, every loop of `check` would ask all devices whether they are done. Masks that are split over
    an explicit mesh, as `jax.make_mesh` makes it, need no more than `check`.

    Args:
        labels: Label maps, split along the first axis; their number is a multiple of the devices.
        mesh: The devices.
        axis: Axis or axes of the mesh along which they are split; its first if not given.
        thresholds: As in `check`.
        view: As in `check`.
        variant: As in `check`.
        batch_size: Masks a block of each device, as in `check`.

    Returns:
        The report, split likewise.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> labels = jnp.zeros((2, 40, 40), int).at[:, 4:28, 8:28].set(2).at[:, 8:28, 12:24].set(1)
        >>> labels = labels.at[:, 28:36, 12:24].set(3)
        >>> mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
        >>> check_sharded(labels, mesh).valid.tolist()
        [True, True]
    """
    split = PartitionSpec(axis or mesh.axis_names[0])
    values = _values_by_device(labels, mesh=mesh, split=split, variant=variant, batch_size=batch_size)
    return apply_limits(values, *limits(for_view(thresholds, view)))


@jitted(static=("mesh", "split", "variant", "batch_size"))
def _values_by_device(
    labels: Int[Array, "n *b h w"], *, mesh: Mesh, split: PartitionSpec, variant: str, batch_size: int | None
) -> Float[Array, "n *b 12"]:
    criteria = functools.partial(criteria_values, variant=variant, batch_size=batch_size)
    return jax.shard_map(criteria, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)(labels)


def check_stream(blocks: Iterable[np.ndarray], *, mesh: Mesh | None = None, **options: Any) -> Iterator[Report]:
    """Evaluates the 12 criteria block by block.

    While a block is on the devices the next one is read. Memory: two blocks. A short last block is filled up, so that
    nothing is compiled twice.

    Args:
        blocks: Label maps ``[n, h, w]`` of any integer type, no block larger than the first: slices of a memory map,
            or what a decoder yields.
        mesh: Devices to split each block over; one device if not given.
        **options: Those of `check`.

    Yields:
        The report of each block, as NumPy arrays.

    Raises:
        ValueError: If a block is larger than the first, or of another height or width.

    Example:
        >>> masks = np.zeros((5, 16, 16), np.uint8)  # or np.load("masks.npy", mmap_mode="r")
        >>> reports = check_stream(masks[i : i + 2] for i in range(0, 5, 2))
        >>> [len(report.valid) for report in reports]
        [2, 2, 1]
    """
    num_devices = 1 if mesh is None else mesh.devices.size
    criteria = functools.partial(check, **options)
    sharding = None
    if mesh is not None:
        sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        criteria = functools.partial(check_sharded, mesh=mesh, axis=mesh.axis_names, **options)
    shape, pending = None, None
    for block in blocks:
        size = len(block)
        if shape is None:
            shape = (size + -size % num_devices, *block.shape[1:])
        if size > shape[0] or block.shape[1:] != shape[1:]:
            raise ValueError(f"blocks must fit in the first, {shape}, got {block.shape}")
        padded = np.zeros(shape, np.int32)
        padded[:size] = block
        started = criteria(jax.device_put(padded, sharding)), size
        if pending is not None:
            yield _fetch(*pending)
        pending = started
    if pending is not None:
        yield _fetch(*pending)


def _fetch(report: Report, size: int) -> Report:
    return jax.tree.map(lambda values: np.asarray(values)[:size], report)
