"""Augmentation of an ultrasound image and its mask together, on device.

Every function takes one image and is meant for `jax.vmap`; `augment` is their chain. The ranges are wide on purpose:
a network trained on one scanner must read the gain, contrast, depth and sector of another.
"""

import dataclasses
from typing import NamedTuple

import dm_pix
import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Int, Key

from cardiojax.validation import check_range


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Ranges from which one augmentation is drawn.

    Attributes:
        rotation: Largest rotation, in degrees.
        scale: Range of the zoom, drawn once for both axes.
        aspect: Largest relative difference between the zooms of the two axes.
        shift: Largest displacement, as a share of the image's side.
        elastic: Largest standard deviation of a smooth displacement field, as a share of the image's side.
        gamma: Range of the exponent.
        contrast: Range of the factor on the difference from mid-grey.
        brightness: Largest offset.
        attenuation: Largest change of the log intensity from the top to the bottom of the image.
        speckle: Largest standard deviation of multiplicative noise, correlated over neighbouring pixels.
        noise: Largest standard deviation of additive noise.
        blur: Largest standard deviation of the Gaussian blur, in pixels.
        sector: Probability that the image is cut to a narrower sector; the mask is kept, as annotators do.
        probability: Probability of each of the intensity changes; the geometric ones use it together.
    """

    rotation: float = 20.0
    scale: tuple[float, float] = (0.75, 1.3)
    aspect: float = 0.15
    shift: float = 0.08
    elastic: float = 0.0
    gamma: tuple[float, float] = (0.6, 1.7)
    contrast: tuple[float, float] = (0.6, 1.4)
    brightness: float = 0.12
    attenuation: float = 0.7
    speckle: float = 0.2
    noise: float = 0.04
    blur: float = 1.6
    sector: float = 0.25
    probability: float = 0.7

    def __post_init__(self):
        check_range(self, "rotation", "aspect", "shift", "elastic", "brightness", low=0)
        check_range(self, "attenuation", "speckle", "noise", "blur", low=0)
        check_range(self, "scale", "gamma", "contrast", low=0, open_low=True)
        check_range(self, "sector", "probability", low=0, high=1)


class Augmented(NamedTuple):
    """An image and its mask after augmentation."""

    image: Float[Array, "h w"]
    labels: Int[Array, "h w"]


def augment(
    key: Key[Array, ""],
    image: Float[Array, "h w"],
    labels: Int[Array, "h w"],
    *,
    config: AugmentConfig = AugmentConfig(),
    size: int | None = None,
    frame: int | Int[Array, ""] | None = None,
) -> Augmented:
    """Draws and applies one augmentation.

    Args:
        key: Random key. Frames of one view that share it are changed alike.
        image: Image in [0, 1].
        labels: Its mask.
        config: Ranges to draw from.
        size: Height and width of the result; those of the image if not given.
        frame: Number of the frame within its view, so that the noise of each is its own.

    Returns:
        The image, in [0, 1], and its mask.
    """
    geometry_key, blur_key, speckle_key, intensity_key, noise_key, sector_key = jax.random.split(key, 6)
    image, labels = warp(geometry_key, image, labels, config=config, size=size)
    image = jnp.where(_coin(blur_key, config.probability / 2), blur(blur_key, image, sigma=config.blur), image)
    speckle_sigma = config.speckle * _coin(speckle_key, config.probability)
    image = speckle_noise(_of_frame(speckle_key, frame), image, sigma=speckle_sigma)
    image = change_intensity(intensity_key, image, config=config)
    noise_sigma = jax.random.uniform(noise_key, maxval=config.noise) * _coin(noise_key, config.probability / 2)
    noise = jax.random.normal(jax.random.fold_in(_of_frame(noise_key, frame), 1), image.shape)
    image = image + noise_sigma * noise
    image = jnp.where(_coin(sector_key, config.sector), crop_sector(sector_key, image), image)
    return Augmented(jnp.clip(image, 0, 1), labels)


def warp(
    key: Key[Array, ""],
    image: Float[Array, "h w"],
    labels: Int[Array, "h w"],
    *,
    config: AugmentConfig = AugmentConfig(),
    size: int | None = None,
) -> Augmented:
    """Rotates, zooms, shifts and deforms: linear for the image, nearest for the mask, zero outside.

    Args:
        key: Random key.
        image: Image.
        labels: Its mask.
        config: ``rotation``, ``scale``, ``aspect``, ``shift``, ``elastic`` and ``probability`` are used.
        size: Height and width of the result; those of the image if not given.

    Returns:
        The image and its mask on the same grid.
    """
    shape = image.shape if size is None else (size, size)
    row, col = random_grid(key, shape, config=config)
    if config.elastic:
        row, col = jnp.stack([row, col]) + smooth_field(jax.random.fold_in(key, 1), shape, sigma=config.elastic)
    row, col = (x * (n - 1) / (m - 1) for x, n, m in zip((row, col), image.shape, shape, strict=True))
    return Augmented(
        map_coordinates(image, [row, col], order=1, mode="constant"),
        map_coordinates(labels, [row, col], order=0, mode="constant"),
    )


def random_grid(
    key: Key[Array, ""], shape: tuple[int, ...], *, config: AugmentConfig = AugmentConfig()
) -> tuple[Float[Array, "h w"], Float[Array, "h w"]]:
    """Draws where each pixel of a rotated, zoomed and shifted image comes from.

    Args:
        key: Random key.
        shape: Height and width.
        config: ``rotation``, ``scale``, ``aspect``, ``shift`` and ``probability`` are used.

    Returns:
        Rows and columns, in pixels.
    """
    coin_key, angle_key, scale_key, aspect_key, shift_key = jax.random.split(key, 5)
    h, w = shape
    active = _coin(coin_key, config.probability)
    angle = active * jnp.deg2rad(jax.random.uniform(angle_key, minval=-config.rotation, maxval=config.rotation))
    zoom = jax.random.uniform(scale_key, minval=config.scale[0], maxval=config.scale[1])
    aspect = 1 + jax.random.uniform(aspect_key, minval=-config.aspect, maxval=config.aspect)
    step = jnp.where(active, jnp.stack([1 / (zoom * aspect), aspect / zoom]), 1.0)
    shift = active * jax.random.uniform(shift_key, (2,), minval=-config.shift, maxval=config.shift)
    rows, cols = jnp.meshgrid(jnp.arange(h) - (h - 1) / 2, jnp.arange(w) - (w - 1) / 2, indexing="ij")
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    row = step[0] * (cos * rows - sin * cols) + (h - 1) / 2 + shift[0] * h
    col = step[1] * (sin * rows + cos * cols) + (w - 1) / 2 + shift[1] * w
    return row, col


def smooth_field(key: Key[Array, ""], shape: tuple[int, ...], *, sigma: float) -> Float[Array, "2 h w"]:
    """Smooth random displacements: normal at 5 x 5 points, cubic between them.

    Args:
        key: Random key.
        shape: Height and width.
        sigma: Largest standard deviation, as a share of the side; the one used is drawn below it.

    Returns:
        Displacements along the rows and columns, in pixels.
    """
    width_key, points_key = jax.random.split(key)
    width = jax.random.uniform(width_key, maxval=sigma) * jnp.array(shape, jnp.float32)[:, None, None]
    return jax.image.resize(width * jax.random.normal(points_key, (2, 5, 5)), (2, *shape), "cubic")


def blur(key: Key[Array, ""], image: Float[Array, "h w"], *, sigma: float) -> Float[Array, "h w"]:
    """Gaussian blur of a random width.

    Args:
        key: Random key.
        image: Image.
        sigma: Largest standard deviation, in pixels.

    Returns:
        The blurred image.
    """
    width = jax.random.uniform(key, minval=0.3, maxval=sigma)
    blurred = dm_pix.gaussian_blur(image[..., None], width, kernel_size=2 * int(3 * sigma) + 1)
    return jnp.squeeze(blurred, -1)


def speckle_noise(
    key: Key[Array, ""], image: Float[Array, "h w"], *, sigma: float | Float[Array, ""]
) -> Float[Array, "h w"]:
    """Multiplicative noise with a grain of about two pixels.

    Args:
        key: Random key.
        image: Image.
        sigma: Largest standard deviation of the factor.

    Returns:
        The noisy image, not clipped.
    """
    strength_key, grain_key = jax.random.split(key)
    strength = sigma * jax.random.uniform(strength_key)
    grain = jax.random.normal(grain_key, image.shape)
    grain = (grain + jnp.roll(grain, 1, 0) + jnp.roll(grain, 1, 1) + jnp.roll(grain, (1, 1), (0, 1))) / 2
    return image * (1 + strength * grain)


def change_intensity(
    key: Key[Array, ""], image: Float[Array, "h w"], *, config: AugmentConfig = AugmentConfig()
) -> Float[Array, "h w"]:
    """Random gamma, attenuation with depth, contrast and brightness; pixels outside the sector stay black.

    Args:
        key: Random key.
        image: Image in [0, 1].
        config: ``gamma``, ``attenuation``, ``contrast``, ``brightness`` and ``probability`` are used.

    Returns:
        The changed image, not clipped.
    """
    keys = jax.random.split(key, 4)
    coins = jax.random.bernoulli(jax.random.fold_in(key, 4), config.probability, (4,))
    low, high = jnp.log(jnp.asarray(config.gamma))
    gamma = jnp.exp(coins[0] * jax.random.uniform(keys[0], minval=low, maxval=high))
    depth = jnp.linspace(-0.5, 0.5, image.shape[0])[:, None]
    slope = coins[1] * jax.random.uniform(keys[1], minval=-config.attenuation, maxval=config.attenuation)
    low, high = config.contrast
    contrast = jnp.where(coins[2], jax.random.uniform(keys[2], minval=low, maxval=high), 1.0)
    offset = coins[3] * jax.random.uniform(keys[3], minval=-config.brightness, maxval=config.brightness)
    inside = image > 0
    image = jnp.clip(image, 1e-6, 1) ** gamma * jnp.exp(slope * depth)
    return inside * ((image - 0.5) * contrast + 0.5 + offset)


def crop_sector(key: Key[Array, ""], image: Float[Array, "h w"]) -> Float[Array, "h w"]:
    """Blackens what lies outside a random sector with its apex near the middle of the upper edge.

    Args:
        key: Random key.
        image: Image.

    Returns:
        The image inside the sector, zero elsewhere.
    """
    apex_key, angle_key, depth_key = jax.random.split(key, 3)
    h, w = image.shape
    top, left = jax.random.uniform(apex_key, (2,), minval=jnp.array([-0.05, 0.42]), maxval=jnp.array([0.03, 0.58]))
    half_angle = jax.random.uniform(angle_key, (2,), minval=0.45, maxval=0.85)
    depth = jax.random.uniform(depth_key, minval=0.85, maxval=1.1)
    rows, cols = jnp.meshgrid(jnp.arange(h) / h - top, jnp.arange(w) / w - left, indexing="ij")
    angle = jnp.arctan2(cols, rows)
    inside = (angle > -half_angle[0]) & (angle < half_angle[1]) & (jnp.hypot(rows, cols) < depth)
    return jnp.where(inside, image, 0.0)


def _of_frame(key: Key[Array, ""], frame: int | Int[Array, ""] | None) -> Key[Array, ""]:
    return key if frame is None else jax.random.fold_in(key, 1000 + frame)


def _coin(key: Key[Array, ""], probability: float) -> Array:
    return jax.random.bernoulli(jax.random.fold_in(key, 7), probability)
