"""The 16 short-axis criteria: a plain reimplementation after the authors' code, and drawn defects."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage import measure, morphology

from cardiojax import anatomy

SQUARE = np.ones((3, 3))
SPACING = np.array([1.4, 1.2], np.float32)
NAMES = [criterion.name for criterion in anatomy.SHORT_AXIS_CRITERIA]
check = jax.jit(anatomy.check_short_axis)
code = jax.jit(lambda m, s: anatomy.check_short_axis(m, s, variant="code"))


def ring(size=64):
    """A left ventricle in its wall, a crescent of right ventricle to its left."""
    rows, cols = np.mgrid[:size, :size] - size / 2
    radius = np.hypot(rows, cols - 6)
    crescent = (np.hypot(rows, cols + 4) < 18) & (radius >= 15)
    return np.select([radius < 9, radius < 15, crescent], [3, 2, 1], 0).astype(np.int32)


def reference(mask, spacing):
    """Each criterion with SciPy and scikit-image, as the authors' code computes it."""
    rv, wall, lv = (mask == k for k in (1, 2, 3))
    small = mask.size / 2**14

    def regions(s, connectivity):
        return measure.label(s, connectivity=connectivity)

    def holes(s):
        labels = regions(np.pad(~s, 1, constant_values=True), 2)
        return ((labels != 0) & (labels != labels[0, 0])).sum()

    def apart(s):
        sizes = np.bincount(regions(s, 2).ravel())[1:]
        return sizes.sum() - sizes.max() if sizes.size else 0

    def gap(a, b):
        own = []
        for one, other in ((a, b), (b, a)):
            labels = regions(~one, 1)
            labels[labels == labels[0, 0]] = 0
            own.append((labels > 0) & ~np.isin(labels, np.unique(labels * other)))
        left = regions(~(a | b | own[0] | own[1]), 1)
        left[left == left[0, 0]] = 0
        return (left > 0).sum() if (left > 0).sum() > small else 0

    def frontier(a, b):
        count = (a & ndimage.binary_dilation(b, SQUARE)).sum()
        return count if count > 1 else 0

    def concavity(s):
        solid = ndimage.binary_fill_holes(s)
        if not solid.any():
            return np.nan
        hull = morphology.convex_hull_image(solid)
        bay = ndimage.binary_erosion(hull & ~solid, SQUARE, border_value=1)
        return (ndimage.distance_transform_edt(hull, spacing) * bay).max()

    def circularity(s):
        solid = ndimage.binary_fill_holes(s)
        length = measure.perimeter(solid, neighborhood=4) if solid.any() else 0
        return 4 * np.pi * solid.sum() / length**2 if length > 1e-6 else np.nan

    wall_holes = holes(wall)
    if wall_holes and lv.any():
        wall_holes -= (regions(lv, 2) == 1).sum()
    distance = 0
    if rv.any() and wall.any():
        distance = ndimage.distance_transform_edt(~wall, spacing)[ndimage.binary_dilation(rv, SQUARE)].min()
    return [
        holes(lv), holes(rv), wall_holes, apart(lv), apart(rv), apart(wall), gap(lv, wall), gap(rv, wall), distance,
        frontier(lv, rv), frontier(lv, mask == 0), concavity(lv), concavity(rv), concavity(wall), circularity(lv),
        circularity(wall),
    ]  # fmt: skip


def test_random_masks_equal_the_specification():
    rng = np.random.default_rng(0)
    masks = [ring(), np.zeros_like(ring()), np.where(ring() == 1, 0, ring()), np.where(ring() == 3, 0, ring())]
    for smooth in (2, 4):
        masks.append(np.argmax([ndimage.gaussian_filter(rng.normal(size=(64, 64)), smooth) for _ in range(4)], 0))
        shift = ndimage.gaussian_filter(rng.normal(size=(2, 64, 64)), (0, smooth, smooth)) * 10 * smooth
        masks.append(ndimage.map_coordinates(ring(), np.mgrid[:64, :64] + shift, order=0))
        noisy = ring()
        noisy[rng.random(noisy.shape) < 0.02] = rng.integers(0, 4)
        masks += [noisy, np.roll(ring(), rng.integers(-30, 30, 2), (0, 1))]
    masks = np.stack(masks).astype(np.int32)
    for mask, values in zip(masks, code(jnp.asarray(masks), jnp.asarray(SPACING)).values, strict=True):
        np.testing.assert_allclose(values, reference(mask, SPACING), rtol=1e-5)


def test_drawn_masks(golden_dir):
    """A ring that is whole, one that is open, one whose right ventricle lies apart."""
    masks = np.load(golden_dir / "synthetic.npz")["short_axis"]
    values = code(jnp.asarray(masks, jnp.int32), jnp.array([1.4, 1.4])).values
    for mask, got in zip(masks, values, strict=True):
        np.testing.assert_allclose(got, reference(mask, (1.4, 1.4)), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda m: m, set()),
        (lambda m: np.where(m == 1, 0, m), set()),  # optional
        (lambda m: np.zeros_like(m), set()),
        (lambda m: paint(m, (32, 38), 0), {"holes_in_lv", "frontier_between_lv_and_background"}),
        (lambda m: paint(m, (slice(2, 4), slice(2, 4)), 3), {"disconnectivity_in_lv"}),
        (lambda m: np.where((m == 1) & (np.mgrid[:64, :64][1] > 18), 0, m), {"rv_disconnected_from_myo"}),
        (lambda m: paint(m, (slice(20, 45), slice(45, 54)), 0), {"frontier_between_lv_and_background"}),
    ],
)
def test_drawn_defects(change, broken):
    report = check(jnp.asarray(change(ring())), jnp.asarray(SPACING))
    failed = {name for name, ok in zip(NAMES, report.passes.tolist(), strict=True) if not ok}
    assert broken <= failed
    assert bool(report.valid) == (not broken)


def paint(mask, where, value):
    mask = mask.copy()
    mask[where] = value
    return mask


def test_leading_axes_and_thresholds():
    masks = jnp.asarray(np.stack([ring(), np.roll(ring(), 5, 1)] * 3))
    flat = check(masks, jnp.asarray(SPACING))
    nested = anatomy.check_short_axis(masks.reshape(3, 2, 64, 64), jnp.asarray(SPACING), batch_size=4)
    np.testing.assert_array_equal(nested.values.reshape(-1, 16), flat.values)
    strict = anatomy.ACDC._replace(min_lv_circularity=2.0)
    assert not bool(anatomy.check_short_axis(masks[0], jnp.asarray(SPACING), thresholds=strict).valid)
    table = anatomy.describe(anatomy.SHORT_AXIS_CRITERIA, *anatomy.short_axis_limits())
    assert "| rv_concavity | depth of the deepest concavity of the right ventricle | mm | at most 30 |" in table


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    jax.export.export(check, platforms=[platform])(
        jax.ShapeDtypeStruct((4, 64, 64), jnp.int32), jax.ShapeDtypeStruct((2,), jnp.float32)
    )
