"""Filling the space of shapes with codes that decode to valid ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from cardiojax.latent.blocks import map_indices
from cardiojax.latent.density import Density
from cardiojax.latent.rejection import fill_buffer
from cardiojax.ops import jitted
from cardiojax.types import RandomKey

#: Proposals after which a block stays short; at an acceptance of one in a thousand it is filled.
_MAX_PROPOSALS_PER_CODE = 2**12


class Candidates(NamedTuple):
    """Codes that were drawn, and whether their shapes are valid.

    Attributes:
        codes: In the precision they are to be kept in, ``[n, d]``.
        valid: Whether they decode to a valid shape, ``[n]``.
        num_drawn: Codes of each block that were drawn: its size, or fewer where too few proposals are accepted,
            ``[k]``.
        num_proposed: Proposals of each block, ``[k]``.
        num_accepted: Proposals of each block that were accepted, those included for which it had no room, ``[k]``.
    """

    codes: Float[Array, "n d"]
    valid: Bool[Array, " n"]
    num_drawn: Int[Array, " k"]
    num_proposed: Int[Array, " k"]
    num_accepted: Int[Array, " k"]


@jitted(static=("decode", "is_valid", "block_size", "dtype", "mesh"))
def draw_candidates(
    key: RandomKey,
    indices: Int[Array, " k"],
    target: Density,
    proposal: Density,
    log_scale: Float[Array, ""],
    *,
    decode: Callable[[Float[Array, "n d"]], Any],
    is_valid: Callable[[Any], Bool[Array, " n"]],
    block_size: int = 256,
    dtype: DTypeLike = jnp.float32,
    mesh: Mesh | None = None,
) -> Candidates:
    """Draws blocks of codes by rejection sampling, decodes them and evaluates the criteria.

    The draws of a block depend on the key and its index alone, so that a job may be resumed anywhere, on any number of
    devices. Codes are rounded to ``dtype`` before they are decoded: what is evaluated is what is kept. The functions
    are part of the compiled program: give the same ones in every call. Memory: one block of decoded shapes a device.

    Args:
        key: Draws.
        indices: Blocks to do, as many as a multiple of the devices.
        target: The density of the codes.
        proposal: What proposes them, as in `rejection_sample`.
        log_scale: Logarithm of k, of `measure_envelope`.
        decode: Codes to shapes.
        is_valid: Whether shapes are valid.
        block_size: Codes a block.
        dtype: Precision of the codes.
        mesh: Devices that share the blocks.

    Returns:
        Codes and their validity, in the order of the blocks.

    Example:
        >>> from cardiojax.latent import fit_parzen
        >>> window = fit_parzen(jnp.zeros((1, 2)), bandwidth=1.0)
        >>> wide, is_right = window.widened(1.05), lambda codes: codes[:, 0] > 0
        >>> draws = draw_candidates(
        ...     jax.random.key(0), jnp.arange(2), window, wide, wide.log_bound, decode=lambda z: z, is_valid=is_right,
        ...     block_size=16,
        ... )  # fmt: skip
        >>> draws.codes.shape, bool((draws.valid == (draws.codes[:, 0] > 0)).all())
        ((32, 2), True)
    """

    def block(index):
        buffer = fill_buffer(
            jax.random.fold_in(key, index),
            target,
            proposal,
            log_scale,
            num_samples=block_size,
            block_size=block_size,
            blocks_per_round=1,
            max_proposals=_MAX_PROPOSALS_PER_CODE * block_size,
        )
        codes = buffer.values.astype(dtype)
        num_drawn = jnp.minimum(buffer.num_accepted, block_size)
        valid = is_valid(decode(codes.astype(jnp.float32))) & (jnp.arange(block_size) < num_drawn)
        return Candidates(codes, valid, num_drawn, buffer.num_rounds * block_size, buffer.num_accepted)

    blocks = map_indices(block, indices, mesh=mesh)
    return blocks._replace(codes=blocks.codes.reshape(-1, blocks.codes.shape[-1]), valid=blocks.valid.reshape(-1))
