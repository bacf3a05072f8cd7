"""What the first bytes of a file say: its format, and for DICOM which study and which patient it belongs to."""

from pathlib import Path
from typing import Any, NamedTuple

from cardiojax.data import files
from cardiojax.data.formats.common import UnreadableFileError
from cardiojax.data.formats.dicom import header
from cardiojax.data.formats.dicom.decoder import MODALITIES
from cardiojax.data.formats.dicom.pixels import open_dataset
from cardiojax.data.formats.quiet import quiet_decoders

#: A DICOMDIR of more bytes is not read; one of 100,000 files has about 50 MiB.
_MAX_INDEX_BYTES = 64 * 2**20
#: Entries of an index beyond which it is not read further.
_MAX_INDEXED = 100_000


class Header(NamedTuple):
    """What a file says about itself, without its pixels.

    Attributes:
        format: Such as ``"DICOM"`` or ``"video"``.
        study: StudyInstanceUID; None if not stated.
        patient: PatientID; None if not stated. It identifies a person: never write it.
        sex: ``"F"``, ``"M"``, or None if not stated or another value.
        height_cm: Height of the patient; None if not stated.
        weight_kg: Weight of the patient; None if not stated.
        is_index: Whether the file is a DICOMDIR.
        is_ultrasound: False if the file states another modality.
    """

    format: str
    study: str | None = None
    patient: str | None = None
    sex: str | None = None
    height_cm: float | None = None
    weight_kg: float | None = None
    is_index: bool = False
    is_ultrasound: bool = True


def read_header(path: str | Path) -> Header:
    """Reads what a file says about itself; pixels and elements of more than a megabyte are not read.

    Args:
        path: The file.

    Returns:
        Its format and, of a DICOM file, its study and patient.

    Raises:
        UnreadableFileError: If the file is of no known format or its header is damaged.

    Example:
        >>> from cardiojax.data import example_path
        >>> found = read_header(example_path())
        >>> found.format, found.is_index
        ('DICOM', False)
    """
    path = Path(path)
    kind = files.identify(path)
    if kind != "DICOM":
        return Header(kind)
    try:
        with quiet_decoders(), open_dataset(path) as (dataset, _):
            return _dicom_header(dataset)
    except UnreadableFileError:
        raise
    except Exception as error:  # a damaged header may raise anything
        stated = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UnreadableFileError(path, "is a damaged DICOM file ({stated})", stated=stated) from error


def read_index(path: str | Path) -> tuple[Path, ...]:
    """Reads which files a DICOMDIR names; those outside its folder are left out.

    Args:
        path: The DICOMDIR.

    Returns:
        The files, in the order of the index; they may be missing.

    Raises:
        UnreadableFileError: If the index is damaged or too large.
    """
    import pydicom

    path = Path(path)
    if path.stat().st_size > _MAX_INDEX_BYTES:
        raise UnreadableFileError(path, f"is a DICOMDIR of more than {_MAX_INDEX_BYTES // 2**20} MiB")
    root, named = path.parent.resolve(), dict[Path, None]()
    try:
        with quiet_decoders():
            records = header.items(pydicom.dcmread(path), "DirectoryRecordSequence")
            for record in records[:_MAX_INDEXED]:
                parts = header.value(record, "ReferencedFileID")
                if parts is None:
                    continue
                file = root.joinpath(*([parts] if isinstance(parts, str) else map(str, parts))).resolve()
                if file.is_relative_to(root):
                    named[file] = None
    except Exception as error:  # a damaged index may raise anything
        stated = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UnreadableFileError(path, "is a damaged DICOMDIR ({stated})", stated=stated) from error
    return tuple(named)


def _dicom_header(dataset: Any) -> Header:
    if "DirectoryRecordSequence" in dataset:
        return Header("DICOM", is_index=True)
    sex, size = header.text(dataset, "PatientSex").upper(), header.number(dataset, "PatientSize")
    return Header(
        "DICOM",
        study=header.text(dataset, "StudyInstanceUID") or None,
        patient=header.text(dataset, "PatientID") or None,
        sex=sex if sex in ("F", "M") else None,
        height_cm=None if size is None else 100 * size,
        weight_kg=header.number(dataset, "PatientWeight"),
        is_ultrasound=header.text(dataset, "Modality") in ("", *MODALITIES),
    )
