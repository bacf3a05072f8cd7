"""DICOM ultrasound, single and multi-frame."""

import math
from pathlib import Path

import numpy as np

from cardiojax.data.formats.common import Decoded, UnreadableFileError, check_frame_time, check_size, check_spacing
from cardiojax.data.formats.grey import luma

_TISSUE = 1
_CENTIMETRES = 3


def starts_dataset(head: bytes) -> bool:
    """Whether these are the first bytes of a DICOM dataset without the preamble: an element of group 2 or 8."""
    group, element, length = (int.from_bytes(head[i : i + n], "little") for i, n in ((0, 2), (2, 2), (4, 4)))
    has_type = head[4:6].isalpha() and head[4:6].isupper()
    return group in (2, 8) and element <= 0x20 and (has_type or 0 < length < 256)


def decode(path: Path) -> Decoded:
    """Decodes the frames to grey values.

    Spacing comes from the region of 2-D tissue in SequenceOfUltrasoundRegions (cm to mm), else from PixelSpacing.
    """
    import pydicom
    from pydicom.pixels import apply_color_lut

    dataset = pydicom.dcmread(path)
    modality = dataset.get("Modality", "unknown")
    if modality not in ("US", "IVUS"):
        raise UnreadableFileError(path, f"is a DICOM file of modality {modality}, expected ultrasound (US)")
    if "PixelData" not in dataset:
        raise UnreadableFileError(path, "is a DICOM file without pixel data, expected an image or a loop")
    num_frames = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    check_size(path, (num_frames, dataset.Rows, dataset.Columns, samples), int(dataset.BitsAllocated) // 8)
    values = dataset.pixel_array
    interpretation = dataset.PhotometricInterpretation
    if interpretation == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
        samples = values.shape[-1]
    if samples == 1:
        top = 2 ** int(dataset.BitsStored) - 1
        grey = values.astype(np.float32) / top
        grey = 1 - grey if interpretation == "MONOCHROME1" else grey
    else:
        grey = luma(values) / np.iinfo(values.dtype).max
    spacing, note = _spacing(path, dataset)
    return Decoded(grey.reshape(num_frames, dataset.Rows, dataset.Columns), spacing, _frame_time(dataset), note)


def _spacing(path: Path, dataset) -> tuple[tuple[float, float] | None, str]:
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        units = (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection"))
        if region.get("RegionDataType") != _TISSUE or units != (_CENTIMETRES, _CENTIMETRES):
            continue
        # The box is given in pixels of the frame as acquired. Where it does not fit in either direction, the frame was
        # made smaller since, and its pixels are larger; where it does not fit in one, the frame was cut.
        excess = (
            (region.get("RegionLocationMaxX1", 0) + 1) / dataset.Columns,
            (region.get("RegionLocationMaxY1", 0) + 1) / dataset.Rows,
        )
        factor = math.ceil(max(excess)) if min(excess) > 1.01 else 1
        spacing = [abs(float(region.get(f"PhysicalDelta{axis}", math.nan))) * 10 * factor for axis in "YX"]
        note = "spacing from the ultrasound region"
        return check_spacing(path, spacing), note + (f", frame reduced {factor} times" if factor > 1 else "")
    if dataset.get("PixelSpacing"):
        return check_spacing(path, [float(s) for s in dataset.PixelSpacing]), "spacing from PixelSpacing"
    return None, "spacing unknown"


def _frame_time(dataset) -> float | None:
    if dataset.get("FrameTime"):
        return check_frame_time(float(dataset.FrameTime) / 1000)
    if dataset.get("FrameTimeVector"):
        steps = np.asarray(dataset.FrameTimeVector, float)[1:]
        return check_frame_time(float(np.median(steps)) / 1000) if steps.size else None
    for name in ("CineRate", "RecommendedDisplayFrameRate"):
        if dataset.get(name):
            return check_frame_time(1 / float(dataset.get(name)))
    return None
