"""``cardiojax check``: files of masks in, a table out."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from cardiojax import cli
from cardiojax.cli import check
from cardiojax.cli.check import CheckConfig, check_files
from cardiojax.runtime import aot
from tests.helpers.shapes import apical_view


def heart(size=96):
    rows, cols = np.mgrid[:size, :size]
    mask = apical_view(rows - 58, cols - 48, cavity=(36, 13), wall=(8, 9), atrium=(8, 13, 13))
    return mask.astype(np.uint8)


@pytest.fixture
def files(tmp_path):
    good, bad = heart(), heart()
    bad[2:4, 2:5] = 1  # a small component of the cavity
    Image.fromarray(good).save(tmp_path / "good.png")
    np.save(tmp_path / "bad.npy", bad)
    np.savez(tmp_path / "loop.npz", image=np.zeros((3, 96, 96), np.uint8), label=np.stack([good, bad, good]))
    nibabel.Nifti1Image(bad.T, np.eye(4)).to_filename(tmp_path / "bad.nii.gz")
    header = "ObjectType = Image\nNDims = 2\nDimSize = 96 96\nElementSpacing = 0.5 0.5\nElementType = MET_UCHAR\n"
    (tmp_path / "good.mhd").write_text(header + "ElementDataFile = good.raw\n")
    (tmp_path / "good.raw").write_bytes(good.tobytes())
    return tmp_path


def test_table_of_every_format(files, capsys):
    names = ["good.png", "bad.npy", "loop.npz", "bad.nii.gz", "good.mhd"]
    assert cli.main(["check", *(str(files / n) for n in names), "--out", str(files / "marks")]) == 0
    lines = capsys.readouterr().out.splitlines()
    faults = "disconnectivity_in_lv 6 px"
    assert [line.split("  ", 1)[1].strip() for line in lines[1:6]] == ["none", faults, faults, faults, "none"]
    assert "loop.npz, frame 1" in lines[3]
    assert lines[6] == "4 of 7 masks pass all 12 criteria"
    pictures = sorted((files / "marks").glob("*.png"))
    assert [p.name for p in pictures] == ["002_mask_0000.png", "003_mask_0001.png", "004_mask_0000.png"]
    assert cli.main(["check", str(files / "bad.npy"), "--out", str(files / "marks"), "--keep-names"]) == 0
    assert [p.name for p in sorted((files / "marks").glob("*.png"))] == ["001_bad_0000.png"]
    assert cli.main(["check", *(str(files / n) for n in names), "--out", str(files / "marks")]) == 0
    colours = np.asarray(Image.open(pictures[0]))
    zoom = 560 // 96
    assert (colours[2 * zoom : 4 * zoom, 2 * zoom : 5 * zoom] == (255, 70, 0)).all()


def test_files_of_many_sizes_share_few_compiled_functions(tmp_path, monkeypatch):
    """The table is that of every image by itself; a mask beyond a million pixels is reduced, and the table says so."""
    compiled = []
    compile_one = aot.CompiledFunction._compile
    monkeypatch.setattr(aot.CompiledFunction, "_compile", lambda *a: compiled.append(a) or compile_one(*a))
    rng, names = np.random.default_rng(0), []
    for number in range(6):
        height, width = rng.integers(100, 140, 2)
        mask = np.zeros((height, width), np.uint8)
        mask[4:100, -97:-1] = heart()
        mask[90, -60] = 2 if number % 2 else 0  # a small component
        names.append(tmp_path / f"mask{number}.npy")
        np.save(names[-1], mask)
    huge = np.zeros((1500, 1600), np.uint8)
    huge[40:232, 100:292] = heart().repeat(2, 0).repeat(2, 1)
    np.save(tmp_path / "huge.npy", huge)
    lines = check_files([*names, tmp_path / "huge.npy"]).splitlines()
    assert ["disconnectivity_in_myo 1 px" in line for line in lines[1:7]] == [False, True] * 3
    assert lines[7].startswith("huge.npy, every 2nd pixel")
    assert lines[7].endswith("none")
    assert lines[8].startswith("4 of 7 masks")
    assert len(compiled) <= 1


def test_a_narrow_mask_that_is_reduced_keeps_a_row(tmp_path):
    np.save(tmp_path / "narrow.npy", np.ones((2, 4000), np.uint8))
    file = check._read(tmp_path / "narrow.npy", CheckConfig())
    assert (file.masks.shape, file.stride) == ((1, 1, 500), 8)


def test_short_axis(tmp_path):
    rows, cols = np.mgrid[:48, :48]
    radius = np.hypot(rows - 24, cols - 24)
    np.save(tmp_path / "ring.npy", np.select([radius < 8, radius < 14], [3, 2], 0).astype(np.uint8))
    config = CheckConfig(view="short-axis", spacing=(1.4, 1.4))
    assert "1 of 1 masks pass all 16 criteria" in check_files([tmp_path / "ring.npy"], config=config)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.png"], "absent.png: cannot be opened"),
        (["grey.png"], "has the label 200, expected a mask of labels 0 to 3"),
        (["real.npy"], "not whole numbers"),
        (["negative.npy"], "not whole numbers from 0"),
        (["missing.npy"], "not whole numbers"),
        (["zero.npz", "--view", "short-axis"], "has no pixel spacing"),
        (["nan.npz", "--view", "short-axis"], "has no pixel spacing"),
        (["mask.png", "--spacing", "0.5", "-1"], "spacing must be two lengths"),
        (["mask.png", "--spacing", "nan", "1"], "spacing must be two lengths"),
        (["mask.png", "--out", "."], "holds the input mask.png"),
        (["two.npz"], "expected one named 'labels' or 'label'"),
        (["mask.png", "--view", "short-axis"], "has no pixel spacing"),
        (["mask.png", "--view", "short-axis", "--out", "marks"], "apical views only"),
        (["mask.png", "--view", "short-axis", "--limits", "calibrated"], "no calibrated limits"),
        (["mask.png", "--out", "mask.png"], "mask.png is a file, expected a folder"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((32, 32), 200, np.uint8)).save("grey.png")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save("mask.png")
    for name, value in (("real", 0.5), ("negative", -1), ("missing", np.nan)):
        np.save(f"{name}.npy", np.full((32, 32), value))
    for name, value in (("zero", 0.0), ("nan", np.nan)):
        np.savez(f"{name}.npz", label=np.zeros((32, 32), np.uint8), spacing=[value, 1.0])
    np.savez("two.npz", a=np.zeros((32, 32)), b=np.zeros((32, 32)))
    assert cli.main(["check", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
