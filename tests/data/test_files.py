"""Readers: real files against other decoders, known answers, and hostile files refused in one sentence."""

import contextlib
import gzip
import io
import logging
import os
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pydicom.data import get_testdata_file

from cardiojax import data
from cardiojax.data.formats.common import frame_time_from_stamps


@pytest.fixture(scope="module")
def cine():
    """A real apical four-chamber loop that ships with pydicom."""
    return get_testdata_file("examples_ybr_color.dcm", download=False)


def write_mhd(folder, array, spacing="0.308 0.154 1.54", name="x", **changes):
    fields = {
        "NDims": array.ndim, "DimSize": " ".join(map(str, array.shape[::-1])), "ElementType": "MET_UCHAR",
        "ElementSpacing": spacing, **changes,
    }  # fmt: skip
    fields["ElementDataFile"] = fields.pop("ElementDataFile", f"{name}.raw")  # always the last
    (folder / f"{name}.raw").write_bytes(array.tobytes())
    path = folder / f"{name}.mhd"
    path.write_text("".join(f"{k} = {v}\n" for k, v in fields.items() if v is not None))
    return path


def test_dicom_cine(cine):
    recording = data.read(cine)
    assert recording.frames.shape == (30, 240, 320)
    expected = pydicom.dcmread(cine).pixel_array @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(recording.frames, expected, atol=1e-5)
    assert recording.frame_time == pytest.approx(1 / 30, rel=1e-4)
    # the region is 384 rows of a 480-row frame and 19.6 cm deep; the file has half of those rows
    assert recording.spacing == pytest.approx((1.02099, 1.02099), rel=1e-4)
    assert recording.spacing[0] * 384 / 2 == pytest.approx(196.0, abs=0.1)
    assert "reduced 2 times" in recording.source


@pytest.mark.parametrize(
    ("name", "shape", "spacing"),
    [
        ("OBXXXX1A_2frame.dcm", (2, 600, 800), 0.26229),
        ("examples_palette.dcm", (1, 350, 800), 0.26229),
        ("gdcm-US-ALOKA-16.dcm", (1, 480, 640), 0.38265),
    ],
)
def test_palette_dicom(data_dir, name, shape, spacing):
    recording = data.read(data_dir / "dicom_us" / name)
    assert recording.frames.shape == shape
    assert recording.spacing == pytest.approx((spacing, spacing), rel=1e-4)
    assert recording.frames.max() > 0.9


def test_video(data_dir):
    recording = data.read(data_dir / "echo_cine" / "a4c_ntnu_echotracker_input.mp4")
    assert recording.frames.shape == (45, 768, 1024)
    assert recording.spacing is None
    assert recording.frame_time == pytest.approx(1 / 20)


def test_camus_nifti_is_turned_upright(data_dir):
    path = data_dir / "camus_nifti" / "patient0200" / "patient0200_4CH_ED.nii.gz"
    reference = nibabel.load(path)
    recording = data.read(path)
    np.testing.assert_allclose(recording.frames[0], np.asarray(reference.dataobj).T / 255, atol=1e-6)
    assert recording.spacing == pytest.approx((0.308, 0.308), rel=1e-5)
    labels = data.read_labels(str(path).replace("_ED", "_ED_gt"))
    assert set(np.unique(labels.labels)) == {0, 1, 2, 3}
    rows = [np.nonzero(labels.labels[0] == k)[0].mean() for k in (1, 3)]
    assert rows[0] < rows[1]  # the ventricle is above the atrium


def test_camus_metaimage_is_anisotropic(data_dir):
    path = data_dir / "camus_mhd" / "training" / "patient0001" / "patient0001_2CH_ED.mhd"
    recording = data.read(path)
    raw = np.frombuffer(path.with_suffix(".raw").read_bytes(), np.uint8).reshape(778, 549)
    np.testing.assert_allclose(recording.frames[0], raw / 255, atol=1e-6)
    assert recording.spacing == (0.154, 0.308)


