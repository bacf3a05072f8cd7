"""A drawn ventricle of known volume."""

import numpy as np
import pytest

from tests.helpers.shapes import apical_view


def _heart(long=60.0, wide=22.0, size=128, spacing=(1.0, 1.0), tilt=0.0):
    """Half an ellipse (apex up) of given half axes in mm, in a wall of 8 mm, above an atrium."""
    dy, dx = spacing
    rows, cols = np.mgrid[:size, :size]
    y, x = rows * dy - 80.0, cols * dx - size * dx / 2
    y, x = np.cos(tilt) * y - np.sin(tilt) * x, np.sin(tilt) * y + np.cos(tilt) * x
    return apical_view(y, x, cavity=(long, wide), wall=(8, 8), atrium=(15, 18, 18), has_base=True)


@pytest.fixture(scope="session")
def heart():
    """Draws half an ellipse of cavity in a wall of 8 mm, above an atrium."""
    return _heart
