"""Hearts drawn from the statistics of real ones: contours in two apical views at end-diastole and end-systole."""

import functools
from importlib import resources
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cardiojax.data.phantom.motion import NUM_WALL as NUM_WALL
from cardiojax.data.phantom.motion import contour_volume
from cardiojax.labels import MEASURED_VIEWS, PHASES

#: Points of the left atrium between the hinges.
NUM_ATRIUM = 19
NUM_POINTS = 2 * NUM_WALL + NUM_ATRIUM


class Heart(NamedTuple):
    """The contours of one heart, in mm ``(row, col)`` from the probe; row is depth.

    A contour is ``NUM_WALL`` points of the endocardium from the left mitral hinge over the apex to the right one, as
    many of the epicardium, then the left atrium from the left hinge to the right without the hinges.

    Attributes:
        contours: Views 2CH and 4CH, phases ED and ES, ``[*b, 2, 2, p, 2]``.
        depth: Depth of the image in mm, ``[*b]``.
    """

    contours: Float[Array, "*b view phase p xy"]
    depth: Float[Array, "*b"]


class _Statistics(NamedTuple):
    mean: np.ndarray
    modes: np.ndarray
    fraction_gain: np.ndarray


@functools.cache
def _statistics() -> _Statistics:
    """Mean and components (mm a standard deviation), and how the components change with the ejection fraction."""
    path = resources.files("cardiojax.data.phantom") / "files" / "shapes.npz"
    with path.open("rb") as file, np.load(file) as archive:
        return _Statistics(**{name: archive[name].astype(np.float32) for name in _Statistics._fields})


def sample_heart(
    key: Key[Array, ""],
    *,
    ejection_fraction: float | Float[Array, ""] | None = None,
    dilation: float | Float[Array, ""] = 1.0,
    hypertrophy: float | Float[Array, ""] = 1.0,
) -> Heart:
    """Draws a heart.

    With an ejection fraction the Gaussian of the shapes is conditioned on it, so that a weak heart looks like the weak
    hearts of the data; `simulate` then meets the number exactly.

    Args:
        key: Random key.
        ejection_fraction: Percent; that of the drawn shape if not given.
        dilation: Factor on the width of the cavity, the thickness of its wall kept.
        hypertrophy: Factor on the thickness of the wall, outwards and inwards alike.

    Returns:
        The heart.

    References:
        Cootes et al., "Active shape models: their training and application", CVIU 1995.

    Example:
        >>> sample_heart(jax.random.key(0)).contours.shape
        (2, 2, 85, 2)
    """
    statistics = _statistics()
    code_key, depth_key = jax.random.split(key)
    code = jax.random.truncated_normal(code_key, -1.8, 1.8, (len(statistics.modes),))
    if ejection_fraction is not None:
        own = _ejection_fraction(_decode(code).contours)
        code = code + statistics.fraction_gain * (ejection_fraction - own)
    heart = _decode(code)
    depth = heart.depth * jax.random.uniform(depth_key, minval=0.84, maxval=1.0)  # often the atrium is cut off
    return Heart(_remodel(heart.contours, dilation, hypertrophy), depth)


def _decode(code: Float[Array, " k"]) -> Heart:
    statistics = _statistics()
    values = jnp.asarray(statistics.mean) + code @ statistics.modes
    return Heart(values[:-1].reshape(len(MEASURED_VIEWS), len(PHASES), NUM_POINTS, 2), values[-1])


def _ejection_fraction(contours: Float[Array, "view phase p xy"]) -> Float[Array, ""]:
    """Mean of both views, percent."""
    volumes = contour_volume(contours[..., :NUM_WALL, :])
    return jnp.mean(100 * (1 - volumes[..., 1] / volumes[..., 0]))


def _remodel(contours: Array, dilation: float | Array, hypertrophy: float | Array) -> Array:
    """Widens the cavity about its long axis and thickens the wall; the atrium follows at the annulus."""
    endocardium, epicardium = contours[..., :NUM_WALL, :], contours[..., NUM_WALL : 2 * NUM_WALL, :]
    atrium = contours[..., 2 * NUM_WALL :, :]
    base = (endocardium[..., :1, :] + endocardium[..., -1:, :]) / 2
    axis = endocardium[..., NUM_WALL // 2, None, :] - base
    axis = axis / jnp.linalg.norm(axis, axis=-1, keepdims=True)
    wall = epicardium - endocardium

    def across(points: Array) -> Array:
        offset = points - base
        return offset - jnp.sum(offset * axis, -1, keepdims=True) * axis

    thicker = (hypertrophy - 1) / 2 * wall
    inner = endocardium + (dilation - 1) * across(endocardium) - thicker
    taper = jnp.exp(-jnp.linalg.norm(atrium - base, axis=-1, keepdims=True) / 30.0)
    atrium = atrium + (dilation - 1) * taper * across(atrium)
    return jnp.concatenate([inner, inner + wall + 2 * thicker, atrium], axis=-2)
