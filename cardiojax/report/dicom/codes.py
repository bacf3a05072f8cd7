"""The code of each quantity of a study: concept, unit, method and view, from PS3.16 where it has one.

Concepts are those of CID 12200 to 12205 (with LOINC and SNOMED), methods of CID 12227, views of CID 12226, indexed
volumes of CID 12300. What has no standard code has one of this package, of the scheme `PRIVATE`.
"""

from typing import NamedTuple

from pydicom.sr.coding import Code

#: Designator of the codes of this package; those of private schemes begin with 99.
PRIVATE = "99CARDIOJAX"


class QuantityCode(NamedTuple):
    """How a quantity is coded.

    Attributes:
        concept: What it is.
        method: How it is measured; None where the concept says it.
        site: ``"ventricle"`` or ``"atrium"``.
        view: ``"2CH"`` or ``"4CH"`` for a number of one view; None for one of both.
    """

    concept: Code
    method: Code | None = None
    site: str = "ventricle"
    view: str | None = None


def _private(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE, meaning)


def _loinc(value: str, meaning: str) -> Code:
    return Code(value, "LN", meaning)


def _snomed(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


def _dicom(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


EJECTION_FRACTION = _loinc("18043-0", "Left Ventricular Ejection Fraction by US")
END_DIASTOLIC_VOLUME = _loinc("18026-5", "Left Ventricular End Diastolic Volume")
END_SYSTOLIC_VOLUME = _loinc("18148-7", "Left Ventricular End Systolic Volume")
HEART_RATE = _loinc("8867-4", "Heart rate")
BODY_SURFACE_AREA = _loinc("8277-6", "Body Surface Area")
HEIGHT = _loinc("8302-2", "Patient Height")
WEIGHT = _loinc("29463-7", "Patient Weight")

_BIPLANE = _dicom("125207", "Method of Disks, Biplane")
_SINGLE_PLANE = _dicom("125208", "Method of Disks, Single Plane")
_AREA_LENGTH = _dicom("125204", "Area-Length Biplane")
_AREA_LENGTH_SINGLE = _dicom("125205", "Area-Length Single Plane")
_CAMUS = _private("disks_camus", "Method of disks, biplane, one length for both phases")
_SHELL = _private("shell_of_disks", "Volume between epicardial and endocardial disks, biplane")
_MID_WALL = _dicom("130685", "Myocardial Midlayer Method")
_ENDOCARDIAL = _dicom("130683", "Endocardial Method")
_PLANIMETRY = _dicom("125220", "Planimetry")

_STRAIN = _dicom("130671", "Peak Longitudinal Lagrangian Strain")
_MASS = _loinc("18087-7", "Left Ventricle Mass")
_ATRIAL_VOLUME = _snomed("399235004", "Left Atrium Systolic Volume")


def _of_view(view: str) -> dict[str, QuantityCode]:
    values = {
        "ejection_fraction": QuantityCode(EJECTION_FRACTION, _SINGLE_PLANE),
        "end_diastolic_volume": QuantityCode(END_DIASTOLIC_VOLUME, _SINGLE_PLANE),
        "end_systolic_volume": QuantityCode(END_SYSTOLIC_VOLUME, _SINGLE_PLANE),
        "length_end_diastolic": QuantityCode(_loinc("18077-8", "Left Ventricle diastolic major axis")),
        "length_end_systolic": QuantityCode(_loinc("18076-0", "Left Ventricle systolic major axis")),
        "area_change": QuantityCode(_snomed("399287000", "Left Ventricular Fractional Area Change"), _PLANIMETRY),
        "longitudinal_strain": QuantityCode(_STRAIN, _MID_WALL),
        "longitudinal_strain_endocardial": QuantityCode(_STRAIN, _ENDOCARDIAL),
        "atrial_volume": QuantityCode(_ATRIAL_VOLUME, _AREA_LENGTH_SINGLE, "atrium"),
    }
    return {f"{key}_{view.lower()}": value._replace(view=view) for key, value in values.items()}


#: The quantities of `cardiojax.study.quantities.DEFINITIONS`, but those of the body, which describe the patient.
QUANTITIES: dict[str, QuantityCode] = {
    "ejection_fraction_biplane": QuantityCode(EJECTION_FRACTION, _BIPLANE),
    "end_diastolic_volume_biplane": QuantityCode(END_DIASTOLIC_VOLUME, _BIPLANE),
    "end_systolic_volume_biplane": QuantityCode(END_SYSTOLIC_VOLUME, _BIPLANE),
    "ejection_fraction_camus": QuantityCode(EJECTION_FRACTION, _CAMUS),
    "end_diastolic_volume_camus": QuantityCode(END_DIASTOLIC_VOLUME, _CAMUS),
    "end_systolic_volume_camus": QuantityCode(END_SYSTOLIC_VOLUME, _CAMUS),
    "stroke_volume": QuantityCode(_snomed("90096001", "Stroke Volume"), _BIPLANE),
    "heart_rate": QuantityCode(HEART_RATE),
    "cardiac_output": QuantityCode(_snomed("82799009", "Cardiac Output"), _BIPLANE),
    "sphericity_index": QuantityCode(_private("sphericity_index", "Left ventricular sphericity index"), _BIPLANE),
    "myocardial_mass": QuantityCode(_MASS, _SHELL),
    "atrial_volume_area_length": QuantityCode(_ATRIAL_VOLUME, _AREA_LENGTH, "atrium"),
    "atrial_volume_disks": QuantityCode(_ATRIAL_VOLUME, _BIPLANE, "atrium"),
    "longitudinal_strain_mean": QuantityCode(_STRAIN, _MID_WALL),
    **_of_view("2CH"),
    **_of_view("4CH"),
    "end_diastolic_volume_index": QuantityCode(
        _loinc("79997-3", "Left ventricular end diastolic volume biplane (MOD) / BSA")
    ),
    "end_systolic_volume_index": QuantityCode(
        _loinc("80002-9", "Left ventricular end systolic volume biplane (MOD) / BSA")
    ),
    "stroke_volume_index": QuantityCode(_snomed("277381004", "Stroke Index"), _BIPLANE),
    "cardiac_index": QuantityCode(_snomed("54993008", "Cardiac Index"), _BIPLANE),
    "atrial_volume_index": QuantityCode(
        _loinc("79984-1", "Left atrial end systolic volume biplane (MOD) / BSA"), site="atrium"
    ),
    "myocardial_mass_index": QuantityCode(
        _private("lv_mass_index", "Left ventricular mass / body surface area"), _SHELL
    ),
}

#: Units of the quantities as UCUM writes them.
UNITS = {
    "%": Code("%", "UCUM", "percent"),
    "": Code("1", "UCUM", "no units"),
    "ml": Code("ml", "UCUM", "ml"),
    "mm": Code("mm", "UCUM", "mm"),
    "g": Code("g", "UCUM", "g"),
    "cm": Code("cm", "UCUM", "cm"),
    "kg": Code("kg", "UCUM", "kg"),
    "/min": Code("/min", "UCUM", "/min"),
    "l/min": Code("l/min", "UCUM", "l/min"),
    "m²": Code("m2", "UCUM", "m2"),
    "ml/m²": Code("ml/m2", "UCUM", "ml/m2"),
    "g/m²": Code("g/m2", "UCUM", "g/m2"),
    "l/min/m²": Code("l/min/m2", "UCUM", "l/min/m2"),
}

SITES = {
    "ventricle": _snomed("87878005", "Left ventricle"),
    "atrium": _snomed("82471001", "Left atrium"),
}
VIEWS = {
    "2CH": _snomed("399232001", "Apical two chamber"),
    "4CH": _snomed("399214001", "Apical four chamber"),
}
#: The labels of `cardiojax.labels` as structures.
STRUCTURES = {
    1: ("LV cavity", SITES["ventricle"]),
    2: ("LV myocardium", _snomed("49848007", "Left Ventricle Myocardium")),
    3: ("Left atrium", SITES["atrium"]),
}


def other_structure(name: str) -> tuple[str, Code]:
    """Label and code of a structure of the user's own: a code of this package, whose value is the name.

    Args:
        name: Lower-case words with underscores.
    """
    label = name.replace("_", " ").capitalize()
    return label, _private(name, label)


ANATOMICAL_STRUCTURE = _snomed("91723000", "Anatomical Structure")
ARTIFICIAL_INTELLIGENCE = _dicom("123110", "Artificial Intelligence")
SEGMENTATION = _dicom("113076", "Segmentation")
SOURCE_IMAGE = _dicom("121322", "Source image for image processing operation")

REPORT = _dicom("125200", "Adult Echocardiography Procedure Report")
PATIENT_CHARACTERISTICS = _dicom("121118", "Patient Characteristics")
SUBJECT_SEX = _dicom("121032", "Subject Sex")
SEXES = {"F": _dicom("F", "Female"), "M": _dicom("M", "Male")}
AREA_FORMULA = _loinc("8278-4", "Body Surface Area Formula")
DU_BOIS = _dicom("122241", "BSA = 0.007184*WT^0.425*HT^0.725")
IMAGE_LIBRARY = _dicom("111028", "Image Library")
FINDINGS = _loinc("59776-5", "Findings")
FINDING_SITE = _snomed("363698007", "Finding Site")
MEASUREMENT_GROUP = _dicom("125007", "Measurement Group")
IMAGE_MODE = _snomed("399264008", "Image Mode")
TWO_DIMENSIONAL = _snomed("399064001", "2D mode")
METHOD = _snomed("370129005", "Measurement Method")
DERIVATION = _dicom("121401", "Derivation")
MEDIAN = _snomed("373099004", "Median")
IMAGE_VIEW = _dicom("111031", "Image View")
SOURCE_OF_MEASUREMENT = _dicom("121112", "Source of Measurement")
LOWER_LIMIT = _snomed("385524004", "Normal Range Lower Limit")
UPPER_LIMIT = _snomed("371933006", "Normal Range Upper Limit")
RANGE_AUTHORITY = _dicom("121408", "Normal Range Authority")
NORMALITY = _dicom("121402", "Normality")
NORMAL = _snomed("17621005", "Normal")
LOW = _snomed("371880002", "Abnormally Low")
HIGH = _snomed("371879000", "Abnormally High")
INTERVAL_LOW = _private("interval_95_low", "Lower limit of the 95 % interval of an expert's number")
INTERVAL_HIGH = _private("interval_95_high", "Upper limit of the 95 % interval of an expert's number")
COMMENT = _dicom("121106", "Comment")
