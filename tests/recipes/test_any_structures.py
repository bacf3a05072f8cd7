"""From a download to a report with structures that the library does not know: data, training, evaluation, analysis."""

import json

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import pytest

from cardiojax import cli, data, losses, report, zoo
from cardiojax.labels import CAMUS, Structures
from tests.helpers import datasets as made

# TFDS's own habits on a supported Python
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def run(*arguments):
    assert cli.main([str(each) for each in arguments]) == 0


def train(folder, *, size, num_steps, features):
    out = folder / "run"
    small = ["--size", size, "--batch-size", 4, "--model.features", *features]
    loop = ["--loop.num-steps", num_steps, "--loop.log-every", num_steps, "--optimizer.learning-rate", 0.01]
    plain = ["--optimizer.warmup-steps", 1, "--ema-decay", 0.5]
    run("train", "unet", "--data", folder / "data", "--out", out, *small, *loop, *plain)
    return out / "weights.safetensors"


def analyze(path, weights, out, *, size):
    options = ["--view", "4CH", "--no-anatomical-correction", "--no-temporal-correction", "--size", size]
    run("analyze", path, "--out", out, "--weights", weights, *options)
    values = json.loads((out / "measurements.json").read_text())
    jsonschema.validate(values, report.table.json_schema())
    assert (out / "report.html").stat().st_size > 10_000
    return values


def test_one_view_one_label_from_videos_to_a_report(tmp_path, capsys):
    root = made.write_echonet(tmp_path / "EchoNet-Dynamic", num_frames=17)
    run("data", "build", "echonet", "--manual-dir", root, "--data-dir", tmp_path / "data")
    weights = train(tmp_path, size=112, num_steps=15, features=(8, 16))
    assert zoo.load_structures(weights) == Structures(("background", "lv"))
    model, _ = zoo.load(weights)
    assert model.config.num_classes == 2

    scored = ["evaluate", "--data", tmp_path / "data", "--weights", weights, "--segment.size", 112]
    run(*scored, "--out", tmp_path / "scores")
    table = (tmp_path / "scores" / "table.md").read_text()
    assert "LV ED (n = 1)" in table
    assert "myocardium" not in table
    assert "intra-observer" not in table
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())["structures"]
    assert [*scores] == ["lv"]
    assert scores["lv"]["ED"]["dice"]["mean"] > 0.8
    assert scores["lv"]["ED"]["hausdorff"]["count"] == 0  # without a pixel spacing
    assert "ejection" not in table

    video = sorted((root / "Videos").glob("*.avi"))[-1]
    values = analyze(video, weights, tmp_path / "report", size=112)
    areas = np.array(values["curves"]["lv_area_px2"], float)
    expected = (made.hearts(17, (112, 112), num_labels=2)[1] == 1).sum((1, 2))
    np.testing.assert_allclose(areas, expected, rtol=0.2)
    capsys.readouterr()


def test_a_right_ventricle_goes_from_a_folder_to_a_report(tmp_path, capsys):
    root = made.write_folder(tmp_path / "own", num_patients=6)
    names = ("lv", "myocardium", "left_atrium", "right_ventricle")
    run("data", "build", "mine", "--manual-dir", root, "--data-dir", tmp_path / "data", "--structures", *names)
    weights = train(tmp_path, size=48, num_steps=60, features=(8, 16, 32))
    assert zoo.load_structures(weights) == Structures((*CAMUS.names, "right_ventricle"))
    log = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert "eval/right_ventricle_ed" in json.loads(log[-1])

    scored = ["evaluate", "--data", tmp_path / "data", "--weights", weights, "--segment.size", 48]
    run(*scored, "--split", "train", "--out", tmp_path / "scores")
    assert "right ventricle ES (n = 4)" in (tmp_path / "scores" / "table.md").read_text()  # one of five lacks it
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())["structures"]
    assert [*scores] == ["lv", "epicardium", "left_atrium", "right_ventricle"]
    assert scores["right_ventricle"]["ED"]["dice"]["mean"] > 0.6
    rows = (tmp_path / "scores" / "scores.csv").read_text().splitlines()
    columns = rows[0].split(",")
    absent = [row.split(",") for row in rows[1:] if row.startswith("p0,")]
    assert {row[columns.index("right_ventricle_dice")] for row in absent} == {""}

    path = tmp_path / "still.nii.gz"
    images, labels = made.hearts(1, num_labels=5)
    made.write_nifti(path, np.repeat(np.repeat(images[0], 2, 0), 2, 1), spacing=1.0)
    values = analyze(path, weights, tmp_path / "report", size=48)
    other = values["other_structures"]["right_ventricle"]
    assert other["label"] == 4
    assert other["area_mm2"][0] == pytest.approx(4 * (labels == 4).sum(), rel=0.4)
    masks = data.read_labels(tmp_path / "report" / "masks.nii.gz").labels
    assert (masks == 4).sum() == other["area_mm2"][0]
    page = (tmp_path / "report" / "report.html").read_text()
    assert '<i class="other0"></i>right ventricle</span>' in page
    assert "right_ventricle_area_mm2" in (tmp_path / "report" / "measurements.csv").read_text()
    capsys.readouterr()


