"""Which pixels make a criterion fail, and limits measured on true masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import anatomy

violating = jax.jit(anatomy.violating_pixels)


def at(name):
    return anatomy.NAMES.index(name)


def test_marks_are_the_pixels_that_are_counted(heart):
    whole = heart()
    masks = np.stack([whole] * 4)
    masks[1, 40:42, 47:50] = 0
    masks[2, 2:4, 2:5] = 1
    masks[3, 64:66, 47:49] = 0
    pixels = np.asarray(violating(jnp.asarray(masks)))
    assert not pixels[0].any()
    np.testing.assert_array_equal(pixels[1, at("holes_in_lv")], (whole == 1) & (masks[1] == 0))
    np.testing.assert_array_equal(pixels[2, at("disconnectivity_in_lv")], masks[2] != whole)
    np.testing.assert_array_equal(pixels[3, at("holes_in_atrium")], masks[3] != whole)


def test_marks_and_values_agree_on_random_masks():
    """The number of violating pixels is the criterion, where it fails and is a count."""
    masks = jnp.asarray(np.random.default_rng(0).integers(0, 4, (6, 24, 24)).repeat(4, 1).repeat(4, 2), jnp.int32)
    report, pixels = jax.jit(anatomy.check)(masks), violating(masks)
    np.testing.assert_array_equal(pixels.any((-2, -1))[:, :8], ~report.passes[:, :8])
    np.testing.assert_array_equal(pixels.sum((-2, -1))[:, :8], report.values[:, :8])
    assert not np.asarray(pixels)[np.asarray(report.passes)].any()


def test_a_thin_place_is_highlighted(heart):
    """A wall cut down to a thread at one place breaks there."""
    mask = heart()
    rows, cols = np.nonzero(mask == 2)
    side = (rows == 40) & (cols < 48)
    mask[40, cols[side][1:]] = 1
    strict = anatomy.CAMUS._replace(min_erosion_ratio=0.4)
    pixels = anatomy.violating_pixels(jnp.asarray(mask), thresholds=strict)[at("erosion_ratio_before_myo_split")]
    places = np.argwhere(np.asarray(pixels))
    assert (np.hypot(*(places - (40, cols[side][0])).T) < 3).any()


def test_limits_are_the_extremes_of_the_masks(heart):
    masks = jnp.asarray(np.stack([heart(tilt) for tilt in (-8.0, -3.0, 0.0, 8.0)]))
    limits = anatomy.calibrate(masks)
    assert bool(anatomy.is_valid(masks, thresholds=limits).all())
    values = np.asarray(anatomy.check(masks).values)
    np.testing.assert_allclose(
        limits, [values[:, 8].max(), values[:, 9].max(), values[:, 10].min(), values[:, 11].max()]
    )
    most = anatomy.calibrate(masks, coverage=0.5)
    assert float(most.max_width_ratio) < float(limits.max_width_ratio)
    with pytest.raises(ValueError, match="coverage must be"):
        anatomy.calibrate(masks, coverage=0.0)


def test_packaged_limits_are_the_extremes_of_the_training_masks(golden_dir):
    """By the values of the original code on the same masks; nearly all validation masks are within."""
    names = anatomy.NAMES[8:]
    train, val = (np.load(golden_dir / f"true_masks_{split}.npz") for split in ("train", "val"))
    extremes = [(np.min if k == 2 else np.max)(train[f"anatomical__{n}"]) for k, n in enumerate(names)]
    np.testing.assert_allclose(anatomy.CAMUS_CALIBRATED, extremes, atol=1.01e-4)
    low, high = anatomy.limits(anatomy.CAMUS_CALIBRATED)
    values = np.stack([val[f"anatomical__{n}"] for n in anatomy.NAMES], -1)
    assert ((values >= np.asarray(low)) & (values <= np.asarray(high))).all(-1).sum() == 199


def test_limits_by_view(heart):
    masks = jnp.asarray(heart())
    two = functools.partial(anatomy.is_valid, masks, thresholds=anatomy.CAMUS_CALIBRATED_BY_VIEW)
    assert bool(two(view="2CH")) == bool(anatomy.is_valid(masks, thresholds=anatomy.CAMUS_CALIBRATED_BY_VIEW["2CH"]))
    with pytest.raises(ValueError, match="need a view"):
        two()
    with pytest.raises(ValueError, match="must be one of 2CH, 4CH, got '3CH'"):
        two(view="3CH")


def test_tables_read_well():
    table = anatomy.describe().splitlines()
    assert len(table) == 14
    assert table[2] == "| holes_in_lv | holes in the left ventricle | px | 0 |"
    assert table[12].endswith("|  | at least 0.12 |")
