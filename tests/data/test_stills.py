"""Pictures and NumPy arrays: orientation, palettes, memory orders, and archives that are not what they say."""

import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from cardiojax import data
from cardiojax.data.formats import common

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def refused(path, message, read=data.read):
    with pytest.raises(data.UnreadableFileError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, ARRAY), (2, ARRAY[:, ::-1]), (3, ARRAY[::-1, ::-1]), (4, ARRAY[::-1]),
        (5, ARRAY.T), (6, np.rot90(ARRAY, 1)), (7, ARRAY[::-1, ::-1].T), (8, np.rot90(ARRAY, -1)),
    ],
)  # fmt: skip
def test_the_exif_orientation_is_applied(tmp_path, orientation, stored):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(stored).repeat(16, 0).repeat(16, 1))
    for name in ("x.png", "x.jpg"):
        picture.save(tmp_path / name, exif=exif)
        frame = data.read(tmp_path / name).frames[0]
        np.testing.assert_allclose(frame[8::16, 8::16], ARRAY / 255, atol=0.02)
    labels = data.read_labels(tmp_path / "x.png").labels[0]
    np.testing.assert_array_equal(labels[8::16, 8::16], ARRAY)


def test_damaged_exif_states_no_orientation(tmp_path):
    Image.fromarray(ARRAY).save(tmp_path / "x.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(20))
    np.testing.assert_allclose(data.read(tmp_path / "x.png").frames[0], ARRAY / 255)


def test_a_palette_gives_grey_values_of_an_image_and_indices_of_a_mask(tmp_path):
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    picture = Image.fromarray(labels)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 200, 200, 200])
    picture.save(tmp_path / "x.png")
    grey = np.array([[0, 0.299], [0.587, 200 / 255]])
    np.testing.assert_allclose(data.read(tmp_path / "x.png").frames[0], grey, atol=0.003)
    np.testing.assert_array_equal(data.read_labels(tmp_path / "x.png").labels[0], labels)


def grey_png(labels, depth):
    """A grey PNG of few bits a sample, which Pillow does not write."""
    rows = np.unpackbits(labels[..., None], axis=-1)[..., -depth:].reshape(len(labels), -1)
    scanlines = b"".join(b"\0" + row.tobytes() for row in np.packbits(rows, axis=-1))

    def chunk(kind, content):
        return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)

    height, width = labels.shape
    header = width.to_bytes(4) + height.to_bytes(4) + bytes([depth, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(scanlines)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_labels_of_few_bits_are_what_they_are(tmp_path, depth):
    labels = (np.arange(12, dtype=np.uint8).reshape(3, 4) % 2**depth).astype(np.uint8)
    (tmp_path / "x.png").write_bytes(grey_png(labels, depth))
    np.testing.assert_array_equal(data.read_labels(tmp_path / "x.png").labels[0], labels)
    np.testing.assert_allclose(data.read(tmp_path / "x.png").frames[0], labels / (2**depth - 1))


def test_a_mask_in_equal_channels_is_read_and_a_coloured_one_refused(tmp_path):
    labels = ARRAY // 20 % 4
    for mode, channels in (("RGB", 3), ("RGBA", 4)):
        Image.fromarray(np.stack([labels] * channels, -1), mode).save(tmp_path / "x.png")
        np.testing.assert_array_equal(data.read_labels(tmp_path / "x.png").labels[0], labels)
    Image.fromarray(np.stack([labels, labels, 0 * labels], -1)).save(tmp_path / "x.png")
    refused(tmp_path / "x.png", "colour picture, expected a mask", data.read_labels)


def test_only_the_first_picture_of_an_animation_is_read_and_noted(tmp_path):
    first, second = Image.fromarray(ARRAY), Image.fromarray(ARRAY[::-1].copy())
    first.save(tmp_path / "x.png", save_all=True, append_images=[second])
    recording = data.read(tmp_path / "x.png")
    np.testing.assert_allclose(recording.frames, ARRAY[None] / 255)
    assert "first of 2" in recording.notes[0]


def test_dimensions_are_checked_before_pixels_are_decoded(tmp_path):
    content = bytearray(grey_png(ARRAY % 2, 1))
    for width in (10_000, 30_000, 2**31 - 1):
        content[16:24] = width.to_bytes(4) * 2
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4)
        (tmp_path / "x.png").write_bytes(content)
        refused(tmp_path / "x.png", "pixels|would decode")


@given(
    hnp.arrays(
        st.sampled_from([np.bool_, np.uint8, np.uint16, np.int64, np.float16, np.float64, ">u2", ">f4"]),
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=5),
        elements=st.integers(0, 1),
    ),
    st.booleans(),
)
def test_arrays_of_any_type_and_memory_order(tmp_path_factory, labels, is_fortran):
    folder = tmp_path_factory.getbasetemp()
    stored = np.asfortranarray(labels) if is_fortran else labels
    np.save(folder / "x.npy", stored)
    np.savez_compressed(folder / "x.npz", mask=stored, spacing=[0.3, 0.2])
    expected = labels.reshape((-1, *labels.shape[-2:])).astype(int)
    np.testing.assert_array_equal(data.read_labels(folder / "x.npy").labels, expected)
    np.testing.assert_array_equal(data.read_labels(folder / "x.npz").labels, expected)
    assert data.read_labels(folder / "x.npz").spacing == (0.3, 0.2)


