"""Masks with 32 pixels in a word: one integer operation works on 32 pixels of every mask of a batch.

The layout is ``[h, k, n]``: rows, words of a row (pixel ``32 k + j`` is bit ``j`` of word ``k``), masks. Rows come
first because the sweeps of a flood walk over them, masks last because they are what a vector unit runs along.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Shaped, UInt32

Bits = UInt32[Array, "h k _"]

WORD = 32


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
    runs = _split(bits)
    hanging = lax.optimization_barrier(_fill_upwards(_split(above & bits), runs))
    following = [*(word << (WORD - 1) for word in runs[1:]), jnp.uint32(0)]
    ends = [r & ~((r >> 1) | f) for r, f in zip(runs, following, strict=True)]
    return count(jnp.stack([e & ~h for e, h in zip(ends, hanging, strict=True)], 1)) == 1


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
    runs = _split(mask)

    def sweep(reached, is_upward):
        def step(k, carry):
            previous, reached = carry
            k = jnp.where(is_upward, height - 1 - k, k)
            run, seed = ([lax.dynamic_index_in_dim(w, k, 0, False) for w in words] for words in (runs, reached))
            previous = _with_neighbours(previous) if connectivity == 8 else previous
            row = _fill([(s | p) & r for s, p, r in zip(seed, previous, run, strict=True)], run)
            return row, tuple(lax.dynamic_update_index_in_dim(w, r, k, 0) for w, r in zip(reached, row, strict=True))

        return lax.fori_loop(0, height, step, (tuple(jnp.zeros_like(w[0]) for w in reached), reached))[1]

    def differs(some, others):
        return jnp.stack([(s != o).any(0) for s, o in zip(some, others, strict=True)]).any()

    def is_unsettled(carry):
        return carry[2]

    def go_on(carry):
        reached, sweeps, _ = carry
        swept = sweep(reached, sweeps % 2 == 1)
        return swept, sweeps + 1, differs(swept, runs) & (differs(swept, reached) | (sweeps == 0))

    reached, *_ = lax.while_loop(is_unsettled, go_on, (_split(seeds & mask), 0, jnp.bool_(True)))
    return jnp.stack(reached, axis=1)


def _split(bits: Bits) -> tuple[Array, ...]:
    """Words as arrays of their own: what crosses from word to word is then plain arithmetic, without slices."""
    return tuple(bits[:, k] for k in range(bits.shape[1]))


def _with_neighbours(row: tuple[Array, ...]) -> tuple[Array, ...]:
    last = len(row) - 1
    spread = []
    for k, word in enumerate(row):
        wide = word | (word << 1) | (word >> 1)
        wide = wide | (row[k - 1] >> (WORD - 1)) if k else wide
        spread.append(wide | (row[k + 1] << (WORD - 1)) if k < last else wide)
    return tuple(spread)


def _fill(seed: Sequence[Array], run: Sequence[Array]) -> tuple[Array, ...]:
    """All pixels of the runs of a row that hold a seed."""
    reached = _fill_upwards(seed, run)
    # downwards no carry goes: doubling steps
    for k in reversed(range(len(run))):
        word, way = reached[k], run[k]
        if k + 1 < len(run):
            word = word | ((reached[k + 1] << (WORD - 1)) & way)
        for stage in (1, 2, 4, 8, 16):
            word = word | (way & (word >> stage))
            way = way & (way >> stage)
        reached[k] = word
    return tuple(reached)


def _fill_upwards(seed: Sequence[Array], run: Sequence[Array]) -> list[Array]:
    """The pixels of runs from a seed on: a seed added to its run carries to the run's end and clears what it passes."""
    reached = []
    for s, r in zip(seed, run, strict=True):
        if reached:
            s = s | ((reached[-1] >> (WORD - 1)) & r)
        reached.append((r & ~(r + s)) | s)
    return reached


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
