"""``cardiojax check``: files of masks in, a table out."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from cardiojax import cli
from cardiojax.cli.check import CheckConfig, check_files


def heart(size=96):
    rows, cols = np.mgrid[:size, :size]
    y, x = rows - 58, cols - 48
    cavity, wall = ((y / a) ** 2 + (x / b) ** 2 < 1 for a, b in ((36, 13), (44, 22)))
    return np.select([cavity & (y < 0), wall & (y < 0), np.hypot(y - 8, x) < 13], [1, 2, 3], 0).astype(np.uint8)


@pytest.fixture
def files(tmp_path):
    good, bad = heart(), heart()
    bad[2:4, 2:5] = 1  # a stray piece of cavity
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
    pictures = sorted((files / "marks").iterdir())
    assert [p.name for p in pictures] == ["001_bad_0000.png", "002_loop_0001.png", "003_bad_0000.png"]
    colours = np.asarray(Image.open(pictures[0]))
    zoom = 560 // 96
    assert (colours[2 * zoom : 4 * zoom, 2 * zoom : 5 * zoom] == (255, 70, 0)).all()


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
    np.save("real.npy", np.full((32, 32), 0.5))
    np.savez("two.npz", a=np.zeros((32, 32)), b=np.zeros((32, 32)))
    assert cli.main(["check", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
