"""Upright orientation and pixel spacing of an image from the affine in its header."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cardiojax.data.formats.common import is_spacing
from cardiojax.data.formats.layout import Geometry

#: Length (mm) below which a column of an affine has no direction.
_MIN_STEP = 1e-9


def geometry_of(affine: Float[np.ndarray, "4 4"], shape: tuple[int, ...]) -> Geometry | None:
    """Finds the flips and the transposition that turn an image upright.

    Upright is what viewers of medical images show: columns run to the left of the patient, or to posterior in a
    sagittal plane, and rows run to posterior, or to inferior in a coronal or sagittal plane. CAMUS is stored like that.

    A diagonal affine with positive entries and a zero origin, such as ``numpy.eye(4)``, is the default of writers that
    know no orientation: the array is taken as stored.

    Args:
        affine: Indices ``(i, j, k, 1)`` to mm (right, anterior, superior).
        shape: Shape of the array; its first two axes are those of the image.

    Returns:
        The geometry; None if the affine is degenerate, and the array is taken as stored.
    """
    import nibabel

    image = affine[:3, :2]
    if not np.isfinite(affine).all() or (np.linalg.norm(image, axis=0) < _MIN_STEP).any():
        return None
    if not affine[:3, 3].any() and np.array_equal(image, np.diag(np.diag(affine))[:3, :2]) and (image >= 0).all():
        return Geometry(affine, shape)
    # The third axis may be time, whose column of the affine is no direction.
    directions = np.eye(4)
    directions[:3, :2] = image / np.linalg.norm(image, axis=0)
    directions[:3, 2] = np.cross(directions[:3, 0], directions[:3, 1])
    if np.linalg.norm(directions[:3, 2]) < _MIN_STEP:
        return None
    axes, signs = nibabel.io_orientation(directions)[:2].T
    is_transposed = bool(axes[0] > axes[1])  # columns are the axis nearer to left-right
    flips = [bool(sign > 0) for sign in signs]
    rows, columns = flips if is_transposed else flips[::-1]
    return Geometry(affine, shape, is_transposed, (rows, columns))


class Placement(NamedTuple):
    """Geometry, spacing ``(dy, dx)`` in mm of the upright frames, and sentences about invalid fields."""

    geometry: Geometry | None
    spacing: tuple[float, float] | None
    notes: tuple[str, ...]


def place(
    affine: Float[np.ndarray, "4 4"],
    shape: tuple[int, ...],
    steps: Sequence[float] | Float[np.ndarray, " n"] | None,
    *,
    has_unit: bool = False,
) -> Placement:
    """Finds the geometry and the spacing; an invalid field makes them unknown, and a sentence says so.

    A spacing of exactly 1 x 1 without a unit is the default of writers that know none.

    Args:
        affine: Indices ``(i, j, k, 1)`` to mm (right, anterior, superior).
        shape: Shape of the array.
        steps: Pixel spacing along its axes in mm, None if unknown.
        has_unit: Whether the header states the unit of length.

    Returns:
        The placement.
    """
    geometry = geometry_of(affine, shape)
    notes = []
    if geometry is None:
        notes.append("The orientation in the header is not valid: the image is taken as stored.")
    if steps is None or len(steps) < 2:
        return Placement(geometry, None, tuple(notes))
    is_transposed = geometry is not None and geometry.is_transposed
    dy, dx = (float(step) for step in (steps[:2] if is_transposed else steps[1::-1]))
    if not is_spacing((dy, dx)):
        notes.append(f"The pixel spacing of {dy:g} x {dx:g} mm in the header is not valid: the spacing is unknown.")
        return Placement(geometry, None, tuple(notes))
    if (dy, dx) == (1.0, 1.0) and not has_unit:
        notes.append("The header states the default pixel spacing of 1 x 1 without a unit: the spacing is unknown.")
        return Placement(geometry, None, tuple(notes))
    return Placement(geometry, (dy, dx), tuple(notes))
