"""Properties of the numbers of a structured report."""

import math

import pytest

from cardiojax import clinical
from cardiojax.report.dicom import codes, structured_report
from cardiojax.study import Quantity


@pytest.mark.parametrize(
    ("value", "normality", "grade"),
    [
        (72.4, codes.NORMAL, "within the reference range"),
        (72.5, codes.HIGH, "above the reference range"),
        (51.5, codes.NORMAL, "within the reference range"),
        (51.4, codes.LOW, "mildly abnormal"),
    ],
)
def test_a_number_is_normal_where_its_grade_says_so(value, normality, grade):
    limits = clinical.reference_range("ejection_fraction", "M")
    quantity = Quantity(
        key="ejection_fraction_biplane",
        name="biplane ejection fraction",
        unit="%",
        value=value,
        drawn=math.nan,
        beats=(value, value),
        num_beats=1,
        interval=None,
        interval_source=None,
        method="",
        source="",
        reference=limits,
        grade=clinical.grade(value, limits),
        reason=None,
    )
    assert quantity.grade == grade
    item = structured_report._properties(quantity)[0]
    assert (item.ConceptCodeSequence[0].CodeValue, item.name.value) == (normality.value, codes.NORMALITY.value)
