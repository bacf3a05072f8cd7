"""The indicator: the original code's own output, known answers, missing frames and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import temporal

NAMES = list(temporal.PAINCHAUD)


@pytest.fixture(scope="module")
def golden(golden_dir):
    return np.load(golden_dir / "synthetic.npz")


def test_indicator_and_comparison_are_the_original_codes(golden):
    """That run scaled each attribute by its extremes in the sequence; where it divides nothing by nothing we say 0."""
    series = np.stack([golden[f"glitch__attrs_2022__{n}"] for n in NAMES], -1)
    bounds = np.stack([series.min(0), series.max(0)], -1)
    result = temporal.consistency(jnp.asarray(series), jnp.asarray(bounds), temporal.painchaud_limits().thresholds)
    expected = np.stack([golden[f"glitch__temporal__{n}__metric"] for n in NAMES], -1)
    wrong = np.stack([golden[f"glitch__temporal__{n}__error"] for n in NAMES], -1)
    np.testing.assert_allclose(result.indicator, np.nan_to_num(expected), atol=1e-5)
    np.testing.assert_array_equal(~result.is_consistent, wrong)
    np.testing.assert_array_equal(~result.is_frame_consistent, golden["glitch__temporal__any_error"])
    assert not bool(result.is_sequence_consistent)


def test_a_straight_line_is_consistent_and_a_parabola_has_half_its_curvature():
    time = jnp.arange(9.0)
    bounds, threshold = jnp.array([[0.0, 10.0]]), jnp.array([0.2])
    line = temporal.consistency(time[:, None], bounds, threshold)
    np.testing.assert_allclose(line.indicator, 0, atol=1e-6)
    curved = temporal.consistency((3 * time**2)[:, None], bounds, threshold)  # second difference 6, over 2, over 10
    np.testing.assert_allclose(curved.indicator[1:-1, 0], -0.3, rtol=1e-5)
    np.testing.assert_allclose(curved.ratio[1:-1, 0], 1.5, rtol=1e-5)
    assert curved.is_frame_consistent.tolist() == [True] + [False] * 7 + [True]


def test_an_attribute_without_range_is_consistent_only_while_it_rests():
    bounds, threshold = jnp.array([[2.0, 2.0]]), jnp.array([0.1])
    assert bool(temporal.consistency(jnp.full((5, 1), 2.0), bounds, threshold).is_sequence_consistent)
    assert not bool(temporal.consistency(jnp.array([[2.0], [2.1], [2.0]]), bounds, threshold).is_sequence_consistent)


def test_missing_frames_are_not_compared_and_are_counted():
    series = jnp.arange(8.0).at[3].set(jnp.nan)[:, None]
    result = temporal.consistency(series, jnp.array([[0.0, 1.0]]), jnp.array([0.1]))
    assert result.is_measured[:, 0].tolist() == [True, True, False, False, False, True, True, True]
    assert int(result.num_missing) == 1
    assert bool(result.is_sequence_consistent)
    nothing = temporal.consistency(jnp.full((4, 1), jnp.nan), jnp.array([[0.0, 1.0]]), jnp.array([0.1]))
    assert bool(jnp.isfinite(nothing.indicator).all())
    assert int(nothing.num_missing) == 4


def test_padding_changes_nothing():
    series = jnp.asarray(np.random.default_rng(0).normal(size=(9, 3)), jnp.float32)
    bounds, thresholds = jnp.tile(jnp.array([-1.0, 1.0]), (3, 1)), jnp.full(3, 0.9)
    alone = temporal.consistency(series, bounds, thresholds)
    padded = jnp.stack([jnp.pad(series, [(0, 5), (0, 0)], constant_values=99.0), jnp.zeros((14, 3))])
    valid = jnp.arange(14) < jnp.array([9, 14])[:, None]
    together = temporal.consistency(padded, bounds, thresholds, valid=valid)
    for a, b in zip(alone[:5], together[:5], strict=True):
        np.testing.assert_array_equal(a, b[0, :9])
    assert bool(together.is_sequence_consistent[0]) == bool(alone.is_sequence_consistent)
    assert together.num_missing.tolist() == [0, 0]
    one, both = temporal.summarize(alone), temporal.summarize(together, valid=valid)
    assert float(both.error_to_threshold) == pytest.approx(float(one.error_to_threshold) / 2)


def test_summary_is_the_authors(golden):
    """Ratios of each sequence first, then over sequences; shares over inconsistent sequences only."""
    rng = np.random.default_rng(1)
    series = rng.normal(0, [[[0.02]], [[0.2]], [[0.4]]], (3, 20, 2)).astype(np.float32)
    limits = temporal.Limits(jnp.array([[0.0, 1.0]] * 2), jnp.array([0.3, 0.4]))
    checked = temporal.consistency(jnp.asarray(series), *limits)
    c = np.zeros_like(series)
    c[:, 1:-1] = series[:, 1:-1] - (series[:, :-2] + series[:, 2:]) / 2
    wrong = np.abs(c) > np.array([0.3, 0.4])
    frames = wrong.any(-1)
    result = temporal.summarize(checked)
    assert float(result.error_to_threshold) == pytest.approx(
        np.mean([(np.abs(s) / np.array([0.3, 0.4])).mean() for s in c]), rel=1e-5
    )
    np.testing.assert_allclose(result.inconsistent_by_attribute, wrong.mean((0, 1)), rtol=1e-5)
    assert float(result.inconsistent_sequences) == pytest.approx(frames.any(1).mean())
    assert float(result.inconsistent_frames) == pytest.approx(frames.mean())
    assert float(result.frames_in_inconsistent) == pytest.approx(frames.mean(1)[frames.any(1)].mean())


def test_calibrated_limits_hold_for_their_own_sequences_and_no_tighter_ones_do():
    rng = np.random.default_rng(2)
    series = jnp.asarray(rng.normal(size=(4, 30, 3)).cumsum(1), jnp.float32)
    valid = jnp.arange(30) < jnp.array([30, 20, 25, 5])[:, None]
    limits = temporal.calibrate_limits(series, valid=valid)
    assert bool(temporal.consistency(series, *limits, valid=valid).is_sequence_consistent.all())
    tighter = limits._replace(thresholds=limits.thresholds * 0.999)
    result = temporal.consistency(series, *tighter, valid=valid)
    assert (~result.is_consistent).sum((0, 1)).tolist() == [1, 1, 1]
    most = temporal.consistency(series, *temporal.calibrate_limits(series, valid=valid, quantile=0.8), valid=valid)
    inner = 28 + 18 + 23 + 3
    np.testing.assert_allclose((~most.is_consistent).sum((0, 1)) / inner, 0.2, atol=0.02)


def test_published_limits_in_mm_and_on_another_grid():
    mm = temporal.painchaud_limits().bounds
    np.testing.assert_allclose(mm[NAMES.index("lv_base_width")], [16.6, 53.3], atol=0.1)
    np.testing.assert_allclose(mm[NAMES.index("lv_length")], [46.4, 94.4], atol=0.1)
    np.testing.assert_allclose(mm[NAMES.index("epi_center_y")], [44.0, 93.8], atol=0.1)
    low = np.rad2deg(np.arctan(2 * np.tan(np.deg2rad(-7.035927))))
    assert float(mm[NAMES.index("lv_orientation"), 0]) == pytest.approx(low, rel=1e-5)
    own = temporal.painchaud_limits(spacing=(0.154, 0.308)).bounds
    np.testing.assert_allclose(own, np.array([v[:2] for v in temporal.PAINCHAUD.values()]), rtol=1e-5)


def test_half_the_frame_rate_means_four_times_the_threshold():
    time = jnp.arange(0, 60.0)
    curve = jnp.cos(2 * jnp.pi * time / 60)
    limits = temporal.calibrate_limits(curve[:, None])
    slow = temporal.consistency(curve[::2, None], *limits)
    assert not bool(slow.is_sequence_consistent)
    scaled = temporal.scale_to_frame_time(limits, 2.0)
    assert bool(temporal.consistency(curve[::2, None], *scaled).is_sequence_consistent)


def test_jit_and_vmap_are_the_same():
    series = jnp.asarray(np.random.default_rng(3).normal(size=(4, 12, 2)), jnp.float32).at[1, 4].set(jnp.nan)
    limits = temporal.Limits(jnp.array([[-1.0, 1.0]] * 2), jnp.array([0.5, 0.6]))
    call = lambda x: temporal.consistency(x, *limits)  # noqa: E731
    for a, b, c in zip(call(series), jax.jit(call)(series), jax.vmap(call)(series), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
        np.testing.assert_allclose(a, c, rtol=1e-6)
