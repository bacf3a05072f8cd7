"""The command line: what a person sees of it."""

import json

import numpy as np
import pytest
from PIL import Image

from cardiojax import cli


def test_help_lists_every_command(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    assert all(f"cardiojax {name}" in out for name in cli.COMMANDS)
    assert cli.main(["dance"]) == 2


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), "--help"])
    assert stop.value.code == 0
    assert name in capsys.readouterr().out


def test_zoo(capsys):
    assert cli.main(["zoo", "list", "--pattern", "unet_c*"]) == 0
    assert capsys.readouterr().out == "unet_camus\n"
    assert cli.main(["zoo", "show", "unet_camus"]) == 0
    assert json.loads(capsys.readouterr().out)["licence"] == "CC BY-NC-SA 4.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo", "show", "resnet"], "no model 'resnet' in the zoo"),
        (["analyze", "absent.dcm"], "absent.dcm: cannot be opened"),
        (["analyze"], "give one file to analyze, or --example"),
        (["analyze", "empty.png"], "is empty"),
        (["analyze", "tiny.png"], "expected at least 32 x 32"),
        (["analyze", "good.png", "--model", "resnet"], "no model 'resnet'"),
        (["analyze", "good.png", "--batch-size", "-3"], "batch_size must be at least 1"),
        (["analyze", "good.png", "--model", "unet"], "unet has no packaged weights"),
        (["train", "unet", "--data", "nowhere"], "camus224_train.npz: no such file"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("tiny.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save("good.png")
    if arguments[0] != "zoo":
        arguments = [*arguments, "--out", "out"]
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.png", "good.png", "tiny.png"]


def test_example_end_to_end(tmp_path, capsys):
    """The packaged model on a loop of another vendor: the ventricle is found in each frame, and it beats."""
    assert cli.main(["analyze", "--example", "--out", str(tmp_path / "report")]) == 0
    values = json.loads((tmp_path / "report" / "measurements.json").read_text())
    # No remark but on outlines that were mended.
    assert all(warning.startswith("The outlines of") for warning in values["warnings"])
    assert 45 < values["ejection_fraction_percent"] < 80
    assert 60 < values["end_diastolic_volume_ml"] < 180
    assert 70 < values["end_diastolic_length_mm"] < 100
    assert "ejection fraction" in capsys.readouterr().out
