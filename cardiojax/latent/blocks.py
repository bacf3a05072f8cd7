"""Whitening of rows, and indices shared by devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int


def whitener(scale_tril: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """The matrix that whitens rows: those with covariance ``L L^T``, times it, have the identity as covariance.

    Args:
        scale_tril: Lower Cholesky factors.

    Returns:
        The transposed inverses, upper triangular.
    """
    identity = jnp.broadcast_to(jnp.eye(scale_tril.shape[-1], dtype=scale_tril.dtype), scale_tril.shape)
    return jnp.swapaxes(solve_triangular(scale_tril, identity, lower=True), -1, -2)


def map_indices(function: Callable[[Array], Any], indices: Int[Array, " n"], *, mesh: Mesh | None = None) -> Any:
    """Applies a function to every index in turn, on the devices of a mesh each to its share.

    Every call has the same shapes on however many devices, so that the results are bit-identical.

    Args:
        function: Takes one index, returns arrays.
        indices: As many as a multiple of the devices.
        mesh: Devices; one if not given.

    Returns:
        The arrays, with a leading axis for the indices.
    """
    if mesh is None:
        return lax.map(function, indices)
    replicated, axes = PartitionSpec(), mesh.axis_names

    def share(indices):
        own = indices.reshape(mesh.size, -1)[lax.axis_index(axes)]
        return jax.tree.map(lambda v: lax.all_gather(v, axes, tiled=True), lax.map(function, own))

    # The check wants initial values of loops to be marked as varying by device, which the functions here do not do.
    return jax.shard_map(share, mesh=mesh, in_specs=replicated, out_specs=replicated, check_vma=False)(indices)
