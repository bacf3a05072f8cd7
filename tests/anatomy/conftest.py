"""A drawn heart."""

import numpy as np
import pytest


def _heart(tilt=0.0, size=96):
    """An ellipse's upper half as cavity, a wall around it, an atrium below, turned about the image's centre."""
    rows, cols = np.mgrid[:size, :size] - size / 2
    turn = np.deg2rad(tilt)
    y, x = rows * np.cos(turn) + cols * np.sin(turn), cols * np.cos(turn) - rows * np.sin(turn)
    y = y - 10
    cavity, wall = ((y / a) ** 2 + (x / b) ** 2 < 1 for a, b in ((36, 13), (44, 22)))
    return np.select([cavity & (y < 0), wall & (y < 0), np.hypot(y - 8, x) < 13], [1, 2, 3], 0).astype(np.int32)


@pytest.fixture(scope="session")
def heart():
    """Draws an apical view of a given tilt in degrees and size."""
    return _heart
