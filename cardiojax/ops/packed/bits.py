"""Masks with 32 pixels in a word: one integer operation works on 32 pixels of every mask of a batch.

The layout is ``[h, k, n]``: rows, words of a row (pixel ``32 k + j`` is bit ``j`` of word ``k``), masks. Rows come
first because the sweeps of a flood walk over them, masks last because they are what a vector unit runs along.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, Shaped, UInt32

Bits = UInt32[Array, "h k _"]
Words = UInt32[Array, "*h k n"]

WORD = 32
_FULL = np.uint32(2**WORD - 1)


def pack(masks: Bool[Array, "n h w"]) -> Bits:
    """Packs masks; the bits that fill the last word of a row are zero."""
    n, height, width = masks.shape
    words = -(-width // WORD)
    padded = jnp.pad(masks, ((0, 0), (0, 0), (0, words * WORD - width)))
    weights = jnp.left_shift(jnp.uint32(1), jnp.arange(WORD, dtype=jnp.uint32))
    packed = jnp.where(padded.reshape(n, height, words, WORD), weights, jnp.uint32(0)).sum(-1, dtype=jnp.uint32)
    return packed.transpose(1, 2, 0)


def pack_labels(labels: Int[Array, "n h w"]) -> tuple[Bits, Bits, Bits]:
    """Packs the pixels of labels 1, 2 and 3, in one pass over the labels; any other value is none of them."""
    n, height, width = labels.shape
    words = -(-width // WORD)
    codes = jnp.where((labels >= 0) & (labels <= 3), labels, 0).astype(jnp.uint32)
    codes = jnp.pad(codes, ((0, 0), (0, 0), (0, words * WORD - width))).reshape(n, height, 2 * words, WORD // 2)
    pairs = (codes << jnp.arange(0, WORD, 2, dtype=jnp.uint32)).sum(-1, dtype=jnp.uint32).transpose(1, 2, 0)
    low, high = (_every_other(plane[:, ::2]) | (_every_other(plane[:, 1::2]) << 16) for plane in (pairs, pairs >> 1))
    return low & ~high, high & ~low, low & high


def _every_other(word: Array) -> Array:
    """Bits 0, 2, 4, ... as bits 0 to 15."""
    word = word & 0x55555555
    for shift, kept in ((1, 0x33333333), (2, 0x0F0F0F0F), (4, 0x00FF00FF), (8, 0x0000FFFF)):
        word = (word | (word >> shift)) & kept
    return word


def unpack(bits: Bits, width: int) -> Bool[Array, "n h w"]:
    """The masks of packed rows."""
    height, words, n = bits.shape
    pixels = (bits.transpose(2, 0, 1)[..., None] >> jnp.arange(WORD, dtype=jnp.uint32)) & 1
    return pixels.reshape(n, height, words * WORD)[..., :width].astype(bool)


def count(bits: Bits) -> Int[Array, " n"]:
    """Pixels of each mask."""
    return _ones(bits).sum((0, 1), dtype=jnp.int32)


def frame(height: int, width: int) -> UInt32[Array, "h k 1"]:
    """All pixels of an image: what may be set in the last word of a row."""
    return pack(jnp.ones((1, height, width), bool))


def border(height: int, width: int) -> UInt32[Array, "h k 1"]:
    """The pixels on the edge of an image."""
    rows, cols = jnp.arange(height)[:, None], jnp.arange(width)
    edge = (rows == 0) | (rows == height - 1) | (cols == 0) | (cols == width - 1)
    return pack(edge[None])


class Around:
    """The eight neighbours of every pixel, as slices of one padded copy; zero beyond the image.

    ``around[-1, 0]`` holds at each pixel the one above it, ``around[0, 1]`` the one to its right.

    Args:
        bits: Packed masks.
    """

    def __init__(self, bits: Bits):
        height, words, n = bits.shape
        self._shape = bits.shape
        # written as an update of zeros and kept apart: a pad fused into its readers is evaluated bit by bit
        blank = jnp.zeros((height + 2, words + 2, n), bits.dtype)
        self._padded = lax.optimization_barrier(lax.dynamic_update_slice(blank, bits, (1, 1, 0)))

    def __getitem__(self, offset: tuple[int, int]) -> Bits:
        row, col = offset
        height, words, _ = self._shape
        rows = self._padded[1 + row : 1 + row + height]
        here = rows[:, 1 : 1 + words]
        if col == 0:
            return here
        if col > 0:
            return (here >> 1) | (rows[:, 2 : 2 + words] << (WORD - 1))
        return (here << 1) | (rows[:, :words] >> (WORD - 1))


def dilate(bits: Bits, inside: UInt32[Array, "h k 1"]) -> Bits:
    """Dilation by a 3 x 3 square."""
    around = Around(bits)
    wide = [around[row, 0] | around[row, -1] | around[row, 1] for row in (-1, 0, 1)]
    return (wide[0] | wide[1] | wide[2]) & inside


def erode(bits: Bits, inside: UInt32[Array, "h k 1"]) -> Bits:
    """Erosion by a 3 x 3 square; what lies beyond the image counts as set."""
    return bits & ~dilate(~bits & inside, inside)


def full_rectangles(bits: Bits, rows: int, cols: int, *, side: int = 1) -> Bits:
    """The upper left corners of full rectangles; what lies beyond the image does not count as set.

    Args:
        bits: Packed masks, or the corners of their full squares of a side.
        rows: Of the rectangles, at least the side.
        cols: Of the rectangles, at least the side.
        side: That of the squares.
    """
    height, words, n = bits.shape
    # as in `Around`: fused with what comes after them, the steps would be done again for each of their readers
    covered = side
    while covered < cols:  # doubling steps
        step = min(covered, cols - covered, WORD - 1)
        blank = jnp.zeros((height, words + 1, n), bits.dtype)
        following = lax.optimization_barrier(lax.dynamic_update_slice(blank, bits, (0, 0, 0)))
        bits = following[:, :-1] & ((following[:, :-1] >> step) | (following[:, 1:] << (WORD - step)))
        covered += step
    covered = side
    while covered < rows:
        step = min(covered, rows - covered, height)
        blank = jnp.zeros((height + step, words, n), bits.dtype)
        following = lax.optimization_barrier(lax.dynamic_update_slice(blank, bits, (0, 0, 0)))
        bits = following[:height] & following[step:]
        covered += step
    return bits


def touch_sides(bits: Bits, inside: UInt32[Array, "h k 1"]) -> Bits:
    """Pixels with a set pixel above, below, left or right."""
    return _sides(Around(bits)) & inside


def euler_number(bits: Bits, *, connectivity: int = 4) -> Int[Array, " n"]:
    """Connected regions less their holes.

    Pixels less adjacent pairs plus full 2 x 2 blocks for 4-connected regions; less the pairs that touch at a corner
    only for 8-connected ones.
    """
    around = Around(bits)
    side, above, corner = around[0, -1], around[-1, 0], around[-1, -1]

    # pixels less pairs side by side are starts of runs; pairs above each other less full blocks are starts of those
    both = bits & above
    regions = _ones(bits & ~side) - _ones(both & ~(side & corner))
    if connectivity == 8:
        regions = regions - _ones(bits & corner & ~side & ~above)
        other = around[-1, 1]
        regions = regions - _ones(bits & other & ~around[0, 1] & ~above)
    return regions.sum((0, 1), dtype=jnp.int32)


def is_single_run_top(bits: Bits) -> Bool[Array, " n"]:
    """Whether a single run of a row has no pixel right above it: then all others hang on it, 4-connected."""
    above = jnp.concatenate([jnp.zeros_like(bits[:1]), bits[:-1]])
    hanging = lax.optimization_barrier(_fill_up(above & bits, bits))
    ends = bits & ~Around(bits)[0, 1]
    return count(ends & ~hanging) == 1


def _ones(words: Bits) -> Int[Array, "h k _"]:
    return lax.population_count(words).astype(jnp.int32)


def keep_large(bits: Bits, min_size: int | Int[Array, ""]) -> Bits:
    """Removes 4-connected regions of fewer than 2, 3 or 4 pixels, which their neighbourhood identifies.

    A region of three pixels or more has a pixel with two neighbours; one of four or more has a pixel with three, or two
    neighbouring pixels with two each. Every other pixel of it touches one of those.

    Args:
        bits: Packed masks.
        min_size: 1 to 4.
    """
    if not isinstance(min_size, int):
        return jnp.select(
            [min_size == size for size in (2, 3, 4)], [keep_large(bits, size) for size in (2, 3, 4)], bits
        )
    if not 1 <= min_size <= 4:
        raise ValueError(f"min_size must be 1 to 4, got {min_size}")
    if min_size == 1:
        return bits
    around = Around(bits)
    left, right, above, below = around[0, -1], around[0, 1], around[-1, 0], around[1, 0]
    if min_size == 2:
        return bits & (left | right | above | below)
    two = bits & ((left & right) | (above & below) | ((left | right) & (above | below)))
    core = two
    if min_size == 4:
        three = bits & ((left & right & (above | below)) | (above & below & (left | right)))
        core = three | (two & _sides(Around(two)))
    return bits & (core | _sides(Around(core)))


def _sides(around: Around) -> Bits:
    return around[-1, 0] | around[1, 0] | around[0, -1] | around[0, 1]


def first_pixel(bits: Bits) -> Bits:
    """The first pixel of each mask, row by row, as a mask of one pixel."""
    height, words, n = bits.shape
    flat = bits.reshape(height * words, n)
    chosen = jnp.arange(height * words)[:, None] == jnp.argmax(flat != 0, axis=0)
    return jnp.where(chosen, flat & (~flat + 1), 0).reshape(bits.shape)  # x & -x is the lowest bit


def flood(seeds: Bits, mask: Bits, *, connectivity: int) -> Bits:
    """The connected regions of a mask that hold a seed.

    Sweeps down and up in turn carry what is reached from row to row, and fill each row's runs at once, until one
    changes nothing anywhere in the batch, or everything is reached.

    Args:
        seeds: Where the flood starts; pixels outside the mask are ignored.
        mask: Where it may go.
        connectivity: 4 or 8.

    Returns:
        The pixels reached.

    Raises:
        ValueError: If the connectivity is neither 4 nor 8.
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, got {connectivity}")
    height = mask.shape[0]

    def sweep(reached, is_upward):
        def step(k, carry):
            previous, reached = carry
            k = jnp.where(is_upward, height - 1 - k, k)
            run, seed = (lax.dynamic_index_in_dim(rows, k, 0, False) for rows in (mask, reached))
            row = _fill_row(seed, previous, run, connectivity)
            return row, lax.dynamic_update_index_in_dim(reached, row, k, 0)

        return lax.fori_loop(0, height, step, (jnp.zeros_like(reached[0]), reached))[1]

    def is_unsettled(carry):
        return carry[2]

    def go_on(carry):
        reached, sweeps, _ = carry
        swept = sweep(reached, sweeps % 2 == 1)
        return swept, sweeps + 1, (swept != mask).any() & ((swept != reached).any() | (sweeps == 0))

    return lax.while_loop(is_unsettled, go_on, (seeds & mask, 0, jnp.bool_(True)))[0]


