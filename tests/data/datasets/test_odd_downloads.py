"""Odd downloads: names, tables and files as other programs leave them."""

import dataclasses
import unicodedata

import numpy as np
import pytest
from PIL import Image

from cardiojax import cli
from cardiojax.data import datasets
from cardiojax.labels import CAMUS, Structures
from tests.helpers import datasets as made

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

OWN = Structures((*CAMUS.names, "right_ventricle"))
LAYOUT = datasets.folder_layout("own", OWN)


def defects(layout, root):
    return "\n".join(str(defect) for defect in datasets.check_download(layout, root))


def test_names_are_compared_as_people_read_them(tmp_path):
    images, labels = made.hearts(5, num_labels=5)
    for folder in ("images", "masks"):
        (tmp_path / folder / "new folder").mkdir(parents=True)
    pairs = {  # the image, its mask, the name in the table
        unicodedata.normalize("NFD", "new folder/Käse 1.png"): ("new folder/Käse 1.png", "new folder\\Käse 1"),
        "1.2.840.113.png": ("1.2.840.113.png", "1.2.840.113"),
        "p.ED.PNG": ("p.ED.png", "p.ED"),
    }
    for number, (image, (mask, _)) in enumerate(pairs.items()):
        Image.fromarray(images[number]).save(tmp_path / "images" / image)
        Image.fromarray(labels[number]).save(tmp_path / "masks" / mask)
    made.write_nifti(tmp_path / "images" / "loop.nii.gz", images[3:5].astype(float))
    (tmp_path / "images" / "loop.nii.gz").rename(tmp_path / "images" / "LOOP.NII.GZ")
    made.write_nifti(tmp_path / "masks" / "LOOP.nii", labels[3:5].astype(float))
    rows = [f"{name},p{number},0.5,0.4" for number, name in enumerate([*(n for _, n in pairs.values()), "LOOP"])]
    (tmp_path / "index.csv").write_bytes("\r\n".join(["\ufeffimage,patient,dy_mm,dx_mm", *rows, ""]).encode())
    for other in ("images/Thumbs.db", "masks/desktop.ini", "images/.DS_Store", "images/.cache/p.png"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(b"x")
    assert defects(LAYOUT, tmp_path) == ""
    assert sorted(item.patient for item in LAYOUT.find(tmp_path, "frames").items) == ["p0", "p1", "p2", "p3"]


def test_what_a_table_cannot_mean_is_a_defect(tmp_path):
    root = made.write_folder(tmp_path)
    (root / "images" / "p0_ED.jpg").write_bytes((root / "images" / "p0_ED.png").read_bytes())
    Image.fromarray(np.zeros((9, 9, 3), np.uint8) + np.uint8([1, 2, 3])).save(root / "masks" / "p3_ED.png")
    rows = (
        'p0_ED,"0,5","0,5",,',
        "p0_ES,0.5,,,",
        "p1_ED,0.5,0.5,x,",
        "p1_ES,,,1.5,",
        "p2_ED,,,-1,",
        "p2_ES,,,0,0",
        ",,,,",
    )
    (root / "index.csv").write_text("\n".join(["image,dy_mm,dx_mm,ed_frame,es_frame", *rows]))
    found = defects(LAYOUT, root)
    for expected in (
        "p0_ED.png: has the name of p0_ED.jpg and is left out",
        "index.csv: has no column patient: each file counts as a patient",
        "index.csv: p0_ED has the dy_mm '0,5', expected a number",
        "index.csv: p0_ES has one of dy_mm and dx_mm, expected both or none",
        "index.csv: p1_ED has the ed_frame 'x', expected a number",
        "index.csv: p1_ES has the ed_frame '1.5', expected a whole number from 0",
        "index.csv: p2_ED has the ed_frame '-1', expected a whole number from 0",
        "index.csv: p2_ES has one frame for both phases, which counts as neither",
        "index.csv: names no image in row 7",
        "p3_ES.png: is not in index.csv: it counts as a patient, in no split",
        f"{root / 'masks' / 'p3_ED.png'}: is a colour picture",
    ):
        assert expected in found, expected
    assert "images/p3_ED.png: " + str(root) not in found
    (root / "index.csv").write_text("image,patient\n")
    assert "index.csv: lists no image: each file counts as a patient, in no split" in defects(LAYOUT, root)


@pytest.mark.parametrize("changed", ["index.csv", "masks/p1_ED.npy", "images/p1_ED.raw"])
def test_a_dataset_of_changed_files_is_not_taken_for_built(tmp_path, changed):
    root = made.write_folder(tmp_path / "download")
    images, labels = made.hearts(1, num_labels=5)
    for folder in ("images", "masks"):
        (root / folder / "p1_ED.png").unlink()
    made.write_mhd(root / "images" / "p1_ED.mhd", images[0])
    np.save(root / "masks" / "p1_ED.npy", labels)
    counts = datasets.build_dataset(LAYOUT, root, tmp_path / "data")
    assert datasets.build_dataset(LAYOUT, root, tmp_path / "data") == counts
    content = bytearray((root / changed).read_bytes())
    content[-2] ^= 1  # the size stays
    (root / changed).write_bytes(content)
    with pytest.raises(ValueError, match="was built from another source"):
        datasets.build_dataset(LAYOUT, root, tmp_path / "data")


def test_commands_say_what_is_left_out_and_refuse_a_dataset_among_the_images(tmp_path, capsys):
    root = made.write_folder(tmp_path / "own")
    (root / "masks" / "p1_ED.png").unlink()
    build = ["data", "build", "own", "--manual-dir", str(root), "--structures", *OWN.names[1:], "--data-dir"]
    assert cli.main([*build, str(root / "images" / "data")]) == 2
    assert "lies in images of the download" in capsys.readouterr().err
    assert cli.main([*build, str(root / "data")]) == 0
    assert "The download has 1 defect, which cardiojax data check lists" in capsys.readouterr().out
    assert cli.main(["data", "list", "--data-dir", str(tmp_path)]) == 2
    assert "no dataset was built there" in capsys.readouterr().err


def test_odd_downloads_of_echonet(tmp_path):
    root, layout = made.write_echonet(tmp_path), datasets.LAYOUTS["echonet"]
    videos = sorted((root / "Videos").glob("*.avi"))
    videos[0].rename(videos[0].with_suffix(".AVI"))
    (root / "Videos" / "._0X.avi").write_bytes(b"x")
    rows = [row.split(",") for row in (root / "FileList.csv").read_text().splitlines()]
    rows[2][7] = "99"
    (root / "FileList.csv").write_text("\n".join(",".join([r[0], r[7], r[8]]) for r in rows))
    lines = (root / "VolumeTracings.csv").read_text().splitlines()
    point = [
        f"{videos[2].name},50,50,50,50,4" if videos[2].name in line and line.endswith(",4") else line for line in lines
    ]
    (root / "VolumeTracings.csv").write_text("\n".join(point))
    assert defects(layout, root).splitlines() == [
        f"{root}/VolumeTracings.csv: has a tracing without an area in frame 4 of {videos[2].name}",
        f"{videos[2]}: has 1 traced frames, expected 2",
        f"{videos[1]}: has 8 frames, its table states 99",
    ]
    (root / "FileList.csv").write_text("FileName,Split\n")
    assert datasets.recognise(root)[0] is layout
    assert f"{root}: holds no annotated recording of echonet" in defects(layout, root)


def test_one_frame_for_both_phases_and_a_wrong_number_of_frames_are_defects(tmp_path):
    root = made.write_ted(tmp_path)
    (root / "patient001" / "patient001_4CH_info.cfg").write_text("ED: 4\nES: 4\nNbFrame: 7\n")
    (root / "patient002" / "patient002_4CH_info.cfg").write_text("ED: 1\nES: 4\nNbFrame: 9\n")
    found = defects(datasets.LAYOUTS["ted"], root)
    assert "patient001_4CH_info.cfg: states one frame for both phases" in found
    assert "patient002_4CH_sequence.mhd: has 7 frames, its table states 9" in found
    phases = [item.phases for item in datasets.LAYOUTS["ted"].find(root, "frames").items]
    assert phases == [{}, {0: "ED", 3: "ES"}]


def test_a_patient_in_two_split_files_is_a_defect_and_not_trained_on(tmp_path):
    images, labels = made.hearts(1)
    for number in (1, 2):
        folder = tmp_path / "database_nifti" / f"patient{number:04d}"
        folder.mkdir(parents=True)
        made.write_nifti(folder / f"{folder.name}_4CH_ED.nii.gz", images[0].astype(float))
        made.write_nifti(folder / f"{folder.name}_4CH_ED_gt.nii", labels[0].astype(float))
    (tmp_path / "database_split").mkdir()
    for split, text in (("training", "patient0001\r\npatient0002\r\n"), ("testing", "patient0002")):
        (tmp_path / "database_split" / f"subgroup_{split}.txt").write_text(text)
    layout = datasets.LAYOUTS["camus"]
    assert "patient0002: is in the splits train and test; the latter counts" in defects(layout, tmp_path)
    splits = {item.patient: item.split for item in layout.find(tmp_path, "frames").items}
    assert splits == {"patient0001": "train", "patient0002": "test"}


def write_masks(root, values, patients=("a", "b")):
    """Stills whose cavity and wall have the given values in the masks."""
    images, labels = made.hearts(len(patients), num_labels=3)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    table = np.array([0, *values], np.uint8)
    for number, patient in enumerate(patients):
        Image.fromarray(images[number]).save(root / "images" / f"{number}{patient}.png")
        Image.fromarray(table[labels[number]]).save(root / "masks" / f"{number}{patient}.png")
    rows = [f"{number}{patient},{patient},1,1" for number, patient in enumerate(patients)]
    (root / "index.csv").write_text("\n".join(["image,patient,dy_mm,dx_mm", *rows]))
    return labels


def test_masks_of_other_values_are_read_if_these_are_named(tmp_path, capsys):
    labels = write_masks(tmp_path / "own", (255, 0))
    check = ["data", "check", str(tmp_path / "own"), "--structures"]
    with pytest.raises(SystemExit, match="1"):
        cli.main([*check, "lv"])
    assert "holds the label 255, expected 0 to 1; --structures NAME=255 says what 255 is" in capsys.readouterr().out
    assert cli.main([*check, "lv=255"]) == 0
    assert cli.main([*check, "lv=255", "myocardium"]) == 2
    assert "expected names, or each with its value such as lv=255, got lv=255 myocardium" in capsys.readouterr().err
    for wrong in ("lv=256", "lv=0"):
        assert cli.main([*check, wrong]) == 2
        assert "expected 2 different values of 0 to 255, got 0, " in capsys.readouterr().err
    build = ["data", "build", "own", "--manual-dir", str(tmp_path / "own"), "--data-dir", str(tmp_path / "data")]
    assert cli.main([*build, "--structures", "lv=255"]) == 0
    read = {e["patient"]: e["label"] for e in datasets.open_dataset(tmp_path / "data", "own/frames", "train")}
    (patient,) = read
    np.testing.assert_array_equal(read[patient], labels[b"ab".index(patient)] == 1)
    write_masks(tmp_path / "two", (85, 170))
    layout = datasets.folder_layout("own", Structures(("background", "myocardium", "lv")), values=(0, 170, 85))
    assert defects(layout, tmp_path / "two") == ""
    other = datasets.folder_layout("own", Structures(("background", "myocardium", "lv")), values=(0, 170, 86))
    assert "holds the label 85, expected 0, 170, 86" in defects(other, tmp_path / "two")
    datasets.build_dataset(layout, tmp_path / "two", tmp_path / "b")
    changed = datasets.folder_layout("own", layout.structures, values=(0, 85, 170))
    with pytest.raises(ValueError, match="was built from another source"):
        datasets.build_dataset(changed, tmp_path / "two", tmp_path / "b")


def test_one_patient_cannot_be_split(tmp_path, capsys):
    write_masks(tmp_path / "own", (1, 2), patients=("p0", "p0"))
    names = ["--structures", "lv", "myocardium"]
    with pytest.raises(SystemExit, match="1"):
        cli.main(["data", "check", str(tmp_path / "own"), *names])
    assert "holds one patient, p0, and none can be held out for validation" in capsys.readouterr().out
    build = ["data", "build", "own", "--manual-dir", str(tmp_path / "own"), "--data-dir", str(tmp_path / "d"), *names]
    assert cli.main(build) == 2
    assert "add patients, or build it with --validation-share 0" in capsys.readouterr().err
    assert cli.main([*build, "--validation-share", "0"]) == 0
    assert "own/frames" in capsys.readouterr().out


def test_a_download_is_surveyed_once(tmp_path, monkeypatch, capsys):
    calls = []
    layout = datasets.LAYOUTS["ted"]

    def find(root, kind):
        calls.append(kind)
        return layout.find(root, kind)

    root = made.write_ted(tmp_path / "ted")
    monkeypatch.setitem(datasets.LAYOUTS, "ted", dataclasses.replace(layout, find=find))
    assert cli.main(["data", "check", str(root)]) == 0
    assert calls == ["frames"]
    assert cli.main(["data", "build", "ted", "--manual-dir", str(root), "--data-dir", str(tmp_path / "data")]) == 0
    assert calls == ["frames", "frames"]
