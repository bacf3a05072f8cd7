"""How well the numbers of a study agree with those of an expert's outlines."""

from typing import NamedTuple

from cardiojax.study.quantities import DEFINITIONS

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
    "ejection_fraction_biplane": Precision(-1.51, 6.15),
    "end_diastolic_volume_biplane": Precision(-1.61, 8.52),
    "end_systolic_volume_biplane": Precision(0.605, 5.9),
    "ejection_fraction_camus": Precision(-1.7, 6.58),
    "end_diastolic_volume_camus": Precision(-1.61, 8.52),
    "end_systolic_volume_camus": Precision(0.698, 6.65),
    "stroke_volume": Precision(-2.21, 7.95),
    "sphericity_index": Precision(-0.00121, 0.0267),
    "myocardial_mass": Precision(5.26, 23.3),
    "atrial_volume_area_length": Precision(-5.2, 10.3),
    "atrial_volume_disks": Precision(-4.73, 9.95),
    "longitudinal_strain_mean": Precision(-0.218, 1.84),
    "ejection_fraction_2ch": Precision(-3.68, 8.85),
    "end_diastolic_volume_2ch": Precision(0.747, 11.3),
    "end_systolic_volume_2ch": Precision(4.15, 8.34),
    "length_end_diastolic_2ch": Precision(-0.0267, 2.81),
    "length_end_systolic_2ch": Precision(0.432, 3.97),
    "area_change_2ch": Precision(-3, 7.29),
    "longitudinal_strain_2ch": Precision(0.14, 2.33),
    "longitudinal_strain_endocardial_2ch": Precision(0.973, 5.13),
    "atrial_volume_2ch": Precision(-4.24, 13.4),
    "ejection_fraction_4ch": Precision(0.873, 7.36),
    "end_diastolic_volume_4ch": Precision(-3.12, 9.75),
    "end_systolic_volume_4ch": Precision(-2.65, 9.4),
    "length_end_diastolic_4ch": Precision(0.151, 2.59),
    "length_end_systolic_4ch": Precision(-0.517, 2.88),
    "area_change_4ch": Precision(1.17, 5.95),
    "longitudinal_strain_4ch": Precision(-0.576, 2.41),
    "longitudinal_strain_endocardial_4ch": Precision(-0.739, 3.3),
    "atrial_volume_4ch": Precision(-4.49, 11.7),
}


def interval(key: str, value: float) -> tuple[float, float] | None:
    """Where the number of an expert's outlines lies in 95 of 100 patients.

    Args:
        key: A key of `cardiojax.study.quantities.DEFINITIONS`.
        value: The measured number.

    Returns:
        Both ends, within what is possible for the quantity; None if the agreement was not measured, or the value
        itself is not possible.

    Example:
        >>> low, high = interval("ejection_fraction_2ch", 8.0)
        >>> low, 20 < high < 40
        (0.0, True)
    """
    if key not in PRECISION:
        return None
    bias, deviation = PRECISION[key]
    smallest, largest = DEFINITIONS[key].possible
    if not smallest <= value <= largest:
        return None
    low, high = (min(max(value - bias + z * deviation, smallest), largest) for z in (-1.96, 1.96))
    return low, high