def test_a_network_and_masks_without_a_common_structure_are_a_sentence(tmp_path, capsys):
    root = made.write_hmcqu(tmp_path / "hmcqu")
    run("data", "build", "hmcqu", "--manual-dir", root, "--data-dir", tmp_path / "data", "--validation-share", 0.5)
    weights = tmp_path / "w.safetensors"
    model = zoo.create("unet", features=(4, 8), num_classes=2)
    params = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))["params"]
    options = {"features": (4, 8), "num_classes": 2}
    command = ["evaluate", "--data", str(tmp_path / "data"), "--weights", str(weights), "--segment.size", "32"]
    zoo.save(weights, "unet", params, card={"structures": ["background", "lv"]}, **options)
    capsys.readouterr()
    assert cli.main(command) == 2
    assert "the network draws lv, the masks show myocardium: nothing to score" in capsys.readouterr().err
    zoo.save(weights, "unet", params, **options)
    assert cli.main(command) == 2
    assert "has 2 classes, expected 4 or names in its file" in capsys.readouterr().err
    zoo.save(weights, "unet", params, card={"structures": ["background", "LV!"]}, **options)
    assert cli.main(command) == 2
    assert "names structures that cannot be" in capsys.readouterr().err
    zoo.save(weights, "unet", params, card={"structures": ["background", "myocardium"]}, **options)
    assert cli.main(command) == 0
    assert "myocardium frame (n = 6)" in capsys.readouterr().out


def test_what_is_not_annotated_has_no_part_in_the_losses():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 6, 5, 4)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 2, (2, 6, 5)), jnp.int32)
    present = jnp.array([[True, True, True, True], [True, True, False, False]])
    # class 2 and 3 as part of the background: a network of two classes whose background is the sum of three
    merged = jnp.stack([jax.nn.logsumexp(logits[1][..., jnp.array([0, 2, 3])], -1), logits[1][..., 1]], -1)
    for loss in (losses.cross_entropy_loss, losses.dice_loss):
        value = loss(logits, labels, present=present)
        np.testing.assert_allclose(value[0], loss(logits[0], labels[0]), rtol=1e-5)
        np.testing.assert_allclose(value[1], loss(merged, labels[1]), rtol=1e-5)

    def total(logits):
        both = losses.cross_entropy_loss(logits, labels, present=present)
        return (both + losses.dice_loss(logits, labels, present=present)).sum()

    gradient = jax.grad(total)(logits)
    assert np.isfinite(gradient).all()
    # only the sum of the merged classes matters: the gradient is shared by their probabilities
    share = jax.nn.softmax(logits[1][..., jnp.array([0, 2, 3])], -1)
    parts = gradient[1][..., jnp.array([0, 2, 3])]
    np.testing.assert_allclose(parts, share * parts.sum(-1, keepdims=True), atol=1e-6)
    assert float(losses.dice_loss(logits[1], labels[1], present=present[1] & (jnp.arange(4) == 0))) == 0
