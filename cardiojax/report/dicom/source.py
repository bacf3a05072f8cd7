"""What is said of the DICOM files that were measured: unique identifiers, and the patient if it is asked for."""

import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cardiojax import storage
from cardiojax.data import UnreadableFileError, identify
from cardiojax.data.formats.dicom import header
from cardiojax.data.formats.dicom.pixels import open_dataset
from cardiojax.data.formats.quiet import quiet_decoders

#: Attributes of the patient and the study that are copied if the identity is kept, else empty.
TYPE_2_IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
#: Those that an object may lack.
OPTIONAL_IDENTITY = ("IssuerOfPatientID", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight")
#: Identifiers of an instance, its series and its study.
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
#: Compression of the frames by which information was lost, as a segmentation states it of its source.
_COMPRESSION = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
#: Transfer syntaxes of lossy JPEG, JPEG-LS and JPEG 2000, and the standards that a file names for them.
_LOSSY = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
}


def uid(*parts: str) -> str:
    """A unique identifier made from texts: the same for the same texts, and nothing of them can be read from it.

    Args:
        parts: The texts.

    Returns:
        ``2.25.`` and the first 128 bits of a SHA-256, as PS3.5 B.2 allows for identifiers without a registered root.

    Example:
        >>> uid("a") == uid("a") != uid("b")
        True
    """
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def digest_of(content: bytes) -> str:
    """The SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def random_salt() -> str:
    """A text that no other call gives."""
    return secrets.token_hex(16)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM."""
    return identify(path) == "DICOM"


def missing_identity(path: Path) -> list[str]:
    """Identifiers that a DICOM file does not state, or not as one identifier, by keyword."""
    with quiet_decoders(), open_dataset(path) as (dataset, _):
        return [name for name in UIDS if not _has_uid(dataset, name)]


def _has_uid(dataset: Any, name: str) -> bool:
    return re.fullmatch(r"[0-9.]{1,64}", header.text(dataset, name)) is not None


def _instance(path: Path) -> str:
    with quiet_decoders(), open_dataset(path) as (dataset, _):
        return header.text(dataset, "SOPInstanceUID")


def stated_frames(path: Path) -> int:
    """Number of frames that a DICOM file states; 0 if it states a number that is none, or no kind of image."""
    with quiet_decoders(), open_dataset(path) as (dataset, _):
        number = header.number(dataset, "NumberOfFrames")
        stated = header.value(dataset, "NumberOfFrames")
        if not _has_uid(dataset, "SOPClassUID"):
            return 0
    return 1 if stated is None else int(number or 0)


def reference(path: Path, study: str, *, keep_identity: bool) -> Any:
    """What the objects say of a source.

    Args:
        path: A DICOM file.
        study: Identifier of the study if the identity is not kept.
        keep_identity: Whether patient, study and identifiers are those of the file; else the identifiers are made from
            its SHA-256 and the patient is not named.

    Returns:
        A dataset with identifiers, patient, study, number of frames and lossy compression.
    """
    with quiet_decoders(), open_dataset(path) as (dataset, _):
        values = _values(dataset, (*TYPE_2_IDENTITY, *OPTIONAL_IDENTITY)) if keep_identity else {}
        stated = _values(dataset, ("SOPClassUID", "NumberOfFrames", "Rows", "Columns", *_COMPRESSION, *UIDS))
        values |= _compression(dataset, path, stated)
    content = storage.sha256(path)
    if not keep_identity:
        stated |= dict(zip(UIDS, (study, uid("series", content), uid("instance", content)), strict=True))
    return unnamed_source(stated | values)


def anonymous_study(content: Sequence[str]) -> Any:
    """What the objects say where no source is DICOM.

    Args:
        content: The SHA-256 of each source.

    Returns:
        A dataset of an ultrasound image that names no patient; nothing may refer to it.
    """
    from pydicom.uid import UltrasoundMultiFrameImageStorage

    uids = {name: uid(name, *content) for name in UIDS}
    return unnamed_source({"SOPClassUID": UltrasoundMultiFrameImageStorage, **uids})


def unnamed_source(values: Mapping[str, Any]) -> Any:
    """A dataset with some values, and with an empty patient and study where these are not among them."""
    from pydicom.dataset import Dataset

    source = Dataset()
    for name, value in (dict.fromkeys(TYPE_2_IDENTITY, "") | dict(values)).items():
        setattr(source, name, value)
    return source


def _values(dataset: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in _stated(dataset, names) if value is not None}


def _stated(dataset: Any, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Names are decoded to text, which is written anew in UTF-8."""
    for name in names:
        value = header.value(dataset, name)
        yield name, str(value) if type(value).__name__ == "PersonName" else value


def _compression(dataset: Any, path: Path, stated: dict[str, Any]) -> dict[str, Any]:
    """What is to be said of lossy compression where the file says nothing of it."""
    syntax = str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", ""))
    if stated.get("LossyImageCompression") == "01" and _is_described(dataset):
        return {}
    if syntax not in _LOSSY and stated.get("LossyImageCompression") != "01":
        for name in _COMPRESSION[1:]:
            stated.pop(name, None)
        return {"LossyImageCompression": "00"}
    samples = int(header.number(dataset, "SamplesPerPixel") or 1)
    size = int(dataset.Rows) * int(dataset.Columns) * samples * int(header.number(dataset, "NumberOfFrames") or 1)
    ratio = max(1.0, round(size / max(path.stat().st_size, 1), 1))
    return {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": ratio,
        "LossyImageCompressionMethod": _LOSSY.get(syntax, "ISO_10918_1"),
    }


def _is_described(dataset: Any) -> bool:
    """Whether a file states ratios and standards of its compression, and no other text in their place."""
    ratios, methods = header.numbers(dataset, _COMPRESSION[1]), header.value(dataset, _COMPRESSION[2])
    methods = [methods] if isinstance(methods, str) else list(methods or [])
    are_known = all(re.fullmatch(r"ISO_\d+_\d+", method) for method in methods)
    return bool(ratios) and bool(methods) and min(ratios) > 0 and are_known


def check_sources(paths: Sequence[Path], *, keep_identity: bool) -> None:
    """Checks that the identity can be kept.

    Args:
        paths: Recordings.
        keep_identity: Whether it shall be.

    Raises:
        UnreadableFileError: If a DICOM file lacks an identifier, or has that of another one.
        ValueError: If no file is DICOM.
    """
    if not keep_identity:
        return
    files = [path for path in paths if is_dicom(path)]
    if not files:
        raise ValueError("keep_identity needs a DICOM file: no other recording states a patient")
    contents: dict[str, str] = {}
    for path in files:
        missing = missing_identity(path)
        if missing:
            raise UnreadableFileError(path, f"states no {' and no '.join(missing)}, expected the identity to be kept")
        content = storage.sha256(path)
        if contents.setdefault(_instance(path), content) != content:  # no viewer could tell what is referred to
            raise UnreadableFileError(path, "states the SOPInstanceUID of another file, expected one of its own")
