"""Distances between outlines against SciPy's transforms, as MedPy computes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cardiojax import metrics


def directed(a, b, spacing):
    def edge(m):
        return m & ~ndimage.binary_erosion(m)

    return ndimage.distance_transform_edt(~edge(b), spacing)[edge(a)]


def peer(a, b, spacing):
    there, back = directed(a, b, spacing), directed(b, a, spacing)
    together = np.percentile(np.concatenate([there, back]), 95)
    return max(there.max(), back.max()), together, (there.mean() + back.mean()) / 2


@jax.jit
def ours(a, b, spacing):
    arguments = a, b, spacing
    return metrics.hausdorff(*arguments), metrics.hausdorff95(*arguments), metrics.mean_absolute_distance(*arguments)


masks = hnp.arrays(bool, (2, 12, 15))


@given(masks, masks, st.sampled_from([(1.0, 1.0), (0.154, 0.308)]))
def test_equals_scipy_and_is_symmetric(a, b, spacing):
    got = np.array(ours(jnp.asarray(a), jnp.asarray(b), jnp.array(spacing)))
    np.testing.assert_allclose(got, np.array(ours(jnp.asarray(b), jnp.asarray(a), jnp.array(spacing))), rtol=1e-5)
    for i in range(2):
        if a[i].any() and b[i].any():
            np.testing.assert_allclose(got[:, i], peer(a[i], b[i], spacing), rtol=1e-5, atol=1e-6)
        else:
            assert np.isnan(got[:, i]).all()


@pytest.mark.parametrize("shift", [0, 3, 7])
def test_a_shift_is_its_distance(shift):
    mask = jnp.zeros((40, 60), bool).at[10:30, 10:30].set(True)
    moved = jnp.roll(mask, shift, axis=1)
    hausdorff, _, mean = ours(mask, moved, jnp.array([0.3, 0.5]))
    assert float(hausdorff) == pytest.approx(shift * 0.5, abs=1e-6)
    assert float(mean) <= shift * 0.5


def test_outline_includes_the_image_border():
    full = jnp.ones((5, 6), bool)
    expected = np.ones((5, 6), bool)
    expected[1:-1, 1:-1] = False
    np.testing.assert_array_equal(metrics.outline(full), expected)
