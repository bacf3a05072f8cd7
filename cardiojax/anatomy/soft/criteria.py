"""The 12 criteria of probability maps, differentiable, so that they can be losses."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax import ops
from cardiojax.anatomy.soft.attributes import centroid, sharpen
from cardiojax.labels import LEFT_ATRIUM, LV, MYOCARDIUM, NUM_CLASSES
from cardiojax.ops.masks.reconstruction import deciding_pixels
from cardiojax.ops.packed import bits
from cardiojax.ops.packed.components import remove_small_bits

#: Less than this of an erosion is not worth another.
_NEGLIGIBLE = 1e-3


def soft_criteria(probs: Float[Array, "*b h w k"]) -> Float[Array, "*b 12"]:
    """Evaluates the 12 criteria of `check` on class probabilities.

    Counts of pixels are sums of (sharpened) probabilities. What decides whether pixels are connected is the way between
    them whose least probable pixel is most probable, see `ops.reconstruct`; an erosion counts as much as the wall is
    surely one region after those before. Certain maps therefore have exactly the values of `check`, but for 0 in place
    of nan where a structure is missing.

    The value is differentiable almost everywhere. Which pixel decides has no gradient of its own, nor has the largest
    thickness in criterion 11 and the row in criterion 12, which are those of the more likely pixels.

    Memory: about 150 times the input. Work: about 0.1 s of a CPU core for 224 x 224 pixels, mostly for criterion 11.

    Args:
        probs: Probabilities of background, cavity, myocardium and atrium.

    Returns:
        Values in the order of `CRITERIA`, in their units.

    Raises:
        ValueError: If there are not four classes.

    Example:
        What a mask exceeds its limits by, as a loss:

        >>> import jax
        >>> from cardiojax.anatomy import CAMUS, limits
        >>> low, high = limits(CAMUS)
        >>> labels = jnp.zeros((20, 20), int).at[5:15, 5:15].set(1).at[9, 9].set(0)
        >>> values = soft_criteria(jax.nn.one_hot(labels, 4))
        >>> excess = jnp.maximum(values - high, 0) + jnp.maximum(low - values, 0)
        >>> float(values[0]), float(excess[0])
        (1.0, 1.0)
    """
    if probs.shape[-1] != NUM_CLASSES:
        raise ValueError(f"the criteria need probabilities of {NUM_CLASSES} classes, got {probs.shape[-1]}")
    return _soft_criteria(probs)


@ops.jitted()
def _soft_criteria(probs: Float[Array, "*b h w k"]) -> Float[Array, "*b 12"]:
    height, width = probs.shape[-3:-1]
    likely = [probs[..., k] for k in (LV, MYOCARDIUM, LEFT_ATRIUM)]
    lv, wall, atrium = map(sharpen, likely)
    background = sharpen(jnp.clip(1 - sum(likely), 0, 1))
    # two structures share the pixels between them: together they are certain there
    epicardium, lv_or_atrium = (sharpen(jnp.clip(likely[0] + other, 0, 1)) for other in likely[1:])
    edge = jnp.ones((height, width)).at[1:-1, 1:-1].set(0)

    structures = jnp.stack([lv, epicardium, atrium])
    holes = _unreached(edge * (1 - structures), 1 - structures, connectivity=8)
    pairs = jnp.stack([lv, lv]), jnp.stack([wall, atrium])
    gaps = _count(_gap(*pairs, jnp.stack([epicardium, lv_or_atrium]), edge))
    gaps = jnp.where(gaps > height * width / 2**14, gaps, 0.0)
    structures = jnp.stack([lv, wall, atrium])
    apart = structures - ops.reconstruct(_main_pixel(structures) * structures, structures, connectivity=8)
    frontiers = [_frontier_ratio(mask, other) for mask, other in ((lv, background), (wall, atrium))]
    values = [*_count(holes), *gaps, *_count(apart), *frontiers, _erosion_ratio(wall), _width_ratio(lv, wall)]
    return jnp.stack(values, -1)


def _count(mask: Float[Array, "*b h w"]) -> Float[Array, "*b"]:
    return mask.sum((-2, -1))


def _unreached(
    seeds: Float[Array, "*b h w"], mask: Float[Array, "*b h w"], *, connectivity: int
) -> Float[Array, "*b h w"]:
    return mask - ops.reconstruct(seeds, mask, connectivity=connectivity)


def _gap(
    first: Float[Array, "*b h w"],
    second: Float[Array, "*b h w"],
    both: Float[Array, "*b h w"],
    edge: Float[Array, "h w"],
) -> Float[Array, "*b h w"]:
    """What two structures enclose together, but neither alone."""
    one, other = jnp.stack([first, second]), jnp.stack([second, first])
    own = _unreached(jnp.maximum(edge, other), 1 - one, connectivity=4)
    free = 1 - jnp.maximum(both, own.max(0))
    return _unreached(edge * free, free, connectivity=4)


def _main_pixel(mask: Float[Array, "*b h w"]) -> Bool[Array, "*b h w"]:
    """The most probable pixel of the largest region of what is more likely than not, or of all."""
    region = ops.largest_component(mask > 0.5, connectivity=8)
    inside = jnp.where(region | ~region.any((-2, -1), keepdims=True), mask, -1.0)
    flat = inside.reshape(*mask.shape[:-2], -1)
    chosen = jnp.arange(flat.shape[-1]) == flat.argmax(-1, keepdims=True)
    return chosen.reshape(mask.shape)


def _frontier_ratio(mask: Float[Array, "*b h w"], other: Float[Array, "*b h w"]) -> Float[Array, "*b"]:
    """Pixels of a mask that touch another, over the width of the mask's bounding box."""
    touching = _count(mask * ops.dilate(other))
    touching = jnp.where(touching <= 1, 0.0, touching)
    columns = mask.max(-2)
    axis = columns.ndim - 1
    # a column lies in the box if there is one of the mask on either side, itself included
    width = jnp.minimum(lax.cummax(columns, axis=axis), lax.cummax(columns, axis=axis, reverse=True)).sum(-1)
    return touching / jnp.where(touching > 0, width, 1.0)


