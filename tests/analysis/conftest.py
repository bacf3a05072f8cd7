"""A drawn recording, and models whose answer is known."""

import types

import numpy as np
import pytest

from cardiojax import data
from cardiojax.analysis import recording as analysis
from tests.helpers.shapes import apical_view

SIZE = 224


def heart(height, width, semi):
    """An apical view drawn in fractions of its box: half an ellipse of cavity, a wall, an atrium."""
    rows, cols = np.mgrid[:height, :width]
    y, x = (rows + 0.5) / height - 0.65, (cols + 0.5) / width - 0.5
    return apical_view(y, x, cavity=semi, wall=(0.06, 0.06), atrium=(0.1, 0.12, 0.12))


def beat(t, period=16):
    """Half axes of the cavity at a frame: largest at 0, smallest at half a period."""
    share = (1 + np.cos(2 * np.pi * t / period)) / 2
    return 0.35 + 0.1 * share, 0.12 + 0.06 * share


def answer(labels):
    """A model that sees the same in every frame."""
    return lambda images: np.eye(4, dtype=np.float32)[np.stack([labels] * len(images))]


@pytest.fixture(scope="session")
def draw():
    """The functions that draw."""
    return types.SimpleNamespace(heart=heart, beat=beat, answer=answer)


@pytest.fixture(scope="session")
def beating():
    """Makes a model that draws the heart of each instant, whatever it is shown."""

    def make():
        clock = iter(range(100))

        def segment(images):
            labels = np.stack([heart(SIZE, SIZE, beat(next(clock))) for _ in images])
            return np.eye(4, dtype=np.float32)[labels] * 0.96 + 0.01

        return segment

    return make


@pytest.fixture(scope="module")
def recording():
    """A sector of 150 x 180 pixels, with text beside it."""
    frames = np.zeros((17, 200, 260), np.float32)
    frames[:, 20:170, 40:220] = 0.5
    frames[:, 20, 40] = 1.0
    frames[:, 5:12, 5:40:3] = 0.9
    for t in range(17):
        frames[t, 21, 41] = t / 100
    return data.Recording(frames, (0.8, 0.5), 0.05, "drawn")


@pytest.fixture(scope="module")
def analyzed(recording, beating):
    """The analysis of the recording."""
    return analysis.analyze(recording, beating())
