"""Recordings whose files state who the patient is, wherever a format has room for it, and whose frames show it."""

import functools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

#: Names, identifiers, dates and notes in the files; nothing that is written may hold one of them.
TOKENS = (
    "Mustermann", "Erika", "PID4711", "19520317", "1952-03-17", "20240229", "2024-02-29", "Nordklinik", "ACC99817",
    "Quacksalber", "Geheimnotiz", "SN33445", "1.2.826.0.1.3680043.8.498.4711", "Nordstrasse",
)  # fmt: skip
SHAPE = (160, 208)
#: Identity in the name of the file and of its folder.
FOLDER, STEM = "Mustermann_Erika_PID4711", "Mustermann_Erika_19520317_20240229"


@functools.cache
def fan() -> np.ndarray:
    """Pixels of the ultrasound sector."""
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]] - np.array([6, 104])[:, None, None]
    return (np.hypot(rows, cols) < 140) & (np.abs(cols) < 0.7 * rows)


@functools.cache
def text() -> np.ndarray:
    """Pixels of text: around the sector, and a name that touches its edge."""
    picture = Image.new("L", SHAPE[::-1])
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(10)
    draw.text((2, 2), "Mustermann, Erika", 255, font=font)
    draw.text((2, 14), "PID4711", 255, font=font)
    draw.text((140, 2), "17.03.1952", 255, font=font)
    draw.text((150, 60), "Mustermann", 255, font=font)  # touches the right edge of the sector
    draw.text((2, 148), "Nordklinik 29.02.2024", 255, font=font)
    return np.asarray(picture) > 60


def frames(num: int = 10) -> np.ndarray:
    """Grey values uint8 ``[t, h, w]``: changing speckle in the sector, text that does not change."""
    speckle = np.random.default_rng(0).integers(60, 200, (num, *SHAPE))
    return np.where(text(), 230, np.where(fan(), speckle, 0)).astype(np.uint8)


def write_dicom(path: Path, values: np.ndarray, *, burned_in: str | None = "YES", **elements: object) -> Path:
    """Writes an ultrasound multi-frame image as a scanner does, uncompressed; ``elements`` are added or replaced."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    root = "1.2.826.0.1.3680043.8.498.4711"
    dataset = Dataset()
    stated = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1", "SOPInstanceUID": f"{root}.3.20240229", "Modality": "US",
        "StudyInstanceUID": f"{root}.1.20240229", "SeriesInstanceUID": f"{root}.2.20240229",
        "FrameOfReferenceUID": f"{root}.9", "SynchronizationFrameOfReferenceUID": f"{root}.8",
        "ImageType": ["ORIGINAL", "PRIMARY", "", "0001"],
        "PatientName": "Mustermann^Erika", "PatientID": "PID4711", "PatientBirthDate": "19520317", "PatientSex": "F",
        "OtherPatientIDs": "PID4711-B", "PatientAddress": "Nordstrasse 1", "PatientComments": "Geheimnotiz",
        "PatientAge": "071Y", "PatientSize": "1.68", "PatientWeight": "64",
        "StudyDate": "20240229", "SeriesDate": "20240229", "ContentDate": "20240229", "AcquisitionDate": "20240229",
        "StudyTime": "101112", "ContentTime": "101113", "AcquisitionDateTime": "20240229101112",
        "StudyID": "PID4711", "AccessionNumber": "ACC99817", "SeriesNumber": 1, "InstanceNumber": 1,
        "InstitutionName": "Nordklinik", "InstitutionAddress": "Nordstrasse 2", "StationName": "Nordklinik-3",
        "ReferringPhysicianName": "Quacksalber^Q", "PerformingPhysicianName": "Quacksalber^Q",
        "OperatorsName": "Quacksalber^O", "StudyDescription": "Echo Mustermann", "SeriesDescription": "Erika A4C",
        "ImageComments": "Mustermann Geheimnotiz", "Manufacturer": "Scanner", "DeviceSerialNumber": "SN33445",
        "ManufacturerModelName": "One", "SoftwareVersions": "1", "ProtocolName": "Geheimnotiz",
        "PatientOrientation": "", "BurnedInAnnotation": burned_in, "LossyImageCompression": "00",
        "Rows": values.shape[1], "Columns": values.shape[2], "NumberOfFrames": len(values), "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7,
        "PixelRepresentation": 0, "FrameTime": 40, "FrameIncrementPointer": 0x00181063, "HeartRate": 66,
    }  # fmt: skip
    for name, value in {**stated, **elements}.items():
        if value is not None:
            setattr(dataset, name, value)
    region = Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.RegionFlags = 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = values.shape[2] - 1, values.shape[1] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.09
    dataset.SequenceOfUltrasoundRegions = [region]
    private = dataset.private_block(0x0029, "Mustermann Geheimnotiz", create=True)
    private.add_new(0x10, "LO", "Geheimnotiz PID4711")
    dataset.PixelData = values.astype(np.uint8).tobytes()
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.preamble = b"Mustermann".ljust(128, b"\0")
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def write_video(path: Path, values: np.ndarray, **metadata: str) -> Path:
    """Writes a loop of 25 frames a second with a title and a comment."""
    import av

    with av.open(str(path), "w") as output:
        output.metadata.update({"title": "Mustermann Erika", "comment": "PID4711 Geheimnotiz", **metadata})
        stream = output.add_stream("mpeg4", rate=25, options={"qmin": "1", "qmax": "2"})
        stream.height, stream.width, stream.pix_fmt = *values.shape[1:], "yuv420p"
        for frame in values:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        output.mux(stream.encode(None))
    return path


def write_nifti(path: Path, values: np.ndarray) -> Path:
    """Writes a loop with a description, a name of a database and a comment."""
    import nibabel
    from nibabel.nifti1 import Nifti1Extension

    image = nibabel.Nifti1Image(values.transpose(2, 1, 0)[:, :, None], np.diag([-0.9, -0.9, 1, 1]))
    image.header.set_zooms((0.9, 0.9, 1, 0.04))
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"], image.header["db_name"] = b"Mustermann Erika 19520317", b"PID4711"
    image.header["aux_file"], image.header["intent_name"] = b"Nordklinik", b"Geheimnotiz"
    image.header.extensions.append(Nifti1Extension("comment", b"Quacksalber 20240229"))
    nibabel.save(image, path)
    return path


def write_picture(path: Path, values: np.ndarray) -> Path:
    """Writes the first frame with a title and EXIF data."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "Mustermann Erika 1952-03-17")
    info.add_itxt("Comment", "Geheimnotiz PID4711")
    picture = Image.fromarray(values[0])
    exif = picture.getexif()
    exif[0x010E] = "Mustermann Erika"
    picture.save(path, pnginfo=info, exif=exif)
    return path


WRITERS = {".dcm": write_dicom, ".mp4": write_video, ".nii.gz": write_nifti, ".png": write_picture}
