"""Numbers of the guidelines by known answers: body surface, output, sphericity, ranges and grades."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiojax import clinical
from cardiojax.clinical.guidelines.ranges import RANGES


@pytest.mark.parametrize(("height", "weight", "area"), [(180, 80, 1.996), (160, 60, 1.622), (150, 45, 1.369)])
def test_body_surface_by_du_bois(height, weight, area):
    """Worked by hand: exp(log 0.007184 + 0.425 log weight + 0.725 log height)."""
    found = clinical.body_surface_area(jnp.array(float(height)), jnp.array(float(weight)))
    assert float(found) == pytest.approx(area, abs=0.001)
    assert np.isnan(clinical.body_surface_area(jnp.array(0.0), jnp.array(70.0)))


def test_stroke_volume_and_output_are_missing_where_nothing_is_ejected():
    volumes = jnp.array([120.0, 50.0, jnp.nan]), jnp.array([50.0, 60.0, 50.0])
    stroke = clinical.stroke_volume(*volumes)
    np.testing.assert_array_equal(stroke, [70.0, np.nan, np.nan])
    np.testing.assert_allclose(clinical.cardiac_output(stroke, jnp.full(3, 60.0)), [4.2, np.nan, np.nan])


def test_a_sphere_has_a_sphericity_of_one():
    diameter = jnp.array([50.0, 80.0])
    np.testing.assert_allclose(clinical.sphericity_index(jnp.pi / 6 * diameter**3 / 1000, diameter), 1, rtol=1e-5)
    assert np.isnan(clinical.sphericity_index(jnp.array(100.0), jnp.array(0.0)))


def test_area_length_takes_the_shorter_axis():
    values = [jnp.array(x) for x in (1500.0, 1700.0, 50.0, 45.0)]
    assert float(clinical.biplane_area_length_volume(*values)) == pytest.approx(0.8488 * 15 * 17 / 4.5, rel=1e-4)


@pytest.mark.parametrize(
    ("quantity", "sex", "values"),
    [
        ("ejection_fraction", "M", {75: "above the", 72: "within", 52: "within", 51: "mildly", 41: "mildly",
                                    40: "moderately", 30: "moderately", 29: "severely"}),
        ("ejection_fraction", "F", {54: "within", 53: "mildly", 41: "mildly", 40: "moderately", 29.4: "severely"}),
        ("end_diastolic_volume_index", "F", {28: "below the", 61: "within", 62: "mildly", 71: "moderately",
                                             81: "severely"}),
        ("end_systolic_volume_index", "M", {31.4: "within", 31.6: "mildly", 39: "moderately", 46: "severely"}),
        ("atrial_volume_index", "F", {34: "within", 35: "mildly", 42: "moderately", 48: "moderately", 49: "severely"}),
    ],
)  # fmt: skip
def test_grades_are_those_of_the_tables(quantity, sex, values):
    limits = clinical.reference_range(quantity, sex)
    for value, expected in values.items():
        assert clinical.grade(value, limits).startswith(expected), value
    assert clinical.grade(float("nan"), limits) is None


@given(st.sampled_from(sorted(RANGES)), st.sampled_from("FM"), st.floats(0, 300), st.floats(0, 300))
def test_a_value_further_out_is_never_graded_milder(quantity, sex, first, second):
    limits = clinical.reference_range(quantity, sex)
    order = ["within", "mildly", "moderately", "severely"]
    nearer, further = sorted((first, second), reverse=limits.is_low_abnormal)
    grades = [clinical.grade(value, limits).split()[0] for value in (nearer, further)]
    ranks = [order.index(grade) if grade in order else 0 for grade in grades]
    assert ranks[0] <= ranks[1]


def test_an_unknown_quantity_or_sex_is_refused():
    with pytest.raises(ValueError, match="quantity must be one of"):
        clinical.reference_range("pulse", "F")
    with pytest.raises(ValueError, match="sex must be 'F' or 'M'"):
        clinical.reference_range("ejection_fraction", "X")
