"""The zoo: names, strict weight files, and the packaged U-Net on its own card's terms."""

import dataclasses
import json
import shutil
from pathlib import Path

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


def test_a_damaged_file_is_refused(params, tmp_path):
    path = tmp_path / "w.safetensors"
    zoo.save_weights(path, params, metadata={"model": "unet"})
    content = path.read_bytes()
    for at, bit in ((-1, 1), (-9, 128), (content.index(b"unet"), 1), (content.index(b"F16"), 4)):
        changed = bytearray(content)
        changed[at] ^= bit
        path.write_bytes(changed)
        with pytest.raises(
            zoo.WeightsError, match=r"is damaged, its contents do not match their checksum|not a readable"
        ):
            zoo.load_weights(path)


@pytest.mark.parametrize("name", ["crisp_camus", "cvae_camus"])
def test_a_damaged_bank_is_refused(name, tmp_path):
    packaged = Path(zoo.__file__).parent / "files" / f"{name}_bank.safetensors"
    content = bytearray(packaged.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bank.safetensors").write_bytes(content)
    with pytest.raises(
        zoo.WeightsError, match=r"bank\.safetensors: is damaged, its contents do not match their checksum"
    ):
        zoo.load_bank(tmp_path / "bank.safetensors")


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


def test_a_saved_model_knows_itself(fill, tmp_path, capsys):
    path = tmp_path / "w.safetensors"
    params = fill(zoo.abstract_variables("unet", features=(4, 8)))["params"]
    stated = {"data": "mine", "licence": "CC0-1.0", "labels": ("background", "ventricle")}
    zoo.save(path, "unet", params, features=(4, 8), dtype="bfloat16", card=stated)
    model, variables = zoo.load(path)
    assert model == zoo.create("unet", features=(4, 8), dtype="bfloat16")
    jax.tree.map(np.testing.assert_array_equal, variables["params"], params)
    assert zoo.load("unet_camus", weights=path)[0] == model  # the fields are the file's
    assert zoo.load(str(shutil.copy(path, tmp_path / "w.bin")))[0] == model
    assert zoo.load("unet", weights=path, dtype="float32")[0] == zoo.create("unet", features=(4, 8))
    card = zoo.card(path)
    assert card["num_params"] == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert card["overrides"] == {"features": (4, 8), "dtype": "bfloat16"}
    assert (card["name"], card["file"], card["licence"]) == ("unet", str(path), "CC0-1.0")
    assert cli.main(["zoo", "show", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == "mine"


def test_a_card_of_own_weights_claims_nothing_of_the_packaged(fill, tmp_path):
    params = fill(zoo.abstract_variables("unet_camus", features=(4, 8)))["params"]
    zoo.save(tmp_path / "w.safetensors", "unet_camus", params, features=(4, 8))
    card = zoo.card(tmp_path / "w.safetensors", count=False)
    assert card.keys().isdisjoint({"data", "scores", "licence", "citation", "description"})
    assert card["paper"] == zoo.card("unet_camus", count=False)["paper"]


def test_weights_alone_are_loaded_by_name(fill, tmp_path):
    path = tmp_path / "w.safetensors"
    params = fill(zoo.abstract_variables("unet", features=(4, 8)))["params"]
    zoo.save_weights(path, params, dtype="float32")
    with pytest.raises(zoo.WeightsError, match=rf'zoo.load\(MODEL, weights="{path}"\) reads it'):
        zoo.load(path)
    with pytest.raises(zoo.WeightsError, match="does not say which model"):
        zoo.card(path)
    jax.tree.map(np.testing.assert_array_equal, zoo.load("unet", weights=path, features=(4, 8))[1]["params"], params)
    path.write_bytes(b"nothing")
    for read in (zoo.load, zoo.card):
        with pytest.raises(zoo.WeightsError, match="not a readable safetensors"):
            read(path)


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_configurations_within_configurations_round_trip(as_dictionary, fill, tmp_path):
    encoder = models.ViTConfig(
        width=8, depth=4, num_heads=2, keep=(1, 3), image_size=(32, 32), channels=1, num_classes=0
    )
    fields = {"encoder": dataclasses.asdict(encoder) if as_dictionary else encoder, "features": 4}
    params = fill(zoo.abstract_variables("unetr_b16", **fields)["params"])
    zoo.save(tmp_path / "w.safetensors", "unetr_b16", params, **fields)
    model, _ = zoo.load(tmp_path / "w.safetensors")
    assert model.config == models.UNETRConfig(encoder=encoder, features=4)
    assert zoo.card(tmp_path / "w.safetensors", count=False)["input_shape"] == [1, 32, 32, 1]


def test_overrides_are_checked():
    assert zoo.parse_overrides(["encoder.width=64", "encoder.keep=[1, 3]"]) == {
        "encoder": {"width": 64, "keep": (1, 3)}
    }
    for texts in (["x"], ["=1"], ["a.=1"], ["a=1", "a=2"], ["a=1", "a.b=2"]):
        with pytest.raises(ValueError, match=r"name=value|twice"):
            zoo.parse_overrides(texts)
    for fields in ({"widths": 1}, {"features": 4}, {"features": ("a",)}, {"num_classes": True}, {"dropout": "0"}):
        with pytest.raises(ValueError, match="UNetConfig"):
            zoo.create("unet", **fields)
    assert zoo.create("sam_b", attention_rows=None).config.attention_rows is None
    assert zoo.create("unet", dropout=0, features=[4, 8]).config.features == (4, 8)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"model": "unet", "overrides": "{"}, "fields of its model that cannot be read"),
        ({"model": "unet", "overrides": "[1]"}, "fields of its model that cannot be read"),
        ({"model": "unet", "overrides": "[" * 100_000}, "fields of its model that cannot be read"),
        ({"model": "unet", "overrides": '{"convs_per_level": 1000000000}'}, "1000000000 is over 4096"),
        ({"model": "unet", "card": "3"}, "fields of its model that cannot be read"),
        ({"model": "unet", "overrides": '{"depth": 3}'}, "no unet can be made with its fields .*no field 'depth'"),
        ({"model": "unet", "overrides": '{"features": []}'}, "no unet can be made with its fields"),
        ({"model": "\x1b[2Jmine"}, r"is for the model '\?\[2Jmine', which the zoo lacks"),
    ],
)
def test_what_a_file_says_of_itself_is_checked(metadata, message, tmp_path):
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "w.safetensors", metadata)
    for read in (zoo.load, zoo.card):
        with pytest.raises(zoo.WeightsError, match=message) as error:
            read(tmp_path / "w.safetensors")
        assert str(error.value).isprintable()


