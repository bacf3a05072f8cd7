"""Datasets in their true layouts, drawn small: found, checked, built, read back in one schema."""

import contextlib
import dataclasses
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from skimage import draw

from cardiojax import cli
from cardiojax.data import datasets
from cardiojax.data.datasets.layouts.echonet import polygon
from cardiojax.data.datasets.layouts.tables import fill_polygon, read_csv, read_xlsx
from cardiojax.data.formats.common import UnreadableFileError
from cardiojax.data.formats.volumes.matlab import read_array
from cardiojax.labels import CAMUS, Structures
from tests.helpers import datasets as made
from tests.helpers import fuzz_seeds

# TFDS's and openpyxl's own habits on a supported Python
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

OWN = Structures((*CAMUS.names, "right_ventricle"))
FRAMES = datasets.BuildConfig(validation_share=0)
LOOPS = datasets.BuildConfig(kind="loops", validation_share=0)


def examples(data_dir, name, split="train"):
    return [*datasets.open_dataset(data_dir, name, split)]


def defects(layout, root):
    return [str(defect) for defect in datasets.check_download(layout, root)]


def test_echonet_videos_get_the_masks_of_their_tracings(tmp_path):
    root, layout = made.write_echonet(tmp_path / "EchoNet-Dynamic"), datasets.LAYOUTS["echonet"]
    assert datasets.recognise(root)[0] is layout
    assert defects(layout, root) == []
    assert datasets.build_dataset(layout, root, tmp_path) == {"train": 6, "validation": 2, "test": 2}
    frames = examples(tmp_path, "echonet/frames")
    assert sorted({(e["phase"], e["frame"]) for e in frames}) == [(b"ED", 0), (b"ES", 4)]
    first = next(e for e in frames if e["patient"] == b"0X0000000000000001" and e["phase"] == b"ED")
    images, labels = made.hearts(8, (112, 112), seed=1, num_labels=2)
    assert np.abs(first["image"].astype(int) - images[0]).mean() < 3  # motion JPEG
    overlap = (first["label"] == 1) & (labels[0] == 1)
    assert 2 * overlap.sum() / ((first["label"] == 1).sum() + (labels[0] == 1).sum()) > 0.97
    assert (first["view"], first["centre"], first["ejection_fraction"]) == (b"4CH", b"Stanford", 51.5)
    assert first["frame_rate"] == 50
    assert np.isnan(first["spacing"]).all()
    assert first["present"].tolist() == [True, True]
    datasets.build_dataset(layout, root, tmp_path, LOOPS)
    loop = examples(tmp_path, "echonet/loops", "test")[0]
    assert loop["image"].shape == loop["label"].shape == (8, 112, 112)
    assert np.flatnonzero(loop["annotated"]).tolist() == [0, 4]
    assert (loop["end_diastole"], loop["end_systole"]) == (0, 4)


def test_polygons_are_those_of_the_authors():
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y = rng.integers(-4, 36, (2, rng.integers(3, 12))).astype(float)
        expected = np.zeros((30, 32), bool)
        rows, cols = draw.polygon(y, x, (30, 32))
        expected[rows, cols] = True
        np.testing.assert_array_equal(fill_polygon(y, x, (30, 32)), expected)
    chords = made.chords(made.hearts(1, (112, 112))[1][0] == 1)
    x1, y1, x2, y2 = chords[1:].T  # as echonet/datasets/echo.py
    x, y = np.concatenate((x1, np.flip(x2))), np.concatenate((y1, np.flip(y2)))
    expected = np.zeros((112, 112), bool)
    expected[draw.polygon(np.rint(y).astype(int), np.rint(x).astype(int), (112, 112))] = True
    np.testing.assert_array_equal(polygon(chords, (112, 112)), expected)


