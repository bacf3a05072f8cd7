"""Shapes as signed distances: disks whose distances are known, and what comes back as a mask."""

import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax.data.shapes import ShapePairs, resize_masks, signed_distances, soft_labels


def disk(radius, size=64, label=1):
    rows, cols = np.mgrid[:size, :size] - (size - 1) / 2
    return (np.hypot(rows, cols) < radius).astype(np.uint8) * label


def test_distances_of_a_disk():
    maps = signed_distances([disk(20)], size=64, num_classes=3)[0].astype(float)
    rows, cols = np.mgrid[:64, :64] - 31.5
    np.testing.assert_allclose(maps[..., 1], 20 - np.hypot(rows, cols), atol=0.8)
    np.testing.assert_allclose(maps[..., 0], -maps[..., 1], atol=1e-2)
    assert (maps[..., 2] <= -64).all()


def test_the_mask_comes_back_and_a_coarse_grid_counts_in_its_own_pixels():
    mask = disk(20) + disk(9)
    np.testing.assert_array_equal(signed_distances([mask], size=64)[0].argmax(-1), mask)
    fine, coarse = (signed_distances([mask], size=s)[0].astype(float) for s in (64, 32))
    assert coarse[4, 4, 0] == pytest.approx(fine[8:10, 8:10, 0].mean() / 2, abs=0.05)


def test_half_way_between_two_disks_is_the_disk_of_mean_radius():
    first, last = signed_distances([disk(12), disk(24)], size=64)
    middle = ((first + last) / 2).argmax(-1)
    assert middle.sum() == pytest.approx(np.pi * 18**2, rel=0.02)


def test_soft_labels_are_those_of_a_resized_mask():
    mask = disk(22.3, size=96)
    soft = soft_labels(jnp.asarray(signed_distances([mask], size=32), jnp.float32))
    shares = resize_masks(jnp.asarray(mask, jnp.int32), 32)
    np.testing.assert_allclose(np.asarray(shares).sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(soft[0], shares, atol=0.12)
    assert float(jnp.abs(soft[0] - shares).mean()) < 5e-3


def test_pairs_of_a_patient_and_view():
    def example(patient, view, phase, radius):
        return {"label": disk(radius), "patient": patient, "view": view, "phase": phase}

    source = [
        example("b", "2CH", "ES", 8),
        example("a", "4CH", "ED", 20),
        example("b", "2CH", "ED", 16),
        example("a", "4CH", "ES", 10),
        example("c", "4CH", "ED", 10),  # its other phase is missing
    ]
    pairs = ShapePairs(source, size=32)
    assert len(pairs) == 2
    areas = [(pairs[i]["maps"].argmax(-1) == 1).sum((1, 2)) for i in range(2)]
    np.testing.assert_allclose(areas, np.pi * np.array([[10**2, 5**2], [8**2, 4**2]]), rtol=0.08)
    with pytest.raises(ValueError, match="ED and an ES"):
        ShapePairs(source[:2], size=32)