def test_what_could_not_be_loaded_is_not_written(fill, tmp_path):
    path = tmp_path / "w.safetensors"
    params = fill(zoo.abstract_variables("unet", features=(4, 8)))["params"]
    with pytest.raises(zoo.WeightsError, match="the model needs"):
        zoo.save(path, "unet", params)
    for value, message in ((np.nan, "not finite"), (1e6, "exceeds the range of float16")):
        params["head"]["bias"] = jnp.full(4, value)
        with pytest.raises(zoo.WeightsError, match=message):
            zoo.save(path, "unet", params, features=(4, 8), file_dtype="float16")
    params["head"]["bias"] = jnp.zeros(4)
    with pytest.raises(ValueError, match="float16, bfloat16, float32, float64, got 'foo'"):
        zoo.save(path, "unet", params, features=(4, 8), file_dtype="foo")
    with pytest.raises(ValueError, match="a weight file keeps numbers"):
        zoo.save(path, "unet", params, features=(4, 8), norm=object())
    assert list(tmp_path.iterdir()) == []


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
    abstract = zoo.abstract_variables("vit_ti16", depth=2)["params"]
    layout = zoo.LAYOUTS["timm"]
    flat = {}
    for path, leaf in zoo.flatten(fill(abstract)).items():
        value = np.asarray(leaf)
        flat[zoo.foreign_key(path, layout)] = np.ascontiguousarray(
            np.moveaxis(value, (-2, -1), (1, 0)) if path.endswith("kernel") else value
        )
    save_file(flat, tmp_path / "timm.safetensors")
    arguments = ["zoo", "convert", "vit_ti16", str(tmp_path / "timm.safetensors")]
    arguments += ["--out", str(tmp_path / "o.safetensors"), "--override", "depth=2"]
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