def test_metaimage_variants(tmp_path):
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_allclose(data.read(write_mhd(tmp_path, array)).frames, array / 255)
    big = (array.astype(">i2") * 8).astype(">i2")
    path = write_mhd(tmp_path, big, ElementType="MET_SHORT", BinaryDataByteOrderMSB="True")
    np.testing.assert_allclose(data.read(path).frames, array * 8 / 255, atol=1e-6)
    local = tmp_path / "x.mha"
    header = (tmp_path / "x.mhd").read_text().replace("x.raw", "LOCAL").replace("MET_SHORT", "MET_UCHAR")
    local.write_bytes((header + "CompressedData = True\n").replace("ElementDataFile = LOCAL\n", "").encode())
    with local.open("ab") as file:
        file.write(b"ElementDataFile = LOCAL\n" + zlib.compress(array.tobytes()))
    np.testing.assert_allclose(data.read(local).frames, array / 255)


def test_pictures_and_arrays(tmp_path):
    array = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    Image.fromarray(array).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([array] * 3, -1)).save(tmp_path / "colour.png")
    Image.fromarray(array.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", frames=array[None], spacing=np.array([0.5, 0.4]))
    for name in ("grey.png", "colour.png", "deep.png", "a.npy", "a.npz"):
        recording = data.read(tmp_path / name)
        np.testing.assert_allclose(recording.frames, array[None] / 255, atol=2e-3)
    assert recording.spacing == (0.5, 0.4)


def test_content_decides_not_the_suffix(cine, tmp_path):
    wrong = tmp_path / "loop.mp4"
    wrong.write_bytes(Path(cine).read_bytes())
    assert data.read(wrong).frames.shape == (30, 240, 320)


@given(
    labels=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6)),
    dy=st.floats(0.05, 5),
    dx=st.floats(0.05, 5),
)
def test_masks_round_trip(tmp_path_factory, labels, dy, dx):
    path = tmp_path_factory.getbasetemp() / "masks.nii.gz"
    data.write_labels(path, labels, spacing=(dy, dx), frame_time=0.03)
    back = data.read_labels(path)
    np.testing.assert_array_equal(back.labels, labels)
    assert back.spacing == pytest.approx((dy, dx), rel=1e-6)
    assert not list(path.parent.glob("*.tmp"))


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def dicom_with(cine, **changes):
    dataset = pydicom.dcmread(cine)
    for name, value in changes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.dcm", b"", "is empty"),
        ("text.dcm", b"hello " * 100, "no format known"),
        ("cut.png", png(np.zeros((64, 64), np.uint8))[:60], "damaged"),
        ("cut.nii.gz", gzip.compress(bytes(2000), mtime=0)[:40], "damaged"),
        ("notnifti.gz", gzip.compress(b"abc", mtime=0), "holds no NIfTI"),
        ("pickle.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "damaged"),
        ("zip.npz", b"PK\x03\x04broken", "damaged"),
        ("movie.mp4", b"\0\0\0\x18ftypmp42" + bytes(64), "damaged"),
    ],
)
def test_hostile_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(data.UnreadableFileError, match=message) as error:
        data.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Modality": "CT"}, "modality CT, expected ultrasound"),
        ({"PixelData": None}, "without pixel data"),
        ({"Rows": 60000, "Columns": 60000}, "GiB, expected at most"),
    ],
)
def test_hostile_dicom(cine, tmp_path, changes, message):
    path = tmp_path / "x.dcm"
    path.write_bytes(dicom_with(cine, **changes))
    with pytest.raises(data.UnreadableFileError, match=message):
        data.read(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"DimSize": "9999999 99999 9"}, "GiB"),
        ({"DimSize": "4 0 2"}, "at least one pixel"),
        ({"DimSize": "5 3 2"}, "24 bytes of pixels, expected 30"),
        ({"ElementDataFile": "absent.raw"}, r"absent\.raw, which is not beside it"),
        ({"ElementDataFile": "../x.raw"}, "beside the header"),
        ({"ElementType": None}, "without ElementType"),
        ({"ElementType": "MET_OTHER"}, "expected one of MET_UCHAR"),
    ],
)
def test_hostile_metaimage(tmp_path, changes, message):
    path = write_mhd(tmp_path, np.zeros((2, 3, 4), np.uint8), **changes)
    with pytest.raises(data.UnreadableFileError, match=message):
        data.read(path)


