"""Outlines against scikit-image's marching squares, resampled."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from skimage import measure

from cardiojax import ops

SPACING = np.array([0.5, 0.75])
trace = {k: jax.jit(functools.partial(ops.contour, num_points=25, connectivity=k)) for k in (4, 8)}


def resampled(mask, connectivity):
    """The outline through the point above the region's first pixel, walked from there."""
    region = np.asarray(ops.largest_component(jnp.asarray(mask), connectivity=connectivity))
    row, col = np.argwhere(region)[0]
    lines = measure.find_contours(
        np.pad(region, 1).astype(float), 0.5, fully_connected="low" if connectivity == 4 else "high"
    )
    corners = [line - 1 for line in lines if (line - 1 == (row - 0.5, col)).all(1).any()]
    assert len(corners) == 1
    corners = corners[0][:-1]
    start = np.flatnonzero((corners == (row - 0.5, col)).all(1))[0]
    corners = np.roll(corners, -start, 0)
    if corners[1][1] < corners[0][1]:  # clockwise: to the right
        corners = np.roll(corners[::-1], 1, 0)
    corners = np.concatenate([corners, corners[:1]]) * SPACING
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    places = np.arange(25) * along[-1] / 25
    return np.stack([np.interp(places, along, corners[:, i]) for i in (0, 1)], -1), along[-1]


@pytest.mark.parametrize("connectivity", [4, 8])
@given(masks=hnp.arrays(bool, (3, 8, 9)))
@settings(max_examples=40)
def test_equals_marching_squares(connectivity, masks):
    curve = trace[connectivity](jnp.asarray(masks), jnp.array(SPACING))
    for mask, points, length in zip(masks, curve.points, curve.length, strict=True):
        if not mask.any():
            assert np.isnan(points).all()
            assert float(length) == 0
            continue
        expected, expected_length = resampled(mask, connectivity)
        np.testing.assert_allclose(length, expected_length, rtol=1e-5)
        np.testing.assert_allclose(points, expected, atol=1e-4)


def test_a_disc():
    rows, cols = np.mgrid[:64, :64]
    disc = np.hypot(rows - 31.5, cols - 30.5) < 20
    disc[30:34, 30:34] = False  # a hole is no part of the outer outline
    curve = jax.jit(ops.contour)(jnp.asarray(disc))
    assert curve.points.shape == (64, 2)
    assert np.abs(np.hypot(*(np.asarray(curve.points) - (31.5, 30.5)).T) - 20).max() < 0.8
    assert abs(float(curve.length) / (2 * np.pi * 20) - 1) < 0.07


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    jax.export.export(jax.jit(ops.contour), platforms=[platform])(jax.ShapeDtypeStruct((4, 32, 40), jnp.bool_))
