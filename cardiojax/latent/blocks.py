"""Work on many rows a block at a time, so that memory does not grow with their number."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float


def map_blocks(function: Callable[[Array], Any], rows: Float[Array, "*b d"], *, block_size: int) -> Any:
    """Applies a function of ``[m, d]`` to rows, ``block_size`` at a time.

    Args:
        function: Takes rows, returns arrays with one entry a row.
        rows: Any number of leading axes.
        block_size: Rows a call.

    Returns:
        The entries, with the leading axes of the rows.
    """
    *batch, dim = rows.shape
    flat = rows.reshape(-1, dim)
    num = len(flat)
    if num <= block_size:
        values = function(flat)
    else:
        blocks = jnp.pad(flat, ((0, -num % block_size), (0, 0))).reshape(-1, block_size, dim)
        values = jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:])[:num], lax.map(function, blocks))
    return jax.tree.map(lambda v: v.reshape(*batch, *v.shape[1:]), values)


def whitener(scale_tril: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
    """What takes a covariance away: rows with the covariance ``L L^T`` have, times this, the identity for theirs.

    Args:
        scale_tril: Lower Cholesky factors.

    Returns:
        The transposed inverses, upper triangular.
    """
    identity = jnp.broadcast_to(jnp.eye(scale_tril.shape[-1], dtype=scale_tril.dtype), scale_tril.shape)
    return jnp.swapaxes(solve_triangular(scale_tril, identity, lower=True), -1, -2)
