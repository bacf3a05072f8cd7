"""safetensors files: what the format forbids is refused in a sentence, types of a quarter of a word are read."""

import json
import os
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import zoo


def write(path, header, data, *, length=None):
    """A file of the format: the length of the header, the header, the data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def array(dtype, shape, first, last):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("F8_E4M3", jnp.float8_e4m3fn), ("F8_E5M2", jnp.float8_e5m2), ("BF16", jnp.bfloat16), ("F16", np.float16)],
)
def test_short_types_become_float32(name, dtype, tmp_path):
    values = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
    data = values.astype(dtype).tobytes()
    write(tmp_path / "w.safetensors", {"a": array(name, [2, 2], 0, len(data))}, data)
    got = zoo.load_weights(tmp_path / "w.safetensors")["a"]
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, values)


ONE = array("F32", [1], 0, 4)
TWICE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": array("F4", [4], 0, 2)}, 2, "a has the type F4, which cannot be read"),
        ({"a": array("F6_E2M3", [4], 0, 3)}, 3, "a has the type F6_E2M3, which cannot be read"),
        ({"a": array("C64", [1], 0, 8)}, 8, "a has the type C64, which cannot be read"),
        ({"a": array("F99", [1], 0, 8)}, 8, "not a readable safetensors file"),
        (TWICE, 4, "states a name twice"),
        ({"a": array("F32", [2], 0, 8), "b": array("F32", [2], 4, 12)}, 12, "not a readable"),  # overlapping
        ({"a": array("F32", [2], 0, 8), "b": array("F32", [2], 0, 8)}, 8, "not a readable"),  # the same bytes
        ({"a": ONE, "b": array("F32", [1], 8, 12)}, 12, "not a readable"),  # a hole
        ({"a": ONE}, 8, "not a readable"),  # bytes of nobody
        ({"a": array("F32", [4], 0, 16)}, 8, "not a readable"),  # beyond the end
        ({"a": array("F32", [4], 0, 8)}, 8, "not a readable"),  # a lie on the size
        ({"a": array("F32", [1], 4, 0)}, 4, "not a readable"),
        ({"a": array("F32", [-1], 0, 4)}, 4, "not a readable"),
        ({"a": array("F32", [2**40, 2**40], 0, 4)}, 4, "not a readable"),
        ({"a": array("F32", [0, 2**62], 0, 0)}, 0, "not a readable"),
        ({"a": array("F32", [1] * 100, 0, 4)}, 4, "not a readable"),
        ({"\x1b[2J": ONE}, 4, r"the unusable name \?\[2J"),
        ({"a": ONE, "a/b": array("F32", [1], 4, 8)}, 8, "an array and a folder of one name"),
        ({"a/b": ONE, "a": array("F32", [1], 4, 8)}, 8, "an array and a folder of one name"),
        ({"a": [0, 4]}, 4, "not a readable"),
        (b'{"a":' + b"[" * 100_000, 0, "not a readable"),
    ],
)
def test_what_the_format_forbids_is_refused_in_a_sentence(header, data, message, tmp_path):
    path = tmp_path / "w.safetensors"
    write(path, header, bytes(data))
    with pytest.raises(zoo.WeightsError, match=message) as error:
        zoo.load_weights(path)
    assert str(error.value).isprintable()
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("length", [0, 1, 16 * 2**20, 16 * 2**20 + 1, 2**62, 2**64 - 1])
def test_a_header_of_another_length_is_refused(length, tmp_path):
    write(tmp_path / "w.safetensors", {"a": ONE}, bytes(4), length=length)
    with pytest.raises(zoo.WeightsError, match="not a readable safetensors file"):
        zoo.load_weights(tmp_path / "w.safetensors")


def test_a_changed_byte_of_own_weights_is_noticed(tmp_path):
    path = tmp_path / "w.safetensors"
    params = {"codes": np.arange(12, dtype=np.float32).reshape(3, 4), "b": {"c": np.float32(2.0)}}
    zoo.save_weights(path, params, metadata={"model": "mine"})
    whole = path.read_bytes()
    for offset in range(8, len(whole)):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        try:
            loaded = zoo.load_weights(path)
        except zoo.WeightsError:
            continue
        for name in ("codes", "b"):  # the name of the checksum, or spaces
            np.testing.assert_array_equal(
                jnp.stack(jax.tree.leaves(loaded[name])), jnp.stack(jax.tree.leaves(params[name]))
            )


def test_weights_that_cannot_be_written_leave_what_was_there(tmp_path, monkeypatch):
    zoo.save_weights(tmp_path / "w.safetensors", {"a": np.ones(3)})

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match=r"No space left on device.*w\.safetensors"):
        zoo.save_weights(tmp_path / "w.safetensors", {"a": np.zeros(3)})
    monkeypatch.undo()
    np.testing.assert_array_equal(zoo.load_weights(tmp_path / "w.safetensors")["a"], np.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
