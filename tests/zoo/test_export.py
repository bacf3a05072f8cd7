"""Exported programs: written, read back and equal, with free sizes, for three platforms."""

import dataclasses
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pydicom
import pytest

from cardiojax import analysis, cli, data, models, zoo

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


def test_frames_of_any_size_and_box_to_labels(fill, tmp_path):
    model, variables = small(fill)
    exported = zoo.export_segmentation(model, variables, size=16)
    zoo.save_exported(tmp_path / "p.stablehlo", exported, metadata={"licence": "CC0-1.0"})
    program = zoo.load_exported(tmp_path / "p.stablehlo")
    assert program.platforms == ("cpu", "cuda", "tpu")

    @jax.jit
    def segment_inside(inside):
        low, high = inside.min((1, 2), keepdims=True), inside.max((1, 2), keepdims=True)
        images = jax.image.resize(((inside - low) / (high - low))[..., None], (len(inside), 16, 16, 1), "linear")
        probs = jax.nn.softmax(model.apply(variables, images).logits)
        return jax.image.resize(probs, (*inside.shape, 4), "linear").argmax(-1)

    for shape, box in (((2, 21, 33), (0, 21, 0, 33)), ((1, 40, 30), (3, 13, 5, 30))):
        frames = (255 * random(*shape)).astype(np.uint8)
        top, bottom, left, right = box
        expected = np.zeros(shape, np.uint8)
        expected[:, top:bottom, left:right] = segment_inside(frames[:, top:bottom, left:right].astype(np.float32))
        got = program.call(frames, np.array(box, np.int32))
        assert (got.shape, got.dtype) == (shape, jnp.uint8)
        assert (got == expected).mean() > 0.999  # rounding decides a tie
        assert len(np.unique(expected)) > 1
    got = jax.jit(lambda frames: zoo.segment_frames(model, variables, frames, size=16))(frames)
    np.testing.assert_array_equal(got, program.call(frames, np.array([0, 40, 0, 30], np.int32)))
    np.testing.assert_array_equal(program.call(np.full_like(frames, 80), np.array(box, np.int32)), 0)


def test_the_exported_program_segments_as_the_analysis_does():
    recording = data.read(pydicom.data.get_testdata_file("examples_ybr_color.dcm"))
    frames = np.round(255 * recording.frames[::15]).astype(np.uint8)
    recording = recording._replace(frames=frames.astype(np.float32) / 255)
    options = {"largest_component": False, "separate_atrium": False}  # the program does neither
    config = analysis.AnalyzeConfig(**options, batch_size=len(frames))
    expected = analysis.analyze(recording, analysis.make_segment(config), config=config)
    box, mask = expected.sector.box, expected.sector.mask
    frames[:, box[0] : box[1], box[2] : box[3]] *= mask
    model, variables = zoo.load("unet_camus")
    program = zoo.export_segmentation(model, variables, platforms=["cpu"])
    got = np.asarray(jax.jit(program.call)(frames, np.array(box, np.int32)))
    for label in (1, 2, 3):
        overlap = ((got == label) & (expected.labels == label)).sum()
        assert 2 * overlap / ((got == label).sum() + (expected.labels == label).sum()) > 0.9999


