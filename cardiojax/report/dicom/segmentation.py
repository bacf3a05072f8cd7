"""Label maps of a loop as a DICOM segmentation that refers to the frames they lie on.

The object is built here because highdicom 0.28 takes a multi-frame source only with a frame of reference, which
ultrasound loops lack ("Only a single frame is supported").
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import highdicom
import numpy as np
from highdicom.seg import SegmentDescription
from jaxtyping import UInt8
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

import cardiojax
from cardiojax.labels import NUM_CLASSES
from cardiojax.report.dicom import codes
from cardiojax.report.dicom.equipment import EQUIPMENT, stamp

#: Attributes in which the index of a frame counts: its segment, then its place in the loop.
_SEGMENT_NUMBER, _POSITION = Tag("ReferencedSegmentNumber"), Tag("TemporalPositionIndex")


class SourceFrame(NamedTuple):
    """A frame of a DICOM file: what the objects say of the file, and the frame's number; None if it has only one."""

    source: Any
    number: int | None


def make_segmentation(
    labels: UInt8[np.ndarray, "t h w"],
    frames: Sequence[SourceFrame],
    *,
    uids: tuple[str, str],
    series_number: int,
    description: str,
    is_anonymous: bool,
    others: Sequence[str] = (),
) -> Dataset:
    """Writes label maps as binary segments: LV cavity, myocardium, left atrium and others, as far as they are there.

    Args:
        labels: Label maps at the resolution of the frames; other structures follow those of `cardiojax.labels`.
        frames: The frames they lie on.
        uids: Identifiers of the series and of the object.
        series_number: Number of the series.
        description: What the series is called.
        is_anonymous: Whether the object states no date.
        others: Names of the other structures.

    Returns:
        The object; 1 bit a pixel of each frame and segment that is not empty.

    Raises:
        ValueError: If there is no label.
    """
    first = frames[0].source
    structures = codes.STRUCTURES | dict(enumerate(map(codes.other_structure, others), NUM_CLASSES))
    present = [label for label in structures if (labels == label).any()]
    if not present:
        raise ValueError("the label maps are empty, expected outlines of the left ventricle")
    object_ = highdicom.SOPClass(
        study_instance_uid=first.StudyInstanceUID,
        series_instance_uid=uids[0],
        series_number=series_number,
        sop_instance_uid=uids[1],
        sop_class_uid=SegmentationStorage,
        instance_number=1,
        modality="SEG",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description=description,
        **EQUIPMENT,
    )
    stamp(object_, first, is_anonymous=is_anonymous)
    _describe_segments(object_, [structures[label] for label in present])
    _describe_pixels(object_, labels, first)
    _reference(object_, frames)
    masks = _add_frames(object_, labels, frames, present)
    object_.NumberOfFrames = len(masks)
    bits = np.packbits(np.stack(masks).ravel(), bitorder="little").tobytes()
    object_.PixelData = bits + b"\0" * (len(bits) % 2)
    object_["PixelData"].VR = "OB"
    return object_


def _describe_segments(object_: Dataset, segments: Sequence[tuple[str, Any]]) -> None:
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="cardiojax", family=codes.ARTIFICIAL_INTELLIGENCE, version=cardiojax.__version__
    )
    known = {code for _, code in codes.STRUCTURES.values()}
    shown = "Left ventricle and left atrium" if known.issuperset(code for _, code in segments) else "Heart"
    object_.ContentLabel, object_.ContentDescription = "SEGMENTATION", f"{shown} in each frame"
    object_.ContentCreatorName = ""
    object_.SegmentationType = "BINARY"
    object_.SegmentSequence = [
        SegmentDescription(
            number,
            name,
            codes.ANATOMICAL_STRUCTURE,
            code,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, (name, code) in enumerate(segments, 1)
    ]


def _describe_pixels(object_: Dataset, labels: np.ndarray, source: Any) -> None:
    object_.ImageType, object_.PatientOrientation = ["DERIVED", "PRIMARY"], ""
    object_.SamplesPerPixel, object_.PhotometricInterpretation = 1, "MONOCHROME2"
    object_.Rows, object_.Columns = labels.shape[1:]
    object_.BitsAllocated = object_.BitsStored = 1
    object_.HighBit = object_.PixelRepresentation = 0
    for name in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if name in source:
            setattr(object_, name, getattr(source, name))


def _reference(object_: Dataset, frames: Sequence[SourceFrame]) -> None:
    """Lists the files of the frames by series."""
    series: dict[str, dict[str, Dataset]] = {}
    for source, _ in frames:
        instance = Dataset()
        instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
        series.setdefault(source.SeriesInstanceUID, {})[source.SOPInstanceUID] = instance
    object_.ReferencedSeriesSequence = []
    for uid, instances in series.items():
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedInstanceSequence = uid, list(instances.values())
        object_.ReferencedSeriesSequence.append(item)


def _add_frames(
    object_: Dataset, labels: np.ndarray, frames: Sequence[SourceFrame], present: Sequence[int]
) -> list[np.ndarray]:
    """Describes a frame for each structure in each frame of the loop that shows it; the masks in the same order."""
    organization = object_.SOPInstanceUID  # one object has one organization
    object_.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
    object_.DimensionIndexSequence = [
        _item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=pointer,
            FunctionalGroupPointer=Tag(group),
            DimensionDescriptionLabel=label,
        )
        for pointer, group, label in (
            (_SEGMENT_NUMBER, "SegmentIdentificationSequence", "Segment"),
            (_POSITION, "FrameContentSequence", "Frame of the loop"),
        )
    ]
    object_.SharedFunctionalGroupsSequence = [Dataset()]
    object_.PerFrameFunctionalGroupsSequence, masks = [], []
    for segment, label in enumerate(present, 1):
        for index, source_frame in enumerate(frames):
            mask = labels[index] == label
            if mask.any():
                masks.append(mask)
                object_.PerFrameFunctionalGroupsSequence.append(_functional_groups(segment, index, source_frame))
    return masks


def _functional_groups(segment: int, index: int, frame: SourceFrame) -> Dataset:
    source, number = frame
    image = _item(
        ReferencedSOPClassUID=source.SOPClassUID,
        ReferencedSOPInstanceUID=source.SOPInstanceUID,
        PurposeOfReferenceCodeSequence=[_coded(codes.SOURCE_IMAGE)],
        SpatialLocationsPreserved="YES",
    )
    if number is not None:
        image.ReferencedFrameNumber = number
    return _item(
        FrameContentSequence=[_item(TemporalPositionIndex=index + 1, DimensionIndexValues=[segment, index + 1])],
        SegmentIdentificationSequence=[_item(ReferencedSegmentNumber=segment)],
        DerivationImageSequence=[
            _item(SourceImageSequence=[image], DerivationCodeSequence=[_coded(codes.SEGMENTATION)])
        ],
    )


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _coded(code: Any) -> Dataset:
    return highdicom.sr.CodedConcept.from_code(code)
