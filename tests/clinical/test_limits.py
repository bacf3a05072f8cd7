"""Limits of measurements: their edges, what is not measured, and expert masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import clinical
from cardiojax.clinical import limits


@pytest.mark.parametrize(
    ("is_in_range", "low", "high"),
    [
        (clinical.is_length_in_range, *limits.LENGTH_RANGE),
        (clinical.is_volume_in_range, 0.0, limits.MAX_VOLUME),
        (clinical.is_ejection_fraction_in_range, *limits.EJECTION_FRACTION_RANGE),
        (clinical.is_heart_rate_in_range, *limits.HEART_RATE_RANGE),
    ],
)
def test_ranges_hold_their_ends_and_what_was_not_measured(is_in_range, low, high):
    values = jnp.array([low - 0.1, low, (low + high) / 2, high, high + 0.1, jnp.nan])
    assert is_in_range(values).tolist() == [False, True, True, True, False, True]


def test_comparisons():
    lengths = jnp.array([90.0, 90.0, jnp.nan]), jnp.array([68.0, 67.0, 40.0])
    assert clinical.is_foreshortened(*lengths).tolist() == [False, True, False]
    fractions = jnp.array([60.0, 60.0, jnp.nan]), jnp.array([45.0, 44.0, 10.0])
    assert clinical.is_contradictory(*fractions).tolist() == [False, True, False]
    for call in (clinical.is_foreshortened, clinical.is_contradictory):
        with pytest.raises((ValueError, TypeError)):
            call(jnp.ones(3), jnp.ones((3, 1)))


def test_findings_name_what_is_wrong():
    def cut(width, length):
        return clinical.Disks(jnp.full(20, width), jnp.array(length))

    cases = {
        frozenset(): (cut(45.0, 90.0), cut(35.0, 80.0)),
        frozenset({"length_out_of_range"}): (cut(60.0, 139.0), cut(45.0, 125.0)),
        frozenset({"volume_out_of_range"}): (cut(80.0, 110.0), cut(60.0, 100.0)),
        frozenset({"fraction_out_of_range"}): (cut(45.0, 90.0), cut(17.0, 80.0)),
        frozenset({"reversed"}): (cut(45.0, 80.0), cut(45.0, 81.0)),
        frozenset({"foreshortened"}): (cut(40.0, 80.0), cut(30.0, 59.0)),
        frozenset({"foreshortened", "contradictory"}): (cut(40.0, 100.0), cut(38.0, 70.0)),
    }
    check = jax.jit(clinical.check_ejection)
    for names, cuts in cases.items():
        assert {name for name, result in check(*cuts)._asdict().items() if result} == names
    nothing = cut(jnp.nan, jnp.nan)
    assert not any(check(nothing, nothing))


def test_timing():
    rate, systole = jnp.array([70.0, 30.0, 70.0, 70.0, jnp.nan]), jnp.array([0.3, 0.3, 0.6, 0.3, jnp.nan])
    stated = jnp.array([72.0, 30.0, jnp.nan, 140.0, 60.0])
    result = clinical.check_timing(rate, systole, stated_rate=stated)
    assert np.stack(result).T.tolist() == [
        [False, False, False], [True, False, False], [False, True, False], [False, False, True], [False, False, False],
    ]  # fmt: skip
    assert not np.stack(clinical.check_timing(rate, systole))[2].any()
