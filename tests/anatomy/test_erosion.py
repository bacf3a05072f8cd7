"""The proof that a wall is even, beside the ratio that it stands for, and validity beside the report."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from cardiojax import anatomy
from cardiojax.anatomy.erosion import is_surely_even
from cardiojax.anatomy.regions import domain
from cardiojax.ops.packed import bits
from tests.helpers.shapes import apical_view

SIZE, LIMIT = 96, 0.12
_EROSION = anatomy.NAMES.index("erosion_ratio_before_myo_split")


@jax.jit
def proved_even(labels):
    wall = bits.pack_labels(labels)[1]
    return is_surely_even(wall, bits.is_single_run_top(wall), domain(SIZE, SIZE, "paper"), LIMIT)


def hearts(num=24):
    """Hearts whose walls are from one to fourteen pixels thick."""
    rows, cols = np.mgrid[:SIZE, :SIZE] / SIZE
    return np.stack(
        [
            apical_view(rows - 0.6, cols - 0.5, cavity=(0.38, 0.14), wall=(0.08, w), atrium=(0.1, 0.156, 0.13))
            for w in np.linspace(0.01, 0.15, num)
        ]
    )


def damaged(masks, seed=0):
    """With cuts, pixels of other classes, and moved over the border."""
    rng = np.random.default_rng(seed)
    masks = masks.copy()
    for i, mask in enumerate(masks):
        if i % 3 == 0:
            row = rng.integers(20, 80)
            mask[row : row + rng.integers(1, 3)] = 0
        elif i % 3 == 1:
            hit = rng.random(mask.shape) < 0.002
            mask[hit] = rng.integers(0, 4, hit.sum())
        else:
            masks[i] = ndimage.shift(mask, rng.integers(-30, 30, 2), order=0)
    return masks


def test_walls_proved_even_have_a_large_ratio():
    masks = hearts()
    masks = np.concatenate([masks, damaged(masks)])
    ratio = np.asarray(jax.jit(anatomy.check)(jnp.asarray(masks)).values)[:, _EROSION]
    proved = np.asarray(proved_even(jnp.asarray(masks)))
    assert (ratio[proved] >= LIMIT).all()
    assert proved[: len(hearts()) - 1].mean() > 0.8


def test_a_thick_wall_at_the_border_is_not_proved_even():
    """Beyond the border thickness is not limited: the block is 20 pixels thick, and its neck breaks at erosion 2."""
    mask = np.zeros((1, SIZE, SIZE), int)
    mask[0, :20, 10:50] = mask[0, 20:60, 28:31] = mask[0, 60:75, 20:40] = 2
    report = jax.jit(anatomy.check)(jnp.asarray(mask))
    np.testing.assert_allclose(report.values[0, _EROSION], 2 / 20)
    assert not proved_even(jnp.asarray(mask)).any()


def test_validity_equals_the_report_and_is_mapped():
    masks = hearts()
    masks = jnp.asarray(np.concatenate([masks, damaged(masks), np.full((1, SIZE, SIZE), 2), masks[:1] * 0]))
    for thresholds in (anatomy.CAMUS, anatomy.CAMUS._replace(min_erosion_ratio=0.0)):
        valid = jax.jit(functools.partial(anatomy.is_valid, thresholds=thresholds))(masks)
        expected = jax.jit(functools.partial(anatomy.check, thresholds=thresholds))(masks).valid
        np.testing.assert_array_equal(valid, expected)
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(jax.jit(jax.vmap(anatomy.is_valid))(masks), anatomy.is_valid(masks))


def test_original_masks_are_as_valid_as_reported(golden_dir):
    masks = jnp.asarray(np.load(golden_dir / "anatomy_val.npz")["mask"], jnp.int32)
    valid = jax.jit(anatomy.is_valid)(masks)
    np.testing.assert_array_equal(valid, jax.jit(anatomy.check)(masks).valid)
    assert 0 < valid.mean() < 1
