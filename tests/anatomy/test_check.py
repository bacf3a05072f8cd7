"""The 12 criteria: the original authors' values, drawn defects, and a plain reimplementation on random masks."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cardiojax import anatomy
from tests.helpers.shapes import apical_view

CROSS, SQUARE = ndimage.generate_binary_structure(2, 1), ndimage.generate_binary_structure(2, 2)
paper = jax.jit(anatomy.check)
code = jax.jit(functools.partial(anatomy.check, variant="code"))


_WALL_RATIOS = ("erosion_ratio_before_myo_split", "width_ratio_between_lv_and_myo")


def heart(size=96):
    """A valid apical view: a thick horseshoe around a cavity, above an atrium."""
    rows, cols = np.mgrid[:size, :size] / size
    return apical_view(rows - 0.6, cols - 0.5, cavity=(0.38, 0.14), wall=(0.08, 0.1), atrium=(0.1, 0.156, 0.13))


def damaged():
    """Hearts with one known defect each, and the criteria it breaks."""
    whole = heart()
    cases = {"whole": (whole, set())}

    def add(name, change, *broken):
        mask = whole.copy()
        change(mask)
        cases[name] = (mask, set(broken))

    def paint(rows, cols, value):
        def change(mask):
            mask[rows, cols] = value

        return change

    add("hole in the cavity", paint(slice(40, 43), slice(47, 49), 0), "holes_in_lv", "holes_in_epi")
    add("hole in the atrium", paint(slice(64, 66), slice(47, 50), 0), "holes_in_atrium")
    add("small cavity", paint(slice(2, 4), slice(2, 5), 1), "disconnectivity_in_lv")
    # a wall in two parts has split before any erosion
    add("small wall", paint(slice(90, 92), slice(2, 5), 2), "disconnectivity_in_myo", _WALL_RATIOS[0])
    add("small atrium", paint(slice(90, 92), slice(2, 5), 3), "disconnectivity_in_atrium")

    def no_wall(mask):
        mask[mask == 2] = 0

    add("no wall", no_wall, "frontier_ratio_between_lv_and_bg", *_WALL_RATIOS)

    def no_atrium(mask):
        mask[mask == 3] = 0

    add("no atrium", no_atrium, "frontier_ratio_between_lv_and_bg")
    add("wall in the atrium", paint(slice(57, 60), slice(56, 70), 3), "frontier_ratio_between_myo_and_atrium")
    return cases


CASES = damaged()


@pytest.mark.parametrize("name", sorted(CASES))
def test_drawn_defects(name):
    mask, broken = CASES[name]
    report = paper(jnp.asarray(mask)[None])
    failed = {n for n, ok in zip(anatomy.NAMES, np.asarray(report.passes)[0], strict=True) if not ok}
    assert broken <= failed
    assert bool(report.valid[0]) == (not broken)
    if name.startswith("small"):
        assert failed == broken


@pytest.mark.parametrize(
    ("case", "criterion", "pixels"),
    [("small wall", "disconnectivity_in_myo", 6), ("hole in the atrium", "holes_in_atrium", 6)],
)
def test_pixels_are_counted(case, criterion, pixels):
    values = paper(jnp.asarray(CASES[case][0])[None]).values[0]
    assert float(values[anatomy.NAMES.index(criterion)]) == pixels


def test_a_gap_between_ventricle_and_atrium_is_seen_by_the_paper_alone():
    mask = heart()
    mask[56:61, 45:51] = 0  # enclosed by the cavity above and the atrium below
    assert set(np.unique(mask[54:63, 44:52])) == {0, 1, 3}
    index = anatomy.NAMES.index("holes_between_lv_and_atrium")
    assert float(paper(jnp.asarray(mask)[None]).values[0, index]) == 30
    assert float(code(jnp.asarray(mask)[None]).values[0, index]) == 0


def test_nothing_and_everything_have_defined_results():
    masks = np.stack([np.full((96, 96), k, np.int32) for k in range(4)])
    report = paper(jnp.asarray(masks))
    assert not np.asarray(report.valid).any()
    assert np.isfinite(np.asarray(report.values)[:, :10]).all()
    assert np.isnan(np.asarray(report.values)[0, 10:]).all()


def test_leading_axes_blocks_and_single_masks_agree():
    masks = jnp.asarray(np.stack([m for m, _ in CASES.values()]))
    whole = paper(masks)
    blocks = jax.jit(functools.partial(anatomy.check, batch_size=4))(masks.reshape(3, -1, 96, 96))
    np.testing.assert_array_equal(blocks.values.reshape(-1, 12), whole.values)
    np.testing.assert_array_equal(blocks.valid.reshape(-1), whole.valid)
    alone = paper(masks[0])
    np.testing.assert_array_equal(alone.values, whole.values[0])
    assert alone.valid.shape == ()


@pytest.mark.parametrize(("thickness", "erosions"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)])
def test_criterion_11_counts_erosions_until_the_wall_breaks(thickness, erosions):
    """A wall of 7 pixels, thinned at one place: one pixel of it passes the published limit, none does not."""
    mask = np.zeros((96, 96), np.int32)
    mask[20:60, 20:60], mask[27:60, 27:53] = 2, 1
    mask[40:44, 20 + thickness : 27] = 0
    report = paper(jnp.asarray(mask)[None])
    half_thickness = ndimage.distance_transform_edt(mask == 2).max()
    assert float(report.values[0, 10]) == pytest.approx(erosions / half_thickness)
    assert bool(report.passes[0, 10]) == (thickness > 0)


@pytest.mark.parametrize("limit", [0.12, 0.45])
def test_validity_stops_counting_erosions_and_agrees_with_the_report(limit):
    """Walls of any thickness, thinned to any other at one place, on both sides of the limit."""
    masks = np.zeros((40, 96, 96), np.int32)
    rng = np.random.default_rng(0)
    for mask in masks:
        wall = rng.integers(1, 20)
        mask[20:60, 20:60], mask[20 + wall : 60, 20 + wall : 60 - wall] = 2, 1
        mask[60:70, 20 + wall : 60 - wall] = 3
        mask[40:44, 20 + rng.integers(0, wall + 1) : 20 + wall] = 0
    masks = jnp.asarray(np.concatenate([masks, [case for case, _ in CASES.values()]]))
    limits = anatomy.Thresholds(10.0, 10.0, limit, 100.0)
    expected = paper(masks, thresholds=limits).valid
    np.testing.assert_array_equal(jax.jit(lambda m: anatomy.is_valid(m, thresholds=limits))(masks), expected)
    assert 0 < expected.sum() < len(masks)


def test_thresholds_are_an_argument():
    masks = jnp.asarray(heart())[None]
    strict = paper(masks, thresholds=anatomy.CAMUS._replace(max_width_ratio=0.1))
    assert not bool(strict.valid[0])
    with pytest.raises(ValueError, match="variant must be"):
        anatomy.check(masks, variant="book")


def _holes(s):
    labels, _ = ndimage.label(np.pad(~s, 1, constant_values=True), SQUARE)
    return ((labels != 0) & (labels != labels[0, 0])).sum()


def _apart(s):
    labels, _ = ndimage.label(s, SQUARE)
    sizes = np.bincount(labels.ravel())[1:]
    return sizes.sum() - sizes.max() if sizes.size else 0


def _outside(free, variant):
    labels, _ = ndimage.label(free, CROSS)
    edge = np.zeros_like(free)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    seeds = labels[edge & free] if variant == "paper" else labels[:1, :1]
    return np.isin(labels, np.setdiff1d(seeds, 0)) & free, labels


def _gap(a, b, variant):
    enclosed = []
    for one, other in ((a, b), (b, a)):
        out, labels = _outside(~one, variant)
        touched = np.isin(labels, np.setdiff1d(labels[other & ~one], 0))
        enclosed.append(~one & ~out & ~touched)
    free = ~(a | b | enclosed[0] | enclosed[1])
    count = (free & ~_outside(free, variant)[0]).sum()
    return count if count > a.size / 2**14 else 0


def _frontier(a, b):
    count = (a & ndimage.binary_dilation(b, SQUARE)).sum()
    columns = np.flatnonzero(a.any(0))
    return (count if count > 1 else 0) / (columns[-1] - columns[0] + 1) if columns.size else 0


def _erosion(wall):
    if not wall.any():
        return np.nan
    current, steps = wall, 0
    while ndimage.label(current, SQUARE)[1] == 1:
        current = ndimage.binary_erosion(current, SQUARE, border_value=1)
        labels, _ = ndimage.label(current, CROSS)
        sizes = np.bincount(labels.ravel())
        current = current & (sizes[labels] >= wall.size / 2**14)
        steps += 1
    return steps / ndimage.distance_transform_edt(wall).max()


def _width(lv, wall):
    epicardium = lv | wall
    if not epicardium.any():
        return np.nan
    row = int(np.floor(np.nonzero(epicardium)[0].mean()))
    a, b = lv[row].sum(), wall[row].sum()
    return a / b if a and b else np.nan


def reference(mask, variant):
    """Each criterion in a few lines of SciPy, after the specification."""
    lv, wall, atrium = (mask == k for k in (1, 2, 3))
    first_gap = _gap(lv, wall, variant)
    return [
        _holes(lv), _holes(lv | wall), _holes(atrium),
        first_gap, first_gap if variant == "code" else _gap(lv, atrium, variant),
        _apart(lv), _apart(wall), _apart(atrium),
        _frontier(lv, mask == 0), _frontier(wall, atrium), _erosion(wall), _width(lv, wall),
    ]  # fmt: skip


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_random_masks_equal_the_specification(variant):
    """Noise, blobs and damaged hearts: far from any heart, where shortcuts would fail."""
    rng = np.random.default_rng(0)
    masks = []
    for smooth in (2, 3, 5):
        fields = [ndimage.gaussian_filter(rng.normal(size=(96, 96)), smooth) for _ in range(4)]
        masks.append(np.argmax(fields, 0))
        shift = ndimage.gaussian_filter(rng.normal(size=(2, 96, 96)), (0, smooth, smooth)) * 12 * smooth
        rows, cols = np.mgrid[:96, :96] + shift
        masks.append(ndimage.map_coordinates(heart(), (rows, cols), order=0))
        noisy = heart()
        noisy[rng.random((96, 96)) < 0.02 / smooth] = rng.integers(0, 4)
        masks += [noisy, np.roll(heart(), (rng.integers(-50, 50), rng.integers(-50, 50)), (0, 1))]
    masks = np.stack(masks).astype(np.int32)
    got = np.asarray((paper if variant == "paper" else code)(jnp.asarray(masks)).values)
    for mask, values in zip(masks, got, strict=True):
        np.testing.assert_allclose(values, reference(mask, variant), rtol=1e-5)


def test_windows_of_images_of_any_size_have_the_values_of_the_whole_image():
    """One compiled function: images that are padded, hearts that are cut out of larger ones or touch their border."""
    size, rng = 96, np.random.default_rng(1)
    check = jax.jit(anatomy.check_window)
    for mask in check_window_cases(rng, size):
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, left = max(rows[0] - 1, 0), max(cols[0] - 1, 0)
        part = mask[top : top + size, left : left + size]
        window = np.zeros((1, size, size), np.int32)
        window[0, : part.shape[0], : part.shape[1]] = part
        report = check(jnp.asarray(window), jnp.array([-top, -left, *mask.shape]))
        np.testing.assert_allclose(np.asarray(report.values)[0], reference(mask, "paper"), rtol=1e-5)


def check_window_cases(rng, size):
    """Label maps of many sizes whose hearts fit into a window."""
    cases = []
    for height, width in ((50, 61), (96, 33), (160, 300), (290, 280), (400, 520)):
        smooth = ndimage.gaussian_filter(rng.normal(size=(4, size, size)), (0, 3, 3))
        drawn, noisy = heart(size), heart(size)
        noisy[rng.random((size, size)) < 0.02] = rng.integers(0, 4)
        for source in (drawn, noisy, np.argmax(smooth, 0)):
            for row, col in ((0, 0), (height // 3, width - 30)):
                mask = np.zeros((height, width), np.int32)
                part = source[2 : min(size - 2, height - row), 2 : min(size - 2, width - col)]
                mask[row : row + part.shape[0], col : col + part.shape[1]] = part
                cases.append(mask)
    return cases


def test_original_code_on_real_and_damaged_masks(golden_dir):
    golden = np.load(golden_dir / "anatomy_val.npz")
    report = code(jnp.asarray(golden["mask"], jnp.int32))
    worked = ~golden["failed"]
    for i, name in enumerate(anatomy.NAMES):
        np.testing.assert_allclose(np.asarray(report.values)[worked, i], golden[name][worked], rtol=1e-5, err_msg=name)
    np.testing.assert_array_equal(np.asarray(report.valid)[worked], golden["anatomical_errors"][worked] == 0)
    assert not np.asarray(report.valid)[~worked].any()


def test_original_code_on_drawn_masks(golden_dir):
    golden = np.load(golden_dir / "synthetic.npz")
    report = code(jnp.asarray(golden["masks"], jnp.int32))
    raised = golden["anatomical__errors"] != ""
    for i, name in enumerate(anatomy.NAMES):
        expected = golden[f"anatomical__{name}"]
        np.testing.assert_allclose(np.asarray(report.values)[~raised, i], expected[~raised], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    jax.export.export(paper, platforms=[platform])(jax.ShapeDtypeStruct((4, 96, 96), jnp.int32))
