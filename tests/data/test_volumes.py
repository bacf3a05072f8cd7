"""NIfTI and MetaImage: what viewers show upright comes upright, in each data type, and headers are not believed."""

import gzip
import tracemalloc
import zlib

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiojax import data
from cardiojax.data.formats import common
from cardiojax.data.formats.volumes import stored

#: Left and posterior are where the rows and columns of CAMUS run to.
CAMUS = np.diag([-0.3, -0.2, 1.0, 1.0])


def image(num_frames=1, height=5, width=7):
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width)).astype(np.uint8)


def write(path, array, affine=CAMUS, kind=nibabel.Nifti1Image, units=("mm", "unknown"), zooms=None, **fields):
    """Writes an array ``(width, height, ...)``."""
    nifti = kind(array, affine)
    nifti.header.set_xyzt_units(*units)
    if zooms is not None:
        nifti.header.set_zooms(zooms)
    nifti.to_filename(path)
    if fields:
        content = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
        header = kind.header_class(bytes(content[: kind.header_class.sizeof_hdr]), check=False)
        for name, value in fields.items():
            header[name] = value
        content[: len(header.binaryblock)] = header.binaryblock
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def refused(path, message, read=data.read):
    with pytest.raises(data.UnreadableFileError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("flips", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("num_frames", [1, 3])
def test_any_storage_of_one_image_reads_the_same(tmp_path, flips, is_transposed, num_frames):
    frames = image(num_frames)
    camus = nibabel.Nifti1Image(frames.T if num_frames > 1 else frames[0].T, CAMUS)
    axes = np.array([[0, 1], [1, 1], [2, 1]])
    axes[:2, 1] = np.where(flips, -1, 1)
    axes[:2] = axes[1::-1] if is_transposed else axes[:2]
    array = camus.get_fdata().reshape(7, 5, 1, num_frames)
    turned = nibabel.orientations.apply_orientation(array, axes).astype(np.uint8)
    affine = CAMUS @ nibabel.orientations.inv_ornt_aff(axes, (7, 5, 1))
    path = write(tmp_path / "x.nii.gz", turned if num_frames > 1 else turned[..., 0, 0], affine)
    recording = data.read(path)
    np.testing.assert_allclose(recording.frames, frames / 255)
    assert recording.spacing == pytest.approx((0.2, 0.3))
    labels = np.asarray(frames % 4)
    data.write_labels(tmp_path / "masks.nii.gz", labels, spacing=recording.spacing, geometry=recording.geometry)
    masks = nibabel.load(tmp_path / "masks.nii.gz")
    assert masks.shape == nibabel.load(path).shape
    np.testing.assert_allclose(masks.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(masks.dataobj), nibabel.load(path).get_fdata() % 4)
    np.testing.assert_array_equal(data.read_labels(tmp_path / "masks.nii.gz").labels, labels)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_planes_are_shown_as_viewers_show_them(tmp_path, plane):
    frames = image()
    columns = {"axial": (-1, 0, 0), "coronal": (-1, 0, 0), "sagittal": (0, -1, 0)}[plane]
    rows = {"axial": (0, -1, 0), "coronal": (0, 0, -1), "sagittal": (0, 0, -1)}[plane]
    tilted = np.eye(4)
    tilted[:3, :3] = nibabel.eulerangles.euler2mat(0.2, -0.3, 0.25)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = columns, rows, np.cross(columns, rows)
    for turned in (affine, tilted @ affine):
        array, moved = frames[0].T[::-1], turned.copy()
        moved[:3, 0] *= -1
        np.testing.assert_allclose(data.read(write(tmp_path / "x.nii", frames[0].T, turned)).frames, frames / 255)
        np.testing.assert_allclose(data.read(write(tmp_path / "x.nii", array, moved)).frames, frames / 255)


def test_an_array_without_orientation_is_taken_as_it_is(tmp_path):
    frames = image()
    for affine in (np.eye(4), np.diag([0.3, 0.2, 1, 1])):
        np.testing.assert_allclose(data.read(write(tmp_path / "x.nii", frames[0].T, affine)).frames, frames / 255)
    path = write(tmp_path / "x.nii", frames[0].T, np.diag([0.3, -0.2, 1, 1]), sform_code=0, qform_code=0)
    recording = data.read(path)
    np.testing.assert_allclose(recording.frames, frames / 255)
    assert recording.spacing == pytest.approx((0.2, 0.3))
    assert recording.notes == ()
    data.write_labels(tmp_path / "m.nii", frames % 4, spacing=(0.2, 0.3), geometry=recording.geometry)
    np.testing.assert_array_equal(data.read_labels(tmp_path / "m.nii").labels, frames % 4)


@pytest.mark.parametrize("row", [(np.nan, 0, 0, 0), (0, 0, 0, 0)])
def test_an_invalid_orientation_is_noted(tmp_path, row):
    path = write(tmp_path / "x.nii", image()[0].T, srow_x=row)
    recording = data.read(path)
    np.testing.assert_allclose(recording.frames, image() / 255)
    assert recording.spacing == pytest.approx((0.2, 0.3))
    assert "orientation" in recording.notes[0]


@pytest.mark.parametrize(
    ("shape", "zooms", "units", "expected"),
    [
        ((7, 5, 3), (1, 1, 0.04), ("mm", "sec"), None),  # a length, whatever the unit of time is
        ((7, 5, 1, 3), (1, 1, 1, 0.04), ("mm", "sec"), 0.04),
        ((7, 5, 1, 3), (1, 1, 1, 40), ("mm", "msec"), 0.04),
        ((7, 5, 1, 3), (1, 1, 1, 0.04), ("mm", "unknown"), None),
        ((7, 5, 1, 3), (1, 1, 1, 25), ("mm", "hz"), None),
        ((7, 5, 1, 3), (1, 1, 1, 1000), ("mm", "sec"), None),
    ],
)
def test_time_is_the_fourth_axis(tmp_path, shape, zooms, units, expected):
    path = write(tmp_path / "x.nii.gz", image(3).T.reshape(shape), np.diag([-1, -1, 1, 1]), units=units, zooms=zooms)
    recording = data.read(path)
    assert recording.frames.shape == (3, 5, 7)
    assert recording.frame_time == (expected if expected is None else pytest.approx(expected))


def test_written_loops_keep_their_frame_time(tmp_path):
    data.write_labels(tmp_path / "x.nii.gz", image(3) % 4, spacing=(0.2, 0.3), frame_time=0.04)
    assert data.read(tmp_path / "x.nii.gz").frame_time == pytest.approx(0.04)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair])
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "<u2", "<i4", "<i8", "<f4", ">f8"])
def test_versions_and_data_types(tmp_path, kind, dtype):
    frames = image(3)
    nifti = kind(frames.T.astype(dtype), CAMUS, dtype=np.dtype(dtype))
    if dtype[0] == ">":
        nifti = kind(frames.T.astype(dtype), CAMUS, nifti.header.as_byteswapped(">"))
    nifti.to_filename(tmp_path / ("x.hdr" if kind is nibabel.Nifti1Pair else "x.nii"))
    path = tmp_path / ("x.hdr" if kind is nibabel.Nifti1Pair else "x.nii")
    np.testing.assert_allclose(data.read(path).frames, frames / 255, atol=1e-6)
    np.testing.assert_array_equal(data.read_labels(path).labels, frames)
    if kind is nibabel.Nifti1Pair:
        path.with_suffix(".img").unlink()
        refused(path, r"x\.img, which is not beside it")


