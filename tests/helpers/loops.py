"""Fixtures of a drawn recording, of models whose answer is known, and of its analysis."""

import types

import numpy as np
import pytest
from scipy import ndimage

from cardiojax import data
from cardiojax.analysis import recording as analysis
from cardiojax.correction import anatomical
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


def _corrected(recording, instant):
    """Frame 3 has a hole, frame 5 no heart; the corrector fills the one and never sees the other."""
    clock = iter(range(100))

    def damaged(images):
        times = [next(clock) for _ in images]
        drawn = np.stack([heart(SIZE, SIZE, beat(instant(t))) for t in times])
        for t, mask in zip(times, drawn, strict=True):
            mask[80:100, 105:120] = 0 if t == 3 else mask[80:100, 105:120]
            mask[:] = 0 if t == 5 else mask
        return np.eye(4, dtype=np.float32)[drawn]

    def correct(masks, *, box):
        assert box == (20, 170, 40, 220)
        assert masks.any((1, 2)).all()
        filled = masks.copy()
        whole = ndimage.binary_fill_holes(masks[3] > 0)
        filled[3][whole & (masks[3] == 0)] = 1
        changed = (filled != masks).sum((1, 2)) / (filled > 0).sum((1, 2))
        good = np.ones(len(masks), bool)
        return anatomical.AnatomicalCorrection(masks, filled, changed == 0, good, 2.5 * (changed > 0), changed)

    return analysis.analyze(recording, damaged, anatomical_corrector=correct)


@pytest.fixture(scope="module")
def corrected_loop(recording):
    """The analysis of a still heart, one frame of which is corrected."""
    return _corrected(recording, lambda t: 0)


@pytest.fixture(scope="module")
def corrected_beat(recording):
    """The same of a beating heart."""
    return _corrected(recording, lambda t: t)
