"""Distances between outlines against SciPy's transforms, as MedPy computes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cardiojax import metrics


def directed(a, b, spacing):
    def edge(m):
        return m & ~ndimage.binary_erosion(m)

    return ndimage.distance_transform_edt(~edge(b), spacing)[edge(a)]


def reference(a, b, spacing):
    there, back = directed(a, b, spacing), directed(b, a, spacing)
    together = np.percentile(np.concatenate([there, back]), 95)
    pooled = np.concatenate([there, back]).mean()
    return max(there.max(), back.max()), together, (there.mean() + back.mean()) / 2, pooled


DISTANCES = (
    metrics.hausdorff,
    metrics.hausdorff95,
    metrics.mean_absolute_distance,
    metrics.average_symmetric_surface_distance,
)


@jax.jit
def ours(a, b, spacing):
    return [distance(a, b, spacing) for distance in DISTANCES]


masks = hnp.arrays(bool, (2, 12, 15))


@given(masks, masks, st.sampled_from([(1.0, 1.0), (0.154, 0.308)]))
def test_equals_scipy_and_is_symmetric(a, b, spacing):
    got = np.array(ours(jnp.asarray(a), jnp.asarray(b), jnp.array(spacing)))
    np.testing.assert_allclose(got, np.array(ours(jnp.asarray(b), jnp.asarray(a), jnp.array(spacing))), rtol=1e-5)
    for i in range(2):
        if a[i].any() and b[i].any():
            np.testing.assert_allclose(got[:, i], reference(a[i], b[i], spacing), rtol=1e-5, atol=1e-6)
        else:
            assert np.isnan(got[:, i]).all()


@given(st.integers(0, 2**31), st.floats(0.05, 0.95))
@settings(max_examples=30, deadline=None)
def test_short_and_long_outlines_equal_scipy(seed, share):
    """Noise has outlines of more pixels than are compared in pairs; a blob has fewer."""
    rng = np.random.default_rng(seed)
    blob = ndimage.gaussian_filter(rng.normal(size=(30, 44)), 4) > 0
    noise = rng.uniform(size=(30, 44)) < share
    spacing = jnp.array([0.154, 0.308])
    for a, b in ((blob, np.roll(blob, 3)), (blob, noise), (noise, noise[::-1])):
        if a.any() and b.any():
            got = [float(d[0]) for d in ours(jnp.asarray(a)[None], jnp.asarray(b)[None], spacing)]
            np.testing.assert_allclose(got, reference(a, b, spacing), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shift", [0, 3, 7])
def test_a_shift_is_its_distance(shift):
    mask = jnp.zeros((40, 60), bool).at[10:30, 10:30].set(True)
    moved = jnp.roll(mask, shift, axis=1)
    hausdorff, _, mean, _ = ours(mask, moved, jnp.array([0.3, 0.5]))
    assert float(hausdorff) == pytest.approx(shift * 0.5, abs=1e-6)
    assert float(mean) <= shift * 0.5


def test_outline_includes_the_image_border():
    full = jnp.ones((5, 6), bool)
    expected = np.ones((5, 6), bool)
    expected[1:-1, 1:-1] = False
    np.testing.assert_array_equal(metrics.outline(full), expected)


PER_CLASS = (
    metrics.hausdorff_per_class,
    metrics.hausdorff95_per_class,
    metrics.mean_absolute_distance_per_class,
    metrics.average_symmetric_surface_distance_per_class,
)


@given(hnp.arrays(np.int32, (2, 2, 12, 15), elements=st.integers(0, 2)))
@settings(max_examples=20)
def test_classes_equal_their_masks(maps):
    """Each image with its own spacing, a structure of two labels, one that neither map has."""
    a, b = jnp.asarray(maps)
    spacing, structures = jnp.array([[1.0, 1.0], [0.154, 0.308]]), (1, (1, 2), 3)
    for per_class, one in zip(PER_CLASS, DISTANCES, strict=True):
        distances = per_class(a, b, spacing, structures=structures, charge_missed=True)
        pairs = [[jnp.asarray(np.isin(m, s)) for m in maps] for s in structures]
        expected = np.stack([one(*pair, spacing, charge_missed=True) for pair in pairs], -1)
        np.testing.assert_allclose(distances, expected, rtol=1e-6)
        assert np.isnan(distances[:, 2]).all()


def test_swapped_structures_are_far_apart():
    """On the label maps themselves, where every pixel is nonzero in both, the distance would be 0."""
    labels = jnp.full((20, 20), 2, jnp.int32).at[5:15, 5:15].set(1)
    swapped = jnp.where(labels == 1, 2, 1)
    assert float(metrics.hausdorff_per_class(labels, swapped, (1.0, 1.0), structures=(1,))[0]) > 5


def test_a_mapped_axis_is_a_leading_axis():
    a, b = (jnp.asarray(np.random.default_rng(k).uniform(size=(3, 12, 15)) < 0.5) for k in (0, 1))
    spacing = jnp.array([[1.0, 2.0], [0.5, 0.5], [0.3, 0.4]])
    batch = metrics.hausdorff(a, b, spacing)
    np.testing.assert_array_equal(jax.vmap(metrics.hausdorff)(a, b, spacing), batch)
    one_target = jax.vmap(lambda a, s: metrics.hausdorff(a, b[0], s))(a, spacing)
    np.testing.assert_array_equal(one_target, metrics.hausdorff(a, jnp.broadcast_to(b[0], a.shape), spacing))
