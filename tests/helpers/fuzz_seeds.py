"""Small valid files of each format, from which damaged ones are made."""

import gzip
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.datasets import write_avi

FRAMES = (np.arange(3 * 8 * 6).reshape(3, 8, 6) % 251).astype(np.uint8)
COLUMNS = ("ECHO", "Reference Frame", "End of Cycle")
VARIABLE = "predicted"


def dicom() -> list[bytes]:
    """Grey and coloured loops: as they are, run-length encoded, deflated, with a palette, with a region."""
    from pydicom import dcmread, uid

    coloured = np.stack([FRAMES, FRAMES // 2, FRAMES // 3], -1)
    encoded = dcmread(io.BytesIO(_written(_loop(uid.ExplicitVRLittleEndian))))
    encoded.compress(uid.RLELossless, generate_instance_uid=False)
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        palette[f"{colour}PaletteColorLookupTableData"] = bytes(range(256))
    jpeg = _loop(uid.JPEGBaseline8Bit)
    jpeg.PixelData = _fragments([_picture(frame, "JPEG") for frame in FRAMES])
    jpeg["PixelData"].VR, jpeg["PixelData"].is_undefined_length = "OB", True
    plain = (
        _loop(uid.ExplicitVRLittleEndian),
        _loop(uid.ImplicitVRLittleEndian, FRAMES.astype(np.uint16)),
        _loop(uid.ExplicitVRLittleEndian, coloured),
        _loop(uid.DeflatedExplicitVRLittleEndian),
        _loop(uid.ExplicitVRLittleEndian, **palette),
    )
    return [*map(_written, plain), _written(encoded), _written(jpeg)]


def _loop(syntax: str, values: np.ndarray = FRAMES, **fields: Any) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UltrasoundMultiFrameImageStorage

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.Modality, dataset.FrameTime, dataset.HeartRate = "US", 20, 60
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = values.shape[:3]
    dataset.SamplesPerPixel = 1 if values.ndim == 3 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 3 else "RGB"
    if values.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * values.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = values.shape[2] - 1, values.shape[1] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.05
    dataset.SequenceOfUltrasoundRegions = [region]
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.PixelData = values.tobytes()
    return dataset


def _written(dataset: Any) -> bytes:
    from pydicom import dcmwrite

    target = io.BytesIO()
    dcmwrite(target, dataset, enforce_file_format=True)
    return target.getvalue()


def _fragments(frames: list[bytes]) -> bytes:
    from pydicom.encaps import encapsulate

    return encapsulate(frames)


def _picture(frame: np.ndarray, kind: str) -> bytes:
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(frame).save(target, kind)
    return target.getvalue()


def nifti() -> list[bytes]:
    """NIfTI-1 and -2 of several types, plain and compressed."""
    import nibabel

    affine = np.diag([-0.3, -0.3, 1.0, 1.0])
    files = []
    for kind, dtype in (
        (nibabel.Nifti1Image, np.uint8),
        (nibabel.Nifti1Image, np.float32),
        (nibabel.Nifti2Image, "i2"),
    ):
        image = kind(FRAMES.T[:, :, None].astype(dtype), affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 0.02
        files.append(image.to_bytes())
    return [*files, gzip.compress(files[0], mtime=0), gzip.compress(files[1], mtime=0)]


def video() -> list[bytes]:
    """AVI, MP4 and Matroska of 16 x 16 pixels."""
    import av

    frames = np.repeat(np.repeat(FRAMES[:, :8, :4], 2, 1), 4, 2)
    files = []
    with tempfile.TemporaryDirectory() as folder:
        write_avi(Path(folder) / "a.avi", frames)
        files.append((Path(folder) / "a.avi").read_bytes())
        for name, codec in (("b.mp4", "mpeg4"), ("c.mp4", "libx264"), ("d.mkv", "mpeg4"), ("e.avi", "mpeg4")):
            path = Path(folder) / name
            with av.open(str(path), "w") as container:
                stream = container.add_stream(codec, rate=50)
                stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
                for frame in frames:
                    container.mux(
                        stream.encode(av.VideoFrame.from_ndarray(frame, format="gray").reformat(format="yuv420p"))
                    )
                container.mux(stream.encode())
            files.append(path.read_bytes())
    return files


def mat() -> list[bytes]:
    """MATLAB files of versions 4 and 5, compressed and not, with another variable."""
    from scipy import io as scipy_io

    masks = (FRAMES % 2).astype(np.uint8)
    files = []
    for options in ({"format": "4"}, {"format": "5"}, {"format": "5", "do_compression": True}):
        target = io.BytesIO()
        values = masks[0].astype(float) if options["format"] == "4" else masks
        scipy_io.savemat(target, {"other": np.eye(2), VARIABLE: values}, **options)
        files.append(target.getvalue())
    return files


def xlsx() -> list[bytes]:
    """A workbook, compressed and stored, so that some changes reach the XML inside."""
    import openpyxl

    book = openpyxl.Workbook()
    for row in (COLUMNS, ("ES0001 _4CH_1", 2, 7), ("ES0002_4CH_1", 1.0, None)):
        book.worksheets[0].append(row)
    target = io.BytesIO()
    book.save(target)
    return [target.getvalue(), rezip(target.getvalue(), lambda name, content: content, zipfile.ZIP_STORED)]


def rezip(archive: bytes, change: Callable[[str, bytes], bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Packs the changed members of an archive with right checksums."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as before, zipfile.ZipFile(target, "w", method) as after:
        for name in before.namelist():
            after.writestr(zipfile.ZipInfo(name), change(name, before.read(name)), method)
    return target.getvalue()


def picture() -> list[bytes]:
    """PNG and JPEG, grey and with a palette."""
    from PIL import Image

    indexed = io.BytesIO()
    Image.fromarray(FRAMES[0] % 4).convert("P").save(indexed, "PNG")
    return [_picture(FRAMES[0], "PNG"), _picture(FRAMES[0], "JPEG"), indexed.getvalue()]


def numpy() -> list[bytes]:
    """NPY, and NPZ compressed and not."""
    files = [io.BytesIO() for _ in range(3)]
    np.save(files[0], FRAMES)
    np.savez(files[1], image=FRAMES, spacing=np.array([0.3, 0.3]))
    np.savez_compressed(files[2], image=FRAMES.astype(np.float32))
    return [file.getvalue() for file in files]


def metaimage() -> list[bytes]:
    """MetaImage in one file, plain and compressed."""
    import zlib

    head = "NDims = 3\nDimSize = 6 8 3\nElementType = MET_UCHAR\nElementSpacing = 0.3 0.3 1\n"
    packed = zlib.compress(FRAMES.tobytes())
    plain = f"{head}ElementDataFile = LOCAL\n".encode() + FRAMES.tobytes()
    return [
        plain,
        f"{head}CompressedData = True\nCompressedDataSize = {len(packed)}\nElementDataFile = LOCAL\n".encode() + packed,
    ]


def torch() -> list[bytes]:
    """Checkpoints of PyTorch in single and half precision."""
    from tests.zoo.torch_writer import write_torch

    weights = {"a": np.arange(4, dtype=np.float32), "b": np.ones((2, 3), np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        single, half = Path(folder, "s.pth"), Path(folder, "h.pth")
        write_torch(single, weights)
        write_torch(half, {"a": weights["a"].astype(np.float16)}, kind="HalfStorage")
        return [single.read_bytes(), half.read_bytes()]


def safetensors() -> list[bytes]:
    """Weights of this package, with a checksum, and of others, without."""
    from cardiojax import zoo

    header = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    header["b"] = {"dtype": "F16", "shape": [3], "data_offsets": [16, 22]}
    text = json.dumps(header).encode()
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder, "own.safetensors")
        zoo.save_weights(own, {"a": np.ones((2, 2), np.float32)})
        return [struct.pack("<Q", len(text)) + text + bytes(22), own.read_bytes()]
