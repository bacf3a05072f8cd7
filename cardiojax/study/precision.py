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
PRECISION: dict[str, Precision] = {}


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
