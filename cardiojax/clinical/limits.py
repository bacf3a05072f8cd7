"""Limits beyond which a measurement of the left ventricle cannot be trusted.

The expert masks of CAMUS (450 patients, two views, end-diastole and end-systole) state how often a limit is exceeded
by a true ventricle; the shares are given with each limit. A value that is nan was not measured and exceeds no limit.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cardiojax.clinical._shapes import require_same_shape
from cardiojax.clinical.ejection import single_plane_ejection
from cardiojax.clinical.volumes import Disks, single_plane_volume

#: Length of the LV cavity in mm. CAMUS: 44 to 122 mm.
LENGTH_RANGE = (40.0, 130.0)
#: Volume of the LV cavity in ml. CAMUS: at most 465 ml from one view.
MAX_VOLUME = 500.0
#: Ejection fraction in percent. CAMUS: 1 to 95 % from one view, 2 in 1,000 outside the range; 4 to 81 % as listed.
EJECTION_FRACTION_RANGE = (5.0, 85.0)
#: Points between two ejection fractions of one heart. CAMUS: 8 in 1,000 views differ by more between the two rules for
#: the length, 15 in 100 patients between the two views.
MAX_EJECTION_FRACTION_DIFFERENCE = 15.0
#: Shortening of the long axis from end-diastole to end-systole in percent; more suggests a foreshortened view at
#: end-systole. CAMUS: 3 in 100 views exceed it.
MAX_SHORTENING = 25.0
#: Heart rate per minute, of an adult at rest or under stress.
HEART_RATE_RANGE = (40.0, 180.0)
#: End-diastole to end-systole in s. Electromechanical systole lasts 0.546 s less 2.1 ms for each beat a minute, which
#: is 0.46 s at 40/min: Weissler, Harris and Schoenfeld, Circulation 1968.
MAX_SYSTOLE = 0.5
#: Difference between a stated and a measured heart rate, as a share of the stated one.
MAX_HEART_RATE_DIFFERENCE = 0.25


class EjectionFindings(NamedTuple):
    """Limits that an ejection fraction from one view exceeds; all false where nothing was measured.

    Attributes:
        length_out_of_range: A length outside `LENGTH_RANGE`, ``[*b]``.
        volume_out_of_range: A volume above `MAX_VOLUME`, ``[*b]``.
        fraction_out_of_range: A fraction outside `EJECTION_FRACTION_RANGE`, ``[*b]``.
        reversed: The end-systolic volume is not below the end-diastolic one, ``[*b]``; there is no fraction then.
        foreshortened: The long axis shortens by more than `MAX_SHORTENING`, ``[*b]``.
        contradictory: The fractions by the two rules for the length differ by more than
            `MAX_EJECTION_FRACTION_DIFFERENCE`, ``[*b]``.
    """

    length_out_of_range: Bool[Array, "*b"]
    volume_out_of_range: Bool[Array, "*b"]
    fraction_out_of_range: Bool[Array, "*b"]
    reversed: Bool[Array, "*b"]
    foreshortened: Bool[Array, "*b"]
    contradictory: Bool[Array, "*b"]


class TimingFindings(NamedTuple):
    """Limits that the timing of a loop exceeds: its frame time may be wrong. All false where nothing was measured.

    Attributes:
        heart_rate_out_of_range: The measured heart rate is outside `HEART_RATE_RANGE`, ``[*b]``.
        systole_out_of_range: Systole lasts longer than `MAX_SYSTOLE`, ``[*b]``.
        contradictory_heart_rate: Measured and stated rate differ by more than `MAX_HEART_RATE_DIFFERENCE`, ``[*b]``.
    """

    heart_rate_out_of_range: Bool[Array, "*b"]
    systole_out_of_range: Bool[Array, "*b"]
    contradictory_heart_rate: Bool[Array, "*b"]


def is_length_in_range(length: Float[Array, "*b"]) -> Bool[Array, "*b"]:
    """Whether a length of the LV cavity is within `LENGTH_RANGE`.

    Args:
        length: In mm.

    Returns:
        True also for nan.

    Example:
        >>> is_length_in_range(jnp.array([85.0, 139.0, jnp.nan])).tolist()
        [True, False, True]
    """
    return _is_within(length, *LENGTH_RANGE)


def is_volume_in_range(volume: Float[Array, "*b"]) -> Bool[Array, "*b"]:
    """Whether a volume of the LV cavity is positive and at most `MAX_VOLUME`.

    Args:
        volume: In ml.

    Returns:
        True also for nan.

    Example:
        >>> import jax.numpy as jnp
        >>> is_volume_in_range(jnp.array([-3.0, 110.0, 4752.0])).tolist()
        [False, True, False]
    """
    return _is_within(volume, 0.0, MAX_VOLUME)


def is_ejection_fraction_in_range(fraction: Float[Array, "*b"]) -> Bool[Array, "*b"]:
    """Whether an ejection fraction is within `EJECTION_FRACTION_RANGE`.

    Args:
        fraction: In percent.

    Returns:
        True also for nan.

    Example:
        >>> import jax.numpy as jnp
        >>> is_ejection_fraction_in_range(jnp.array([-10.0, 55.0, 95.0])).tolist()
        [False, True, False]
    """
    return _is_within(fraction, *EJECTION_FRACTION_RANGE)


def is_heart_rate_in_range(rate: Float[Array, "*b"]) -> Bool[Array, "*b"]:
    """Whether a heart rate is within `HEART_RATE_RANGE`.

    Args:
        rate: Beats a minute.

    Returns:
        True also for nan.

    Example:
        >>> import jax.numpy as jnp
        >>> is_heart_rate_in_range(jnp.array([20.0, 70.0])).tolist()
        [False, True]
    """
    return _is_within(rate, *HEART_RATE_RANGE)


def is_foreshortened(end_diastolic: Float[Array, "*b"], end_systolic: Float[Array, "*b"]) -> Bool[Array, "*b"]:
    """Whether the long axis shortens by more than `MAX_SHORTENING`.

    Args:
        end_diastolic: Length of the long axis at end-diastole.
        end_systolic: Its length at end-systole, in the same unit.

    Returns:
        False where a length is nan.

    Example:
        >>> is_foreshortened(jnp.array([90.0, 90.0]), jnp.array([75.0, 60.0])).tolist()
        [False, True]
    """
    require_same_shape(end_diastolic=end_diastolic, end_systolic=end_systolic)
    return end_systolic < (1 - MAX_SHORTENING / 100) * end_diastolic


def is_contradictory(first: Float[Array, "*b"], second: Float[Array, "*b"]) -> Bool[Array, "*b"]:
    """Whether two ejection fractions of one heart, by two rules or from two views, are too far apart.

    Args:
        first: In percent.
        second: In percent.

    Returns:
        Whether they differ by more than `MAX_EJECTION_FRACTION_DIFFERENCE` points; false where one is nan.

    Example:
        >>> import jax.numpy as jnp
        >>> is_contradictory(jnp.array([55.0, 55.0]), jnp.array([60.0, 75.0])).tolist()
        [False, True]
    """
    require_same_shape(first=first, second=second)
    return jnp.abs(first - second) > MAX_EJECTION_FRACTION_DIFFERENCE


def check_ejection(end_diastole: Disks, end_systole: Disks) -> EjectionFindings:
    """Checks the lengths, volumes and ejection fractions of one beat in one view against the limits.

    Args:
        end_diastole: Disks at end-diastole, in mm.
        end_systole: Disks at end-systole, as many.

    Returns:
        The findings. Lengths and volumes mean nothing where the pixel spacing is unknown.

    Example:
        >>> cuts = [Disks(jnp.full(20, width), jnp.array(length)) for width, length in ((45.0, 90.0), (44.0, 91.0))]
        >>> findings = check_ejection(*cuts)
        >>> bool(findings.fraction_out_of_range), bool(findings.reversed), bool(findings.foreshortened)
        (True, False, False)
    """
    cuts = (end_diastole, end_systole)
    volumes = [single_plane_volume(cut) for cut in cuts]
    textbook, one_length = (single_plane_ejection(*cuts, rule=rule) for rule in ("textbook", "camus"))
    return EjectionFindings(
        ~(is_length_in_range(end_diastole.length) & is_length_in_range(end_systole.length)),
        ~(is_volume_in_range(volumes[0]) & is_volume_in_range(volumes[1])),
        ~is_ejection_fraction_in_range(textbook.fraction),
        textbook.is_reversed,
        is_foreshortened(end_diastole.length, end_systole.length),
        is_contradictory(textbook.fraction, one_length.fraction),
    )


def check_timing(
    measured_rate: Float[Array, "*b"], systole: Float[Array, "*b"], *, stated_rate: Float[Array, "*b"] | None = None
) -> TimingFindings:
    """Checks the heart rate and the duration of systole that follow from the frame time of a loop.

    Args:
        measured_rate: Heart rate from the beats of the loop, per minute.
        systole: End-diastole to end-systole in s.
        stated_rate: Heart rate from another source, such as an ECG.

    Returns:
        The findings.

    Example:
        >>> findings = check_timing(jnp.array(30.0), jnp.array(0.8))
        >>> bool(findings.heart_rate_out_of_range), bool(findings.systole_out_of_range)
        (True, True)
    """
    stated = jnp.full_like(measured_rate, jnp.nan) if stated_rate is None else stated_rate
    require_same_shape(measured_rate=measured_rate, systole=systole, stated_rate=stated)
    return TimingFindings(
        ~is_heart_rate_in_range(measured_rate),
        systole > MAX_SYSTOLE,
        jnp.abs(measured_rate - stated) > MAX_HEART_RATE_DIFFERENCE * stated,
    )


def _is_within(values: Float[Array, "*b"], low: float, high: float) -> Bool[Array, "*b"]:
    return ~((values < low) | (values > high))
