"""Checkpoints of others: every tensor in its place, whatever wraps it."""

import json
import re
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from cardiojax import cli, models, zoo
from tests.zoo.torch_writer import Call, Named, write_torch

CONFIG = models.ViTConfig(image_size=(32, 32), width=8, depth=1, num_heads=2, num_classes=3)


#: Fields that make a model of each family small.
SMALL = {
    "vit_ti16": {"image_size": (32, 32), "width": 8, "depth": 1, "num_heads": 2, "num_classes": 3},
    "sam_med2d": {"image_size": 64, "width": 8, "depth": 1, "num_heads": 2, "window": 3, "prompt_dim": 16},
    "nnunet_2d": {"features": (4, 6, 8, 8, 8, 8, 8), "num_classes": 2, "num_channels": 3},
}


def foreign(name, params):
    """Parameters under the names and with the axes of the original."""
    layout, flat = zoo.LAYOUTS[zoo.entry(name).layout], {}
    for path, leaf in zoo.flatten(params).items():
        value = np.asarray(leaf)
        if path.endswith("/kernel"):
            value = np.moveaxis(value, (-2, -1), (0, 1) if re.search(layout.transposed, path) else (1, 0))
        flat[zoo.foreign_key(path, layout)] = value
    return flat


@pytest.fixture(scope="module")
def abstract():
    return jax.eval_shape(models.ViT(CONFIG).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]


@pytest.fixture(scope="module")
def state(abstract, fill):
    """The names and axes of timm."""
    return foreign("vit_ti16", fill(abstract))


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


@pytest.mark.parametrize("name", SMALL)
def test_what_wrappers_do_to_names_is_undone_for_each_family(name, fill):
    params = fill(zoo.abstract_variables(name, **SMALL[name])["params"])
    state, layout = foreign(name, params), zoo.LAYOUTS[zoo.entry(name).layout]
    for prefix in ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "model.module."):
        wrapped = {prefix + key: value.astype(np.float16) for key, value in state.items()}
        wrapped[f"{prefix}norm.num_batches_tracked"] = np.int64(3)
        got = zoo.convert(wrapped, params, layout=layout, source="x")
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), got, params)
    inner = {key.replace(".", "._orig_mod.", 1): value for key, value in state.items()}  # a part is compiled
    jax.tree.map(np.testing.assert_array_equal, zoo.convert(inner, params, layout=layout, source="x"), params)
    key = min(state)
    with pytest.raises(zoo.WeightsError, match=f"holds {key} twice, one as module.{key}"):
        zoo.convert({**state, f"module.{key}": state[key]}, params, layout=layout, source="x")


def test_many_mismatches_are_counted(abstract, state):
    few = {key: value for key, value in state.items() if ".mlp." not in key}
    with pytest.raises(zoo.WeightsError, match=r"needs blocks\.0\.mlp\.fc1\.bias .* and 3 more, which"):
        zoo.convert(few, abstract, layout=zoo.LAYOUTS["timm"], source="x")
    with pytest.raises(zoo.WeightsError, match="the checkpoint holds x and 1 more, which the model lacks"):
        zoo.convert({**state, "y": np.zeros(1), "x": np.zeros(1)}, abstract, layout=zoo.LAYOUTS["timm"], source="x")


def test_the_command_converts_what_sam_med2d_saves_with_changed_sizes(fill, tmp_path, capsys):
    fields = SMALL["sam_med2d"]
    params = fill(zoo.abstract_variables("sam_med2d", **fields)["params"])
    adam = Named("torch.optim.adam", "Adam")
    write_torch(
        tmp_path / "epoch5_sam.pth",
        foreign("sam_med2d", params),
        wrap=lambda t: {"model": OrderedDict(t), "optimizer": Call(adam, ({0: next(iter(t.values()))},))},
    )
    command = [
        "zoo",
        "convert",
        "sam_med2d",
        str(tmp_path / "epoch5_sam.pth"),
        "--out",
        str(tmp_path / "o.safetensors"),
    ]
    assert cli.main([*command, "--override", *(f"{name}={value}" for name, value in fields.items())]) == 0
    model, variables = zoo.load(tmp_path / "o.safetensors")
    assert model == zoo.create("sam_med2d", **fields)
    jax.tree.map(np.testing.assert_array_equal, variables["params"], params)
    card = zoo.card(tmp_path / "o.safetensors", count=False)
    assert card["converted_from"] == "epoch5_sam.pth"
    assert card["input_shape"] == [1, 64, 64, 3]
    capsys.readouterr()
    for text, message in (("depth", "name=value"), ("deep=2", "no field 'deep'"), ("depth=two", "is of type int")):
        assert cli.main([*command, "--override", text]) == 2
        assert message in capsys.readouterr().err


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
