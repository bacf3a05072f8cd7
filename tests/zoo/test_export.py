"""Exported programs: written, read back and equal, with free sizes, for three platforms."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from cardiojax import cli, models, zoo

pytest.importorskip("flatbuffers", reason="needs the extra export")


@pytest.fixture(autouse=True)
def _shapes_unchecked():
    jaxtyping.config.update("jaxtyping_disable", True)  # it cannot bind symbolic sizes
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def small(fill):
    model = models.UNet(models.UNetConfig(features=(4, 8)))
    return model, fill(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 1))))


def random(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def test_the_whole_road_for_any_size_of_frame(fill, tmp_path):
    model, variables = small(fill)
    zoo.save_exported(tmp_path / "road.stablehlo", zoo.export_segmentation(model, variables, side=16))
    program = zoo.load_exported(tmp_path / "road.stablehlo")
    assert program.platforms == ("cpu", "cuda", "tpu")
    for shape in ((2, 21, 33), (1, 16, 10)):
        frames = (255 * random(*shape)).astype(np.uint8)
        expected = zoo.segment_frames(model, variables, jnp.asarray(frames), side=16)
        got = program.call(frames)
        assert (got.shape, got.dtype) == (shape, jnp.uint8)
        np.testing.assert_array_equal(got, expected)
        assert len(np.unique(expected)) > 1


@pytest.mark.parametrize(
    ("model", "input_shape", "shapes"),
    [
        (models.UNet(models.UNetConfig(features=(2, 4))), (1, 16, 16, 1), [(1, 10, 14, 1), (3, 4, 4, 1)]),
        (
            models.ViT(models.ViTConfig(image_size=(32, 32), width=8, depth=1, num_heads=2, num_classes=3)),
            (1, 32, 32, 3),
            [(2, 32, 32, 3), (1, 16, 48, 3)],
        ),
        (
            models.sam.SAM(models.sam.SAMConfig(image_size=64, width=8, depth=1, num_heads=2, window=3, prompt_dim=16)),
            (1, 64, 64, 3),
            [(2, 64, 64, 3)],
        ),
    ],
    ids=["unet", "vit", "sam"],
)
def test_networks_are_exported_with_free_batch_and_sizes(model, input_shape, shapes, fill, tmp_path):
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(input_shape)))
    exported = zoo.export_network(model, variables, input_shape=input_shape)
    zoo.save_exported(tmp_path / "n.stablehlo", exported)
    program = zoo.load_exported(tmp_path / "n.stablehlo")
    for shape in shapes:
        expected = jax.jit(model.apply)(variables, random(*shape)).logits
        np.testing.assert_allclose(program.call(random(*shape)), expected, rtol=1e-4, atol=1e-4)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"nothing" * 9)
    with pytest.raises(zoo.WeightsError, match="not an exported program"):
        zoo.load_exported(tmp_path / "x")
    with pytest.raises(zoo.WeightsError, match="no such file"):
        zoo.load_exported(tmp_path / "y")


def test_command_exports_the_packaged_model(tmp_path, capsys):
    out = tmp_path / "camus.stablehlo"
    assert cli.main(["zoo", "export", "unet_camus", "--out", str(out), "--platforms", "cpu"]) == 0
    assert str(out) in capsys.readouterr().out
    program = zoo.load_exported(out)
    assert program.in_avals[0].dtype == jnp.uint8
    assert program.platforms == ("cpu",)


@pytest.mark.filterwarnings("ignore")  # of the exporter's own parts
@pytest.mark.parametrize(
    ("model", "input_shape"),
    [
        (models.UNet(models.UNetConfig(features=(4, 8))), (1, 32, 48, 1)),
        (
            models.NNUNet(dataclasses.replace(models.NNUNET_PRESETS["nnunet_small_2d"], features=(4,) * 6)),
            (1, 32, 32, 1),
        ),
    ],
    ids=["unet", "nnunet"],
)
def test_onnx_has_the_same_logits_at_another_batch(model, input_shape, fill, tmp_path):
    pytest.importorskip("jax2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(input_shape)))
    zoo.save_onnx(tmp_path / "n.onnx", model, variables, input_shape=input_shape)
    images = random(3, *input_shape[1:])
    session = onnxruntime.InferenceSession(tmp_path / "n.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": np.asarray(images)})
    np.testing.assert_allclose(logits, jax.jit(model.apply)(variables, images).logits, rtol=1e-4, atol=1e-4)


def test_onnx_without_its_package_is_refused_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(zoo.WeightsError, match=r"pip install 'cardiojax\[onnx\]'"):
        zoo.save_onnx(tmp_path / "n.onnx", models.UNet(), {}, input_shape=(1, 32, 32, 1))
