"""A drawn heart."""

import numpy as np
import pytest

from tests.helpers.shapes import apical_view


def _heart(tilt=0.0, size=96):
    """An ellipse's upper half as cavity, a wall around it, an atrium below, turned about the image's centre."""
    rows, cols = np.mgrid[:size, :size] - size / 2
    turn = np.deg2rad(tilt)
    y, x = rows * np.cos(turn) + cols * np.sin(turn), cols * np.cos(turn) - rows * np.sin(turn)
    return apical_view(y - 10, x, cavity=(36, 13), wall=(8, 9), atrium=(8, 13, 13))


@pytest.fixture(scope="session")
def heart():
    """Draws an apical view of a given tilt in degrees and size."""
    return _heart
