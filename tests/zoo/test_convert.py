"""Checkpoints of others: every tensor in its place, and nothing in them is run."""

import contextlib
import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from cardiojax import models, zoo

CONFIG = models.ViTConfig(image_size=(32, 32), width=8, depth=1, num_heads=2, num_classes=3)


class _Named:
    """Pickles as a global name."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class _Call:
    def __init__(self, function, arguments):
        self.function, self.arguments = function, arguments


class _Storage:
    def __init__(self, kind, key, size):
        self.pid = ("storage", _Named("torch", kind), key, "cpu", size)


class _Pickler(pickle._Pickler):
    """Writes what torch.save writes, by hand, so that the tests need no PyTorch."""

    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, _Storage) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, _Named):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, _Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def write_torch(
    path, state, *, kind="FloatStorage", compress=zipfile.ZIP_STORED, wrap=lambda x: x, data=None, shape=None
):
    """A file of torch.save's format with the arrays of ``state``."""
    tensors, blobs = OrderedDict(), {}
    for i, (name, value) in enumerate(state.items()):
        value = np.ascontiguousarray(value)
        size = shape or value.shape
        strides = tuple(np.cumprod((1, *size[::-1]))[:-1][::-1].tolist()) if size else ()
        storage = _Storage(kind, str(i), int(np.prod(size)))
        rebuild = _Named("torch._utils", "_rebuild_tensor_v2")
        tensors[name] = _Call(rebuild, (storage, 0, tuple(size), strides, False, OrderedDict()))
        blobs[str(i)] = value.tobytes() if data is None else data
    stream = io.BytesIO()
    _Pickler(stream, protocol=2).dump(wrap(dict(tensors)))
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, blob in blobs.items():
            archive.writestr(f"archive/data/{key}", blob)
        archive.writestr("archive/version", "3\n")


@pytest.fixture(scope="module")
def abstract():
    return jax.eval_shape(models.ViT(CONFIG).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]


@pytest.fixture(scope="module")
def state(abstract, fill):
    """The names and axes of timm."""
    params = fill(abstract)
    flat = {}
    for path, leaf in zoo.flatten(params).items():
        value = np.asarray(leaf)
        if path.endswith("/kernel"):
            value = np.moveaxis(value, (-2, -1), (1, 0))
        flat[zoo.foreign_key(path, zoo.LAYOUTS["timm"])] = value
    return flat


def load(path, abstract):
    return zoo.convert(zoo.read_checkpoint(path), abstract, layout=zoo.LAYOUTS["timm"], source=str(path))


def wrapped(tensors):
    """As trainers save it: beside an optimizer, settings and a log."""
    scalar = _Call(_Named("numpy.core.multiarray", "scalar"), (_Call(_Named("numpy", "dtype"), ("f8",)), b"\x00" * 8))
    return {"epoch": 3, "log": [scalar], "state_dict": {f"module.{k}": v for k, v in tensors.items()}, "lr": {"x": 1.0}}


@pytest.mark.parametrize("form", ["pth", "wrapped", "safetensors"])
def test_every_tensor_in_its_place(form, abstract, state, fill, tmp_path):
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file({k: np.ascontiguousarray(v) for k, v in state.items()}, path)
    else:
        write_torch(path, state, wrap=wrapped if form == "wrapped" else lambda x: x)
    got = load(path, abstract)
    jax.tree.map(np.testing.assert_array_equal, got, fill(abstract))


