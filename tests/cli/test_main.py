"""The command line: what a person sees of it."""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

from cardiojax import cli
from cardiojax.cli import zoo as zoo_command


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
        (["analyze"], "give files to analyze, or --example"),
        (["analyze", "empty.png"], "is empty"),
        (["analyze", "tiny.png"], "expected at least 32 x 32"),
        (["analyze", "good.png", "--model", "resnet"], "no model 'resnet'"),
        (["analyze", "good.png", "--batch-size", "-3"], "batch_size must be 1 to 8192"),
        (["analyze", "good.png", "--weights", "absent.safetensors"], "absent.safetensors: no such weight file"),
        (["analyze", "good.png", "--out", "."], "holds the input good.png"),
        (["analyze", "good.png", "--pair-model", "unet_pair"], "unet_pair has no packaged weights"),
        (["analyze", "good.png", "--pair-model", "unet_camus"], "unet_camus sees 1 frame, expected a network of two"),
        (["analyze", "good.png", "--model", "nnunet_camus", "--weights", "w.safetensors"], "give --model or --weights"),
        (["analyze", "good.png", "--view", "PLAX"], "--view takes auto, 2CH, 4CH or NAME=VIEW, got 'PLAX'"),
        (["analyze", "good.png", "--view", "=2CH"], "--view takes auto, 2CH, 4CH or NAME=VIEW, got '=2CH'"),
        (["analyze", "good.png", "--view", "x.png=2CH"], "'x.png', which is no recording of the study"),
        (["analyze", "good.png", "--view", "2CH", "4CH"], "--view states both 2CH and 4CH for good.png"),
        (["analyze", "good.png", "--height-cm", "1.7"], "a height must be 120 to 230 cm, got 1.7"),
        (["analyze", "good.png", "absent.png"], "absent.png does not exist"),
        (["analyze", ""], "a path is empty, expected a file or a folder"),
        (["analyze", "good.png", "--keep-identity"], "--keep-identity needs --dicom"),
        (["analyze", "good.png", "--dicom", "--keep-identity"], "keep_identity needs a DICOM file"),
        (["analyze", "\x1b[31mred\n.dcm"], "\\x1b[31mred\\n.dcm: cannot be opened"),
        (["analyze", "good.png", "--model", "unet"], "unet has no packaged weights"),
        (["train", "unet", "--data", "nowhere"], "camus224_train.npz: no such file"),
        (["analyze", "good.png", "--cache-dir", "good.png"], "good.png cannot hold compiled functions"),
        (
            ["zoo", "export", "unet_camus", "--platforms", "foo"],
            "platforms must be among cpu, cuda, tpu, rocm, got 'foo'",
        ),
        (["zoo", "export", "unet_camus", "--platforms"], "platforms must hold at least one"),
        (["zoo", "export", "unet_camus", "--size", "0"], "size must be from 1 to"),
        (["batch", ".", "--model", "view_camus", "--out", "t.parquet"], "view_camus is no segmentation network"),
        (["batch", ".", "--pair-model", "unet_camus", "--out", "t.parquet"], "expected a network of two"),
        (["batch", "", "--out", "t.parquet"], "the root is empty, expected the folder of an archive"),
        (["zoo", "export", "view_camus"], "the model is no segmentation network"),
        (["zoo", "export", "good.png", "--out", "good.png"], "good.png is the file that is read"),
        (["zoo", "convert", "sam_b", "good.png", "--out", "good.png"], "good.png is the file that is read"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("tiny.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save("good.png")
    if "show" not in arguments and "--out" not in arguments:
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
    expected = ("The outlines of", "The loop shows no beat from end-diastole to end-systole")
    assert all(warning.startswith(expected) for warning in values["warnings"])
    assert 45 < values["ejection_fraction_percent"] < 80
    assert 60 < values["end_diastolic_volume_ml"] < 180
    assert 70 < values["end_diastolic_length_mm"] < 100
    assert "ejection fraction" in capsys.readouterr().out


def failing(monkeypatch, error):
    def command() -> None:
        raise error

    monkeypatch.setattr(zoo_command, "list_command", command)
    return cli.main(["zoo", "list"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OverflowError("Python integer 99999999999999999999 out of bounds"), "out of bounds"),
        (MemoryError("Unable to allocate 9 TiB"), "not enough memory (Unable to allocate 9 TiB)"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "not enough memory"),
        (FileNotFoundError(2, "No such file or directory", "a\nb"), "a b: No such file or directory"),
        (RuntimeError("Symlink loop from 'x'"), "Symlink loop from 'x'"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (ValueError("two\nlines\x1b[31m"), "two lines\\x1b[31m"),
    ],
)
def test_what_a_person_can_mend_is_one_sentence(monkeypatch, capsys, error, message):
    assert failing(monkeypatch, error) == 2
    written = capsys.readouterr().err
    assert message in written
    assert written.count("\n") == 1
    assert written[:-1].isprintable()


def test_a_bug_keeps_its_traceback_and_an_interrupt_its_status(monkeypatch, capsys):
    with pytest.raises(RuntimeError, match="a bug"):
        failing(monkeypatch, RuntimeError("a bug"))
    assert failing(monkeypatch, KeyboardInterrupt()) == 130
    assert failing(monkeypatch, BrokenPipeError()) == 1
    assert capsys.readouterr().err == ""


INTERRUPTED = """
import signal, sys, threading, time, os
from cardiojax import cli
from cardiojax.cli import zoo
from cardiojax.runtime import aot, thread_pool

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with it ignored

def work() -> None:
    waiting = aot._POOL.submit(time.sleep, 60)  # as a compilation
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with thread_pool(2) as pool:
        list(pool.map(lambda _: waiting.result(), range(3)))

zoo.list_command = work
sys.argv = ["cardiojax", "zoo", "list"]
cli.run()
"""


INTERRUPTED_IMPORT = """
import os, signal, sys
from cardiojax import cli

signal.signal(signal.SIGINT, signal.default_int_handler)

def load(name):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # as packages do that try several imports
        raise RecursionError

cli._load = load
sys.argv = ["cardiojax", "zoo", "list"]
cli.run()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_during_imports_is_no_traceback():
    process = subprocess.run([sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout, process.stderr) == (-signal.SIGINT, "", "")


def test_an_interrupt_does_not_wait_for_compilations():
    start = time.monotonic()
    process = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert process.returncode == 130
    assert process.stderr == ""
    assert time.monotonic() - start < 50


def test_a_closed_pipe_and_settings_of_jax_are_no_tracebacks(tmp_path):
    """Double precision is not used, and an absent accelerator is named."""
    np.save(tmp_path / "mask.npy", np.zeros((32, 32), np.uint8))
    program = f"{sys.executable} -m cardiojax"
    commands = {
        f"{program} zoo list | true": "",
        f"JAX_ENABLE_X64=1 {program} check {tmp_path}/mask.npy": "0 of 1 masks pass",
        f"JAX_PLATFORMS=cuda {program} check {tmp_path}/mask.npy": "JAX cannot start with JAX_PLATFORMS='cuda'",
    }
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda c: subprocess.run(c, shell=True, capture_output=True, text=True), commands))
    for result, expected in zip(results, commands.values(), strict=True):
        assert expected in result.stdout + result.stderr
        assert "Traceback" not in result.stderr
    assert [result.returncode for result in results] == [0, 0, 2]
