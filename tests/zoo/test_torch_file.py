"""PyTorch's files: read without PyTorch, without running what they contain, within the bytes that they have."""

import argparse
import contextlib
import copy
import io
import os
import pathlib
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import zoo
from tests.zoo.torch_writer import Call, Named, Pickler, Storage, tensor, write_archive, write_torch


def test_half_and_quarter_precisions_are_read(tmp_path):
    values = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
    write_torch(tmp_path / "h.pth", {"a": values.astype(np.float16)}, kind="HalfStorage")
    write_torch(tmp_path / "b.pth", {"a": values.astype(jnp.bfloat16)}, kind="BFloat16Storage")
    for name, dtype in (("e4m3fn", jnp.float8_e4m3fn), ("e5m2", jnp.float8_e5m2)):
        storage = Storage("UntypedStorage", "0", 4)
        rebuild = Named("torch._utils", "_rebuild_tensor_v3")
        arguments = (storage, 0, (2, 2), (2, 1), False, OrderedDict(), Named("torch", f"float8_{name}"))
        write_archive(tmp_path / f"{name}.pth", {"a": Call(rebuild, arguments)}, {"0": values.astype(dtype).tobytes()})
    for name in ("h", "b", "e4m3fn", "e5m2"):
        got = zoo.read_checkpoint(tmp_path / f"{name}.pth")["a"]
        np.testing.assert_array_equal(got.astype(np.float32), values)


def _optimizer(state):
    """One of PyTorch's, which SAM-Med2D saves whole, with tensors in it."""
    return Call(Named("torch.optim.adam", "Adam"), (state,))


def _beside(tensors):
    """What training scripts save beside the weights."""
    scalar = Call(Named("numpy._core.multiarray", "scalar"), (Call(Named("numpy", "dtype"), ("f8",)), b"\x00" * 8))
    settings = argparse.Namespace(work_dir=pathlib.PurePosixPath("runs/1"), lr=1e-4, sizes=frozenset({1, 2}))
    moments = {0: {"exp_avg": next(iter(tensors.values()))}}
    return {
        "epoch": 3,
        "args": settings,
        "device": Call(Named("torch", "device"), ("cuda", 0)),
        "size": Call(Named("torch", "Size"), ((2, 3),)),
        "dtype": Named("torch", "float16"),
        "losses": [scalar, 0.5],
        "cfg": Call(Named("omegaconf.dictconfig", "DictConfig"), ({"a": 1},)),
        "schedule": Call(Call(Named("functools", "partial"), (Named("builtins", "max"),)), (1,)),
        "optimizer": _optimizer(moments),
        "optimizer_state": {"state": moments, ("tuple", "key"): 1},
    }