def test_stored_values_are_scaled(tmp_path):
    frames = image(3)
    path = write(tmp_path / "x.nii.gz", frames.T, scl_slope=1 / 255, scl_inter=0)
    np.testing.assert_allclose(data.read(path).frames, frames / 255, atol=1e-6)
    path = write(tmp_path / "x.nii.gz", (frames.astype(np.int16) - 100).T, scl_slope=1, scl_inter=100)
    np.testing.assert_array_equal(data.read_labels(path).labels, frames)
    path = write(tmp_path / "x.nii.gz", frames.T, scl_slope=0, scl_inter=7)  # zero: not scaled
    np.testing.assert_array_equal(data.read_labels(path).labels, frames)


def test_colours_become_luma_and_complex_numbers_are_refused(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (7, 5, 1, 4)).astype(np.uint8)
    luma = (colours[..., 0, :3] @ [0.299, 0.587, 0.114]).T / 255
    for names in ("RGB", "RGBA"):
        dtype = np.dtype([(name, "u1") for name in names])
        stored = np.ascontiguousarray(colours[..., : len(names)]).view(dtype)[..., 0]
        path = write(tmp_path / "x.nii", stored)
        np.testing.assert_allclose(data.read(path).frames[0], luma, atol=1e-6)
    refused(write(tmp_path / "x.nii", np.ones((7, 5), np.complex64)), "complex64")