def _fill_row(seed: Words, previous: Words, run: Words, connectivity: int) -> Words:
    """All pixels of the runs of a row that hold a seed or touch what the previous row has reached."""
    first = last = np.uint32(0)
    if connectivity == 8:
        # a diagonal neighbour across the end of a word is a seed of the next word, as a carry is
        first, last = previous & 1, previous >> (WORD - 1)
        previous = previous | (previous << 1) | (previous >> 1)
    return _fill_down(_fill_up((seed | previous) & run, run, last), run, first)


def _fill_up(seed: Words, run: Words, last: Words | np.uint32 = np.uint32(0)) -> Words:
    """The pixels of runs from a seed on, towards higher bits and words.

    A seed that is added to its run carries to the run's end and clears what it passes.

    Args:
        seed: Pixels of the runs.
        run: The runs.
        last: 1 for each word whose last pixel is reached in the row before: the first of the next word is then a seed.
    """
    word = (run & ~(run + seed)) | seed
    carries = _carries((word >> (WORD - 1)) | last, run == _FULL)
    return word | jnp.where(carries, run & ~(run + 1), 0)


def _fill_down(seed: Words, run: Words, first: Words | np.uint32) -> Words:
    """The pixels of runs from a seed on, towards lower bits and words, where no carry goes: by doubling steps.

    Args:
        seed: Pixels of the runs.
        run: The runs.
        first: 1 for each word whose first pixel is reached in the row before: the last of the word before is then a
            seed.
    """
    word, way = seed, run
    for stage in (1, 2, 4, 8, 16):
        word = word | (way & (word >> stage))
        way = way & (way >> stage)
    carries = _carries(((word & 1) | first)[..., ::-1, :], (run == _FULL)[..., ::-1, :])[..., ::-1, :]
    shorter = lax.clz(~run)  # of the run that begins with the last bit
    at_the_end = ~jnp.where(shorter == WORD, 0, _FULL >> jnp.minimum(shorter, WORD - 1))
    return word | jnp.where(carries, at_the_end, 0)


