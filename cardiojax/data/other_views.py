"""Images that are no apical view, made on device from apical ones and from nothing: counterexamples for a classifier.

Every function takes one image and is meant for `jax.vmap`. `other_view` draws one of `KINDS`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Bool, Float, Int, Key

from cardiojax.data.augment import crop_sector
from cardiojax.labels import LEFT_ATRIUM, LV

#: What is made, and how often.
KINDS: dict[str, float] = {
    "rotated": 0.14,
    "upside down": 0.08,
    "mirrored": 0.14,
    "part": 0.08,
    "squashed": 0.1,
    "inverted": 0.04,
    "shuffled": 0.06,
    "random phases": 0.06,
    "outflow tract": 0.12,
    "scene": 0.18,
}
_NAMES = tuple(KINDS)
#: Simple shapes of a scene.
_NUM_SHAPES = 6


class _Warp(NamedTuple):
    """An affine map: degrees, zooms ``(rows, columns)``, signs ``(rows, columns)`` and shift in sides of the image."""

    angle: Array
    zoom: Array
    sign: Array
    shift: Array


def other_view(
    key: Key[Array, ""],
    image: Float[Array, "h w"],
    labels: Int[Array, "h w"],
    *,
    kind: str | None = None,
    mirrored: bool | Bool[Array, ""] = True,
) -> Float[Array, "h w"]:
    """Makes an image that is no apical view in its usual orientation.

    Args:
        key: Random key.
        image: An apical view in [0, 1].
        labels: Its label map.
        kind: One of `KINDS`; drawn if not given.
        mirrored: Whether the mirror image counts as another view; else a rotation takes its place.

    Returns:
        The image, in [0, 1].

    Raises:
        ValueError: If there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    kind_key, warp_key, outflow_key, made_key, sector_key = jax.random.split(key, 5)
    if kind is None:
        index = jax.random.choice(kind_key, len(KINDS), p=jnp.array(list(KINDS.values())) / sum(KINDS.values()))
    else:
        index = jnp.asarray(_NAMES.index(kind))
    is_kind = {name: index == i for i, name in enumerate(_NAMES)}
    is_kind["rotated"] |= is_kind["mirrored"] & ~jnp.asarray(mirrored)
    is_kind["mirrored"] &= jnp.asarray(mirrored)
    has_atrium = jnp.any(labels == LEFT_ATRIUM) & jnp.any(labels == LV)
    is_kind["rotated"] |= is_kind["outflow tract"] & ~has_atrium
    is_kind["outflow tract"] &= has_atrium

    source = jnp.where(is_kind["outflow tract"], add_outflow_tract(outflow_key, image, labels), image)
    warped = _apply_warp(source, _draw_warp(warp_key, is_kind))
    result = jnp.where(is_kind["inverted"], jnp.where(warped > 0, 1 - warped, 0), warped)
    result = jnp.where(is_kind["shuffled"], shuffle(made_key, image), result)
    result = jnp.where(is_kind["random phases"], randomize_phases(made_key, image), result)
    result = jnp.where(is_kind["scene"], scene(made_key, image.shape), result)
    keeps_sector = is_kind["mirrored"] | is_kind["inverted"] | is_kind["outflow tract"]
    is_cut = jax.random.bernoulli(jax.random.fold_in(sector_key, 1), jnp.where(keeps_sector, 0.2, 0.7))
    return jnp.clip(jnp.where(is_cut, crop_sector(sector_key, result), result), 0, 1)


def _draw_warp(key: Key[Array, ""], is_kind: dict[str, Array]) -> _Warp:
    """Draws the affine map of a kind; those that are not warped get a small one."""
    keys = jax.random.split(key, 6)
    turned = jax.random.uniform(keys[0], minval=70.0, maxval=290.0)
    angle = jnp.where(is_kind["rotated"], turned, jax.random.uniform(keys[1], minval=-12.0, maxval=12.0))
    zoom = jax.random.uniform(keys[2], minval=0.9, maxval=1.2)
    zoom = jnp.where(is_kind["rotated"] | is_kind["upside down"], zoom * 1.25, zoom)
    zoom = jnp.where(is_kind["part"], jax.random.uniform(keys[3], minval=2.2, maxval=4.0), zoom)
    squeeze = jax.random.uniform(keys[4], minval=1.6, maxval=2.4)
    aspect = jnp.where(is_kind["squashed"], jnp.stack([squeeze**-0.3, squeeze**0.8]), 1.0)
    sign = jnp.stack([jnp.where(is_kind["upside down"], -1.0, 1.0), jnp.where(is_kind["mirrored"], -1.0, 1.0)])
    reach = jnp.where(is_kind["part"], 0.3, 0.04)
    return _Warp(angle, zoom * aspect, sign, jax.random.uniform(keys[5], (2,), minval=-reach, maxval=reach))


def _apply_warp(image: Float[Array, "h w"], warp: _Warp) -> Float[Array, "h w"]:
    """Resamples linearly; what lies outside is black."""
    h, w = image.shape
    rows, cols = jnp.meshgrid(jnp.linspace(-0.5, 0.5, h), jnp.linspace(-0.5, 0.5, w), indexing="ij")
    turn = jnp.deg2rad(warp.angle)
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    row = warp.sign[0] * (cos * rows - sin * cols) / warp.zoom[0] + warp.shift[0]
    col = warp.sign[1] * (sin * rows + cos * cols) / warp.zoom[1] + warp.shift[1]
    return map_coordinates(image, [(row + 0.5) * (h - 1), (col + 0.5) * (w - 1)], order=1)


