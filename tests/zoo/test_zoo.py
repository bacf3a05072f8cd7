"""The zoo: names, strict weight files, and the packaged U-Net on its own card's terms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cardiojax import cli, models, zoo


@pytest.fixture(scope="module")
def params():
    model = models.UNet(models.UNetConfig(features=(2, 4)))
    return model.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))["params"]


def test_weights_round_trip_in_half_precision(params, tmp_path):
    path = tmp_path / "w.safetensors"
    zoo.save_weights(path, params)
    loaded = zoo.load_weights(path, jax.eval_shape(lambda: params))
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_single_number_stays_one(tmp_path):
    zoo.save_weights(tmp_path / "w.safetensors", {"scale": jnp.float32(1.5)})
    loaded = zoo.load_weights(tmp_path / "w.safetensors", {"scale": jax.ShapeDtypeStruct((), jnp.float32)})
    assert float(loaded["scale"]) == 1.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda flat: flat.pop("head/bias"), "the model needs head/bias"),
        (lambda flat: flat.update(extra=np.zeros(2, np.float16)), "the file holds extra"),
        (lambda flat: flat.update({"head/bias": np.zeros(7, np.float16)}), r"head/bias has shape \(7,\)"),
        (lambda flat: flat.update({"head/bias": np.full(4, np.nan, np.float16)}), "not finite"),
    ],
)
def test_the_first_mismatch_is_named(params, tmp_path, change, message):
    path = tmp_path / "w.safetensors"
    zoo.save_weights(path, params)
    flat = load_file(path)
    change(flat)
    save_file(flat, path)
    with pytest.raises(zoo.WeightsError, match=message):
        zoo.load_weights(path, params)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 64, b"\x80\x02}q\x00."])
def test_other_files_are_refused(params, tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(zoo.WeightsError, match="not a readable safetensors file"):
        zoo.load_weights(path, params)
    with pytest.raises(zoo.WeightsError, match="no such weight file"):
        zoo.load_weights(tmp_path / "absent.safetensors", params)


def test_names():
    assert zoo.list_models("unet*") == [
        "unet",
        "unet_camus",
        "unet_lecture",
        "unet_pair",
        "unet_pair_camus",
        "unetr_b16",
    ]
    with pytest.raises(KeyError, match=r"there are .*unet, unet_camus"):
        zoo.create("resnet")
    with pytest.raises(zoo.WeightsError, match="unet_camus"):
        zoo.load("unet")
    assert zoo.create("unet", features=(4, 8)).config.features == (4, 8)


def test_a_saved_model_knows_itself(fill, tmp_path):
    path = tmp_path / "w.safetensors"
    params = fill(zoo.abstract_variables("unet", features=(4, 8)))["params"]
    zoo.save(path, "unet", params, features=(4, 8))
    model, variables = zoo.load(path)
    assert model.config.features == (4, 8)
    jax.tree.map(np.testing.assert_array_equal, variables["params"], params)
    zoo.save_weights(path, params)
    with pytest.raises(zoo.WeightsError, match="does not say which model"):
        zoo.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(zoo.WeightsError, match="not a readable safetensors"):
        zoo.load(path)


def test_other_projects_register_theirs(monkeypatch):
    monkeypatch.setattr("cardiojax.zoo.registry._REGISTRY", dict(zoo.registry._REGISTRY))
    mine = zoo.Entry(
        build=lambda **overrides: models.UNet(models.UNetConfig(features=(4, 8), **overrides)),
        input_shape=(1, 32, 32, 1),
        description="mine",
    )
    zoo.register("mine", mine)
    assert zoo.card("mine")["num_params"] == zoo.summary("mine")[""].total
    with pytest.raises(ValueError, match="has a model 'mine' already"):
        zoo.register("mine", mine)


def test_cards_count_operations():
    card = zoo.card("vit_ti16")
    # 2 operations a multiplication: the linear layers of 197 tokens and the two products of each attention
    linear = 2 * 197 * 12 * 12 * 192 * 192 + 2 * 196 * 768 * 192
    attention = 2 * 2 * 12 * 197 * 197 * 192
    assert 1 <= card["flops"] / (linear + attention) < 1.08  # the rest is norms, GELU and softmax
    assert {"paper", "licence", "input_shape", "num_params"} <= card.keys()


def test_every_model_is_built_by_shape_alone():
    for name in zoo.list_models("[!s]*"):  # the SAMs have a test of their own
        assert zoo.summary(name, depth=0)[""].total > 100_000


def test_convert_command(fill, tmp_path, capsys):
    abstract = zoo.abstract_variables("vit_ti16")["params"]
    layout = zoo.LAYOUTS["timm"]
    flat = {}
    for path, leaf in zoo.flatten(fill(abstract)).items():
        value = np.asarray(leaf)
        flat[zoo.foreign_key(path, layout)] = np.ascontiguousarray(
            np.moveaxis(value, (-2, -1), (1, 0)) if path.endswith("kernel") else value
        )
    save_file(flat, tmp_path / "timm.safetensors")
    arguments = [
        "zoo",
        "convert",
        "vit_ti16",
        str(tmp_path / "timm.safetensors"),
        "--out",
        str(tmp_path / "o.safetensors"),
    ]
    assert cli.main(arguments) == 0
    model, variables = zoo.load(tmp_path / "o.safetensors")
    assert model.config.width == 192
    jax.tree.map(np.testing.assert_array_equal, variables["params"], fill(abstract))
    flat.pop("norm.bias")
    save_file(flat, tmp_path / "timm.safetensors")
    capsys.readouterr()
    assert cli.main(arguments) == 2
    assert "the model needs norm.bias" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in zoo.list_models() if zoo.entry(name).weights])
def test_packaged_weights_fit_their_models(name):
    model, variables = zoo.load(name)
    assert model == zoo.create(name)
    expected = zoo.abstract_variables(name)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, expected)


@pytest.mark.parametrize("name", ["unet_camus", "nnunet_camus", "unet_pair_camus"])
def test_packaged_segmentation_models_are_complete(name):
    card = zoo.card(name)
    assert card["licence"] == "CC BY-NC-SA 4.0"
    for key in ("data", "command", "seed", "scores", "citation", "num_params"):
        assert card[key] not in (None, "")
    model, variables = zoo.load(name)
    logits = jax.eval_shape(model.apply, variables, jax.ShapeDtypeStruct((2, 224, 224, 1), jnp.float32)).logits
    assert logits.shape == (2, 224, 224, 4)