def test_every_defect_of_a_download_of_echonet_is_listed(tmp_path):
    root, layout = made.write_echonet(tmp_path), datasets.LAYOUTS["echonet"]
    videos = [root / "Videos" / f"0X{number:016X}.avi" for number in range(5)]
    tracings = (root / "VolumeTracings.csv").read_text().splitlines()
    kept = [line for line in tracings if not line.startswith(videos[1].name)]
    kept = [line for number, line in enumerate(kept) if number != 5]
    kept[1] = kept[1].replace(kept[1].split(",")[1], "nan")
    outside = [line for line in kept if line.startswith(videos[2].name)]
    kept[kept.index(outside[-3])] = ",".join([videos[2].name, "5", "60", "130.2", "60", outside[-3].split(",")[-1]])
    kept += [f"{videos[3].name},{i},10,{i + 9},12,99" for i in range(21)]
    (root / "VolumeTracings.csv").write_text("\n".join(kept))
    listed = (root / "FileList.csv").read_text().splitlines()
    listed += [
        listed[-1],
        "0XFFFF,50,40,80,112,112,50,8,TRAIN",
        listed[1].replace("TRAIN", "DEV").replace("0X0", "0Xa"),
    ]
    (root / "FileList.csv").write_text("\n".join(listed))
    videos[0].write_bytes(videos[0].read_bytes()[:300])
    made.write_avi(root / "Videos" / "extra.avi", made.hearts(2, (112, 112))[0])
    found = "\n".join(defects(layout, root))
    for expected in (
        "VolumeTracings.csv: has 1 rows that are no chord of a frame",
        "VolumeTracings.csv: has 19 chords in frame 4 of 0X0000000000000000.avi, expected 21",
        "0X0000000000000000.avi: is a damaged or unsupported video file",
        "0X0000000000000001.avi: has no tracing in VolumeTracings.csv",
        "0X0000000000000002.avi: has a tracing outside the image in frame 0",
        "0X0000000000000003.avi: has 3 traced frames, expected 2",
        "0X0000000000000003.avi: has a tracing of frame 99 of 8",
        "0X0000000000000004.avi: is listed twice in FileList.csv",
        "0XFFFF.avi: is missing",
        "extra.avi: is not in FileList.csv",
    ):
        assert expected in found, expected
    (root / "VolumeTracings.csv").write_text("FileName,X1\na,2\n")
    with pytest.raises(UnreadableFileError, match="lacks the column Y1"):
        layout.find(root, "frames")


def test_hmcqu_masks_are_the_wall_on_a_grid_of_their_own(tmp_path):
    root, layout = made.write_hmcqu(tmp_path / "hmcqu"), datasets.LAYOUTS["hmcqu"]
    assert datasets.recognise(root)[0] is layout
    assert defects(layout, root) == []
    assert datasets.build_dataset(layout, root, tmp_path, LOOPS) == {"train": 2}
    loops = {e["patient"]: e for e in examples(tmp_path, "hmcqu/loops")}
    images, labels = made.hearts(9, (56, 56), seed=1)
    np.testing.assert_array_equal(loops[b"ES0001"]["label"], labels[1:7] == 2)
    assert np.abs(loops[b"ES0001"]["image"].astype(int) - images[1:7]).mean() < 8  # smoothed
    assert datasets.describe_dataset(tmp_path, "hmcqu/loops").structures.names == ("background", "myocardium")
    assert datasets.build_dataset(layout, root, tmp_path, FRAMES) == {"train": 12}
    assert sorted(e["frame"] for e in examples(tmp_path, "hmcqu/frames")) == sorted([*range(1, 7), *range(6)])


def test_every_defect_of_a_download_of_hmcqu_is_listed(tmp_path):
    import openpyxl
    from scipy import io

    root, layout = made.write_hmcqu(tmp_path), datasets.LAYOUTS["hmcqu"]
    masks = root / "LV Ground-truth Segmentation Masks"
    io.savemat(masks / "Mask_ES0009 _4CH_1.mat", {"predicted": np.zeros((2, 4, 4))})
    io.savemat(masks / "Mask_ES0002 _4CH_1.mat", {"predicted": np.full((6, 8, 8), 3)})
    io.savemat(masks / "Mask_ES0001 _4CH_1.mat", {"predicted": np.zeros((4, 8, 8))})
    found = "\n".join(defects(layout, root))
    assert "Mask_ES0009 _4CH_1.mat: has no video" in found
    assert "is [4, 8, 8], expected 6 masks of the cycle" in found
    assert "holds values other than 0 and 1" in found
    book = openpyxl.load_workbook(root / "A4C.xlsx")
    book.active["D2"] = 50
    book.active["C3"] = "?"
    book.save(root / "A4C.xlsx")
    found = "\n".join(defects(layout, root))
    assert "has 9 frames, expected 50 as the table states" in found
    assert "Mask_ES0002 _4CH_1.mat: has no valid cycle (? to 6)" in found


