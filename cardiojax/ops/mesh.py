"""What a mesh must be like for the functions of this package."""

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh
from jaxtyping import ArrayLike


def require_auto_mesh(mesh: Mesh | AbstractMesh) -> None:
    """Checks that a mesh has automatic axes, along which XLA propagates the shardings.

    `jax.make_mesh` makes explicit axes by default, under which each reshape would need an output sharding.

    Args:
        mesh: Devices.

    Raises:
        ValueError: If it has explicit axes.

    Example:
        >>> require_auto_mesh(jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,)))
    """
    if AxisType.Explicit in mesh.axis_types:
        raise ValueError(
            f"the mesh has explicit axes {mesh.axis_names}, expected automatic ones: make it by "
            "jax.make_mesh(shape, names, axis_types=(jax.sharding.AxisType.Auto,) * len(names))"
        )


def require_auto_axes(*arrays: ArrayLike) -> None:
    """Checks that no array is sharded over explicit mesh axes.

    Args:
        *arrays: Inputs, also inside `jax.jit`.

    Raises:
        ValueError: If a mesh has explicit axes.

    Example:
        >>> require_auto_axes(jax.numpy.zeros(3))
    """
    for array in arrays:
        require_auto_mesh(jax.typeof(array).sharding.mesh)