@pytest.mark.parametrize("wrapper", ["model", "model_state_dict", "state_dict", "network_weights"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_inert_objects_beside_the_weights_are_skipped(wrapper, protocol, tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors = {"a": tensor("0", (2, 3), (3, 1)), "b.c": tensor("1", (6,), (1,))}
    content = {**_beside(tensors), wrapper: OrderedDict(tensors)}
    write_archive(tmp_path / "w.pth", content, {"0": values.tobytes(), "1": values.tobytes()}, protocol=protocol)
    got = zoo.read_checkpoint(tmp_path / "w.pth")
    assert got.keys() == {"a", "b.c"}
    np.testing.assert_array_equal(got["a"], values)
    np.testing.assert_array_equal(got["b.c"], values.ravel())


def test_weights_within_an_object_are_refused_with_its_class(tmp_path):
    for content in (
        Call(Named("segment_anything.modeling.sam", "Sam"), ({"a": tensor("0", (2,), (1,))},)),
        {"epoch": 1, "model": _optimizer({"a": tensor("0", (2,), (1,))})},
    ):
        write_archive(tmp_path / "w.pth", content, {"0": bytes(8)})
        with pytest.raises(
            zoo.WeightsError, match=r"within an object of (segment_anything\.modeling\.sam\.Sam|torch\.optim)"
        ):
            zoo.read_checkpoint(tmp_path / "w.pth")


class _RunsCode:
    def __reduce__(self):
        return os.system, ("touch /tmp/cardiojax_was_here",)


@pytest.mark.parametrize(
    "function", ["posix.system", "builtins.eval", "torch.load", "torch._utils._import_dotted_name"]
)
def test_code_is_not_run(function, tmp_path):
    module, name = function.rsplit(".", 1)
    marker = tmp_path / "ran"
    call = Call(Named(module, name), (f"touch {marker}",))
    write_torch(tmp_path / "w.pth", {"a": np.zeros(2, np.float32)}, wrap=lambda t: {"state_dict": t, "x": call})
    assert zoo.read_checkpoint(tmp_path / "w.pth").keys() == {"a"}
    write_torch(tmp_path / "w.pth", {"a": np.zeros(2, np.float32)}, wrap=lambda t: {"state_dict": call})
    with pytest.raises(zoo.WeightsError, match=r"w\.pth: holds no tensors$"):
        zoo.read_checkpoint(tmp_path / "w.pth")
    assert not marker.exists()


def hostile(path, kind):
    zeros = {"a": np.zeros(4, np.float32)}
    if kind == "absent":
        return
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(_RunsCode()))
    elif kind == "legacy":
        path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
    elif kind == "folder":
        path.mkdir()
    elif kind == "twice":
        with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings(action="ignore"):
            archive.writestr("archive/data.pkl", b"\x80\x02}.")
            archive.writestr("archive/data.pkl", b"\x80\x02}.")
    elif kind == "overlapping":  # 100 storages, all of the same bytes
        write_archive(path, {f"t{i}": tensor(f"{i:03}", (1000,), (1,)) for i in range(100)}, {"000": bytes(4000)})
        with zipfile.ZipFile(path, "a") as archive:
            first = archive.getinfo("archive/data/000")
            for i in range(1, 100):
                entry = copy.copy(first)
                entry.filename = f"archive/data/{i:03}"
                archive.filelist.append(entry)
                archive.NameToInfo[entry.filename] = entry
            archive._didModify = True
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "compressed":  # 3 GB of zeros would fit into 3 MB
        write_torch(path, {"a": np.zeros(10_000, np.float32)}, compress=zipfile.ZIP_DEFLATED)
    elif kind == "claims too much":
        write_torch(path, zeros, shape=(30_000, 30_000))
    elif kind == "overflows":
        write_torch(path, zeros, shape=(2**40, 2**40))
    elif kind == "no tensors":
        write_torch(path, {})
    elif kind == "another zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
    elif kind == "broken pickle":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}q\x00(X")
    else:
        write_torch(path, {"a": np.zeros(1000, np.float32)})
        whole = path.read_bytes()
        if kind == "truncated":
            path.write_bytes(whole[: len(whole) // 2])
        else:  # a bit of the data flipped
            at = whole.index(b"\x00" * 256) + 128
            path.write_bytes(whole[:at] + b"\x01" + whole[at + 1 :])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("absent", "no such weight file"),
        ("overlapping", "claims more data than"),
        ("twice", "two entries of one name"),
        ("legacy", r"before version 1\.6"),
        ("folder", "no such weight file"),
        ("bare pickle", "not a readable file of torch.save since version 1.6"),
        ("empty", "not a readable file"),
        ("truncated", "not a readable file"),
        ("flipped", "not a readable file"),
        ("compressed", "has compressed entries"),
        ("claims too much", r"a claims shape \(30000, 30000\), more than the 16 bytes"),
        ("overflows", "a claims shape"),
        ("no tensors", "holds no tensors"),
        ("another zip", "no data.pkl"),
        ("broken pickle", "damaged"),
    ],
)
def test_hostile_files_are_refused_in_a_sentence(kind, message, tmp_path):
    path = tmp_path / "w.pth"
    hostile(path, kind)
    with pytest.raises(zoo.WeightsError, match=message) as error:
        zoo.read_checkpoint(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def _forge_sizes(path, claimed):
    """Makes the directory and the header of the first storage state another size; nothing else is changed."""
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("archive/data/0")
    for signature, sizes in ((b"PK\x01\x02", 20), (b"PK\x03\x04", 18)):
        at = whole.rindex(entry.filename.encode()) if sizes == 20 else whole.index(entry.filename.encode())
        start = whole.rindex(signature, 0, at)
        whole[start + sizes : start + sizes + 8] = struct.pack("<II", *claimed)
    path.write_bytes(whole)


@pytest.mark.parametrize("claimed", [(8, 2**20), (2**20, 2**20), (2**31, 2**31), (8, 4), (4, 8)])
def test_a_directory_that_claims_another_size_is_refused(claimed, tmp_path):
    path = tmp_path / "w.pth"
    write_archive(path, {"a": tensor("0", (2**18,), (1,))}, {"0": bytes(8)})
    _forge_sizes(path, claimed)
    with pytest.raises(zoo.WeightsError) as error:
        zoo.read_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (tensor("0", (-4,), (1,)), "shape"),
        (tensor("0", (2, 2), (-2, 1), offset=3), "strides"),
        (tensor("0", (4,), (1,), offset=-1), "shape"),
        (tensor("0", (4,), (1,), offset=1), "more than the 16 bytes"),
        (tensor("0", (4,), (2,)), "more than the 16 bytes"),
        (tensor("0", (2, 2), (2**62, 1)), "more than the 16 bytes"),
        (tensor("0", (2**31, 2**31), (0, 0)), "more than the 16 bytes"),
        (tensor("0", (5,), (0,)), "more than the 16 bytes"),
        (tensor("0", (1,) * 33, (1,) * 33), "shape"),
        (tensor("0", (2, 2), (1,)), "shape"),
        (tensor("0", (2.0, 2), (2, 1)), "not made of whole numbers"),
        (tensor("0", (True, 2), (2, 1)), "not made of whole numbers"),
        (tensor("0", (0, 2**62), (1, 1)), "damaged"),
        (tensor("9", (4,), (1,)), "no data in the file"),
        (tensor("0", (2,), (1,), kind="ComplexFloatStorage"), "torch.ComplexFloatStorage, which cannot be read"),
        (Call(Named("torch._utils", "_rebuild_tensor_v2"), ()), "without a storage"),
        (Call(Named("torch._utils", "_rebuild_tensor_v3"), (1,) * 7), "without a type"),
    ],
)
def test_what_a_tensor_claims_is_compared_with_its_bytes(described, message, tmp_path):
    write_archive(tmp_path / "w.pth", {"a": described}, {"0": bytes(16)})
    with pytest.raises(zoo.WeightsError, match=message) as error:
        zoo.read_checkpoint(tmp_path / "w.pth")
    assert "\n" not in str(error.value)


def test_a_storage_may_be_shared_but_not_multiplied(tmp_path):
    shared = {f"t{i}": tensor("0", (4,), (1,)) for i in range(17)}
    write_archive(tmp_path / "w.pth", dict(list(shared.items())[:16]), {"0": bytes(16)})
    assert len(zoo.read_checkpoint(tmp_path / "w.pth")) == 16
    write_archive(tmp_path / "w.pth", shared, {"0": bytes(16)})
    with pytest.raises(zoo.WeightsError, match="over 16 times the bytes"):
        zoo.read_checkpoint(tmp_path / "w.pth")


def _pairs(*pairs):
    """The pickle of a dictionary whose keys may come twice."""
    stream = io.BytesIO()
    pickler = Pickler(stream, protocol=2)
    pickler.write(b"\x80\x02}(")
    for key, value in pairs:
        pickler.save(key)
        pickler.save(value)
    pickler.write(b"u.")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_pairs(("a", tensor("0", (4,), (1,))), ("a", tensor("0", (4,), (1,)))), "holds a twice"),
        (_pairs(("a\x1b[2J", tensor("0", (4,), (1,)))), r"the unusable name a\?\[2J"),
        (_pairs(("a" * 1000, tensor("0", (4,), (1,)))), "the unusable name aaa"),
        (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "nested over 32 deep"),  # within itself
        (b"\x80\x02" + b"}K\x01" * 10_000 + b"}" + b"s" * 10_000 + b".", "nested over 32 deep"),
        (b"\x80\x02)" + b"\x85" * 20_000 + b".", "holds no tensors"),  # tuples within tuples
        (b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".", "holds no tensors"),
        (  # 2 ** 59 items, by reference
            b"\x80\x02}q\x00" + b"".join(b"}q%c(K\x01h%cK\x02h%cu" % (i, i - 1, i - 1) for i in range(1, 60)) + b".",
            "nested over 32 deep",
        ),
        (  # 2 ** 29 items, not so deep
            b"\x80\x02}q\x00" + b"".join(b"}q%c(K\x01h%cK\x02h%cu" % (i, i - 1, i - 1) for i in range(1, 30)) + b".",
            "over 1000000 items",
        ),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "holds no tensors"),  # a memo entry with a huge number
        (b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "pickle is damaged"),  # bytes longer than the file
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "pickle is damaged"),
        (b"\x80\x04X\xe8\x03\0\0" + b"m" * 1000 + b"X\x01\0\0\0n\x93.", "names a class in over 1000 characters"),
        (b"\x80\x02ios\nsystem\n.", "the operation INST, which is not interpreted"),
        (b"\x80\x02\x82\x01.", "the operation EXT1, which is not interpreted"),
        (b"\x80\x02}", "pickle is damaged"),
        (b"\x80\x02a.", "pickle is damaged"),
        (b"\x80\x02h\x07.", "pickle is damaged"),
        (b"\x80\x02N(K\x01u.", "pickle is damaged"),
        (b"\x80\x02NNR.", "pickle is damaged"),
        (b"\x80\x02NQ.", "data of an unknown kind"),
    ],
)
def test_hostile_pickles_end_in_a_sentence(content, message, tmp_path):
    write_archive(tmp_path / "w.pth", content, {"0": bytes(16)})
    with pytest.raises(zoo.WeightsError, match=message) as error:
        zoo.read_checkpoint(tmp_path / "w.pth")
    assert str(error.value).isprintable()