def test_files_of_matlab_and_workbooks_are_read_within_limits(tmp_path, capsys):
    from scipy import io

    path = tmp_path / "a.mat"
    io.savemat(path, {"predicted": {"a": 1}, "text": "words"})
    for name, message in (
        ("predicted", "as struct, expected numbers"),
        ("text", "expected numbers"),
        ("x", "no array"),
    ):
        with pytest.raises(UnreadableFileError, match=message):
            read_array(path, name)
    io.savemat(path, {"predicted": np.zeros((3, 5))}, do_compression=True)
    content = path.read_bytes()
    for end in (0, 60, 130, len(content) - 9):
        path.write_bytes(content[:end])
        with pytest.raises(UnreadableFileError):
            read_array(path, "predicted")
    rng = np.random.default_rng(0)
    for _ in range(100):
        changed = bytearray(content)
        for position in rng.integers(124, len(content), 3):
            changed[position] = rng.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(UnreadableFileError):
            assert read_array(path, "predicted").dtype.kind in "buif"
    book = tmp_path / "b.xlsx"
    for content in (b"", b"PK\x03\x04", b"no workbook"):
        book.write_bytes(content)
        with pytest.raises(UnreadableFileError, match="no readable workbook"):
            read_xlsx(book, ("ECHO",))
    (content,) = fuzz_seeds.xlsx()[:1]
    book.write_bytes(
        fuzz_seeds.rezip(content, lambda name, part: part.replace(b' xfId="0" builtin', b' xfId="9" builtin'))
    )
    with pytest.raises(UnreadableFileError, match="no readable workbook"):
        read_xlsx(book, ("ECHO",))
    assert capsys.readouterr() == ("", "")
    with pytest.raises(UnreadableFileError, match="is missing"):
        read_csv(tmp_path / "absent.csv", ())


def test_ted_loops_cover_a_cycle(tmp_path):
    root, layout = made.write_ted(tmp_path / "ted"), datasets.LAYOUTS["ted"]
    assert datasets.recognise(root)[0] is layout
    assert defects(layout, root) == []
    datasets.build_dataset(layout, root, tmp_path, LOOPS)
    loop = next(e for e in examples(tmp_path, "ted/loops") if e["patient"] == b"patient002")
    images, labels = made.hearts(7, seed=2)
    np.testing.assert_array_equal(loop["image"], images)
    np.testing.assert_array_equal(loop["label"], labels)
    assert (loop["end_diastole"], loop["end_systole"], loop["annotated"].sum()) == (0, 3, 7)
    np.testing.assert_allclose(loop["spacing"], [0.154, 0.308])
    datasets.build_dataset(layout, root, tmp_path, FRAMES)
    phases = {(e["patient"], int(e["frame"])): e["phase"] for e in examples(tmp_path, "ted/frames")}
    assert [phases[b"patient001", t] for t in range(4)] == [b"ED", b"frame", b"frame", b"ES"]
    (root / "patient001" / "patient001_4CH_info.cfg").write_text("ED: 5\nES: 4\nNbFrame: 7\n")
    (root / "patient002" / "patient002_4CH_sequence_gt.mhd").unlink()
    found = "\n".join(defects(layout, root))
    assert "states end-diastole (5) after end-systole (4)" in found
    assert "patient002_4CH_sequence.mhd: has no mask" in found


def test_acdc_labels_have_names_not_numbers(tmp_path):
    root, layout = made.write_acdc(tmp_path / "acdc"), datasets.LAYOUTS["acdc"]
    assert datasets.recognise(root)[0] is layout
    assert defects(layout, root) == []
    assert datasets.build_dataset(layout, root, tmp_path, FRAMES) == {"train": 12, "test": 6}
    named = datasets.describe_dataset(tmp_path, "acdc/frames").structures
    assert named.names == ("background", "right_ventricle", "myocardium", "lv")
    example = next(e for e in examples(tmp_path, "acdc/frames") if (e["slice"], e["phase"]) == (1, b"ES"))
    assert (example["frame"], example["view"]) == (11, b"SAX")
    cavity = example["label"] == named.names.index("lv")
    np.testing.assert_array_equal(cavity, made.hearts(3, seed=1)[1][1] == 1)
    with pytest.raises(ValueError, match="no kind 'loops', only frames"):
        datasets.build_dataset(layout, root, tmp_path, LOOPS)
    with pytest.raises(ValueError, match="acdc/frames has no left_atrium"):
        datasets.open_frames(tmp_path, "train", structures=CAMUS)
    source = datasets.open_frames(tmp_path, "train", size=32, structures=Structures(("background", "lv")))
    assert set(np.unique(source[0]["label"])) <= {0, 1}