@pytest.mark.parametrize("shape", [(7, 5, 2, 3), (7, 5, 1, 1, 3), (7,)])
def test_arrays_that_are_no_loop(tmp_path, shape):
    refused(write(tmp_path / "x.nii", np.zeros(shape, np.uint8)), "expected width x height")


def test_the_content_tells_nifti_not_the_name(tmp_path):
    for name in ("x.gz", "x.dcm", "x"):
        path = tmp_path / name
        path.write_bytes(write(tmp_path / "x.nii.gz", image()[0].T).read_bytes())
        np.testing.assert_allclose(data.read(path).frames, image() / 255)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": [3, 30000, 30000, 3000, 1, 1, 1, 1]}, "would decode to"),
        ({"dim": [3, -7, 5, 1, 1, 1, 1, 1]}, "at least one pixel"),
        ({"dim": [2, 8, 5, 1, 1, 1, 1, 1]}, "has 35 bytes of pixels, expected 40"),
        ({"vox_offset": 2e9}, "bytes before its pixels"),
        ({"vox_offset": np.nan}, "damaged"),
        ({"datatype": 77}, "damaged"),
        ({"magic": b"abc"}, "expected that of NIfTI"),
    ],
)
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_hostile_headers(tmp_path, fields, message, name):
    refused(write(tmp_path / name, image()[0].T, **fields), message)


@pytest.mark.parametrize("pixdim", [0, np.nan, 1e9])
def test_an_invalid_spacing_comes_from_the_affine_or_is_unknown(tmp_path, pixdim):
    steps = [1, pixdim, pixdim, 1, 1, 1, 1, 1]
    assert data.read(write(tmp_path / "x.nii", image()[0].T, pixdim=steps)).spacing == pytest.approx((0.2, 0.3))
    recording = data.read(write(tmp_path / "x.nii", image()[0].T, pixdim=steps, sform_code=0))
    assert recording.spacing is None
    assert any("spacing" in note for note in recording.notes)
    np.testing.assert_allclose(recording.frames, image() / 255)


def test_a_changed_byte_of_a_compressed_file_is_noticed(tmp_path):
    path = write(tmp_path / "x.nii.gz", image()[0].T)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    refused(path, "damaged", data.read_labels)


def test_compressed_pixels_are_read_no_further_than_stated(tmp_path, monkeypatch):
    path = write(tmp_path / "x.nii.gz", np.zeros((64, 64, 64), np.uint8))
    monkeypatch.setattr(common, "MAX_DECODED_BYTES", 2**19)
    refused(path, "would decode to")


@pytest.mark.parametrize("wrong", [-1, 1.5, np.nan])
def test_invalid_labels(tmp_path, wrong):
    labels = np.ones((7, 5), np.float32)
    labels[1, 1] = wrong
    refused(write(tmp_path / "x.nii", labels), "not whole numbers", data.read_labels)
    header = {"ElementType": "MET_FLOAT", "ElementSpacing": "0.3 0.2"}
    refused(write_metaimage(tmp_path / "x.mhd", labels.T, **header), "not whole numbers", data.read_labels)