def _width_ratio(lv: Float[Array, "*b h w"], wall: Float[Array, "*b h w"]) -> Float[Array, "*b"]:
    """LV pixels over myocardium pixels on the row through the epicardium's centre."""
    row = jnp.floor(lax.stop_gradient(centroid(lv + wall)[1])).astype(jnp.int32)
    cavity, thickness = (jnp.take_along_axis(m.sum(-1), row[..., None], -1)[..., 0] for m in (lv, wall))
    is_there = (cavity > 0.5) & (thickness > 0.5)
    return jnp.where(is_there, cavity / jnp.where(is_there, thickness, 1.0), 0.0)


class _Deciding(NamedTuple):
    """For each erosion the pixels of the wall that decide whether it is one region, ``[n, m]``; -1 for none.

    Attributes:
        main: The most probable pixel that is left.
        apart: The one of another part that is most probable beyond what connects it.
        between: What connects it with the main part.
    """

    main: Int[Array, "n m"]
    apart: Int[Array, "n m"]
    between: Int[Array, "n m"]


class _Erosions(NamedTuple):
    """State of the loop over erosions."""

    step: Int[Array, ""]
    source: Int[Array, "n h w"]
    wholeness: Float[Array, " n"]
    deciding: _Deciding


def _erosion_ratio(wall: Float[Array, "*b h w"]) -> Float[Array, "*b"]:
    """Erosions by 3 x 3 until the wall breaks or vanishes, over half its largest thickness."""
    *batch, height, width = wall.shape
    deciding = _Deciding(*_erode_until_broken(lax.stop_gradient(wall)))
    flat = wall.reshape(*batch, height * width)

    def value(pixels):
        return jnp.where(pixels >= 0, jnp.take_along_axis(flat, jnp.maximum(pixels, 0), -1), 0.0)

    wholeness = value(deciding.main) * (1 - value(deciding.apart) + value(deciding.between))
    num_erosions = lax.cummin(wholeness, axis=len(batch)).sum(-1)
    half_thickness = ops.distance_transform(wall > 0.5).max((-2, -1))
    return num_erosions / jnp.where(half_thickness > 0, half_thickness, jnp.inf)