def test_a_folder_of_ones_own_has_five_labels_and_all_fields(tmp_path):
    root = made.write_folder(tmp_path / "own")
    layout = datasets.folder_layout("cardinal", OWN)
    assert defects(layout, root) == []
    assert datasets.build_dataset(layout, root, tmp_path) == {"train": 6, "validation": 2}
    described = datasets.describe_dataset(tmp_path, "cardinal/frames")
    assert (described.structures, described.is_partial) == (OWN, True)
    read = {(e["patient"], e["phase"]): e for e in examples(tmp_path, "cardinal/frames")}
    assert read[b"p0", b"ED"]["present"].tolist() == [True] * 4 + [False]
    example = read[b"p1", b"ES"]
    assert [example[name] for name in ("view", "vendor", "centre")] == [b"4CH", b"Philips", b"north"]
    np.testing.assert_array_equal(example["label"], made.hearts(2, seed=1, num_labels=5)[1][1])
    np.testing.assert_allclose(example["spacing"], [0.5, 0.4])


def test_every_defect_of_a_folder_of_ones_own_is_listed(tmp_path):
    from PIL import Image

    root = made.write_folder(tmp_path)
    layout = datasets.folder_layout("own", CAMUS)
    (root / "masks" / "p1_ED.png").unlink()
    (root / "images" / "p2_ED.png").unlink()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(root / "masks" / "p0_ES.png")
    (root / "images" / "copy.png").write_bytes((root / "images" / "p0_ED.png").read_bytes())
    (root / "masks" / "copy.png").write_bytes((root / "masks" / "p0_ED.png").read_bytes())
    table = (root / "index.csv").read_text()
    table = table.replace("p3_ES.png,p3,4CH,ES", "p3_ES.png,p3,4CH,systole").replace("p3_ED.png,p3", "p3_ED.png,p2")
    (root / "index.csv").write_text(table + "p9.png,p9,,,,,,,,\n")
    found = "\n".join(defects(layout, root))
    for expected in (
        "p1_ED.png: has no mask",
        "p2_ED.png: has no image",
        "p0_ES.png: is [1, 9, 9], expected [1, 48, 40] of p0_ES.png",
        "p0_ED.png: has the same pixels as copy.png",
        "p1_ES.png: holds the label 4, expected 0 to 3",
        "index.csv: p3_ES has the phase 'systole', expected ED or ES",
        "index.csv: lists p9, which has no image",
        "is of the patient p2, who is in the splits train and validation",
        "has no pixel spacing in 1 of",
    ):
        assert expected in found, expected
    with pytest.raises(ValueError, match=r"images/NAME\.png"):
        layout.find(tmp_path / "masks", "frames")
    with pytest.raises(ValueError, match="named by lower-case letters"):
        datasets.folder_layout("../x", CAMUS)


def test_datasets_are_merged_by_the_names_of_their_structures(tmp_path):
    for name, write in (("acdc", made.write_acdc), ("hmcqu", made.write_hmcqu), ("ted", made.write_ted)):
        datasets.build_dataset(datasets.LAYOUTS[name], write(tmp_path / name / "download"), tmp_path / "data", FRAMES)
    with pytest.raises(ValueError, match="several datasets, acdc, hmcqu, ted: choose"):
        datasets.open_frames(tmp_path / "data", "train")
    with pytest.raises(ValueError, match="echonet/frames has not been built"):
        datasets.open_frames(tmp_path / "data", "train", datasets=("echonet",))
    with pytest.raises(ValueError, match="the dataset ted is given twice"):
        datasets.open_frames(tmp_path / "data", "train", datasets=("ted", "ted/frames"))
    with pytest.raises(ValueError, match="ted and camus are of the same patients"):
        datasets.open_frames(tmp_path / "data", "train", datasets=("ted", "camus"))
    source = datasets.open_frames(tmp_path / "data", "train", size=32, datasets=("ted", "acdc", "hmcqu"))
    assert source.structures.names == (*CAMUS.names, "right_ventricle")
    assert len(source) == 14 + 12 + 12
    ted, acdc, hmcqu = (source[index] for index in (0, 14, 26))
    assert [each["patient"].split("/")[0] for each in (ted, acdc, hmcqu)] == ["ted", "acdc", "hmcqu"]
    assert ted["present"].tolist() == [True, True, True, True, False]
    assert acdc["present"].tolist() == [True, True, True, False, True]
    assert hmcqu["present"].tolist() == [True, False, True, False, False]
    assert set(np.unique(hmcqu["label"])) == {0, 2}
    assert set(np.unique(acdc["label"])) == {0, 1, 2, 4}
    alone = datasets.open_frames(tmp_path / "data", "train", datasets=("ted",))
    assert "present" not in alone[0]
    with pytest.raises(IndexError):
        source[len(source)]


