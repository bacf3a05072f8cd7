"""Training of the view classifier: a short run and its resumption, and the distance that is fitted at its end."""

import dataclasses

import jax
import numpy as np
import pytest

from cardiojax import cli, models, train, zoo
from cardiojax.recipes import view
from cardiojax.recipes.view import TrainViewConfig, fit_distance, train_view
from tests.helpers.shapes import apical_view

MODEL = models.ViewClassifierConfig(size=32, features=(4, 6), embedding=4)
SIZE, NUM = 40, 16


def frame(index):
    """Of even numbers the heart is to the left, of odd ones to the right."""
    rows, cols = np.mgrid[:SIZE, :SIZE] / SIZE
    middle = 0.35 + 0.3 * (index % 2)
    labels = apical_view(rows - 0.6, cols - middle, cavity=(0.35, 0.12), wall=(0.06, 0.06), atrium=(0.1, 0.12, 0.12))
    noise = np.random.default_rng(index).integers(0, 30, labels.shape)
    return (np.choose(labels, [90, 20, 180, 25]) + noise).astype(np.uint8), labels.astype(np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camus")
    images, labels = map(np.stack, zip(*(frame(i) for i in range(NUM)), strict=True))
    np.savez(
        folder / "camus224_train.npz",
        image=images, label=labels, patient=np.array([f"patient{i // 2}" for i in range(NUM)]),
        view=np.array(["2CH", "4CH"] * (NUM // 2)), phase=np.array(["ED", "ES"] * (NUM // 2)),
        spacing_rc_mm=np.ones((NUM, 2), np.float32),
    )  # fmt: skip
    return folder


def config(data, out):
    return TrainViewConfig(
        data=data, out=out, batch_size=4, held_out=0.25, model=MODEL,
        loop=train.LoopConfig(num_steps=4, log_every=1, eval_every=2),
    )  # fmt: skip


def test_a_run_that_was_stopped_ends_as_one_that_was_not(data, tmp_path):
    class Interrupt(train.Reporter):
        def update(self, step, loss):
            if step == 3:
                raise KeyboardInterrupt

    whole = train_view(config(data, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train_view(config(data, tmp_path / "halves"), reporter=Interrupt())
    resumed = train_view(config(data, tmp_path / "halves"))
    jax.tree.map(np.testing.assert_array_equal, whole.state.params, resumed.state.params)
    assert {"eval/score", "eval/accuracy", "eval/refused"} <= set(train.read_log(tmp_path / "whole")[-1])
    model, variables = zoo.load(tmp_path / "whole" / "weights.safetensors")
    assert model.config == MODEL
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], whole.params["head"]["kernel"])
    assert np.abs(variables["params"]["whitening"]).max() > 0


def test_patients_are_held_out_whole(data, tmp_path):
    known, held_out = view._split_frames(config(data, tmp_path))
    assert (len(known.views), len(held_out.views)) == (12, 4)
    assert not {image.tobytes() for image in known.images} & {image.tobytes() for image in held_out.images}
    np.testing.assert_array_equal(np.bincount(held_out.views), [2, 2])


def test_the_unit_of_the_distance_is_that_of_the_held_out_images(data, tmp_path, fill):
    settings = dataclasses.replace(config(data, tmp_path), known=0.75)
    model = models.ViewClassifier(MODEL)
    params = fill(jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32, 1), np.float32)))["params"]
    known, held_out = view._split_frames(settings)
    fitted = fit_distance(model, params, known, held_out, config=settings)
    features, views = view._features(model, fitted, known, settings)
    for number in (0, 1):
        np.testing.assert_allclose(fitted["means"][number], features[views == number].mean(0), rtol=1e-4, atol=1e-5)
    features, _ = view._features(model, fitted, held_out, settings)
    distances = np.linalg.norm((features[:, None] - fitted["means"]) @ fitted["whitening"], axis=-1).min(1)
    assert np.mean(distances <= 1) == pytest.approx(0.75, abs=0.06)


def test_the_command_trains_with_simulated_loops(data, tmp_path, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(view, "build_phantom", lambda folder, loops: calls.append(loops))
    loop = {"image": np.stack([frame(i)[0] for i in range(5)]), "label": np.stack([frame(i)[1] for i in range(5)])}
    monkeypatch.setattr(view, "open_phantom", lambda *_: [{**loop, "view": b"4CH"}] * 2)
    command = ["train", "view", "--data", str(data), "--out", str(tmp_path / "run"), "--phantom", str(tmp_path)]
    command += ["--batch-size", "4", "--held-out", "0.25", "--loop.num-steps", "1", "--num-phantoms", "5"]
    command += ["--model.size", "32", "--model.features", "4", "6"]
    assert cli.main(command) == 0
    assert "best score" in capsys.readouterr().out
    assert [loops.vendor for loops in calls] == ["ge_like", "philips_like", "handheld_like"]
    assert {loops.num_patients for loops in calls} == {5}
