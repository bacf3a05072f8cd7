"""Scatterers: points that belong to a tissue, move with it, and have the strength of its kind."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from cardiojax.data.phantom.motion import NUM_WALL
from cardiojax.data.phantom.raster import label_polygons, signed_distance

_NUM_LEAFLET = 300  # scatterers of each leaflet


class Scatterers(NamedTuple):
    """Scatterers of one view at end-diastole.

    Attributes:
        places: Where they are, ``(depth, sideways)`` in mm, ``[n, 2]``.
        strengths: Amplitudes, of either sign, ``[n]``; the myocardium has unit power.
        weights: Share of the motion of each landmark that they follow, ``[n, l]``.
    """

    places: Float[Array, "n xy"]
    strengths: Float[Array, " n"]
    weights: Float[Array, "n l"]


def make_scatterers(
    key: Key[Array, ""],
    contour: Float[Array, "p xy"],
    depth: Float[Array, ""],
    half_angle: Float[Array, ""],
    *,
    view: str,
    num_scatterers: int,
) -> Scatterers:
    """Fills the sector with scatterers.

    They are spread evenly over depth and angle, so that each resolution cell holds as many, whatever its size.

    Args:
        key: Random key.
        contour: End-diastole, in mm from the probe.
        depth: Radius of the sector in mm.
        half_angle: Of the sector, radians.
        view: ``"2CH"`` or ``"4CH"``, which has a right heart beside the left.
        num_scatterers: Of the sector.

    Returns:
        The scatterers.
    """
    place_key, strength_key, kind_key = jax.random.split(key, 3)
    radius, angle = jax.random.uniform(place_key, (2, num_scatterers)) * jnp.array([[1.06], [2.16]])
    radius, angle = radius * depth, (angle - 1.08) * half_angle
    places = radius[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    level = echogenicity(kind_key, contour, places, view=view)
    strengths = jax.random.normal(strength_key, (num_scatterers,)) * 10 ** (level / 20)

    rim = jnp.linspace(-1.1, 1.1, 9) * half_angle
    anchors = [d * depth * jnp.stack([jnp.cos(rim), jnp.sin(rim)], -1) for d in (0.02, 1.15)]
    edge = jnp.linspace(0.2, 1, 6)[:, None] * depth
    anchors += [edge * jnp.stack([jnp.cos(a), jnp.sin(a)], -1) for a in (rim[0], rim[-1])]
    still = jnp.concatenate(anchors)
    apart = jnp.min(jnp.sum(jnp.square(still[:, None] - contour), -1), -1)
    hold = jnp.concatenate([jnp.ones(len(contour)), -jnp.expm1(-jnp.square(apart / 15.0**2))])  # none near the heart
    squared = jnp.sum(jnp.square(places[:, None] - jnp.concatenate([contour, still])), -1)
    weights = hold / jnp.square(squared + 2.0)  # Shepard's interpolation, the still anchors among the landmarks
    return Scatterers(places, strengths, (weights / jnp.sum(weights, -1, keepdims=True))[:, : len(contour)])


def displace(scatterers: Scatterers, motion: Float[Array, "p xy"]) -> Float[Array, "n xy"]:
    """Places of the scatterers after the contour has moved.

    Args:
        scatterers: At end-diastole.
        motion: Displacement of each contour point in mm.

    Returns:
        Places in mm.
    """
    return scatterers.places + scatterers.weights @ motion


def echogenicity(
    key: Key[Array, ""], contour: Float[Array, "p xy"], places: Float[Array, "n xy"], *, view: str
) -> Float[Array, " n"]:
    """How strongly each place scatters, in dB over mean myocardium.

    Args:
        key: Random key of what differs from patient to patient.
        contour: In mm.
        places: In mm.
        view: ``"2CH"`` or ``"4CH"``.

    Returns:
        Levels in dB.
    """
    keys = jax.random.split(key, 6)
    draw = jax.random.uniform(keys[0], (12,))
    beam = places / jnp.maximum(jnp.linalg.norm(places, axis=-1, keepdims=True), 1e-3)
    cavity, epicardium, atrium = (signed_distance(places, polygon) for polygon in label_polygons(contour))
    facing = jnp.square(jnp.sum(_gradient(places, label_polygons(contour)[1]) * beam, -1))

    left, right = contour[0], contour[NUM_WALL - 1]
    base, apex = (left + right) / 2, contour[NUM_WALL // 2]
    length = jnp.linalg.norm(apex - base)
    up = (apex - base) / length
    across = jnp.stack([up[1], -up[0]])  # towards the right hinge
    along = (places - base) @ up / length
    side = (places - base) @ across

    # Surroundings: layered, patchy, the pericardium bright where the wall faces the beam.
    texture = _random_field(keys[1], places, (7.0, 16.0))
    level = -8.5 + 9.5 * texture + 5.0 * _random_field(keys[2], places, (2.5, 8.0))
    shell = jnp.where(epicardium > 0, epicardium, 0.0)
    patch = _random_field(keys[3], places, (14.0, 14.0))
    lateral = jax.nn.sigmoid(side / 6.0)
    level += (7 + 6 * draw[0]) * (0.35 + facing) * jnp.exp(-jnp.square((shell - 2.0) / 2.0)) * lateral + 2.0 * patch
    far = jnp.exp(-jnp.square((jnp.maximum(atrium, 0.0) - 4.0) / 4.0)) * (along < -0.15)
    level += (8 + 5 * draw[1]) * far

    if view == "4CH":  # the right heart lies to the left of the septum
        width = (20 + 16 * draw[2]) * jnp.sqrt(jnp.clip(0.9 - along, 0, 1))
        hinge_side = (left - base) @ across
        ventricle = jnp.minimum(jnp.minimum(epicardium - 0.5, width - epicardium), -side)
        chamber = jnp.minimum(jnp.minimum(atrium - 3.0, width - atrium), 18 + 25 * draw[3] + along * length)
        inside = jnp.where(along > 0, ventricle, jnp.minimum(chamber, hinge_side - side))
        valve = jnp.exp(-jnp.square((along * length + 1 - 0.12 * (side - hinge_side)) / 1.2))
        level = _blend(level, -26.0, inside / 0.8)
        level = jnp.where(inside > 0, jnp.maximum(level, -26 + 28 * valve), level)
        level += 5.0 * jnp.exp(-jnp.square((inside + 2.0) / 1.8)) * (epicardium > 1)

    # The wall: along the beam it returns less than across it; bright linings, fibrous hinges.
    fibres = 6.0 * _random_field(keys[4], places, (8.0, 12.0)) + 3.0 * _random_field(keys[5], places, (2.0, 3.5))
    wall = fibres - 2.5 * (1 - facing) + (2 + 3 * draw[4]) * jnp.exp(-jnp.square(epicardium / 1.2))
    wall += (2 + 4 * draw[5]) * (0.4 + facing) * jnp.exp(-jnp.square((cavity - 0.6) / 0.9))
    level = _blend(level, wall, -epicardium / 0.4)
    rim = jnp.exp(-jnp.square((atrium - 1.0) / 1.3)) * (along < 0.0)
    level += (3 + 3 * draw[6]) * rim

    # Blood, with papillary muscles that the masks count as cavity.
    blood = jnp.full_like(level, -26.0)
    for start, share in ((draw[7], 0.66), (draw[8], 0.36)):
        root = contour[round(share * NUM_WALL)]
        inward = -across if share > 0.5 else across
        offset = places - (root + (4 + 3 * start) * inward - 6 * up)
        blob = jnp.exp(-jnp.square((offset @ up) / 9.0) - jnp.square((offset @ across) / (2.0 + start)))
        blood += (14 + 12 * start) * blob
    level = _blend(level, blood, -cavity / 0.3)
    level = _blend(level, jnp.full_like(level, -26.0), -atrium / 0.5)
    for hinge, shift, outward in ((left, draw[9], -2.0), (right, draw[10], 2.0)):
        squared = jnp.sum(jnp.square(places - hinge - outward * across), -1)
        level += (6 + 6 * shift) * jnp.exp(-squared / (2 * 2.6**2))
    return level


def leaflets(
    key: Key[Array, ""], contour: Float[Array, "p xy"], opening: Float[Array, ""]
) -> tuple[Float[Array, "n xy"], Float[Array, " n"]]:
    """Scatterers of the mitral valve.

    Args:
        key: Random key; the same one for every frame of a loop.
        contour: In mm.
        opening: 0 shut to 1 wide open.

    Returns:
        Places in mm, and strengths as in `Scatterers`.
    """
    left, right = contour[0], contour[NUM_WALL - 1]
    chord = right - left
    axis = contour[NUM_WALL // 2] - (left + right) / 2
    axis = axis / jnp.linalg.norm(axis)
    place_key, strength_key, jitter_key = jax.random.split(key, 3)
    share = jax.random.uniform(place_key, (2, _NUM_LEAFLET))
    jitter = 0.45 * jax.random.normal(jitter_key, (2, _NUM_LEAFLET, 2))
    angle = jnp.deg2rad(12 + 62 * opening)
    lengths = jnp.array([0.56, 0.46])  # the anterior one is the longer
    bend = 0.5 * share * (1 - share)  # bellied towards the atrium when shut, towards the ventricle when open
    parts = []
    for hinge, inward, length, s, b, j in zip(
        (left, right), (chord, -chord), lengths, share, bend, jitter, strict=True
    ):
        size = jnp.linalg.norm(inward)
        ahead = jnp.cos(angle) * inward / size + jnp.sin(angle) * axis
        sideways = -jnp.sin(angle) * inward / size + jnp.cos(angle) * axis
        parts.append(hinge + length * size * (s[:, None] * ahead + (b * (opening - 0.5))[:, None] * sideways) + j)
    strengths = jax.random.normal(strength_key, (2 * _NUM_LEAFLET,)) * 0.9
    return jnp.concatenate(parts), strengths


def _blend(outside: Array, inside: Array | float, depth: Array) -> Array:
    share = jax.nn.sigmoid(4 * depth)
    return (1 - share) * outside + share * inside


def _gradient(points: Array, polygon: Array) -> Array:
    return jax.vmap(jax.grad(lambda point: signed_distance(point, polygon)))(points)


def _random_field(key: Key[Array, ""], places: Float[Array, "n xy"], scale: tuple[float, float]) -> Float[Array, " n"]:
    """A smooth Gaussian field of unit variance over depth and arc, as a sum of waves."""
    wave_key, phase_key = jax.random.split(key)
    radius = jnp.linalg.norm(places, axis=-1)
    arc = jnp.arctan2(places[:, 1], places[:, 0]) * 80.0  # mm at a depth of 80 mm
    waves = jax.random.normal(wave_key, (48, 2)) / jnp.array(scale)
    phases = jax.random.uniform(phase_key, (48,), maxval=2 * jnp.pi)
    return jnp.cos(jnp.stack([radius, arc], -1) @ waves.T + phases).sum(-1) / jnp.sqrt(24.0)
