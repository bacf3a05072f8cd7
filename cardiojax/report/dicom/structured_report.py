"""The numbers of a study as a DICOM structured report: TID 5200 Echocardiography Procedure Report.

The content tree has the rows of TID 5200 to 5203 in their order (PS3.16): patient characteristics, then one section of
findings each for the left ventricle and the left atrium, whose measurements carry method, view, reference range, and
the frames and the segmentation they rest on. Comments follow as an extension, which the templates allow.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import highdicom
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ImageContentItem,
    NumContentItem,
    ObserverContext,
    TextContentItem,
)
from pydicom.sr.coding import Code
from pydicom.uid import UltrasoundMultiFrameImageStorage

from cardiojax.clinical.guidelines.ranges import rounded
from cardiojax.report.dicom import codes
from cardiojax.report.dicom.equipment import EQUIPMENT, stamp
from cardiojax.report.dicom.source import uid, unnamed_source
from cardiojax.study import Patient, Quantity, StudyAnalysis

_CONTAINS, _HAS_MODIFIER, _HAS_PROPERTIES = "CONTAINS", "HAS CONCEPT MOD", "HAS PROPERTIES"
#: Digits after the point, as in `measurements.json`.
_DIGITS = 4
_PRIVATE_SCHEME = CodingSchemeIdentificationItem(
    codes.PRIVATE,
    name="Codes of cardiojax for what has no standard code",
    responsible_organization=EQUIPMENT["manufacturer"],
)


class ImageReference(NamedTuple):
    """A DICOM object that the report refers to.

    Attributes:
        source: What is said of it, or the object itself.
        frames: Numbers of the frames of end-diastole and end-systole; None if it has one frame, or for all.
    """

    source: Any
    frames: tuple[int, ...] | None = None


def make_report(
    study: StudyAnalysis,
    *,
    images: Mapping[str, Sequence[ImageReference]],
    source: Any,
    comments: Sequence[str],
    uids: tuple[str, str],
    is_anonymous: bool,
) -> Any:
    """Writes the numbers of a study that are not withheld.

    Args:
        study: The study.
        images: What the numbers of each view are measured on, for a view that can be referred to.
        source: What is said of the patient and the study.
        comments: Sentences about the numbers, such as why one is withheld.
        uids: Identifiers of the series and of the report.
        is_anonymous: Whether the report states no date.

    Returns:
        A Comprehensive SR document.
    """
    items = [
        *highdicom.sr.LanguageOfContentItemAndDescendants(CodedConcept("en", "RFC5646", "English")),
        *_observer(),
        *_patient(study),
        *(section for site in codes.SITES for section in _section(study, site, images)),
        *(TextContentItem(codes.COMMENT, comment, _CONTAINS) for comment in comments),
    ]
    # highdicom refuses unusual values of the patient and the study, which `stamp` states, and takes the study from the
    # first evidence only if it knows its class
    first = unnamed_source(
        {
            "SOPClassUID": UltrasoundMultiFrameImageStorage,
            "StudyInstanceUID": source.StudyInstanceUID,
            "SeriesInstanceUID": uid("no series", *uids),
            "SOPInstanceUID": uid("no instance", *uids),
        }
    )
    report = highdicom.sr.ComprehensiveSR(
        evidence=[first, *(image.source for of_view in images.values() for image in of_view)],
        content=_with_children(ContainerContentItem(codes.REPORT, template_id="5200"), items),
        series_instance_uid=uids[0],
        series_number=990,
        sop_instance_uid=uids[1],
        instance_number=1,
        is_complete=True,
        series_description="cardiojax: measurements of the left ventricle",
        coding_schemes=[_PRIVATE_SCHEME],
        **EQUIPMENT,
    )
    _remove_evidence(report, first.SeriesInstanceUID)
    stamp(report, source, is_anonymous=is_anonymous)
    return report


def _remove_evidence(report: Any, series: str) -> None:
    """Removes the reference to a series."""
    name = "CurrentRequestedProcedureEvidenceSequence"
    kept = []
    for study in report.pop(name).value:
        study.ReferencedSeriesSequence = [e for e in study.ReferencedSeriesSequence if e.SeriesInstanceUID != series]
        kept += [study] if study.ReferencedSeriesSequence else []
    if kept:
        setattr(report, name, kept)


def _observer() -> Sequence[Any]:
    device = highdicom.sr.DeviceObserverIdentifyingAttributes(
        uid=uid("cardiojax", EQUIPMENT["software_versions"]),
        name="cardiojax",
        manufacturer_name=EQUIPMENT["manufacturer"],
        model_name=f"cardiojax {EQUIPMENT['software_versions']}",
    )
    return ObserverContext(CodedConcept("121007", "DCM", "Device"), device)


def _patient(study: StudyAnalysis) -> list[Any]:
    """TID 5201, as far as sex, height and weight are known."""
    patient: Patient = study.patient
    items: list[Any] = []
    if patient.sex is not None:
        items.append(CodeContentItem(codes.SUBJECT_SEX, codes.SEXES[patient.sex], _CONTAINS))
    for code, value, unit in ((codes.HEIGHT, patient.height_cm, "cm"), (codes.WEIGHT, patient.weight_kg, "kg")):
        if value is not None:
            items.append(_number(code, value, unit, _CONTAINS))
    area = study.measurements.by_key("body_surface_area")
    if area.reason is None:
        item = _number(codes.BODY_SURFACE_AREA, area.value, area.unit, _CONTAINS)
        items.append(_with_children(item, [CodeContentItem(codes.AREA_FORMULA, codes.DU_BOIS, "INFERRED FROM")]))
    return [_container(codes.PATIENT_CHARACTERISTICS, items)] if items else []


def _section(study: StudyAnalysis, site: str, images: Mapping[str, Sequence[ImageReference]]) -> list[Any]:
    """TID 5202 of one chamber: a group of measurements on two-dimensional images."""
    measurements = [
        _measurement(quantity, codes.QUANTITIES[quantity.key], images)
        for quantity in study.measurements.quantities
        if quantity.key in codes.QUANTITIES and codes.QUANTITIES[quantity.key].site == site
        if quantity.reason is None and math.isfinite(quantity.value)
    ]
    if not measurements:
        return []
    group = _container(
        codes.MEASUREMENT_GROUP,
        [CodeContentItem(codes.IMAGE_MODE, codes.TWO_DIMENSIONAL, _HAS_MODIFIER), *measurements],
    )
    site_of_section = CodeContentItem(codes.FINDING_SITE, codes.SITES[site], _HAS_MODIFIER)
    return [_container(codes.FINDINGS, [site_of_section, group])]


def _measurement(
    quantity: Quantity, code: codes.QuantityCode, images: Mapping[str, Sequence[ImageReference]]
) -> NumContentItem:
    """TID 5203: modifiers, properties, then the frames it is inferred from."""
    item = _number(code.concept, quantity.value, quantity.unit, _CONTAINS)
    children: list[Any] = []
    modifiers = (
        (codes.METHOD, code.method),
        (codes.DERIVATION, codes.MEDIAN if quantity.num_beats > 1 else None),
        (codes.IMAGE_VIEW, None if code.view is None else codes.VIEWS[code.view]),
    )
    children += [CodeContentItem(name, value, _HAS_MODIFIER) for name, value in modifiers if value is not None]
    children += _properties(quantity)
    for view, of_view in images.items():
        if code.view in (None, view):
            children += [
                ImageContentItem(
                    codes.SOURCE_OF_MEASUREMENT,
                    image.source.SOPClassUID,
                    image.source.SOPInstanceUID,
                    None if image.frames is None else list(image.frames),
                    relationship_type="INFERRED FROM",
                )
                for image in of_view
            ]
    return _with_children(item, children) if children else item


def _properties(quantity: Quantity) -> list[Any]:
    """TID 310: normality and reference range; and the interval, which has no standard code."""
    items: list[Any] = []
    limits = quantity.reference
    if limits is not None:
        value = rounded(quantity.value)  # as it is graded
        normality = codes.LOW if value < limits.low else codes.HIGH if value > limits.high else codes.NORMAL
        items.append(CodeContentItem(codes.NORMALITY, normality, _HAS_PROPERTIES))
        items.append(_number(codes.LOWER_LIMIT, limits.low, quantity.unit, _HAS_PROPERTIES))
        items.append(_number(codes.UPPER_LIMIT, limits.high, quantity.unit, _HAS_PROPERTIES))
        items.append(TextContentItem(codes.RANGE_AUTHORITY, limits.source, _HAS_PROPERTIES))
    if quantity.interval is not None:
        for code, value in zip((codes.INTERVAL_LOW, codes.INTERVAL_HIGH), quantity.interval, strict=True):
            items.append(_number(code, value, quantity.unit, _HAS_PROPERTIES))
    return items


def _number(code: Code, value: float, unit: str, relationship: str) -> NumContentItem:
    return NumContentItem(code, round(float(value), _DIGITS), codes.UNITS[unit], relationship_type=relationship)


def _container(code: Code, items: Sequence[Any]) -> ContainerContentItem:
    return _with_children(ContainerContentItem(code, relationship_type=_CONTAINS), items)


def _with_children(item: Any, children: Sequence[Any]) -> Any:
    item.ContentSequence = list(children)
    return item