@ops.over_leading_axes(2)
def _erode_until_broken(
    wall: Float[Array, "*b h w"],
) -> tuple[Int[Array, "*b m"], Int[Array, "*b m"], Int[Array, "*b m"]]:
    """Finds the pixels that decide how many erosions a wall survives."""
    *batch, height, width = wall.shape
    flat = wall.reshape(-1, height * width)
    num, most = len(flat), max(height, width)  # a wall with an outside vanishes within as many
    shape = num, height, width

    def values(source):
        picked = jnp.take_along_axis(flat, jnp.maximum(source, 0).reshape(num, -1), -1).reshape(source.shape)
        return jnp.where(source >= 0, picked, 0.0)

    def goes_on(state):
        return (state.step < most) & (state.wholeness > _NEGLIGIBLE).any()

    def look_and_erode(state):
        source = _without_small(values(state.source), state.source, state.step)
        level = values(source)
        pixels = source.reshape(num, -1)
        is_main = _main_pixel(level)
        main = is_main.reshape(num, -1).argmax(-1)[:, None]
        index = deciding_pixels(jnp.where(is_main, level, 0.0), level, connectivity=8).reshape(num, -1)
        # 0 at a pixel of the seeds that is no seed is nobody's value
        is_nothing = (index < pixels.shape[-1]) & (index != main)
        between = jnp.where(is_nothing, -1, jnp.take_along_axis(pixels, index % pixels.shape[-1], -1))
        apart = (level.reshape(num, -1) - values(between)).argmax(-1)[:, None]
        new = _Deciding(
            *(jnp.take_along_axis(p, i, -1) for p, i in ((pixels, main), (pixels, apart), (between, apart)))
        )
        whole = values(new.main) * (1 - values(new.apart) + values(new.between))
        deciding = _Deciding(*(all.at[:, state.step].set(p[:, 0]) for all, p in zip(state.deciding, new, strict=True)))
        wholeness = jnp.minimum(state.wholeness, whole[:, 0])
        return _Erosions(state.step + 1, _eroded(level, source), wholeness, deciding)

    start = jnp.broadcast_to(jnp.arange(height * width, dtype=jnp.int32).reshape(height, width), shape)
    nothing = _Deciding(*[jnp.full((num, most), -1, jnp.int32)] * 3)
    has_outside = (flat < 0.5).any(-1)  # without one, an erosion takes nothing away
    state = _Erosions(jnp.int32(0), start, jnp.where(has_outside, 1.0, 0.0), nothing)
    end = lax.while_loop(goes_on, look_and_erode, state).deciding
    main, apart, between = (pixels.reshape(*batch, most) for pixels in end)
    return main, apart, between


def _without_small(
    level: Float[Array, "n h w"], source: Int[Array, "n h w"], step: Int[Array, ""]
) -> Int[Array, "n h w"]:
    """Drops the small parts that erosions leave, of what is more likely than not; before the first there are none."""
    height, width = level.shape[-2:]
    likely = level > 0.5
    kept = bits.unpack(remove_small_bits(bits.pack(likely), height * width / 2**14), width)
    return jnp.where((step > 0) & likely & ~kept, -1, source)


def _eroded(level: Float[Array, "n h w"], source: Int[Array, "n h w"]) -> Int[Array, "n h w"]:
    """The least probable pixel of each square of 3 x 3; what lies beyond the image counts as part of the wall."""
    for axis in (1, 2):
        size = level.shape[axis]
        levels = jnp.pad(level, [(int(a == axis),) * 2 for a in range(3)], constant_values=jnp.inf)
        sources = jnp.pad(source, [(int(a == axis),) * 2 for a in range(3)], constant_values=-1)
        for k in (0, 2):
            there, whose = (lax.slice_in_dim(x, k, k + size, axis=axis) for x in (levels, sources))
            is_less = there < level
            level, source = jnp.where(is_less, there, level), jnp.where(is_less, whose, source)
    return source
