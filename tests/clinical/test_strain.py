"""Strain: ellipses that shorten by a known share, drift, gaps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import clinical

trace = jax.jit(clinical.endocardial_line)
LENGTHS = (60.0, 57.0, 54.0, 51.0, 48.0, 45.0)


@pytest.fixture(scope="module")
def lines(heart):
    masks = jnp.stack([jnp.asarray(heart(long, long * 22 / 60)) for long in LENGTHS])
    return trace(masks, jnp.ones(2)), masks


def test_line_of_half_an_ellipse_has_its_length(lines):
    angle = np.linspace(0, np.pi, 20_001)
    for long, length in zip(LENGTHS, lines[0].length, strict=True):
        down, across = np.diff(long * np.sin(angle)), np.diff(long * 22 / 60 * np.cos(angle))
        assert float(length) == pytest.approx(np.hypot(down, across).sum(), rel=0.005)


def test_a_scaled_heart_has_the_strain_of_its_scale(lines):
    strain = clinical.longitudinal_strain(lines[0].length, jnp.array(0), jnp.array(5))
    np.testing.assert_allclose(strain.curve, 100 * (np.array(LENGTHS) / 60 - 1), atol=0.7)
    assert float(strain.peak_systolic) == pytest.approx(-25, abs=0.7)
    assert bool(jnp.isnan(strain.drift))


def test_spacing_tilt_and_mirror_do_not_matter(heart):
    upright = trace(jnp.asarray(heart()), jnp.ones(2)).length
    narrow = jnp.asarray(heart(spacing=(0.5, 1.0), size=256))
    tilted = jnp.asarray(heart(tilt=0.2))
    for masks, spacing in ((narrow, (0.5, 1.0)), (tilted, (1.0, 1.0)), (tilted[:, ::-1], (1.0, 1.0))):
        length = trace(masks, jnp.array(spacing)).length
        assert float(length) == pytest.approx(float(upright), rel=0.015)


def test_a_mitral_valve_that_domes_does_not_matter(heart):
    """The hinge points stay; between them the valve domes into the ventricle, or the ventricle into the atrium."""
    flat = heart()
    rows, cols = np.mgrid[:128, :128] - np.array([80, 64])[:, None, None]
    into_ventricle = np.where((flat == 1) & (np.hypot(rows / 14, cols / 19) < 1), 3, flat)
    into_atrium = np.where((flat == 3) & (np.hypot(rows / 9, cols / 14) < 1), 1, flat)
    assert (flat != into_ventricle).sum() > 300
    assert (flat != into_atrium).sum() > 150
    expected, *domed = trace(jnp.asarray(np.stack([flat, into_ventricle, into_atrium])), jnp.ones(2)).length
    np.testing.assert_allclose(domed, expected, rtol=0.01)


def test_no_cavity_has_no_line_and_a_batch_is_one_by_one(lines):
    line, masks = lines
    batch = jnp.stack([masks[:2], jnp.zeros_like(masks[:2])])
    strain = trace(batch, jnp.ones(2))
    assert strain.valid.tolist() == [[True, True], [False, False]]
    np.testing.assert_allclose(strain.length[0], line.length[:2], rtol=1e-5)
    assert bool(jnp.isnan(strain.length[1]).all())
    with pytest.raises(ValueError, match="at least 3"):
        clinical.endocardial_line(batch, jnp.ones(2), num_points=2)


def test_drift_is_taken_off_and_told():
    time = jnp.arange(31)
    length = 100 - 10 * (1 - jnp.cos(2 * jnp.pi * time / 30)) + 0.2 * time
    ends = jnp.array(0), jnp.array(15)
    raw = clinical.longitudinal_strain(length, *ends)
    strain = clinical.longitudinal_strain(length, *ends, next_end_diastole=jnp.array(30))
    assert float(strain.drift) == pytest.approx(6, abs=1e-3)
    assert float(strain.curve[30]) == pytest.approx(0, abs=1e-3)
    assert float(strain.peak_systolic) == pytest.approx(-20, abs=1e-2)
    assert float(raw.peak_systolic) == pytest.approx(-17, abs=0.1)


def test_missing_frames_are_not_the_peak_and_a_missing_reference_is_nan():
    length = jnp.array([100.0, 90.0, jnp.nan, 85.0, 95.0])
    strain = clinical.longitudinal_strain(length, jnp.array(0), jnp.array(3))
    assert float(strain.peak_systolic) == pytest.approx(-15, abs=1e-4)
    assert bool(jnp.isnan(clinical.longitudinal_strain(length, jnp.array(2), jnp.array(3)).peak_systolic))


def test_the_peak_is_sought_in_systole_where_end_systole_precedes_end_diastole():
    """The loop begins in systole, and a wrong frame in diastole is no peak."""
    length = jnp.array([90.0, 84.0, 82.0, 70.0, 95.0, 100.0, 97.0])
    strain = clinical.longitudinal_strain(length, jnp.array(5), jnp.array(2))
    assert float(strain.peak_systolic) == pytest.approx(-18, abs=1e-3)
    ordered = clinical.longitudinal_strain(length, jnp.array(0), jnp.array(2))
    assert float(ordered.peak_systolic) == pytest.approx(100 * (82 / 90 - 1), abs=1e-3)
    with pytest.raises((ValueError, TypeError)):
        clinical.longitudinal_strain(length, jnp.array([5, 5]), jnp.array(2))


def test_gradient_of_the_peak_is_that_of_its_frame():
    slope = jax.grad(lambda x: clinical.longitudinal_strain(x, jnp.array(0), jnp.array(3)).peak_systolic)(
        jnp.array([100.0, 90.0, 80.0, 85.0])
    )
    np.testing.assert_allclose(slope, [-0.8, 0, 1, 0], atol=1e-5)
