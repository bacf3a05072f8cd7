"""A loop from a heart: contours in motion, exact masks, simulated ultrasound."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from cardiojax.data.phantom import raster, scanner, scatterers
from cardiojax.data.phantom.motion import NUM_WALL, Akinesia, cardiac_cycle, contour_volume, move
from cardiojax.data.phantom.scanner import VENDORS, Vendor
from cardiojax.data.phantom.shape import Heart
from cardiojax.labels import MEASURED_VIEWS


class Loop(NamedTuple):
    """A simulated recording.

    Attributes:
        images: Grey values in [0, 1], ``[t, h, w, 1]``.
        labels: Exact masks: 0 background, 1 LV cavity, 2 myocardium, 3 left atrium, ``[t, h, w]``.
        spacing: ``(dy, dx)`` in mm.
        contours: As in `Heart`, in mm, ``[t, p, 2]``.
        volume: Of the cavity by the single-plane method of disks, ml, ``[t]``.
    """

    images: Float[Array, "t h w 1"]
    labels: Int[Array, "t h w"]
    spacing: Float[Array, " xy"]
    contours: Float[Array, "t p xy"]
    volume: Float[Array, " t"]


def simulate(
    key: Key[Array, ""],
    heart: Heart,
    *,
    view: str = "4CH",
    vendor: Vendor = VENDORS["ge_like"],
    num_frames: int = 50,
    shape: tuple[int, int] = (224, 224),
    frame_rate: float | Float[Array, ""] = 50.0,
    heart_rate: float | Float[Array, ""] = 60.0,
    ejection_fraction: float | Float[Array, ""] | None = None,
    akinesia: Akinesia = Akinesia(),
    num_scatterers: int = 40_000,
) -> Loop:
    """Simulates an apical loop that starts at end-diastole.

    Frames are made one after another: beside the loop itself, memory holds one frame and 20 MB of scatterers.

    Args:
        key: Random key of the recording: speckle, quality, noise.
        heart: From `sample_heart`.
        view: ``"2CH"`` or ``"4CH"``.
        vendor: The scanner.
        num_frames: Length of the loop.
        shape: Height and width.
        frame_rate: Frames a second.
        heart_rate: Beats a minute.
        ejection_fraction: Percent, by the single-plane method of disks with each phase its own length; that of the
            heart if not given.
        akinesia: A part of the wall that does not move.
        num_scatterers: In the sector; 40 000 are eight a resolution cell of the default scanner.

    Returns:
        The loop, with its masks.

    Raises:
        ValueError: If there is no such view.
    """
    if view not in MEASURED_VIEWS:
        raise ValueError(f"view must be one of {', '.join(MEASURED_VIEWS)}, got {view!r}")
    cycle = cardiac_cycle(jnp.arange(num_frames) / frame_rate, heart_rate)
    phases = heart.contours[MEASURED_VIEWS.index(view)]
    contours = move(phases, cycle.volume, ejection_fraction=ejection_fraction, akinesia=akinesia)
    depth = heart.depth * vendor.zoom
    half = jnp.deg2rad(vendor.half_angle)
    spacing = jnp.stack([depth / (shape[0] - 1), 2 * depth * jnp.sin(half) / (shape[1] - 1)])
    labels = raster.rasterize(contours, shape, spacing, depth)
    images = scan(
        key,
        contours,
        cycle.inflow,
        depth,
        view=view,
        vendor=vendor,
        shape=shape,
        spacing=spacing,
        num_scatterers=num_scatterers,
    )
    return Loop(images[..., None], labels, spacing, contours, contour_volume(contours[:, :NUM_WALL]))


def scan(
    key: Key[Array, ""],
    contours: Float[Array, "t p xy"],
    inflow: Float[Array, " t"],
    depth: Float[Array, ""],
    *,
    view: str,
    vendor: Vendor,
    shape: tuple[int, int],
    spacing: Float[Array, " xy"],
    num_scatterers: int,
) -> Float[Array, "t h w"]:
    """Simulates the pictures of moving contours.

    Args:
        key: Random key.
        contours: As in `Heart`, in mm; the first frame is where the scatterers are laid out.
        inflow: Opening of the mitral valve.
        depth: Radius of the sector in mm.
        view: ``"2CH"`` or ``"4CH"``.
        vendor: The scanner.
        shape: Height and width.
        spacing: ``(dy, dx)`` in mm.
        num_scatterers: In the sector.

    Returns:
        Grey values in [0, 1].
    """
    tissue_key, valve_key, chest_key, noise_key = jax.random.split(key, 4)
    half = jnp.deg2rad(vendor.half_angle)
    still = scatterers.make_scatterers(tissue_key, contours[0], depth, half, view=view, num_scatterers=num_scatterers)
    acquisition = scanner.sample_acquisition(chest_key, vendor, depth)
    density = num_scatterers / (1.06 * 1.08 * acquisition.gain.size)

    def one_frame(index: Array) -> Array:
        valve, strengths = scatterers.leaflets(valve_key, contours[index], inflow[index])
        places = jnp.concatenate([scatterers.displace(still, contours[index] - contours[0]), valve])
        return scanner.echo(
            jax.random.fold_in(noise_key, index),
            places,
            jnp.concatenate([still.strengths, strengths]),
            acquisition,
            vendor=vendor,
            depth=depth,
            density=density,
        )

    def one_picture(frame: Array) -> Array:
        return scanner.scan_convert(frame, shape, spacing, vendor=vendor, depth=depth)

    frames = jax.lax.map(one_frame, jnp.arange(len(contours)))
    if vendor.persistence:
        frames += vendor.persistence * (jnp.concatenate([frames[:1], frames[:-1]]) - frames)
    return jax.lax.map(one_picture, frames)