def write_metaimage(path, array, raw=None, **fields):
    """Writes an array ``[..., h, w]``; the shape is that of ``DimSize`` if given."""
    local = path.suffix == ".mha"
    pixels = array.tobytes() if raw is None else raw
    header = {
        "ObjectType": "Image", "NDims": array.ndim, "DimSize": " ".join(map(str, array.shape[::-1])),
        "ElementType": "MET_UCHAR", **fields,
        "ElementDataFile": fields.get("ElementDataFile", "LOCAL" if local else path.with_suffix(".raw").name),
    }  # fmt: skip
    header["ElementDataFile"] = header.pop("ElementDataFile")  # it ends the header
    text = "".join(f"{name} = {value}\n" for name, value in header.items()).encode()
    path.write_bytes(text + pixels if local else text)
    if not local:
        path.with_suffix(".raw").write_bytes(pixels)
    return path


@pytest.mark.parametrize(
    ("matrix", "stored"),
    [
        ("1 0 0 0 1 0 0 0 1", lambda x: x),
        ("-1 0 0 0 1 0 0 0 1", lambda x: x[..., ::-1]),
        ("1 0 0 0 -1 0 0 0 1", lambda x: x[..., ::-1, :]),
        ("0 1 0 1 0 0 0 0 1", lambda x: x.swapaxes(-1, -2)),
        ("0 1 0 -1 0 0 0 0 1", lambda x: x[..., ::-1].swapaxes(-1, -2)),
    ],
)
def test_the_transform_matrix_of_metaimage_is_applied(tmp_path, matrix, stored):
    frames = image(3)
    array = np.ascontiguousarray(stored(frames))
    spacing = "0.2 0.3 1" if array.shape[1] == 7 else "0.3 0.2 1"
    path = write_metaimage(tmp_path / "x.mha", array, TransformMatrix=matrix, ElementSpacing=spacing, Offset="1 2 3")
    recording = data.read(path)
    np.testing.assert_allclose(recording.frames, frames / 255)
    assert recording.spacing == (0.2, 0.3)
    data.write_labels(tmp_path / "m.nii.gz", frames % 4, spacing=(0.2, 0.3), geometry=recording.geometry)
    masks = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(np.asarray(masks.dataobj), array.T % 4)
    np.testing.assert_allclose(masks.affine[:3, 3], [-1, -2, 3])
    np.testing.assert_array_equal(data.read_labels(tmp_path / "m.nii.gz").labels, frames % 4)


@given(st.sampled_from(["x.mhd", "x.mha"]), st.booleans(), st.sampled_from(["u1", ">i2", "<u4", "<i8", "<f4", ">f8"]))
def test_metaimage_of_any_type(tmp_path_factory, name, is_compressed, dtype):
    frames = image(3)
    kinds = {"u1": "UCHAR", "i2": "SHORT", "u4": "UINT", "i8": "LONG_LONG", "f4": "FLOAT", "f8": "DOUBLE"}
    array = frames.astype(dtype)
    path = write_metaimage(
        tmp_path_factory.getbasetemp() / name,
        array,
        zlib.compress(array.tobytes()) if is_compressed else None,
        ElementType=f"MET_{kinds[dtype.strip('<>')]}",
        BinaryDataByteOrderMSB=dtype[0] == ">",
        CompressedData=is_compressed,
    )
    recording = data.read(path)
    np.testing.assert_allclose(recording.frames, frames / 255, atol=1e-6)
    assert recording.spacing is None


