"""Shape attributes: the original authors' values on real masks, and known answers."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import anatomy

measure = jax.jit(anatomy.attributes)


@pytest.mark.parametrize("split", ["val", "train"])
def test_original_code_on_true_masks(golden_dir, data_dir, split):
    golden = np.load(golden_dir / f"true_masks_{split}.npz")
    masks = np.load(data_dir / "camus_224" / f"camus224_{split}.npz")["label"]
    attributes = measure(jnp.asarray(masks, jnp.int32))
    for name, values in attributes._asdict().items():
        np.testing.assert_allclose(values, golden[f"attrs_2022__{name}"], rtol=2e-5, atol=2e-4, err_msg=name)


def test_original_code_on_drawn_masks(golden_dir):
    golden = np.load(golden_dir / "synthetic.npz")
    for masks, prefix in (("masks", ""), ("sequence_glitch", "glitch__")):
        attributes = measure(jnp.asarray(golden[masks], jnp.int32))
        for name, values in attributes._asdict().items():
            expected = golden[f"{prefix}attrs_2022__{name}"]
            np.testing.assert_allclose(values, expected, rtol=2e-5, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("tilt", [-25.0, 0.0, 12.0])
def test_orientation_follows_the_heart(tilt, heart):
    measured = measure(jnp.asarray(heart(tilt)))
    assert abs(float(measured.lv_orientation) - tilt) < 0.5
    assert abs(float(measured.lv_length) - 36) < 2.5
    assert abs(float(measured.lv_base_width) - 26) < 2.5


def test_millimetres(heart):
    """Rows twice as high are rows drawn twice."""
    mask = heart(10.0)
    tall = np.repeat(mask, 2, axis=0)
    spaced, drawn = measure(jnp.asarray(mask), jnp.array([2.0, 1.0])), measure(jnp.asarray(tall))
    for name, value in spaced._asdict().items():
        np.testing.assert_allclose(value, getattr(drawn, name), atol=1.5, rtol=0.01, err_msg=name)
    pixels = measure(jnp.asarray(mask))
    millimetres = measure(jnp.asarray(mask), jnp.array([0.5, 0.5]))
    scale = (0.25, 0.5, 0.5, 1.0, 0.25, 0.5, 0.5)
    np.testing.assert_allclose(np.array(millimetres), np.array(pixels) * scale, rtol=1e-5)


def test_missing_structures_have_defined_results(heart):
    whole = heart()
    masks = np.stack([np.zeros_like(whole), np.where(whole == 1, 0, whole), np.where(whole == 2, 0, whole), whole])
    attributes = measure(jnp.asarray(masks))
    assert np.isnan(attributes.lv_length).tolist() == [True, True, True, False]
    assert np.isnan(attributes.lv_base_width).tolist() == [True, True, True, False]
    assert np.asarray(attributes.lv_orientation)[:2].tolist() == [0, 0]
    assert (float(attributes.epi_center_x[0]), float(attributes.epi_center_y[0])) == (48, 48)
    assert np.isfinite(np.array(attributes)[[0, 3, 4, 5, 6]]).all()


def test_landmarks_lie_where_they_should(heart):
    points = anatomy.landmarks(jnp.asarray(heart()), (0.5, 0.6))
    assert bool(points.valid)
    assert abs(float(points.apex[0]) - 0.5 * 22) <= 0.5
    assert abs(float(points.left_hinge[1]) - 0.6 * 36) <= 1.2
    assert abs(float(points.right_hinge[1]) - 0.6 * 60) <= 1.2
    assert not bool(anatomy.landmarks(jnp.zeros((20, 20), jnp.int32)).valid)


def test_leading_axes_blocks_and_vmap_agree(heart):
    masks = jnp.asarray(np.stack([heart(t) for t in range(-15, 15, 5)]))
    spacing = jnp.linspace(0.5, 1.0, 12).reshape(6, 2)
    whole = measure(masks, spacing)
    in_blocks = jax.jit(functools.partial(anatomy.attributes, batch_size=4))
    blocks = in_blocks(masks.reshape(2, 3, 96, 96), spacing.reshape(2, 3, 2))
    mapped = jax.vmap(anatomy.attributes)(masks, spacing)
    for a, b, c in zip(whole, blocks, mapped, strict=True):
        np.testing.assert_allclose(b.reshape(-1), a, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(c, a, rtol=1e-5, atol=1e-5)
    assert measure(masks[0]).lv_area.shape == ()


def test_a_heart_of_1400_pixels_has_its_centre():
    """In 1600 x 2560 pixels, where the sum of the columns exceeds 32 bits."""
    rows, cols = np.mgrid[:1600, :2560] - np.array([720, 1800])[:, None, None]
    radius = np.where(rows < 450, np.hypot(rows + 0.2 * cols, cols), np.inf)
    mask = np.select([radius < 540, radius < 700], [1, 2], 0).astype(np.int32)
    attributes = measure(jnp.asarray(mask))
    rows, cols = np.nonzero((mask == 1) | (mask == 2))
    assert cols.sum() > 2**31
    np.testing.assert_allclose(attributes.epi_center_x, cols.mean(), rtol=1e-6)
    np.testing.assert_allclose(attributes.epi_center_y, rows.mean(), rtol=1e-6)
    rows, cols = (x - x.mean() for x in np.nonzero(mask == 1))
    angle = np.degrees(0.5 * np.arctan2(2 * (rows * cols).sum(), (rows**2).sum() - (cols**2).sum()))
    np.testing.assert_allclose(attributes.lv_orientation, angle, atol=1e-3)
    assert float(attributes.lv_area) == len(rows)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    jax.export.export(measure, platforms=[platform])(jax.ShapeDtypeStruct((4, 96, 96), jnp.int32))


def test_midline_of_a_half_ring():
    """Constant thickness about the middle of the base: the mean radius, and half a circle long."""
    rows, cols = np.mgrid[:80, :100]
    radius = np.hypot(rows - 60, cols - 50)
    mask = np.where(rows > 60, 0, np.where(radius < 25, 1, np.where(radius < 36, 2, 0))).astype(np.int32)
    line = jax.jit(anatomy.midline)(jnp.asarray(mask)[None])
    assert line.points.shape == (1, 33, 2)
    assert bool(line.valid[0])
    radii = np.hypot(*(np.asarray(line.points[0]) - (60, 50)).T)
    assert np.abs(radii - 30.5).max() < 0.8
    assert abs(float(line.length[0]) / (np.pi * 30.5) - 1) < 0.05
    gaps = np.linalg.norm(np.diff(line.points[0], axis=0), axis=1)
    assert gaps.max() / gaps.min() < 1.1
    mask[np.abs(np.arctan2(60 - rows, cols - 50) - 2.4) < 0.15] = 0  # bridged
    broken = anatomy.midline(jnp.asarray(mask), (1.0, 1.0))
    assert bool(broken.valid)
    assert np.abs(np.hypot(*(np.asarray(broken.points) - (60, 50)).T) - 30.5).max() < 1.5
    assert np.isnan(anatomy.midline(jnp.zeros((20, 20), jnp.int32)).points).all()


def test_midline_passes_behind_a_bulge_of_the_wall(heart):
    """A septum that bulges at its base hides a part of the cavity from the middle of the mitral plane."""
    mask = heart()
    rows, cols = np.mgrid[:96, :96]
    bulging = np.where((mask == 1) & (np.hypot(rows - 46, cols - 36) < 6), 2, mask)
    assert (bulging != mask).sum() > 40
    line = jax.jit(anatomy.midline)(jnp.asarray(np.stack([mask, bulging])))
    assert float(line.length[1]) == pytest.approx(float(line.length[0]), rel=0.03)
    turns = np.diff(np.asarray(line.points[1]), axis=0)
    cosine = (turns[1:] * turns[:-1]).sum(-1) / np.linalg.norm(turns[1:], axis=-1) / np.linalg.norm(turns[:-1], axis=-1)
    assert cosine.min() > 0.3
