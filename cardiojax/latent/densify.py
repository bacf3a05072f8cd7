"""Filling the space of shapes with codes that decode to plausible ones."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from cardiojax.latent.blocks import map_indices
from cardiojax.ops import jitted
from cardiojax.types import RandomKey


class Candidates(NamedTuple):
    """Codes that were drawn and judged.

    Attributes:
        codes: In the precision they are to be kept in, ``[n, d]``.
        valid: Whether they decode to a plausible shape, ``[n]``.
    """

    codes: Float[Array, "n d"]
    valid: Bool[Array, " n"]


@jitted(static=("sample", "decode", "is_valid", "block_size", "dtype", "mesh"))
def draw_candidates(
    key: RandomKey,
    indices: Int[Array, " k"],
    *,
    sample: Callable[[RandomKey, int], Float[Array, "n d"]],
    decode: Callable[[Float[Array, "n d"]], Any],
    is_valid: Callable[[Any], Bool[Array, " n"]],
    block_size: int = 256,
    dtype: DTypeLike = jnp.float32,
    mesh: Mesh | None = None,
) -> Candidates:
    """Draws, decodes and judges blocks of codes; only the codes stay.

    The draws of a block depend on the key and its index alone, so that a job may stop and go on anywhere, on any number
    of devices. Codes are rounded to ``dtype`` before they are decoded: what is judged is what is kept. The functions
    are part of the compiled program: give the same ones in every call. Memory: one block of decoded shapes a device.

    Args:
        key: Draws.
        indices: Blocks to do, as many as a multiple of the devices.
        sample: Draws codes, such as the ``sample`` of a density.
        decode: Codes to shapes.
        is_valid: Verdict on shapes.
        block_size: Codes a block.
        dtype: Precision of the codes.
        mesh: Devices that share the blocks.

    Returns:
        Codes and verdicts, in the order of the blocks.
    """

    def block(index):
        codes = sample(jax.random.fold_in(key, index), block_size).astype(dtype)
        return Candidates(codes, is_valid(decode(codes.astype(jnp.float32))))

    blocks = map_indices(block, indices, mesh=mesh)
    return Candidates(blocks.codes.reshape(-1, blocks.codes.shape[-1]), blocks.valid.reshape(-1))
