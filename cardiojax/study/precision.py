"""How well the numbers of a study agree with those of an expert's outlines."""

from typing import NamedTuple

#: Where the figures come from.
SOURCE = (
    "95 % limits of agreement with an expert's outlines: 50 CAMUS validation patients, both phases as stills, "
    "unet_camus and unet_pair_camus"
)


class Precision(NamedTuple):
    """Agreement of a number with that of an expert's outlines, in its own unit.

    Attributes:
        bias: Mean of the difference, measured less expert.
        deviation: Standard deviation of the difference.
    """

    bias: float
    deviation: float


#: By quantity; others have no interval. Measured by ``python -m experiments.segmentation.study_agreement``.
PRECISION: dict[str, Precision] = {
    "ejection_fraction_biplane": Precision(-1.7, 5.91),
    "end_diastolic_volume_biplane": Precision(-1.8, 8.48),
    "end_systolic_volume_biplane": Precision(0.657, 5.73),
    "ejection_fraction_camus": Precision(-1.91, 6.32),
    "end_diastolic_volume_camus": Precision(-1.8, 8.48),
    "end_systolic_volume_camus": Precision(0.705, 6.41),
    "stroke_volume": Precision(-2.46, 7.75),
    "sphericity_index": Precision(-0.000478, 0.0281),
    "myocardial_mass": Precision(5.92, 23.5),
    "atrial_volume_area_length": Precision(-4.76, 9.89),
    "atrial_volume_disks": Precision(-4.41, 9.59),
    "longitudinal_strain_mean": Precision(-0.145, 1.75),
    "ejection_fraction_2ch": Precision(-3.57, 8.74),
    "end_diastolic_volume_2ch": Precision(0.496, 11.6),
    "end_systolic_volume_2ch": Precision(4.02, 8.35),
    "length_end_diastolic_2ch": Precision(-0.123, 2.8),
    "length_end_systolic_2ch": Precision(0.313, 4.03),
    "area_change_2ch": Precision(-2.91, 7.19),
    "longitudinal_strain_2ch": Precision(0.177, 2.31),
    "longitudinal_strain_endocardial_2ch": Precision(1.09, 5.35),
    "atrial_volume_2ch": Precision(-4.05, 13.2),
    "ejection_fraction_4ch": Precision(0.61, 7.04),
    "end_diastolic_volume_4ch": Precision(-3.32, 9.81),
    "end_systolic_volume_4ch": Precision(-2.61, 9.23),
    "length_end_diastolic_4ch": Precision(0.0563, 2.55),
    "length_end_systolic_4ch": Precision(-0.826, 2.88),
    "area_change_4ch": Precision(1.1, 5.84),
    "longitudinal_strain_4ch": Precision(-0.467, 2.28),
    "longitudinal_strain_endocardial_4ch": Precision(-0.591, 3.22),
    "atrial_volume_4ch": Precision(-4.06, 11.6),
}


def interval(key: str, value: float) -> tuple[float, float] | None:
    """Where the number of an expert's outlines lies in 95 of 100 patients.

    Args:
        key: A key of `cardiojax.study.quantities.DEFINITIONS`.
        value: The measured number.

    Returns:
        Both ends; None if the agreement was not measured.
    """
    if key not in PRECISION:
        return None
    bias, deviation = PRECISION[key]
    return value - bias - 1.96 * deviation, value - bias + 1.96 * deviation