@pytest.mark.parametrize("wrong", [-1, 1.5, np.nan, np.inf, 256, -(2.0**40)])
@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_invalid_labels(tmp_path, wrong, name):
    labels = np.ones((2, 3, 4))
    labels[1, 1, 1] = wrong
    with (tmp_path / name).open("wb") as file:
        np.save(file, labels) if name == "x.npy" else np.savez(file, labels)
    refused(tmp_path / name, "not whole numbers from 0 to 255", data.read_labels)


@pytest.mark.parametrize("spacing", [[0, 0.3], [0.3, -1], [np.nan, 1], [1, 2, 3], [[1, 2]], ["a", "b"], 7])
def test_an_invalid_spacing_is_unknown_and_noted(tmp_path, spacing):
    np.savez(tmp_path / "x.npz", frames=ARRAY, spacing=spacing)
    recording = data.read(tmp_path / "x.npz")
    assert recording.spacing is None
    assert "spacing" in recording.notes[0]


def header_of(shape, dtype="|u1", version=1, size=None):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    length = (len(text) if size is None else size).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header_of((10**6, 10**6)) + b"x", "would decode to 3725.3 GiB"),
        (header_of((2**40,) * 3), "would decode to"),
        (header_of((0, 4)), "at least one pixel"),
        (header_of((3, 4)) + b"x", "has 1 bytes of pixels, expected 12"),
        (header_of((3, 4), version=2, size=2**31), "has a header of 2147483648 bytes"),
        (header_of((3, 4), "|O"), "Python objects"),
        (header_of((3, 4), "<c8"), "expected numbers"),
        (header_of((3, 4), "<U3"), "expected numbers"),
        (header_of((3,)), "expected numbers"),
        (b"\x93NUMPY\x01", "without the header|damaged"),
        (b"\x93NUMPY\x07\x00\x10\x00\x00\x00{}", "damaged"),
    ],
)
def test_hostile_arrays(tmp_path, content, message):
    (tmp_path / "x.npy").write_bytes(content)
    refused(tmp_path / "x.npy", message)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("frames.npy", content)
    refused(tmp_path / "x.npz", message)


def test_archives_that_hold_no_array(tmp_path):
    path = tmp_path / "x.npz"
    for name, content, method, message in (
        ("frames.npy", b"text", zipfile.ZIP_STORED, "without the header of NumPy"),
        ("data.pkl", b"text", zipfile.ZIP_STORED, "archive without arrays"),
        ("frames.npy", header_of((3, 4)) + bytes(12), zipfile.ZIP_LZMA, "method that NumPy does not use"),
    ):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr(name, content)
        refused(path, message)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("frames.npy", header_of((3, 4)) + bytes(12))
    content = bytearray(path.read_bytes())
    for start in (content.index(b"PK\3\4") + 6, content.index(b"PK\1\2") + 8):
        content[start] |= 1  # the flag of encryption
    path.write_bytes(content)
    refused(path, "encrypted")
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(100):
            archive.writestr(f"{i}.npy", b"")
    refused(path, r"holds 0, 1, 2, 3, 4, 5, 6, 7, \.\.\., expected one named")


def test_a_changed_byte_in_an_archive_is_noticed(tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", mask=np.random.default_rng(0).integers(0, 4, (20, 20), np.uint8))
        content = bytearray((tmp_path / "x.npz").read_bytes())
        content[len(content) // 3] ^= 1
        (tmp_path / "x.npz").write_bytes(content)
        refused(tmp_path / "x.npz", "damaged|bytes of pixels", data.read_labels)


def test_an_archive_is_decompressed_no_further_than_stated(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", frames=np.zeros((64, 64, 64), np.uint8), spacing=np.zeros(2**20))
    assert data.read(tmp_path / "x.npz").spacing is None
    monkeypatch.setattr(common, "MAX_DECODED_BYTES", 2**19)
    refused(tmp_path / "x.npz", "would decode to")
