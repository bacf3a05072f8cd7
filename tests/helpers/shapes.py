"""Drawn label maps."""

import numpy as np

from cardiojax.labels import LEFT_ATRIUM, LV, MYOCARDIUM


def apical_view(
    y: np.ndarray,
    x: np.ndarray,
    *,
    cavity: tuple[float, float],
    wall: tuple[float, float],
    atrium: tuple[float, float, float],
    has_base: bool = False,
) -> np.ndarray:
    """Draws half an ellipse of cavity, apex up, in a wall that is open at the base, above an atrium.

    Args:
        y: Coordinate of each pixel along the long axis, 0 at the base, positive towards the atrium.
        x: Coordinate across, 0 on the axis, in the same unit.
        cavity: Half axes of the cavity, along and across.
        wall: Thickness at the apex and at the sides.
        atrium: Distance of its centre from the base, and half axes along and across.
        has_base: Whether pixels with ``y`` of 0 belong to the ventricle, not to the atrium.

    Returns:
        The label map, int32.
    """
    is_above = y <= 0 if has_base else y < 0
    inner, outer = ((y / (cavity[0] + t)) ** 2 + (x / (cavity[1] + s)) ** 2 < 1 for t, s in ((0, 0), wall))
    below = ((y - atrium[0]) / atrium[1]) ** 2 + (x / atrium[2]) ** 2 < 1
    parts = [inner & is_above, outer & is_above, below & ~is_above]
    return np.select(parts, [LV, MYOCARDIUM, LEFT_ATRIUM], 0).astype(np.int32)
