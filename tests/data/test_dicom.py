"""DICOM made up here: right values where the header is right, next sources or unknown where it is not."""

import tracemalloc
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from cardiojax import data
from cardiojax.data.formats.dicom import pixels as dicom_pixels
from cardiojax.data.formats.dicom.scale import _ACQUIRED_SIZES, read_scale

CM, TISSUE = 3, 1
RNG = np.random.default_rng(0)
LOOP = RNG.integers(0, 256, (5, 6, 8)).astype(np.uint8)


def region(box=(0, 0, 7, 5), delta=(0.05, 0.05), units=(CM, CM), data_type=TISSUE, spatial_format=1):
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = spatial_format, data_type
    for name, value in zip(("MinX0", "MinY0", "MaxX1", "MaxY1"), box, strict=True):
        setattr(item, f"RegionLocation{name}", value)
    item.PhysicalUnitsXDirection, item.PhysicalUnitsYDirection = units
    for axis, value in zip("XY", delta, strict=True):
        if value is not None:
            setattr(item, f"PhysicalDelta{axis}", value)
    return item


def make(path, frames=LOOP, *, syntax=ExplicitVRLittleEndian, meta=True, pixels=None, regions=(), **elements):
    """A file of frames ``[t, h, w]`` or ``[t, h, w, 3]``; an element of None is left out."""
    dataset = Dataset()
    color = frames.ndim == 4
    defaults = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.3.1", "SOPInstanceUID": "1.2.3", "Modality": "US",
        "Rows": frames.shape[1], "Columns": frames.shape[2], "NumberOfFrames": len(frames),
        "SamplesPerPixel": 3 if color else 1, "PhotometricInterpretation": "RGB" if color else "MONOCHROME2",
        "BitsAllocated": 8 * frames.itemsize, "BitsStored": 8 * frames.itemsize, "HighBit": 8 * frames.itemsize - 1,
        "PixelRepresentation": 0, "PlanarConfiguration": 0 if color else None,
    }  # fmt: skip
    for name, value in {**defaults, **elements}.items():
        if value is not None:
            setattr(dataset, name, value)
    if regions:
        dataset.SequenceOfUltrasoundRegions = list(regions)
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        dataset.PixelData = pixels if pixels is not None else encapsulate([jpeg(f) for f in frames])
    else:
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        dataset.PixelData = frames.astype(frames.dtype.newbyteorder(order)).tobytes() if pixels is None else pixels
    dataset["PixelData"].VR = "OW" if frames.itemsize > 1 else "OB"
    dataset["PixelData"].is_undefined_length = syntax.is_encapsulated
    implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    if meta:
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, enforce_file_format=True, implicit_vr=implicit, little_endian=little)
    else:
        dataset.save_as(path, implicit_vr=implicit, little_endian=little)
    return path


def jpeg(frame):
    import io

    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.dcm"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, LOOP / 255),
        ({"syntax": ImplicitVRLittleEndian}, LOOP / 255),
        ({"syntax": ExplicitVRBigEndian}, LOOP / 255),
        ({"syntax": DeflatedExplicitVRLittleEndian}, LOOP / 255),
        ({"syntax": ImplicitVRLittleEndian, "meta": False}, LOOP / 255),
        ({"syntax": ExplicitVRLittleEndian, "meta": False}, LOOP / 255),
        ({"PhotometricInterpretation": "MONOCHROME1"}, 1 - LOOP / 255),
        ({"PhotometricInterpretation": "RGB24"}, LOOP / 255),
        ({"PhotometricInterpretation": None, "SamplesPerPixel": None, "BitsStored": None}, LOOP / 255),
        ({"frames": LOOP.astype(np.uint16) * 16, "BitsStored": 12}, LOOP.astype(float) * 16 / 4095),
        ({"frames": LOOP.astype(np.uint16), "BitsStored": 16}, LOOP / 255),
        ({"frames": np.stack([LOOP] * 3, -1)}, LOOP / 255),
        ({"frames": np.stack([LOOP] * 3, -1), "PhotometricInterpretation": "RGB24"}, LOOP / 255),
        ({"frames": np.stack([LOOP] * 3, -1), "PlanarConfiguration": None}, LOOP / 255),
    ],
)
def test_frames_of_every_encoding(path, options, expected):
    recording = data.read(make(path, **options))
    assert recording.notes == ()
    np.testing.assert_allclose(recording.frames, expected, atol=2e-6)
    assert recording.frames.dtype == np.float32


