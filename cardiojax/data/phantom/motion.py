"""The cardiac cycle: a volume curve, and the contours that have these volumes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

#: Points of the endocardium and of the epicardium.
NUM_WALL = 33
_NUM_DISKS = 40
_MM3_PER_ML = 1000.0


class Akinesia(NamedTuple):
    """A part of the wall that does not move.

    Attributes:
        position: Its middle along the wall: 0 at the left hinge, 0.5 at the apex, 1 at the right hinge.
        extent: Its half width, in the same unit.
        severity: Share of the motion that is lost, 0 to 1.
    """

    position: float | Float[Array, ""] = 0.5
    extent: float | Float[Array, ""] = 0.15
    severity: float | Float[Array, ""] = 0.0


def contour_volume(endocardium: Float[Array, "*b p xy"]) -> Float[Array, "*b"]:
    """Volume by the single-plane method of disks, from the contour itself.

    Args:
        endocardium: From hinge over apex to hinge, in mm.

    Returns:
        Volume in ml.

    Example:
        >>> angle = jnp.linspace(-jnp.pi / 2, jnp.pi / 2, NUM_WALL)
        >>> half_ellipsoid = jnp.stack([-80 * jnp.cos(angle), 25 * jnp.sin(angle)], -1)
        >>> abs(float(contour_volume(half_ellipsoid)) - 2 / 3 * jnp.pi * 80 * 25**2 / 1000) < 1
        True
    """
    middle = endocardium.shape[-2] // 2
    base = (endocardium[..., :1, :] + endocardium[..., -1:, :]) / 2
    axis = endocardium[..., middle : middle + 1, :] - base
    length = jnp.linalg.norm(axis, axis=-1)
    axis = axis / length[..., None]
    offset = endocardium - base
    along = jnp.sum(offset * axis, -1) / length
    across = offset[..., 1] * axis[..., 0] - offset[..., 0] * axis[..., 1]

    planes = (jnp.arange(_NUM_DISKS) + 0.5) / _NUM_DISKS
    interpolate = jnp.vectorize(lambda x, y: jnp.interp(planes, jax.lax.cummax(x), y), signature="(p),(p)->(n)")
    one, other = (
        interpolate(along[..., : middle + 1], across[..., : middle + 1]),
        interpolate(along[..., : middle - 1 : -1], across[..., : middle - 1 : -1]),
    )
    area = jnp.pi / 4 * jnp.square(other - one).mean(-1)
    return area * length[..., 0] / _MM3_PER_ML


class Cycle(NamedTuple):
    """Where in the cycle the frames are.

    Attributes:
        volume: 1 at end-diastole, 0 at end-systole, ``[*b]``.
        inflow: Opening of the mitral valve, 0 shut to 1 wide open, ``[*b]``.
    """

    volume: Float[Array, "*b"]
    inflow: Float[Array, "*b"]


def cardiac_cycle(time: Float[Array, "*b"], heart_rate: float | Float[Array, ""]) -> Cycle:
    """The course of the LV volume: isovolumic contraction, ejection, relaxation, rapid filling, diastasis, atrial kick.

    Systole shortens less than diastole at a high rate, so that diastasis is the first to go.

    Args:
        time: Seconds since an end-diastole; any number of beats.
        heart_rate: Beats a minute.

    Returns:
        Volume and opening of the valve.

    References:
        Weissler, Harris, Schoenfeld, "Systolic time intervals in heart failure in man", Circulation 1968 (length of
        ejection against heart rate).

    Example:
        >>> cycle = cardiac_cycle(jnp.array([0.0, 0.38, 1.0]), 60.0)
        >>> [round(float(v), 3) for v in cycle.volume]
        [1.0, 0.0, 1.0]
    """
    beat = 60.0 / jnp.asarray(heart_rate)
    time = jnp.mod(time, beat)
    ejection = 0.413 - 0.0017 * jnp.asarray(heart_rate)
    start = 0.05
    shut = start + ejection
    opens = shut + 0.07
    diastole = beat - opens
    kick = jnp.minimum(0.15, 0.4 * diastole)
    rapid = jnp.minimum(0.24, 0.7 * diastole)
    early, late = (time - opens) / rapid, (time - beat + kick) / kick
    ejected = _step(jnp.clip((time - start) / ejection, 0, 1) ** 0.85)
    volume = 1 - ejected + 0.74 * _step(early) + 0.26 * _step(late)
    drift = 0.25 * jnp.clip(time - opens, 0, 1e-2) * 100 * jnp.clip((beat - time) * 50, 0, 1)
    inflow = jnp.maximum(jnp.maximum(_bump(early), 0.75 * _bump(late)), jnp.minimum(drift, 0.25))
    return Cycle(volume, inflow)


def _step(x: Array) -> Array:
    """From 0 to 1 with two continuous derivatives."""
    x = jnp.clip(x, 0, 1)
    return x**3 * (x * (6 * x - 15) + 10)


def _bump(x: Array) -> Array:
    return jnp.sqrt(jnp.clip(4 * x * (1 - x), 0, 1))


def move(
    contours: Float[Array, "phase p xy"],
    volume: Float[Array, " t"],
    *,
    ejection_fraction: float | Float[Array, ""] | None = None,
    akinesia: Akinesia = Akinesia(),
) -> Float[Array, "t p xy"]:
    """Contours whose volume follows a curve.

    Every point goes along the line from its place at end-diastole to that at end-systole; how far is looked up so that
    the cavity has the volume asked for.

    Args:
        contours: End-diastole and end-systole, in mm.
        volume: 1 at end-diastole, 0 at end-systole.
        ejection_fraction: Percent, by the single-plane method of disks; that of the two contours if not given.
        akinesia: A part of the wall that does not move; the rest makes up for it.

    Returns:
        The contours of each frame, in mm.
    """
    diastole, systole = contours
    along = jnp.linspace(0, 1, NUM_WALL)
    bump = jnp.exp(-0.5 * jnp.square((along - akinesia.position) / akinesia.extent))
    share = jnp.tile(1 - akinesia.severity * bump, 2)
    share = jnp.concatenate([share, jnp.ones(len(diastole) - 2 * NUM_WALL)])
    path = share[:, None] * (systole - diastole)

    steps = jnp.linspace(0, 2.5, 101)
    volumes = contour_volume(diastole[:NUM_WALL] + steps[:, None, None] * path[:NUM_WALL])
    volumes = jax.lax.cummin(volumes)
    full = volumes[0]
    if ejection_fraction is None:
        least = contour_volume(systole[:NUM_WALL])
    else:
        least = full * (1 - jnp.asarray(ejection_fraction) / 100)
    wanted = least + volume * (full - least)
    weight = jnp.interp(-wanted, -volumes, steps)
    return diastole + weight[:, None, None] * path