def test_patients_are_held_out_for_validation_whole_and_always_the_same(tmp_path):
    root = made.write_folder(tmp_path / "own", num_patients=12)
    table = (root / "index.csv").read_text().replace(",train,", ",,").replace(",validation,", ",,")
    (root / "index.csv").write_text(table)
    layout = datasets.folder_layout("own", OWN)
    config = datasets.BuildConfig(validation_share=0.25)
    assert datasets.build_dataset(layout, root, tmp_path / "a", config) == {"train": 18, "validation": 6}
    train, held_out = (
        {e["patient"] for e in examples(tmp_path / "a", "own/frames", s)} for s in ("train", "validation")
    )
    assert len(held_out) == 3
    assert not train & held_out
    with pytest.raises(ValueError, match="built from another source"):
        datasets.build_dataset(layout, root, tmp_path / "a", dataclasses.replace(config, validation_share=0.5))
    few = made.write_folder(tmp_path / "few", num_patients=2)
    (few / "index.csv").write_text((few / "index.csv").read_text().replace(",validation,", ",train,"))
    assert datasets.build_dataset(layout, few, tmp_path / "b") == {"train": 2, "validation": 2}
    with pytest.raises(ValueError, match="validation_share must be"):
        datasets.BuildConfig(validation_share=1.5)


def test_a_build_that_is_killed_leaves_nothing_that_counts(tmp_path):
    root = made.write_folder(tmp_path / "own")
    code = textwrap.dedent(f"""
        import dataclasses, os, signal
        from cardiojax.data import datasets
        from cardiojax.labels import Structures
        layout = datasets.folder_layout("own", Structures({OWN.names}))
        def find(root, kind):
            survey = layout.find(root, kind)
            survey.items[3] = dataclasses.replace(survey.items[3], read=lambda: os.kill(os.getpid(), signal.SIGKILL))
            return survey
        killed = dataclasses.replace(layout, find=find)
        datasets.build_dataset(killed, {str(root)!r}, {str(tmp_path / "data")!r})
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert list((tmp_path / "data" / "own" / "frames").glob("incomplete*"))
    assert datasets.list_built(tmp_path / "data") == []
    assert datasets.build_dataset(datasets.folder_layout("own", OWN), root, tmp_path / "data")["train"] == 6
    assert not list((tmp_path / "data" / "own" / "frames").glob("incomplete*"))


def test_commands(tmp_path, capsys):
    root = made.write_folder(tmp_path / "own")
    assert cli.main(["data", "list"]) == 0
    assert "echonet" in capsys.readouterr().out
    assert cli.main(["data", "list", "hmcqu"]) == 0
    assert "kaggle" in capsys.readouterr().out
    check = ["data", "check", str(root), "--structures", *OWN.names[1:]]
    assert cli.main(check) == 0
    assert "no defects" in capsys.readouterr().out
    (root / "masks" / "p1_ED.png").unlink()
    with pytest.raises(SystemExit, match="1"):
        cli.main(check)
    assert "p1_ED.png: has no mask" in capsys.readouterr().out
    build = ["data", "build", "mine", "--manual-dir", str(root), "--data-dir", str(tmp_path / "data")]
    assert cli.main(build) == 2
    assert "there is no dataset 'mine'" in capsys.readouterr().err
    assert cli.main([*build, "--structures", *OWN.names[1:]]) == 0
    assert "mine/frames" in capsys.readouterr().out
    assert cli.main(["data", "list", "--data-dir", str(tmp_path / "data")]) == 0
    assert (
        "mine/frames: 5 in train, 2 in validation; lv, myocardium, left_atrium, right_ventricle"
        in capsys.readouterr().out
    )
    assert cli.main(["data", "check", str(tmp_path / "data")]) == 2
    assert "holds none of the datasets" in capsys.readouterr().err