def add_outflow_tract(
    key: Key[Array, ""], image: Float[Array, "h w"], labels: Int[Array, "h w"]
) -> Float[Array, "h w"]:
    """Lets the ventricle open into a second tube beside the atrium, as the aorta does in an apical long-axis view.

    Args:
        key: Random key.
        image: An apical view in [0, 1].
        labels: Its label map, with a ventricle and an atrium.

    Returns:
        The image.
    """
    h, w = image.shape
    rows, cols = jnp.meshgrid(jnp.arange(h, dtype=jnp.float32), jnp.arange(w, dtype=jnp.float32), indexing="ij")
    atrium = labels == LEFT_ATRIUM
    base = jnp.min(jnp.where(atrium, rows, h))
    left, right = jnp.min(jnp.where(atrium, cols, w)), jnp.max(jnp.where(atrium, cols, 0))
    width, middle = jnp.maximum(right - left, w / 8), (left + right) / 2
    low, high = jnp.array([0.25, 0.0, 0.45, 0.08, 0.35]), jnp.array([0.6, 0.6, 0.7, 0.16, 0.8])
    place, lean, narrowing, reach, length = jax.random.uniform(key, (5,), minval=low, maxval=high)
    offset = cols - (middle + place * width + lean * (rows - base))
    # the tube is the atrium itself, narrower: its walls and its texture are real
    tube = map_coordinates(image, [rows, middle + offset / narrowing], order=1)
    radius = 0.6 * width * narrowing
    is_tube = _soft_step(radius - jnp.abs(offset)) * _soft_step(rows - base) * _soft_step(length * h - (rows - base))
    image = image + is_tube * (tube - image)
    # no valve between the ventricle and the tube: blood from above takes its place
    blood = map_coordinates(image, [rows - (reach + 0.04) * h, cols], order=1)
    is_open = _soft_step(0.7 * radius - jnp.abs(offset)) * _soft_step(reach * h / 2 - jnp.abs(rows - base))
    return image + is_open * (blood - image)


def _soft_step(distance: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """0 below zero and 1 above, over about two pixels."""
    return jax.nn.sigmoid(2 * distance)


def shuffle(key: Key[Array, ""], image: Float[Array, "h w"], *, num: int = 4) -> Float[Array, "h w"]:
    """Permutes the ``num`` x ``num`` tiles of an image, whose side must be a multiple of it."""
    h, w = image.shape
    tiles = image.reshape(num, h // num, num, w // num).swapaxes(1, 2).reshape(num * num, h // num, w // num)
    tiles = jax.random.permutation(key, tiles).reshape(num, num, h // num, w // num)
    return tiles.swapaxes(1, 2).reshape(h, w)


def randomize_phases(key: Key[Array, ""], image: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """A texture with the power spectrum of an image and random phases."""
    spectrum = jnp.abs(jnp.fft.rfft2(image))
    phases = jnp.angle(jnp.fft.rfft2(jax.random.normal(key, image.shape)))
    texture = jnp.fft.irfft2(spectrum * jnp.exp(1j * phases), image.shape)
    return jnp.clip(texture, 0, 1)


def scene(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "h w"]:
    """A random ultrasound image: layers, dark and bright ellipses with walls, speckle, noise, attenuation.

    Among them are rings as in a short-axis view and long cavities that lie as in a parasternal one.

    Args:
        key: Random key.
        shape: Height and width.

    Returns:
        Grey values, about in [0, 1].
    """
    keys = jax.random.split(key, 9)
    h, w = shape
    rows, cols = jnp.meshgrid(jnp.linspace(-1, 1, h), jnp.linspace(-1, 1, w), indexing="ij")
    draw = jax.random.uniform(keys[0], (8,))
    coarse = jax.image.resize(jax.random.normal(keys[1], (4, 4)), (h, w), "cubic")
    fine = jax.image.resize(jax.random.normal(keys[2], (10, 14)), (h, w), "cubic")
    layers = jnp.sin((6 + 30 * draw[0]) * (rows + 0.2 * (draw[1] - 0.5) * cols**2) + 6 * draw[2])
    level = 0.6 * draw[3] * coarse + 0.5 * draw[4] * fine + (draw[5] > 0.5) * layers * jnp.exp(-(rows + 1) * 2)
    number = jax.random.randint(keys[3], (), 0, _NUM_SHAPES + 1)

    def add_shape(index: Array, level: Array) -> Array:
        place = jax.random.uniform(jax.random.fold_in(keys[4], index), (8,))
        centre = 1.3 * (place[:2] - 0.5)
        radii = 0.12 + 0.5 * place[2:4]
        turn = jnp.pi * place[4]
        down, across = rows - centre[0], cols - centre[1]
        along = jnp.cos(turn) * down + jnp.sin(turn) * across
        side = jnp.cos(turn) * across - jnp.sin(turn) * down
        distance = jnp.hypot(along / radii[0], side / radii[1])
        inside = jnp.where(place[5] < 0.75, -2.2, 1.0)
        rim = 0.03 + 0.2 * place[6]
        added = jnp.where(distance < 1, inside, level)
        added = added + (0.4 + 1.4 * place[7]) * jnp.exp(-jnp.square((distance - 1 - rim / 2) / rim))
        return jnp.where(index < number, added, level)

    for index in range(_NUM_SHAPES):
        level = add_shape(jnp.asarray(index), level)
    blur = jax.image.resize(jax.random.normal(keys[5], (2, h // 2, w // 3)), (2, h, w), "linear")
    speckle = jnp.log(jnp.hypot(blur[0], blur[1]) + 0.05)
    fading = 0.8 * (draw[6] - 0.3) * rows
    grey = 0.3 + 0.25 * draw[7] + 0.2 * (level - fading) + 0.09 * speckle
    return jnp.clip(grey + 0.03 * jax.random.normal(keys[6], (h, w)), 0, 1)
