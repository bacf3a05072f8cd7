"""The statistics of the phantom: contours read from a mask are the contours it was drawn from."""

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax.data import phantom
from experiments.phantom.figure import statistics
from experiments.phantom.shapes import contours


def test_contours_come_back_from_their_mask():
    heart = phantom.sample_heart(jax.random.key(4), ejection_fraction=55.0)
    spacing = jnp.full(2, 0.5)
    for view in range(2):
        line = heart.contours[view, 0]
        label = phantom.rasterize(line[None], (400, 400), spacing, jnp.float32(400.0))[0]
        curves = contours(np.asarray(label), np.asarray(spacing)) - [0, 199.5 * 0.5]
        apart = np.linalg.norm(curves[:, None] - np.asarray(line)[None], axis=-1)
        assert np.median(apart.diagonal()) < 2.0  # points slide along the outline, the outline stays
        assert apart.min(1).max() < 5.0


def test_statistics_know_grain_from_noise():
    rng = np.random.default_rng(0)
    masks = np.zeros((2, 60, 60), int)
    masks[:, 10:50, 10:50] = 1
    white = rng.normal(0.5, 0.1, (2, 60, 60))
    grainy = (white + np.roll(white, 1, 2)) / 2
    for images, across in ((white, 0.0), (grainy, 0.45)):
        row = statistics(images, masks)["lv"]
        assert abs(row["mean"] - 0.5) < 0.01
        assert abs(row["next_down"]) < 0.08
        assert abs(row["next_across"] - across) < 0.1
