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
    "ejection_fraction_biplane": Precision(-1.52, 6),
    "end_diastolic_volume_biplane": Precision(-1.8, 8.48),
    "end_systolic_volume_biplane": Precision(0.564, 5.82),
    "ejection_fraction_camus": Precision(-1.71, 6.47),
    "end_diastolic_volume_camus": Precision(-1.8, 8.48),
    "end_systolic_volume_camus": Precision(0.613, 6.5),
    "stroke_volume": Precision(-2.36, 7.84),
    "sphericity_index": Precision(-0.000965, 0.028),
    "myocardial_mass": Precision(5.47, 23.5),
    "atrial_volume_area_length": Precision(-5.07, 10.2),
    "atrial_volume_disks": Precision(-4.62, 9.94),
    "longitudinal_strain_mean": Precision(-0.206, 1.79),
    "ejection_fraction_2ch": Precision(-3.55, 8.77),
    "end_diastolic_volume_2ch": Precision(0.52, 11.6),
    "end_systolic_volume_2ch": Precision(4.02, 8.37),
    "length_end_diastolic_2ch": Precision(-0.0901, 2.79),
    "length_end_systolic_2ch": Precision(0.348, 3.99),
    "area_change_2ch": Precision(-2.89, 7.19),
    "longitudinal_strain_2ch": Precision(0.14, 2.29),
    "longitudinal_strain_endocardial_2ch": Precision(1.07, 5.33),
    "atrial_volume_2ch": Precision(-4.15, 13.2),
    "ejection_fraction_4ch": Precision(0.746, 7.21),
    "end_diastolic_volume_4ch": Precision(-3.36, 9.79),
    "end_systolic_volume_4ch": Precision(-2.65, 9.25),
    "length_end_diastolic_4ch": Precision(0.126, 2.57),
    "length_end_systolic_4ch": Precision(-0.594, 2.89),
    "area_change_4ch": Precision(1.16, 5.92),
    "longitudinal_strain_4ch": Precision(-0.552, 2.34),
    "longitudinal_strain_endocardial_4ch": Precision(-0.769, 3.23),
    "atrial_volume_4ch": Precision(-4.37, 11.6),
}


def interval(key: str, value: float) -> tuple[float, float] | None:
    """Where the number of an expert's outlines lies in 95 of 100 patients.

    Args:
        key: A key of `cardiojax.study.quantities.DEFINITIONS`.
        value: The measured number.

    Returns:
        Both ends, within what is possible for the quantity; None if the agreement was not measured.

    Example:
        >>> [round(end, 1) for end in interval("ejection_fraction_2ch", 8.0)]
        [0.0, 28.7]
    """
    if key not in PRECISION:
        return None
    bias, deviation = PRECISION[key]
    smallest, largest = DEFINITIONS[key].possible
    low, high = (min(max(value - bias + z * deviation, smallest), largest) for z in (-1.96, 1.96))
    return low, high
