"""``cardiojax train``: its weights go to every command, its signals and mistakes give the exit status."""

import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from cardiojax import cli, train
from cardiojax.cli.signals import StopRequest
from cardiojax.recipes.run import RunResult


def write_frames(folder, size=48):
    """Two patients, both views and phases: a cavity, a wall and an atrium, the cavity smaller at end-systole."""
    rows, cols = np.mgrid[:size, :size] / size
    labels = []
    for shrink in (1.0, 0.8) * 4:
        cavity = ((rows - 0.4) / (0.25 * shrink)) ** 2 + ((cols - 0.5) / (0.15 * shrink)) ** 2 < 1
        wall = ((rows - 0.4) / 0.33) ** 2 + ((cols - 0.5) / 0.22) ** 2 < 1
        atrium = ((rows - 0.82) / 0.13) ** 2 + ((cols - 0.5) / 0.15) ** 2 < 1
        labels.append(np.select([cavity, wall, atrium], [1, 2, 3], 0))
    labels = np.stack(labels).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 40, labels.shape)
    metadata = {
        "patient": np.repeat(["a", "b"], 4),
        "view": np.tile(["2CH", "2CH", "4CH", "4CH"], 2),
        "phase": np.tile(["ED", "ES"], 4),
        "spacing_rc_mm": np.ones((8, 2), np.float32),
    }
    images = (np.array([20, 60, 150, 100])[labels] + noise).astype(np.uint8)
    for split in ("train", "val"):
        np.savez(folder / f"camus224_{split}.npz", image=images, label=labels, **metadata)


def test_weights_of_a_changed_network_go_to_every_command(tmp_path, capsys):
    write_frames(tmp_path)
    run = tmp_path / "run"
    command = ["train", "unet", "--data", str(tmp_path), "--out", str(run), "--size", "32", "--batch-size", "2"]
    command += ["--model.features", "8", "16", "32", "--loop.num-steps", "5", "--loop.log-every", "1"]
    assert cli.main(command) == 0
    assert "weights.safetensors" in capsys.readouterr().out
    weights = str(run / "weights.safetensors")

    scored = ["evaluate", "--data", str(tmp_path / "camus224_val.npz"), "--weights", weights, "--segment.size", "32"]
    assert cli.main([*scored, "--out", str(tmp_path / "scores")]) == 0
    assert "LV ED (n = 4)" in capsys.readouterr().out
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text(), parse_constant=pytest.fail)
    assert scores["structures"]["lv"]["ED"]["dice"]["count"] == 4

    assert cli.main(["zoo", "show", weights]) == 0
    assert json.loads(capsys.readouterr().out)["num_params"] < 100_000
    exported = tmp_path / "unet.stablehlo"
    assert cli.main(["zoo", "export", weights, "--out", str(exported), "--size", "32", "--platforms", "cpu"]) == 0
    assert exported.stat().st_size > 1000

    image = tmp_path / "frame.png"
    Image.fromarray(np.load(tmp_path / "camus224_val.npz")["image"][0]).save(image)
    command_line = ["analyze", str(image), "--out", str(tmp_path / "report"), "--weights", weights, "--size", "32"]
    assert cli.main([*command_line, "--no-anatomical-correction", "--view", "4CH"]) == 0
    assert json.loads((tmp_path / "report" / "measurements.json").read_text())["model"] == "weights.safetensors"
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "1 frame of" in page
    assert "Weights: unknown licence. Made with" in page

    assert cli.main([*command, "--loop.num-steps", "6"]) == 0
    assert "had 5 steps and gets 6" in capsys.readouterr().err
    assert cli.main([*command, "--batch-size", "3"]) == 2
    assert "batch_size is 2 there and 3 here" in capsys.readouterr().err


def test_a_signal_is_a_request_and_the_second_is_the_systems(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as request:
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # nothing to keep: it may end the process at once
        assert not request()
        os.kill(os.getpid(), signal.SIGTERM)
        assert request()
        assert request.exit_status == 143
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is before
    assert "writing a checkpoint" in capsys.readouterr().err

    def interrupted(config, *, reporter, should_stop):
        assert not should_stop()
        os.kill(os.getpid(), signal.SIGINT)
        assert should_stop()
        state = train.TrainState(np.asarray(7), {}, (), {})
        return RunResult(None, 0.0, 0, state, False, True)

    monkeypatch.setattr("cardiojax.cli.train.train_unet", interrupted)
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "unet", "--data", "nowhere", "--out", "run"])
    assert stop.value.code == 130
    assert "stopped at step 7; the same command resumes the run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "unet", "--loop.log-every", "0"], "log_every must be from 1 to"),
        (["train", "vae", "--batch-size", "0"], "batch_size must be from 1 to"),
        (["train", "crisp", "--num-samples", "0"], "num_samples must be from 1 to"),
        (["train", "nnunet", "--seed", "99999999999999999999"], "seed must be from 0 to 4294967295"),
        (["train", "nnunet", "--preset", "none"], "preset must be one of"),
        (["train", "unet", "--ema-decay", "nan"], "ema_decay must be from 0 to 1, got nan"),
        (["train", "unet", "--batch-size", "64"], "8 examples for 1 processes give no batch of 64"),
        (["train", "unet", "--model.num-classes", "2"], "the masks have 4 classes, the network 2"),
        (["train", "unet", "--size", "33"], "multiples of"),
        (["densify", "--draws.num-codes", "-5"], "num_codes must be at least 1, got -5"),
        (["densify", "--bandwidth", "nan"], "bandwidth must be finite and above 0, got nan"),
        (["densify", "--bandwidth", "-1"], "bandwidth must be finite and above 0, got -1.0"),
        (["densify", "--draws.dtype", "foo"], "dtype must be one of float16, float32, got 'foo'"),
        (["densify", "--packed", "none/codes.safetensors"], "none is no folder"),
    ],
)
def test_an_absurd_option_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    write_frames(tmp_path)
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main([*arguments, "--data", ".", "--out", "run"])
    except SystemExit as stop:  # of a nested option, which the parser itself reports
        status = stop.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "run").exists()