def test_a_run_of_nnunet_is_loaded(fill, tmp_path):
    kwargs = {
        "n_stages": 3, "features_per_stage": [4, 6, 8], "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]], "n_conv_per_stage": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2],
    }  # fmt: skip
    network = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    configuration = {
        "spacing": [5.0, 1.0, 1.0], "patch_size": [8, 16, 16], "batch_size": 2,
        "architecture": {"network_class_name": network, "arch_kwargs": kwargs},
    }  # fmt: skip
    plans = tmp_path / "plans.json"
    plans.write_text(json.dumps({"configurations": {"3d_fullres": configuration}}))
    plan = models.Plan.load_original(plans, "3d_fullres", num_channels=1, num_classes=3)
    abstract = zoo.abstract_variables("nnunet_3d", **vars(plan))["params"]
    flat = {}
    for path, leaf in zoo.flatten(fill(abstract)).items():
        value = np.asarray(leaf)
        if path.endswith("/kernel"):
            value = np.moveaxis(value, (-2, -1), (0, 1) if path.startswith("up_") else (1, 0))
        key = zoo.foreign_key(path, zoo.LAYOUTS["nnunet"])
        flat[key] = value
        if ".convs." in key:  # it writes them twice, and the encoder within the decoder again
            flat[key.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")] = value
        if key.startswith("encoder."):
            flat[f"decoder.{key}"] = value
    scalar = _Call(_Named("numpy._core.multiarray", "scalar"), (_Call(_Named("numpy", "dtype"), ("f8",)), b"\x00" * 8))
    write_torch(
        tmp_path / "checkpoint_final.pth",
        flat,
        wrap=lambda t: {
            "network_weights": OrderedDict(t), "optimizer_state": {"state": {0: {"step": 3}}}, "current_epoch": 1000,
            "logging": {"ema_fg_dice": [scalar]}, "init_args": {"configuration": "3d_fullres"},
        },
    )  # fmt: skip
    variables = zoo.load_original("nnunet_3d", tmp_path / "checkpoint_final.pth", **vars(plan))
    jax.tree.map(np.testing.assert_array_equal, variables["params"], fill(abstract))
    with pytest.raises(ValueError, match="no plan of nnU-Net for 2d"):
        models.Plan.load_original(plans, num_channels=1, num_classes=3)
    plans.write_text(plans.read_text().replace("PlainConvUNet", "ResNetD"))
    with pytest.raises(ValueError, match="ResNetD, is not one of the zoo's"):
        models.Plan.load_original(plans, "3d_fullres", num_channels=1, num_classes=3)


def test_names_are_those_of_timm(state):
    assert set(state) == {
        "cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias",
        "head.weight", "head.bias",
        *(f"blocks.0.{m}.{k}" for m in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
          for k in ("weight", "bias")),
    }  # fmt: skip
    assert state["blocks.0.attn.qkv.weight"].shape == (24, 8)
    assert state["patch_embed.proj.weight"].shape == (8, 3, 16, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("norm.bias"),
            r"the model needs norm.bias \(here encoder/norm/bias\), which the checkpoint lacks",
        ),
        (lambda s: s.update(extra=np.zeros(2, np.float32)), "the checkpoint holds extra, which the model lacks"),
        (lambda s: s.update({"norm.bias": np.zeros(7, np.float32)}), r"norm.bias has shape \(7,\)"),
        (
            lambda s: s.update({"norm.bias": np.full(8, np.nan, np.float32)}),
            "norm.bias holds values that are not finite",
        ),
    ],
)
def test_the_first_mismatch_is_named(change, message, abstract, state, tmp_path):
    changed = dict(state)
    change(changed)
    write_torch(tmp_path / "w.pth", changed)
    with pytest.raises(zoo.WeightsError, match=message) as error:
        load(tmp_path / "w.pth", abstract)
    assert "\n" not in str(error.value)


def test_half_precisions_are_read(tmp_path):
    values = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
    write_torch(tmp_path / "h.pth", {"a": values.astype(np.float16)}, kind="HalfStorage")
    write_torch(tmp_path / "b.pth", {"a": values.astype(jnp.bfloat16)}, kind="BFloat16Storage")
    for name in ("h.pth", "b.pth"):
        np.testing.assert_array_equal(zoo.read_checkpoint(tmp_path / name)["a"].astype(np.float32), values)


class _RunsCode:
    def __reduce__(self):
        return os.system, ("touch /tmp/cardiojax_was_here",)


@pytest.mark.parametrize(
    "function", ["posix.system", "builtins.eval", "torch.load", "torch._utils._import_dotted_name"]
)
def test_code_is_not_run(function, tmp_path):
    module, name = function.rsplit(".", 1)
    marker = tmp_path / "ran"
    call = _Call(_Named(module, name), (f"touch {marker}",))
    write_torch(tmp_path / "w.pth", {"a": np.zeros(2, np.float32)}, wrap=lambda t: {"state": t, "x": call})
    with pytest.raises(zoo.WeightsError, match=rf"w.pth: refused, for reading it would run {function}$"):
        zoo.read_checkpoint(tmp_path / "w.pth")
    assert not marker.exists()


def hostile(path, kind):
    zeros = {"a": np.zeros(4, np.float32)}
    if kind == "absent":
        return
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(_RunsCode()))
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
    with pytest.raises(zoo.WeightsError, match=r"since version 1\.6"):
        zoo.read_checkpoint(tmp_path / "old.pth")