def test_a_file_says_what_its_users_must_know(fill, tmp_path):
    path = tmp_path / "p.stablehlo"
    _, variables = small(fill)
    zoo.save(tmp_path / "w.safetensors", "unet", variables["params"], features=(4, 8), card={"licence": "CC0-1.0"})
    metadata = zoo.export_model(tmp_path / "w.safetensors", path, size=16, platforms=["cpu"])
    read = zoo.read_export_metadata(path)
    assert json.dumps(read) == json.dumps(metadata)
    assert (read["name"], read["licence"], read["overrides"]) == ("unet", "CC0-1.0", {"features": (4, 8)})
    assert str(tmp_path) not in json.dumps(read)
    assert "16 x 16" in " ".join(read["inside"])
    assert {"arguments", "results", "before", "inside", "not_inside", "versions"} <= read.keys()
    assert jax.export.deserialize(bytearray(path.read_bytes())).platforms == ("cpu",)  # without this package
    content = path.read_bytes()
    for damaged, message in (
        (content[:-16] + (2**63).to_bytes(8, "little") + content[-8:], "claims 9223372036854775808 bytes"),
        (content[:-16] + (3).to_bytes(8, "little") + content[-8:], "its metadata cannot be read"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(zoo.WeightsError, match=message):
            zoo.read_export_metadata(path)
    path.write_bytes(b"nothing")
    assert zoo.read_export_metadata(path) == {}
    with pytest.raises(zoo.WeightsError, match="cannot be read"):
        zoo.read_export_metadata(tmp_path / "absent")


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


SMALL_SAM = models.sam.SAM(models.sam.SAMConfig(image_size=64, width=8, depth=1, num_heads=2, window=3, prompt_dim=16))


def sam_arguments(program, batch):
    """Random arguments of a part, images and features of unit scale, coordinates inside, labels of three kinds."""
    rng = np.random.default_rng(0)
    draw = {
        "images": lambda shape: rng.uniform(size=shape),
        "features": lambda shape: rng.normal(size=shape),
        "boxes": lambda shape: rng.uniform(0, 64, shape),
        "points": lambda shape: rng.uniform(0, 64, shape),
        "labels": lambda shape: rng.integers(-1, 2, shape),
    }
    sizes = {"b": batch, "n": 3}
    shapes = {name: [sizes.get(n, n) for n in shape] for name, shape in program.arguments.items()}
    return {name: draw[name](shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("part", zoo.SAM_PARTS)
def test_parts_of_a_sam_run_in_a_process_without_the_package(part, fill, tmp_path):
    variables = fill(jax.eval_shape(SMALL_SAM.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3))))
    program = zoo.sam_program(SMALL_SAM, variables, part=part)
    zoo.save_exported(tmp_path / "part.stablehlo", zoo.export_program(program))
    arguments = sam_arguments(program, 2)
    np.savez(tmp_path / "arguments.npz", **arguments)
    code = (
        "import sys, jax, jax.export, numpy as np\n"
        f"program = jax.export.deserialize(bytearray(open({str(tmp_path / 'part.stablehlo')!r}, 'rb').read()))\n"
        f"arguments = np.load({str(tmp_path / 'arguments.npz')!r})\n"
        f"np.savez({str(tmp_path / 'results.npz')!r}, *jax.tree.leaves(program.call(*arguments.values())))\n"
        "assert 'cardiojax' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    expected = jax.tree.leaves(jax.jit(program.function)(*arguments.values()))
    with np.load(tmp_path / "results.npz") as results:
        assert len(results.files) == len(expected) == len(program.results)
        for result, wanted in zip(results.values(), expected, strict=True):
            np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # of the exporter's own parts
@pytest.mark.parametrize("part", zoo.SAM_PARTS)
def test_parts_of_a_sam_as_onnx(part, fill, tmp_path):
    pytest.importorskip("jax2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    variables = fill(jax.eval_shape(SMALL_SAM.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3))))
    program = zoo.sam_program(SMALL_SAM, variables, part=part, num_points=3)
    zoo.save_onnx(tmp_path / "part.onnx", program)
    session = onnxruntime.InferenceSession(tmp_path / "part.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 2):
        arguments = sam_arguments(program, batch)
        expected = jax.tree.leaves(jax.jit(program.function)(*arguments.values()))
        for result, wanted in zip(session.run([*program.results], arguments), expected, strict=True):
            np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)


def test_parts_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="Segment Anything model, got UNet"):
        zoo.sam_program(models.UNet(), {}, part="encoder")
    with pytest.raises(ValueError, match="part must be encoder, boxes, points, got 'masks'"):
        zoo.sam_program(SMALL_SAM, {}, part="masks")
    volumes = models.sam.SAM(models.sam.SAM_PRESETS["sam_med3d"])
    with pytest.raises(ValueError, match="part must be encoder, points, got 'boxes'"):
        zoo.sam_program(volumes, {}, part="boxes")


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
    assert [(a.dtype, len(a.shape)) for a in program.in_avals] == [(jnp.uint8, 3), (jnp.int32, 1)]
    metadata = zoo.read_export_metadata(out)
    assert metadata["licence"] == "CC BY-NC-SA 4.0"
    assert metadata["labels"] == ("background", "LV cavity", "myocardium", "left atrium")
    out = tmp_path / "network.stablehlo"
    assert cli.main(["zoo", "export", "unet_camus", "--out", str(out), "--network-only", "--platforms", "cpu"]) == 0
    assert zoo.read_export_metadata(out)["arguments"]["images"].startswith("float32 [b, 16*h, 16*w, 1]: grey images")


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
    metadata = {"licence": "CC0-1.0", "labels": ["background", "ventricle"]}
    program = zoo.network_program(model, variables, input_shape=input_shape, free_sizes=False)
    zoo.save_onnx(tmp_path / "n.onnx", program, metadata=metadata)
    images = random(3, *input_shape[1:])
    session = onnxruntime.InferenceSession(tmp_path / "n.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {**metadata, "labels": json.dumps(metadata["labels"])}
    (logits,) = session.run(["logits"], {"images": np.asarray(images)})
    np.testing.assert_allclose(logits, jax.jit(model.apply)(variables, images).logits, rtol=1e-4, atol=1e-4)


def test_onnx_without_its_package_is_refused_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(zoo.WeightsError, match=r"pip install 'cardiojax\[onnx\]'"):
        zoo.save_onnx(tmp_path / "n.onnx", zoo.network_program(models.UNet(), {}, input_shape=(1, 32, 32, 1)))
