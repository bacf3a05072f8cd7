"""A drawn ventricle of known volume."""

import numpy as np
import pytest


def _heart(long=60.0, wide=22.0, size=128, spacing=(1.0, 1.0), tilt=0.0):
    """Half an ellipse (apex up) of given half axes in mm, in a wall of 8 mm, above an atrium."""
    dy, dx = spacing
    rows, cols = np.mgrid[:size, :size]
    y, x = rows * dy - 80.0, cols * dx - size * dx / 2
    y, x = np.cos(tilt) * y - np.sin(tilt) * x, np.sin(tilt) * y + np.cos(tilt) * x
    inner = ((y / long) ** 2 + (x / wide) ** 2 < 1) & (y <= 0)
    outer = ((y / (long + 8)) ** 2 + (x / (wide + 8)) ** 2 < 1) & (y <= 0)
    atrium = (np.hypot(y - 15, x) < 18) & (y > 0)
    return np.select([inner, outer, atrium], [1, 2, 3], 0).astype(np.int32)


@pytest.fixture(scope="session")
def heart():
    """Draws half an ellipse of cavity in a wall of 8 mm, above an atrium."""
    return _heart
