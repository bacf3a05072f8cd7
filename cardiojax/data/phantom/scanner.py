"""From scatterers to a picture: beams, point-spread function, gain, noise, log compression, scan conversion."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Complex, Float, Key

from cardiojax.data.phantom.raster import pixel_centres

_NUM_SAMPLES = 400  # along a beam


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vendor:
    """A scanner and its settings.

    Attributes:
        half_angle: Of the sector, degrees.
        wavelength: In tissue, mm.
        axial: Standard deviation of the pulse, mm.
        lateral: Standard deviation of the beam, degrees; its width in mm grows with depth.
        num_beams: Across the sector.
        dynamic_range: Shown from black to white, dB.
        gain: Level of mean myocardium in the picture, 0 black to 1 white.
        gamma: Exponent after log compression; above 1 for more contrast.
        haze: Level of stationary clutter over mean myocardium, dB.
        noise: Level of noise half way down, dB.
        smoothing: Standard deviation of the filter on the envelope, in samples and beams.
        persistence: Share of the previous frame in each.
        near: Depth where the picture starts, mm.
        zoom: Factor on the depth of the picture.
    """

    half_angle: float = 37.3
    wavelength: float = 0.45
    axial: float = 0.38
    lateral: float = 0.68
    num_beams: int = 160
    dynamic_range: float = 50.0
    gain: float = 0.525
    gamma: float = 1.0
    haze: float = -18.5
    noise: float = -19.0
    smoothing: float = 0.9
    persistence: float = 0.0
    near: float = 0.0
    zoom: float = 1.0


VENDORS: dict[str, Vendor] = {
    "ge_like": Vendor(),
    "philips_like": Vendor(
        half_angle=43.0,
        wavelength=0.62,
        axial=0.75,
        lateral=0.95,
        num_beams=128,
        dynamic_range=44.0,
        gain=0.66,
        gamma=1.5,
        haze=-21.0,
        noise=-22.0,
        smoothing=1.5,
        persistence=0.35,
        near=4.0,
        zoom=1.12,
    ),
    "handheld_like": Vendor(
        half_angle=40.0,
        wavelength=0.7,
        axial=0.9,
        lateral=1.3,
        num_beams=96,
        dynamic_range=38.0,
        gain=0.52,
        gamma=0.9,
        haze=-10.0,
        noise=-9.0,
        smoothing=0.7,
        zoom=1.05,
    ),
}


class Acquisition(NamedTuple):
    """What the probe and the patient's chest do to a loop: all on the polar grid, ``[samples, beams]``.

    Attributes:
        gain: Factor on the echoes of the tissue.
        clutter: Echoes that stand still.
        noise: Level of the noise.
        brightness: Offset of the picture.
        contrast: Factor on the dynamic range.
    """

    gain: Float[Array, "m n"]
    clutter: Complex[Array, "m n"]
    noise: Float[Array, "m n"]
    brightness: Float[Array, ""]
    contrast: Float[Array, ""]


def polar_grid(vendor: Vendor, depth: Float[Array, ""]) -> tuple[Array, Array]:
    """Depths of the samples in mm, ``[m, 1]``, and angles of the beams in radians, ``[1, n]``."""
    half = jnp.deg2rad(vendor.half_angle)
    return jnp.linspace(0, depth, _NUM_SAMPLES)[:, None], jnp.linspace(-half, half, vendor.num_beams)[None]


def sample_acquisition(key: Key[Array, ""], vendor: Vendor, depth: Float[Array, ""]) -> Acquisition:
    """Draws the quality of a loop: gains, attenuation, dropout, shadows, haze, reverberations.

    Args:
        key: Random key.
        vendor: The scanner.
        depth: Radius of the sector in mm.

    Returns:
        What acts on every frame alike.
    """
    keys = jax.random.split(key, 8)
    draw = jax.random.uniform(keys[0], (16,))
    normal = jax.random.normal(keys[1], (8,))
    radius, angle = polar_grid(vendor, depth)
    deep, turn = radius / depth, angle / jnp.deg2rad(vendor.half_angle)

    level = 2.5 * normal[0] * (deep - 0.5) + 3.0 * normal[1] * turn  # dB; left over by the compensation of depth
    level += -4.0 * draw[0] * turn**2
    for k in (3, 4):  # dropout: a few beams return less, most at the sides
        centre = jnp.sign(normal[k]) * (0.35 + 0.5 * draw[k])
        level += -10 * draw[k + 2] ** 2 * jnp.exp(-jnp.square((turn - centre) / (0.08 + 0.12 * draw[k + 4])))
    for k, sign in ((9, -1.0), (10, 1.0)):  # ribs and lung cut the edges off, from a depth on
        border = 1.35 - 0.75 * draw[k] ** 2
        level += -22 * jax.nn.sigmoid((sign * turn - border) / 0.07) * jax.nn.sigmoid((deep - 0.1) / 0.08)

    def filtered(key: Array) -> Array:
        return _filter(_complex_normal(key, (_NUM_SAMPLES, vendor.num_beams)), vendor, depth)

    haze = vendor.haze + 3 * normal[5] + 3 * jnp.cos(2.5 * turn + 6 * draw[11]) * jnp.cos(5 * deep + 6 * draw[12])
    haze += 18 * jnp.exp(-radius / (6 + 10 * draw[13])) + (2 + 6 * normal[7]) * (deep - 0.4)
    rings = jnp.cos(2 * jnp.pi * radius / (3.5 + 2 * draw[14])) * jnp.exp(-radius / (5 + 8 * draw[15]))
    ringing = 10 ** ((vendor.haze + 14) / 20) * jnp.maximum(rings, 0) * (1 - 0.5 * turn**2)
    clutter = filtered(keys[2]) * 10 ** (haze / 20) + ringing
    noise = vendor.noise + 3 * normal[6] + 17 * (deep - 0.5) + 2 * turn**2
    return Acquisition(
        10 ** (level / 20),
        clutter,
        10 ** (noise / 20) * jnp.ones_like(turn),
        0.055 * normal[2],
        1 + 0.08 * normal[0],
    )


def echo(
    key: Key[Array, ""],
    places: Float[Array, "k xy"],
    strengths: Float[Array, " k"],
    acquisition: Acquisition,
    *,
    vendor: Vendor,
    depth: Float[Array, ""],
    density: float,
) -> Float[Array, "m n"]:
    """One frame on the polar grid, log-compressed.

    Each scatterer adds its echo, with the phase of its depth, to the four samples around it; the point-spread function
    follows as a filter, then gain, clutter, noise, envelope and compression.

    Args:
        key: Random key of the noise.
        places: Scatterers, mm from the probe.
        strengths: Their amplitudes.
        acquisition: What acts on every frame alike.
        vendor: The scanner.
        depth: Radius of the sector in mm.
        density: Scatterers a cell of the polar grid, for which a strength of 1 gives an echo of unit power.

    Returns:
        Grey values in [0, 1].
    """
    half = jnp.deg2rad(vendor.half_angle)
    radius = jnp.linalg.norm(places, axis=-1)
    row = radius / depth * (_NUM_SAMPLES - 1)
    col = (jnp.arctan2(places[:, 1], places[:, 0]) / half + 1) / 2 * (vendor.num_beams - 1)
    phase = 4 * jnp.pi / vendor.wavelength * radius
    echoes = _splat(row, col, strengths * jnp.exp(1j * phase), (_NUM_SAMPLES, vendor.num_beams)) / jnp.sqrt(density)
    field = _filter(echoes, vendor, depth) * acquisition.gain + acquisition.clutter
    noise = _filter(_complex_normal(key, field.shape), vendor, depth, axial=0.6)
    envelope = _blur(jnp.abs(field + acquisition.noise * noise), vendor.smoothing)
    decibel = 20 * jnp.log10(envelope + 1e-5)
    grey = vendor.gain + acquisition.brightness + (decibel + 1.5) / (vendor.dynamic_range * acquisition.contrast)
    return jnp.clip(grey, 0, 1) ** vendor.gamma


def scan_convert(
    frame: Float[Array, "m n"],
    shape: tuple[int, int],
    spacing: Float[Array, " xy"],
    *,
    vendor: Vendor,
    depth: Float[Array, ""],
) -> Float[Array, "h w"]:
    """Puts a polar frame on a Cartesian grid; black outside the sector.

    Args:
        frame: On the polar grid.
        shape: Height and width.
        spacing: ``(dy, dx)`` in mm.
        vendor: The scanner.
        depth: Radius of the sector in mm.

    Returns:
        The picture.
    """
    rows, cols = pixel_centres(shape, spacing)
    radius, angle = jnp.hypot(rows[:, None], cols), jnp.arctan2(cols, rows[:, None])
    half = jnp.deg2rad(vendor.half_angle)
    inside = (radius <= depth) & (jnp.abs(angle) <= half) & (radius >= vendor.near)
    where = [radius / depth * (_NUM_SAMPLES - 1), (angle / half + 1) / 2 * (vendor.num_beams - 1)]
    return jnp.where(inside, map_coordinates(frame, where, order=1, mode="nearest"), 0.0)


def _splat(row: Array, col: Array, values: Array, shape: tuple[int, int]) -> Array:
    """Adds each value to the four samples around its place; what lies outside is lost."""
    top, left = jnp.floor(row), jnp.floor(col)
    down, right = row - top, col - left
    shares = jnp.stack([1 - down, down], -1)[:, :, None] * jnp.stack([1 - right, right], -1)[:, None, :]
    windows = jax.lax.ScatterDimensionNumbers(
        update_window_dims=(1, 2, 3), inserted_window_dims=(), scatter_dims_to_operand_dims=(0, 1)
    )
    parts = jnp.stack([values.real, values.imag], -1)
    grid = jax.lax.scatter_add(
        jnp.zeros((*shape, 2)),
        jnp.stack([top, left], -1).astype(jnp.int32),
        shares[..., None] * parts[:, None, None, :],
        windows,
        mode=jax.lax.GatherScatterMode.FILL_OR_DROP,
    )
    return jax.lax.complex(grid[..., 0], grid[..., 1])


def _complex_normal(key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
    real, imaginary = jax.random.normal(key, (2, *shape)) / jnp.sqrt(2.0)
    return jax.lax.complex(real, imaginary)


def _filter(field: Array, vendor: Vendor, depth: Array, *, axial: float = 1.0) -> Array:
    """The point-spread function, of unit power for white noise."""
    m, n = field.shape
    padded = jnp.pad(field, ((0, 0), (8, 8)))
    sigma_m = axial * vendor.axial * (m - 1) / depth
    sigma_n = vendor.lateral * (vendor.num_beams - 1) / (2 * vendor.half_angle)
    fm, fn = jnp.fft.fftfreq(m)[:, None], jnp.fft.fftfreq(n + 16)
    transfer = jnp.exp(-2 * jnp.pi**2 * ((sigma_m * fm) ** 2 + (sigma_n * fn) ** 2))
    transfer = transfer / jnp.sqrt(jnp.mean(transfer**2))
    return jnp.fft.ifft2(jnp.fft.fft2(padded) * transfer)[:, 8:-8]


def _blur(frame: Array, sigma: float) -> Array:
    reach = jnp.arange(-3, 4)
    kernel = jnp.exp(-0.5 * jnp.square(reach / sigma))
    kernel = kernel / kernel.sum()
    rows = jax.vmap(lambda line: jnp.convolve(line, kernel, mode="valid"), 1, 1)(jnp.pad(frame, 3, mode="edge"))
    return jax.vmap(lambda line: jnp.convolve(line, kernel, mode="valid"))(rows)