def test_missing_files_folders_and_bad_values(tmp_path):
    with pytest.raises(data.UnreadableFileError, match="No such file"):
        data.read(tmp_path / "absent.dcm")
    with pytest.raises(data.UnreadableFileError, match="is a folder"):
        data.read(tmp_path)
    np.save(tmp_path / "nan.npy", np.full((2, 2), np.nan, np.float32))
    with pytest.raises(data.UnreadableFileError, match="not finite"):
        data.read(tmp_path / "nan.npy")
    np.save(tmp_path / "4d.npy", np.zeros((2, 2, 2, 2)))
    with pytest.raises(data.UnreadableFileError, match=r"expected numbers \[h, w\]"):
        data.read(tmp_path / "4d.npy")
    np.save(tmp_path / "half.npy", np.full((2, 2), 0.5))
    with pytest.raises(data.UnreadableFileError, match="whole numbers"):
        data.read_labels(tmp_path / "half.npy")


def test_damage_anywhere_is_a_sentence_or_a_recording(cine, tmp_path):
    content = Path(cine).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "x.dcm"
    for _ in range(12):
        damaged = bytearray(content[: rng.integers(200, len(content))])
        for position in rng.integers(0, min(len(damaged), 3000), 3):
            damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(data.UnreadableFileError):
            assert data.read(path).frames.ndim == 3


def test_what_is_no_file_is_a_sentence(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for path, message in (
        (tmp_path / "pipe", "is a pipe, socket or device"),
        (Path("/dev/null"), "is a pipe, socket or device"),
        (tmp_path / "a", "cannot be opened"),
        (tmp_path / "nothing\0", "cannot be opened"),
        (tmp_path / ("x" * 300), "cannot be opened"),
    ):
        with pytest.raises(data.UnreadableFileError, match=message):
            data.read(path)


def test_names_that_are_not_utf8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\x9b.npy")
    with pytest.raises(data.UnreadableFileError, match=r"caf\xe9\\x9b\.npy: cannot be opened"):
        data.read(path)
    with open(path, "wb") as file:
        np.save(file, np.zeros((2, 2), np.uint8))
    assert data.read(path).frames.shape == (1, 2, 2)


@given(st.text(st.characters(exclude_categories=[]), max_size=30))
def test_printable_text_is_one_line_without_controls(text):
    safe = data.printable(text)
    assert safe.isprintable()
    safe.encode("utf-8")
    assert data.printable("plain name (1).dcm") == "plain name (1).dcm"


def test_readers_in_threads_leave_no_state_behind(cine, tmp_path):
    broken = tmp_path / "x.dcm"
    broken.write_bytes(Path(cine).read_bytes()[:3000])
    names = (None, "pydicom", "libav", "nibabel", "PIL")

    def state():
        return [logging.root.manager.disable, *(logging.getLogger(n).level for n in names), list(warnings.filters)]

    def task(index):
        with contextlib.suppress(data.UnreadableFileError):
            data.read(cine if index % 2 else broken)

    before = state()
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(task, index) for index in range(24)]
        with pytest.warns(UserWarning, match="still seen"):
            warnings.warn("still seen", stacklevel=1)
        for job in jobs:
            job.result()
    assert state() == before