def test_the_number_of_operations_is_bounded(monkeypatch, tmp_path):
    monkeypatch.setattr("cardiojax.zoo.originals.pickles.MAX_OPERATIONS", 100)
    write_archive(tmp_path / "w.pth", b"\x80\x02" + b"N" * 98 + b".", {})
    with pytest.raises(zoo.WeightsError, match="holds no tensors"):
        zoo.read_checkpoint(tmp_path / "w.pth")
    write_archive(tmp_path / "w.pth", b"\x80\x02" + b"N" * 99 + b".", {})
    with pytest.raises(zoo.WeightsError, match="over 100 operations"):
        zoo.read_checkpoint(tmp_path / "w.pth")
    monkeypatch.setattr("cardiojax.zoo.originals.pickles.MAX_BYTES", 100)
    with pytest.raises(zoo.WeightsError, match="over 0 MiB"):
        zoo.read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("offset", range(5))
def test_damage_anywhere_in_the_description_ends_in_a_sentence(offset, tmp_path):
    path = tmp_path / "w.pth"
    write_torch(path, {"a": np.zeros(4, np.float32), "b": np.zeros((2, 2), np.float32)})
    with zipfile.ZipFile(path) as archive:
        description = archive.read("archive/data.pkl")
    for at in range(offset, len(description), 5):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(
                "archive/data.pkl", description[:at] + bytes([description[at] ^ 0x5A]) + description[at + 1 :]
            )
            for key in "01":
                archive.writestr(f"archive/data/{key}", b"\x00" * 16)
        with contextlib.suppress(zoo.WeightsError):  # nothing else may come out
            zoo.read_checkpoint(path)


def test_reads_what_pytorch_writes(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(4, 6)
    written = {
        "whole": base, "view": base[1:, ::2], "transposed": base.T, "scalar": torch.tensor(3.0),
        "parameter": torch.nn.Parameter(base.half()), "bfloat": base.bfloat16(), "counts": torch.arange(3),
        "empty": torch.zeros(0, 3),
    }  # fmt: skip
    torch.save(OrderedDict(written), tmp_path / "w.pth")
    got = zoo.read_checkpoint(tmp_path / "w.pth")
    assert got.keys() == written.keys()
    for name, value in written.items():
        np.testing.assert_array_equal(got[name].astype(np.float64), value.detach().double().numpy())
    torch.save(written, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(zoo.WeightsError, match=r"before version 1\.6"):
        zoo.read_checkpoint(tmp_path / "old.pth")


def test_an_escape_sequence_that_is_none_is_refused_without_a_warning(tmp_path):
    write_archive(tmp_path / "w.pth", {}, {})
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"S'\\q'\n.")
    with pytest.raises(zoo.WeightsError):
        zoo.read_checkpoint(tmp_path / "w.pth")
