"""Checkpoints of others: every tensor in its place, whatever wraps it."""

import json
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_writer import Call, Named, write_torch

from cardiojax import models, zoo

CONFIG = models.ViTConfig(image_size=(32, 32), width=8, depth=1, num_heads=2, num_classes=3)


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
    scalar = Call(Named("numpy.core.multiarray", "scalar"), (Call(Named("numpy", "dtype"), ("f8",)), b"\x00" * 8))
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
    scalar = Call(Named("numpy._core.multiarray", "scalar"), (Call(Named("numpy", "dtype"), ("f8",)), b"\x00" * 8))
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