@pytest.mark.parametrize(
    ("stamps", "seconds", "words"),
    [
        ([0, 0.04, 0.08, 0.12], 0.04, None),
        ([0, 0.033, 0.067, 0.1], 1 / 30, None),
        ([0, 0.02, 0.06, 0.08, 0.12], None, "4 of 4"),
        ([0.04 * t + (t > 5) for t in range(12)], 0.04, "1 of 11"),
        ([0.04, 0.0, -0.04], None, "no echo loop"),
        ([0, 0, 0, 0], None, "no echo loop"),
        ([0, 5, 10], None, "no echo loop"),
        ([0, float("nan"), 1], None, "not finite"),
        ([0.5], None, None),
        ([], None, None),
    ],
)
def test_frame_time_from_stamps(stamps, seconds, words):
    frame_time, notes = frame_time_from_stamps(stamps)
    assert frame_time == (None if seconds is None else pytest.approx(seconds))
    assert (words is None and notes == ()) or words in notes[0]


AFFINE = np.array([[0.0, 0.3, 0, -10], [-0.2, 0, 0, 20], [0, 0, 2, 5], [0, 0, 0, 1]])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 1, 3)])
def test_masks_carry_the_geometry_of_the_input(tmp_path, shape, transposed, flips):
    stored = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    geometry = data.Geometry(AFFINE, shape, transposed, flips)
    frames = geometry.upright(stored)
    assert frames.ndim == 3
    assert frames.shape[1:] == ((4, 5) if transposed else (5, 4))
    row, column = (3 if flips[0] else 0), (4 if flips[1] else 0)
    if transposed:
        assert frames[0, row, column] == 0
    data.write_labels(tmp_path / "m.nii.gz", frames, spacing=(0.2, 0.3), frame_time=0.04, geometry=geometry)
    back = nibabel.load(tmp_path / "m.nii.gz")
    assert back.shape == shape
    np.testing.assert_array_equal(np.asarray(back.dataobj), stored)
    np.testing.assert_allclose(back.affine, AFFINE)
    np.testing.assert_allclose(back.header.get_zooms()[:2], (0.2, 0.3), rtol=1e-6)
    if len(shape) == 4:  # pixdim[3] of an array of three axes is a length
        assert back.header.get_zooms()[-1] == pytest.approx(0.04)


def test_masks_of_other_frames_keep_the_affine(tmp_path):
    geometry = data.Geometry(AFFINE, (4, 5, 1, 3))
    data.write_labels(tmp_path / "m.nii.gz", np.ones((2, 5, 4), np.uint8), geometry=geometry)
    back = nibabel.load(tmp_path / "m.nii.gz")
    assert back.shape == (4, 5, 2)
    np.testing.assert_allclose(back.affine, AFFINE)


def test_a_failed_write_leaves_nothing_and_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "m.nii.gz"
    previous = os.umask(0o027)
    try:
        data.write_labels(target, np.ones((1, 2, 2), np.uint8))
    finally:
        os.umask(previous)
    assert target.stat().st_mode & 0o777 == 0o640
    before = target.read_bytes()

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        data.write_labels(target, np.zeros((1, 2, 2), np.uint8))
    assert target.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.nii.gz"]
    with pytest.raises(OSError, match="No such file"):
        data.write_labels(tmp_path / "absent" / "m.nii.gz", np.zeros((1, 2, 2), np.uint8))


def test_text_of_a_file_takes_a_short_part_of_a_sentence():
    error = data.UnreadableFileError("x.mhd", "holds {stated} elements, expected one of a", stated="\x00" * 500)
    assert len(str(error)) < 200
    assert str(error).endswith("... elements, expected one of a")
    assert data.printable("\x1b" * 10, max_length=8) == r"\x1b\x1b..."


def test_a_header_that_is_no_python_is_refused_without_a_warning(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((8, 8), np.float32))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"'<f4'", rb"'\]4'"))
    with pytest.raises(data.UnreadableFileError):
        data.read(tmp_path / "a.npy")