@pytest.mark.parametrize("stated", [None, 1, 4, 6, 0, 400])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGBaseline8Bit])
def test_frames_are_counted_in_the_file(path, stated, syntax):
    recording = data.read(make(path, syntax=syntax, NumberOfFrames=stated, FrameTime=40))
    assert recording.frames.shape == LOOP.shape
    assert recording.frame_time == pytest.approx(0.04)
    assert "holds 5" in recording.notes[0]


def test_tables_of_offsets_do_not_matter(path):
    good = encapsulate([jpeg(f) for f in LOOP], has_bot=True)
    expected = data.read(make(path, syntax=JPEGBaseline8Bit, pixels=good)).frames
    wrong = bytearray(good)
    wrong[8:28] = bytes(RNG.integers(0, 256, 20).astype(np.uint8))
    np.testing.assert_array_equal(data.read(make(path, syntax=JPEGBaseline8Bit, pixels=bytes(wrong))).frames, expected)
    fragmented = encapsulate([jpeg(f) for f in LOOP], fragments_per_frame=3, has_bot=False)
    np.testing.assert_array_equal(data.read(make(path, syntax=JPEGBaseline8Bit, pixels=fragmented)).frames, expected)


def test_a_cut_file_gives_its_whole_frames(path):
    content = make(path).read_bytes()
    path.write_bytes(content[: -LOOP[0].size // 2])
    recording = data.read(path)
    np.testing.assert_allclose(recording.frames, LOOP[:4] / 255, atol=1e-6)
    assert "holds 4" in recording.notes[0]
    path.write_bytes(content[: content.index(LOOP[0].tobytes()) + 3])
    with pytest.raises(data.UnreadableFileError, match="no whole frame"):
        data.read(path)


def test_damaged_frames_are_left_out_and_counted(path):
    parts = [jpeg(f) for f in LOOP]
    parts[2] = parts[2][:20] + bytes(40)
    recording = data.read(make(path, syntax=JPEGBaseline8Bit, pixels=encapsulate(parts)))
    assert recording.frames.shape == (4, 6, 8)
    assert recording.notes == ("1 of 5 frames could not be decoded and are left out.",)
    broken = encapsulate([b"\xff\xd8\xff" + bytes(20)] * 2)
    with pytest.raises(data.UnreadableFileError, match="no frame that can be decoded"):
        data.read(make(path, syntax=JPEGBaseline8Bit, pixels=broken))


def test_kinds_of_files(path, tmp_path):
    assert data.read(make(path, Modality=None)).notes == ("The file states no modality: it is taken for ultrasound.",)
    with pytest.raises(data.UnreadableFileError, match="modality MR, expected ultrasound"):
        data.read(make(path, Modality="MR"))
    with pytest.raises(data.UnreadableFileError, match="states no Rows"):
        data.read(make(path, Rows=None))
    record = Dataset()
    record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", ["DICOM", "IM0001"]
    with pytest.raises(data.UnreadableFileError, match=r"index of 1 files.*such as DICOM/IM0001"):
        data.read(make(path, DirectoryRecordSequence=[record], Modality=None))


def test_compression_that_needs_an_extra_names_it(path):
    from pydicom.pixels import get_decoder

    if get_decoder(JPEGLosslessSV1).is_available:
        pytest.skip("the decoder is installed")
    with pytest.raises(data.UnreadableFileError, match=r"JPEG Lossless.*run `pip install python-gdcm`"):
        data.read(make(path, syntax=JPEGLosslessSV1))


@pytest.mark.parametrize("element", ["HeartRate", "FrameTime", "PixelSpacing", "NumberOfFrames", "Modality"])
@pytest.mark.parametrize("vr", [b"ZZ", b"FD", b"UI"])
def test_a_damaged_element_costs_no_more_than_itself(path, element, vr):
    content = make(path, HeartRate=72, FrameTime=40, PixelSpacing=[0.3, 0.3]).read_bytes()
    tag = pydicom.datadict.tag_for_keyword(element)
    start = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
    assert content.count(start) == 1
    at = content.index(start) + 4
    path.write_bytes(content[:at] + vr + content[at + 2 :])
    recording = data.read(path)
    np.testing.assert_allclose(recording.frames, LOOP / 255, atol=1e-6)
    values = {"HeartRate": recording.heart_rate, "FrameTime": recording.frame_time, "PixelSpacing": recording.spacing}
    values.pop(element, None)
    expected = {"HeartRate": 72.0, "FrameTime": pytest.approx(0.04), "PixelSpacing": (0.3, 0.3)}
    assert values == {name: expected[name] for name in values}


def test_rle_and_palettes(path):
    dataset = pydicom.dcmread(make(path, PhotometricInterpretation="PALETTE COLOR"))
    for name in ("Red", "Green", "Blue"):  # entries of 8 bits in 16-bit words
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", np.arange(256, dtype="<u2").tobytes())
    dataset.save_as(path)
    np.testing.assert_allclose(data.read(path).frames, LOOP / 255, atol=1e-6)
    dataset = pydicom.dcmread(make(path))
    dataset.compress(RLELossless)
    dataset.save_as(path)
    np.testing.assert_allclose(data.read(path).frames, LOOP / 255, atol=1e-6)


def test_coloured_pixels_are_found(path):
    assert data.read(make(path)).coloured is None
    frames = np.stack([LOOP] * 3, -1)
    frames[:, 2:4, 2:5] = (250, 60, 0)
    coloured = data.read(make(path, frames)).coloured
    expected = np.zeros((6, 8))
    expected[2:4, 2:5] = 1
    np.testing.assert_array_equal(coloured, expected)


@pytest.mark.parametrize(
    ("elements", "seconds", "note"),
    [
        ({"FrameTime": 40, "CineRate": 60}, 0.04, None),
        ({"FrameTimeVector": [0, 20, 20, 20, 20]}, 0.02, None),
        ({"FrameTimeVector": [20, 20, 20, 20]}, 0.02, None),
        ({"FrameTimeVector": [0, 33, 33, 34, 33]}, 0.03325, None),
        ({"FrameTimeVector": [0, 20, 40, 20, 40]}, None, "4 of 4 intervals between frames are irregular"),
        ({"FrameTimeVector": [0, 20, 40, 20, 40], "CineRate": 33}, 1 / 33, "irregular"),
        ({"FrameTime": 40, "FrameTimeVector": [0, 20, 20, 20, 20], "FrameIncrementPointer": 0x00181065}, 0.02, None),
        ({"FrameTime": 40, "FrameTimeVector": [0, 20, 20, 20, 20], "FrameIncrementPointer": 0x00181063}, 0.04, None),
        ({"FrameTime": 0, "CineRate": 25}, 0.04, "FrameTime of 0"),
        ({"FrameTime": 9e9, "CineRate": 25}, 0.04, "FrameTime of 9"),
        ({"FrameTime": -40}, None, "FrameTime of -40"),
        ({"CineRate": 50, "RecommendedDisplayFrameRate": 25}, 0.02, None),
        ({"RecommendedDisplayFrameRate": 25}, 0.04, None),
        ({"EffectiveDuration": 0.2}, 0.04, None),
        ({"EffectiveDuration": 200}, None, "EffectiveDuration of 200"),
        ({"ActualFrameDuration": 25}, 0.025, None),
        ({}, None, None),
    ],
)
def test_time(path, elements, seconds, note):
    recording = data.read(make(path, **elements))
    assert recording.frame_time == (None if seconds is None else pytest.approx(seconds, rel=1e-6))
    assert (note is None and recording.notes == ()) or note in recording.notes[0]


def test_time_of_enhanced_frames(path):
    groups = []
    for index in range(5):
        content, group = Dataset(), Dataset()
        content.FrameAcquisitionDateTime = f"20240101120000.{40000 * index:06d}"
        group.FrameContentSequence = [content]
        groups.append(group)
    assert data.read(make(path, PerFrameFunctionalGroupsSequence=groups)).frame_time == pytest.approx(0.04, rel=1e-4)


@pytest.mark.parametrize(("stated", "expected"), [(None, None), (0, None), (72, 72.0), (900, None)])
def test_heart_rate(path, stated, expected):
    assert data.read(make(path, HeartRate=stated)).heart_rate == expected


@pytest.mark.parametrize(("stated", "expected"), [(None, None), ("YES", True), ("NO", False), ("", None)])
def test_burned_in_annotation(path, stated, expected):
    assert data.read(make(path, BurnedInAnnotation=stated)).burned_in is expected


@pytest.mark.parametrize(
    ("regions", "elements", "expected", "note"),
    [
        ([region()], {}, (0.5, 0.5), None),
        ([region(delta=(0.04, 0.05))], {}, (0.5, 0.4), None),
        ([region(delta=(0, 0.05))], {"PixelSpacing": [0.3, 0.3]}, (0.3, 0.3), "usable"),
        ([region(delta=(-0.05, 0.05))], {"PixelSpacing": [0.3, 0.3]}, (0.3, 0.3), "usable"),
        ([region(delta=(None, 0.05))], {"PixelSpacing": [0.3, 0.3]}, (0.3, 0.3), "usable"),
        ([region(delta=(0.05, 5.0))], {"PixelSpacing": [0.3, 0.3]}, (0.3, 0.3), "usable"),
        ([region(delta=(0, 0))], {}, None, "usable"),
        ([region(delta=(0, 0))], {"PixelSpacing": [0, 0]}, None, "usable"),
        ([region(units=(4, CM))], {"PixelSpacing": [0.3, 0.2]}, (0.3, 0.2), "usable"),
        ([region(data_type=3, spatial_format=3)], {}, None, None),
        ([], {"PixelSpacing": [0.3, 0.2]}, (0.3, 0.2), None),
        ([], {"PixelSpacing": [-1, 0.2]}, None, "PixelSpacing that is no pixel spacing"),
        ([region(box=(0, 0, 3, 5), delta=(0.1, 0.1)), region(box=(4, 0, 5, 1))], {}, (1.0, 1.0), None),
    ],
)
def test_spacing(path, regions, elements, expected, note):
    recording = data.read(make(path, regions=regions, **elements))
    assert recording.spacing == (None if expected is None else pytest.approx(expected))
    assert (note is None and recording.notes == ()) or note in recording.notes[0]
    assert len(recording.regions) == len(regions)


def test_the_region_of_the_sector_has_its_scale(path):
    frames = np.zeros((2, 60, 100), np.uint8)
    regions = [
        region((0, 10, 39, 49), (0.1, 0.1)),
        region((50, 10, 99, 59), (0.03, 0.03)),
        region((0, 50, 49, 59), (0.01, 1), units=(4, 0), data_type=10, spatial_format=4),
    ]
    recording = data.read(make(path, frames, regions=regions))
    assert recording.spacing == pytest.approx((0.3, 0.3))  # the larger one
    assert recording.regions[0].box == (10, 50, 0, 40)
    assert [r.is_tissue for r in recording.regions] == [True, True, False]
    assert data.spacing_of_box(recording.regions, (12, 45, 2, 38)) == pytest.approx((1.0, 1.0))
    assert data.spacing_of_box(recording.regions, (12, 55, 60, 90)) == pytest.approx((0.3, 0.3))
    assert data.spacing_of_box(recording.regions, (10, 50, 20, 80)) is None  # both in part
    assert data.spacing_of_box(recording.regions, (0, 9, 0, 9)) is None
    overlapping = (data.Region((0, 9, 0, 9), 1, 1, (1.0, 1.0)), data.Region((0, 9, 0, 9), 2, 1, (2.0, 2.0)))
    assert data.spacing_of_box(overlapping, (1, 8, 1, 8)) is None
    assert data.spacing_of_box((), (1, 8, 1, 8)) is None


@given(
    acquired=st.sampled_from(_ACQUIRED_SIZES),
    factor=st.floats(1.0, 4.0),
    box=st.tuples(*[st.floats(0.05, 0.3)] * 2, *[st.floats(0.6, 0.98)] * 2),
    fill=st.floats(0.7, 1.0),
)
def test_a_reduced_frame_has_the_right_scale_or_none(acquired, factor, box, fill):
    width, height = round(acquired[0] / factor), round(acquired[1] / factor)
    factor = acquired[0] / width
    left, top, right, bottom = (int(f * n) for f, n in zip(box, (*acquired, *acquired), strict=True))
    still = np.zeros((1, height, width), np.float32)
    ends = [int((low + fill * (high - low)) / factor) for low, high in ((top, bottom), (left, right))]
    still[0, int(top / factor) : ends[0], int(left / factor) : ends[1]] = 200
    dataset = Dataset()
    dataset.SequenceOfUltrasoundRegions = [region((left, top, right, bottom), (0.02, 0.02))]
    scale = read_scale(dataset, still, 255.0)
    if right <= width and bottom <= height:
        assert scale.spacing == pytest.approx((0.2, 0.2))  # the header does not state that it was reduced
    elif scale.spacing is None:
        assert "unknown amount" in scale.notes[0]
    else:
        assert scale.spacing == pytest.approx((0.2 * factor, 0.2 * factor), rel=0.01)


def test_a_frame_reduced_by_a_quarter(path):
    frames = np.zeros((1, 384, 512), np.uint8)
    frames[0, 27:330, 70:474] = 200
    regions = [region((84, 31, 595, 414), (0.05, 0.05))]
    recording = data.read(make(path, frames, regions=regions))
    assert recording.spacing == pytest.approx((0.625, 0.625))
    assert "reduced 1.25 times" in recording.source
    assert recording.regions[0].box == (24, 332, 67, 477)
    spanning = [region((0, 0, 639, 479), (0.05, 0.05))]
    assert data.read(make(path, frames, regions=spanning)).spacing == pytest.approx((0.625, 0.625))
    undetermined = [region((84, 31, 595, 470), (0.05, 0.05))]
    frames[0, 200:] = frames[0, :, 350:] = 0
    recording = data.read(make(path, frames, regions=undetermined, PixelSpacing=[0.4, 0.4]))
    assert recording.spacing == pytest.approx((0.4, 0.4))
    assert "unknown amount" in recording.notes[0]
    cut = data.read(make(path, frames[:, :200, :500], regions=[region((84, 31, 490, 414), (0.05, 0.05))]))
    assert cut.spacing == pytest.approx((0.5, 0.5))


def test_reading_needs_little_more_memory_than_the_frames(path):
    frames = np.broadcast_to(RNG.integers(0, 256, (1, 160, 200, 3)).astype(np.uint8), (60, 160, 200, 3))
    make(path, frames)
    data.read(path)  # imports
    tracemalloc.start()
    recording = data.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert recording.frames.nbytes == 60 * 160 * 200 * 4
    assert peak < 1.3 * recording.frames.nbytes


def test_what_is_deflated_beside_the_frames_takes_no_memory(path):
    make(path, syntax=DeflatedExplicitVRLittleEndian, EncapsulatedDocument=bytes(2**25))
    data.read(path)  # imports
    tracemalloc.start()
    assert data.read(path).frames.shape == LOOP.shape
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_limits_hold_before_anything_is_decoded(path, monkeypatch):
    content = make(path, np.zeros((40, 100, 100), np.uint8), syntax=DeflatedExplicitVRLittleEndian).read_bytes()
    assert len(content) < 3000
    monkeypatch.setattr(dicom_pixels, "MAX_DECODED_BYTES", 100_000)
    with pytest.raises(data.UnreadableFileError, match="inflates to more than"):
        data.read(path)
    monkeypatch.setattr("cardiojax.data.formats.common.MAX_DECODED_BYTES", 10**6)
    with pytest.raises(data.UnreadableFileError, match="GiB, expected at most"):
        data.read(make(path, np.zeros((40, 100, 100), np.uint8)))


def test_names_and_headers_are_printed_safely(tmp_path):
    path = make(tmp_path / "\x1b[2Jx.dcm", Modality="MRMRMRMR")
    path.write_bytes(path.read_bytes().replace(b"MRMRMRMR", b"\x1b[31m\x9bMR"))
    with pytest.raises(data.UnreadableFileError) as error:
        data.read(path)
    assert "\x1b" not in str(error.value)
    assert r"\x1b[2Jx.dcm" in str(error.value)
    assert Path(path).exists()