def test_metaimage_channels_headers_and_axes(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    path = write_metaimage(tmp_path / "x.mha", image()[0], colours.tobytes(), ElementNumberOfChannels=3)
    np.testing.assert_allclose(data.read(path).frames[0], colours @ [0.299, 0.587, 0.114] / 255, atol=1e-6)
    path = write_metaimage(tmp_path / "x.mha", image()[0], bytes(70), ElementNumberOfChannels=2)
    refused(path, "expected grey values or a colour")
    pixels = image(3).tobytes()
    for size in (9, -1):
        path = write_metaimage(tmp_path / "x.mhd", image(3), bytes(9) + pixels, HeaderSize=size)
        np.testing.assert_allclose(data.read(path).frames, image(3) / 255)
    path = write_metaimage(tmp_path / "x.mhd", image(3)[:, None])
    np.testing.assert_allclose(data.read(path).frames, image(3) / 255)
    refused(write_metaimage(tmp_path / "x.mhd", np.zeros((2, 3, 5, 7), np.uint8)), "expected width x height")
    refused(write_metaimage(tmp_path / "x.mhd", image(), BinaryData="False"), "as text")
    refused(write_metaimage(tmp_path / "x.mha", image(), zlib.compress(image().tobytes())[:-9], CompressedData="True"),
            "bytes of pixels|damaged")  # fmt: skip


@pytest.mark.parametrize("spacing", ["nan 0.3 1", "0 0.3 1", "-1 1 1", "1e30 1 1"])
def test_an_invalid_metaimage_spacing_is_unknown_and_noted(tmp_path, spacing):
    recording = data.read(write_metaimage(tmp_path / "x.mhd", image(), ElementSpacing=spacing))
    assert recording.spacing is None
    assert any("spacing" in note for note in recording.notes)
    np.testing.assert_allclose(recording.frames, image() / 255)


def test_every_camus_file_reads_as_it_is_stored(data_dir):
    paths = sorted((data_dir / "camus_nifti").glob("*/*.nii.gz"))
    assert len(paths) == 200
    for path in paths[:: len(paths) // 20]:
        stored = nibabel.load(path)
        read = data.read_labels(path).labels if "_gt" in path.name else data.read(path).frames * 255
        np.testing.assert_allclose(read[0], np.asarray(stored.dataobj).T, atol=1e-4)


@pytest.mark.parametrize("name", ["x.nii.gz", "x.mha", "x.npz"])
def test_the_peak_of_memory_is_that_of_the_frames(tmp_path, name):
    array = np.zeros((16, 512, 512), np.uint8)
    if name == "x.nii.gz":
        write(tmp_path / name, array.T.astype(np.float64))
    elif name == "x.mha":
        raw = zlib.compress(array.astype(">f4").tobytes())
        fields = {"ElementType": "MET_FLOAT", "CompressedData": "True", "BinaryDataByteOrderMSB": "True"}
        write_metaimage(tmp_path / name, array, raw, **fields)
    else:
        np.savez_compressed(tmp_path / name, frames=array.astype(np.int16), spacing=np.zeros(2**22))
    data.read(tmp_path / name)  # the decoders are imported
    tracemalloc.start()
    try:
        frames = data.read(tmp_path / name).frames
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert frames.nbytes == 2**24
    assert peak < 1.5 * frames.nbytes + 2 * stored.BLOCK_BYTES + 2**22


def test_the_default_spacing_of_writers_is_unknown(tmp_path):
    for path in (
        write(tmp_path / "x.nii.gz", image()[0].T, np.eye(4), units=("unknown", "unknown")),
        write_metaimage(tmp_path / "x.mhd", image(), ElementSpacing="1 1 1"),
    ):
        recording = data.read(path)
        assert recording.spacing is None
        assert "default pixel spacing of 1 x 1" in recording.notes[0]
    assert data.read(write(tmp_path / "mm.nii", image()[0].T, np.eye(4))).spacing == (1.0, 1.0)
    unstated = write(tmp_path / "u.nii", image()[0].T, np.diag([0.3, 0.2, 1, 1]), units=("unknown", "unknown"))
    assert data.read(unstated).spacing == pytest.approx((0.2, 0.3))
