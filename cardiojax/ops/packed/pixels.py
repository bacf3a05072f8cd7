"""The pixels of masks as lists of fixed length."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, UInt32

from cardiojax.ops.packed.bits import WORD, pack


def pixel_positions(masks: Bool[Array, "*b h w"], *, capacity: int) -> Int[Array, "*b n 2"]:
    """Rows and columns of the first true pixels of masks, row after row.

    Args:
        masks: Binary masks.
        capacity: Number of pixels ``n`` that are listed.

    Returns:
        ``(row, column)``; -1 after the last true pixel.

    Example:
        >>> mask = jnp.zeros((3, 50), bool).at[0, 4].set(True).at[2, 40].set(True)
        >>> pixel_positions(mask, capacity=3).tolist()
        [[0, 4], [2, 40], [-1, -1]]
    """
    *batch, height, width = masks.shape
    bits = pack(masks.reshape(-1, height, width))
    words_of_row = bits.shape[1]
    index, is_listed = jax.vmap(lambda words: _set_bits(words, capacity))(bits.reshape(height * words_of_row, -1).T)
    row, col = jnp.divmod(index, words_of_row * WORD)
    positions = jnp.where(is_listed[..., None], jnp.stack([row, col], -1), -1)
    return positions.reshape(*batch, capacity, 2)


def _set_bits(words: UInt32[Array, " k"], capacity: int) -> tuple[Int[Array, " n"], Bool[Array, " n"]]:
    """Indices of the first set bits of words in turn, and which of them there are."""
    ends = jnp.cumsum(lax.population_count(words).astype(jnp.int32))
    order = jnp.arange(capacity)
    word = jnp.minimum(jnp.searchsorted(ends, order, side="right", method="scan_unrolled"), words.size - 1)
    rest = words[word]
    rank = (order - jnp.where(word > 0, ends[word - 1], 0)).astype(jnp.uint32)
    # the half of the word, then the quarter, ... that holds the set bit of this rank
    bit = jnp.zeros(capacity, jnp.uint32)
    for half in (16, 8, 4, 2, 1):
        low = rest & jnp.uint32(2**half - 1)
        num_low = lax.population_count(low)
        is_high = rank >= num_low
        rank = jnp.where(is_high, rank - num_low, rank)
        rest = jnp.where(is_high, rest >> half, low)
        bit = jnp.where(is_high, bit + half, bit)
    return word * WORD + bit.astype(jnp.int32), order < ends[-1]
