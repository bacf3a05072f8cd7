"""What every object says of the program that made it, of the patient and of its date."""

import datetime
from typing import Any

import cardiojax
from cardiojax.report.dicom.source import OPTIONAL_IDENTITY, TYPE_2_IDENTITY

#: The program.
EQUIPMENT: dict[str, Any] = {
    "manufacturer": "The cardiojax authors",
    "manufacturer_model_name": "cardiojax",
    "software_versions": cardiojax.__version__,
    "device_serial_number": "none",
}
#: The date of an object that states none; the attribute may not be empty.
_NO_DATE, _NO_TIME = "19000101", "000000"


def stamp(object_: Any, source: Any, *, is_anonymous: bool) -> None:
    """States patient, study and date.

    Args:
        object_: A DICOM object.
        source: What is said of the source, see `cardiojax.report.dicom.source.reference`.
        is_anonymous: Whether the object states no date of its own and says that it names no patient.
    """
    object_.SpecificCharacterSet = "ISO_IR 192"
    for name in (*TYPE_2_IDENTITY, *(name for name in OPTIONAL_IDENTITY if name in source)):
        setattr(object_, name, getattr(source, name))
    now = datetime.datetime.now()
    date, time = (_NO_DATE, _NO_TIME) if is_anonymous else (now.strftime("%Y%m%d"), now.strftime("%H%M%S"))
    object_.ContentDate, object_.ContentTime = date, time
    for name in ("InstanceCreationDate", "InstanceCreationTime", "ContributingEquipmentSequence"):
        if name in object_:  # highdicom states the time of its call there
            delattr(object_, name)
    if is_anonymous:
        object_.PatientIdentityRemoved = "YES"
        object_.DeidentificationMethod = "No attribute of patient and study is copied, new identifiers"