def _carries(starts: Words, passes: Bool[Array, "*h k n"]) -> Bool[Array, "*h k n"]:
    """Which words a carry enters: from the word before, or through words that it fills on its way.

    With the words of a row as the bits of a number, these are runs and seeds again, as in `_fill_up`.

    Args:
        starts: 1 for each word from which a carry goes to the next.
        passes: Words that a carry passes: those of which all pixels are in the mask.
    """
    num = starts.shape[-2]
    if num == 1:
        return jnp.zeros_like(passes)
    start, passing = _as_bits(starts), _as_bits(passes.astype(jnp.uint32))
    entering = _next_bit(start)
    reached = _fill_up(entering & passing, passing)
    entering = entering | _next_bit(reached)
    index = jnp.arange(num, dtype=jnp.uint32)[:, None]
    word = entering if num <= WORD else jnp.repeat(entering, WORD, axis=-2)[..., :num, :]
    return ((word >> (index % WORD)) & 1).astype(bool)


def _as_bits(flags: Words) -> UInt32[Array, "*h m n"]:
    """Zeros and ones along the words of a row as the bits of fewer words."""
    num = flags.shape[-2]
    index = jnp.arange(num, dtype=jnp.uint32)[:, None] % WORD
    parts = [(flags << index)[..., k : k + WORD, :] for k in range(0, num, WORD)]
    return jnp.concatenate([part.sum(-2, keepdims=True, dtype=jnp.uint32) for part in parts], -2)


