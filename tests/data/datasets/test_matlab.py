"""Arrays of MATLAB files, as SciPy reads and writes them."""

import numpy as np
import pytest
from scipy import io

from cardiojax.data.formats.common import UnreadableFileError
from cardiojax.data.formats.volumes.matlab import read_array

OPTIONS = ({"format": "4"}, {"format": "5"}, {"format": "5", "do_compression": True})


@pytest.mark.parametrize("options", OPTIONS, ids=["4", "5", "compressed"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "i2", "u2", "u1", "i8", "u8", "i1", "u4"])
def test_arrays_are_those_of_scipy(tmp_path, options, dtype):
    path = tmp_path / "a.mat"
    shape = (7, 5) if options["format"] == "4" else (4, 3, 5)
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    io.savemat(path, {"first": np.eye(3), "x": values, "one": np.array([[3]], dtype)}, **options)
    for name in ("first", "x", "one"):
        expected = io.loadmat(path)[name]
        read = read_array(path, name)
        assert read.dtype == expected.dtype
        np.testing.assert_array_equal(read, expected)


def test_what_is_no_array_of_real_numbers_is_refused(tmp_path):
    path = tmp_path / "a.mat"
    for options in OPTIONS:
        io.savemat(path, {"x": np.eye(2) * 1j, "text": "words"}, **options)
        with pytest.raises(UnreadableFileError, match="'x' as complex numbers, expected numbers"):
            read_array(path, "x")
        with pytest.raises(UnreadableFileError, match="'text' as char, expected numbers"):
            read_array(path, "text")


def test_damage_is_a_sentence(tmp_path):
    path = tmp_path / "a.mat"
    io.savemat(path, {"x": np.zeros((200, 300))}, do_compression=True)
    content = path.read_bytes()
    path.write_bytes(content[:124] + b"\0\2IM" + content[128:])
    with pytest.raises(UnreadableFileError, match=r"version 7\.3, expected 4 to 7\.2"):
        read_array(path, "x")
    path.write_bytes(content[:132] + (2**31).to_bytes(4, "little") + content[136:])
    with pytest.raises(UnreadableFileError, match="states 2147483648 bytes, of which 2147483"):
        read_array(path, "x")
    path.write_bytes(content[:-2] + b"\1\2")
    with pytest.raises(UnreadableFileError, match="incorrect data check"):
        read_array(path, "x")
    io.savemat(path, {"x": np.zeros((200, 300))})
    content = bytearray(path.read_bytes())
    at = content.index((200).to_bytes(4, "little"))
    content[at : at + 4] = (10**6).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match="480000 bytes of type 9 are stated for 1000000 x 300 numbers"):
        read_array(path, "x")
    path.write_bytes(b"\0" * 300)
    with pytest.raises(UnreadableFileError, match="no readable MATLAB file"):
        read_array(path, "x")