def _next_bit(words: Words) -> Words:
    """Every bit moved to the next place."""
    moved = words << 1
    if words.shape[-2] > 1:
        moved = moved.at[..., 1:, :].add(words[..., :-1, :] >> (WORD - 1))
    return moved


def masked_map(
    function: Callable[..., Array],
    needed: Bool[Array, " n"],
    results: Shaped[Array, "n *k"],
    *masks: Array,
    size: int,
) -> Array:
    """Evaluates a costly function only for the masks of a batch that need it, a few at a time.

    Args:
        function: Packed masks ``[h, k, size]``, or what else belongs to each, to the results.
        needed: Which masks need it.
        results: What holds for the others.
        *masks: Arguments of the function, along their last axis.
        size: Masks a time.

    Returns:
        The results, replaced where needed.
    """
    size = min(size, needed.shape[0])

    def some_left(carry):
        return carry[0].any()

    def take_some(carry):
        waiting, results = carry
        is_real, chosen = lax.top_k(waiting.astype(jnp.int32), size)
        values = function(*(jnp.where(is_real != 0, mask[..., chosen], 0) for mask in masks))
        kept = results[chosen]
        values = jnp.where((is_real != 0).reshape(-1, *[1] * (kept.ndim - 1)), values, kept)
        return waiting.at[chosen].set(False), results.at[chosen].set(values)

    return lax.while_loop(some_left, take_some, (needed, results))[1]
