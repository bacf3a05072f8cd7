"""CAMUS on disk: both releases drawn small, and the real samples; built, read back, interrupted, damaged."""

import subprocess
import sys
import textwrap

import nibabel
import numpy as np
import pytest
import tensorflow_datasets as tfds

from cardiojax import data, storage
from cardiojax.data import datasets
from cardiojax.data.arrays import ResampledSource
from cardiojax.data.datasets.layouts.pairs import read_info
from cardiojax.data.loader import LoaderConfig, make_loader
from tests.helpers.datasets import write_mhd, write_nifti

# TFDS's own habits on a supported Python
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def drawn(seed, frames=None):
    rng = np.random.default_rng(seed)
    shape = (14, 9) if frames is None else (frames, 14, 9)
    return rng.integers(0, 256, shape).astype(np.uint8), rng.integers(0, 4, shape).astype(np.uint8)


def build_camus(manual_dir, data_dir, kind="frames", name="camus", share=0.1):
    config = datasets.BuildConfig(kind=kind, validation_share=share)
    return datasets.build_dataset(datasets.LAYOUTS[name], manual_dir, data_dir, config)


def open_camus(data_dir, split, kind="frames", name="camus"):
    return datasets.open_dataset(data_dir, f"{name}/{kind}", split)


@pytest.fixture
def nifti_release(tmp_path):
    root = tmp_path / "release"
    for number, patient in enumerate(("patient0001", "patient0002", "patient0003")):
        folder = root / "database_nifti" / patient
        folder.mkdir(parents=True)
        for v, view in enumerate(("2CH", "4CH")):
            for p, phase in enumerate(("ED", "ES")):
                image, label = drawn(100 * number + 10 * v + p)
                suffix = ".nii.gz" if number else ".nii"
                write_nifti(folder / f"{patient}_{view}_{phase}{suffix}", image)
                write_nifti(folder / f"{patient}_{view}_{phase}_gt{suffix}", label)
            order = "ED: 5\nES: 1" if number == 1 else "ED: 1\nES: 5"
            (folder / f"Info_{view}.cfg").write_text(
                f"{order}\nNbFrame: 5\nSex: F\nAge: 6{number}\nImageQuality: Good\nEF: 5{number}\nFrameRate: 48.4\n"
            )
            image, label = drawn(500 + number, frames=5)
            write_nifti(folder / f"{patient}_{view}_half_sequence.nii.gz", image)
            write_nifti(folder / f"{patient}_{view}_half_sequence_gt.nii.gz", label)
    split = root / "database_split"
    split.mkdir()
    (split / "subgroup_training.txt").write_text("patient0001\npatient0003\n")
    (split / "subgroup_validation.txt").write_text("patient0002\n")
    return root


def test_nifti_release_is_written_and_read_back(nifti_release, tmp_path):
    assert build_camus(nifti_release, tmp_path / "out") == {"train": 8, "validation": 4}
    examples = {(e["patient"], e["view"], e["phase"]): e for e in open_camus(tmp_path / "out", "validation")}
    example = examples[b"patient0002", b"4CH", b"ES"]
    image, label = drawn(111)
    np.testing.assert_array_equal(example["image"], image)
    np.testing.assert_array_equal(example["label"], label)
    np.testing.assert_allclose(example["spacing"], [0.308, 0.308], rtol=1e-6)
    assert (example["sex"], example["image_quality"]) == (b"F", b"Good")
    assert (example["age"], example["ejection_fraction"]) == (61, 51)
    assert build_camus(nifti_release, tmp_path / "out") == {"train": 8, "validation": 4}

    info = nifti_release / "database_nifti" / "patient0001" / "Info_2CH.cfg"
    info.write_text(info.read_text() + "Note: another release\n")
    with pytest.raises(ValueError, match="built from another source: its checksum is"):
        build_camus(nifti_release, tmp_path / "out")
    (tmp_path / "moved").mkdir()
    nifti_release.rename(tmp_path / "moved" / "release")
    with pytest.raises(ValueError, match="its checksum is"):
        build_camus(tmp_path / "moved" / "release", tmp_path / "out")
    info = tmp_path / "moved" / "release" / info.relative_to(nifti_release)
    info.write_text(info.read_text().removesuffix("Note: another release\n"))
    assert build_camus(tmp_path / "moved" / "release", tmp_path / "out") == {"train": 8, "validation": 4}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "no description", "half a description"])
def test_a_damaged_dataset_is_a_sentence(nifti_release, tmp_path, damage):
    out = tmp_path / "out"
    build_camus(nifti_release, out)
    folder = out / "camus" / "frames" / "1.0.0"
    record = next(folder.glob("camus-train*"))
    content = record.read_bytes()
    if damage == "truncated":
        record.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        record.write_bytes(bytes(b ^ 0xFF for b in content))
    elif damage == "missing":
        record.unlink()
    elif damage == "no description":
        (folder / "dataset_info.json").unlink()
        with pytest.raises(ValueError, match="no finished dataset; delete it"):
            build_camus(nifti_release, out)
        with pytest.raises(ValueError, match="has not been built"):
            open_camus(out, "train")
        return
    else:
        (folder / "dataset_info.json").write_text('{"citation":')
    with pytest.raises(data.UnreadableFileError, match="build it again"):
        open_camus(out, "train")[0]


def test_an_empty_folder_is_no_dataset_and_a_full_disk_leaves_none(nifti_release, tmp_path, monkeypatch):
    out = tmp_path / "out"
    (out / "camus" / "frames" / "1.0.0").mkdir(parents=True)
    (out / "camus" / "frames" / "incomplete.ABC_1.0.0").mkdir()

    def full(*_, **__):
        raise RuntimeError("write() failed: No space left on device")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", full)
    with pytest.raises(OSError, match=r"frames/1\.0\.0 could not be written .*No space left"):
        build_camus(nifti_release, out)
    assert not list((out / "camus" / "frames").iterdir())
    monkeypatch.undo()
    with storage.lock_folder(out), pytest.raises(storage.FolderInUseError):
        build_camus(nifti_release, out)
    (out / "camus" / "frames" / "1.0.0").mkdir()
    assert build_camus(nifti_release, out) == {"train": 8, "validation": 4}


def test_sequences_run_from_diastole_to_systole(nifti_release, tmp_path):
    assert build_camus(nifti_release, tmp_path / "out", kind="loops") == {"train": 4, "validation": 2}
    forward = open_camus(tmp_path / "out", "train", kind="loops")
    np.testing.assert_array_equal(next(e for e in forward if e["patient"] == b"patient0001")["image"], drawn(500, 5)[0])
    backward = open_camus(tmp_path / "out", "validation", kind="loops")[0]
    np.testing.assert_array_equal(backward["image"], drawn(501, 5)[0][::-1])
    np.testing.assert_array_equal(backward["label"], drawn(501, 5)[1][::-1])


def test_challenge_release_keeps_its_spacing(tmp_path):
    folder = tmp_path / "training" / "patient0007"
    folder.mkdir(parents=True)
    image, label = drawn(7)
    write_mhd(folder / "patient0007_2CH_ED.mhd", image)
    write_mhd(folder / "patient0007_2CH_ED_gt.mhd", label)
    (folder / "Info_2CH.cfg").write_text("ED: 1\nES: 18\nLVef: 63.2\n")
    assert build_camus(tmp_path, tmp_path / "out", name="camus_mhd", share=0) == {"train": 1}
    example = open_camus(tmp_path / "out", "train", name="camus_mhd")[0]
    np.testing.assert_array_equal(example["image"], image)
    np.testing.assert_allclose(example["spacing"], [0.154, 0.308], rtol=1e-6)
    assert example["ejection_fraction"] == np.float32(63.2)
    assert np.isnan(example["age"])


def test_batches_of_one_size_through_grain(nifti_release, tmp_path):
    build_camus(nifti_release, tmp_path / "out")
    source = ResampledSource(open_camus(tmp_path / "out", "train"), size=27)
    batch = next(make_loader(source, LoaderConfig(batch_size=4)))
    assert batch["image"].shape == batch["label"].shape == (4, 27, 27)
    np.testing.assert_allclose(batch["spacing"], np.tile([0.308 * 13 / 26, 0.308 * 8 / 26], (4, 1)), rtol=1e-5)
    whole = source._source[0]["image"]
    np.testing.assert_array_equal(source[0]["image"][::2][:, [0, 26]], whole[:, [0, 8]])


def test_mistakes_are_sentences_and_leave_nothing(nifti_release, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="no CAMUS release found"):
        build_camus(tmp_path / "absent", out)
    with pytest.raises(ValueError, match="no kind 'png'"):
        build_camus(nifti_release, out, "png")
    with pytest.raises(ValueError, match="has not been built"):
        open_camus(out, "train")
    victim = nifti_release / "database_nifti" / "patient0003" / "patient0003_4CH_ES_gt.nii.gz"
    victim.write_bytes(victim.read_bytes()[:60])
    with pytest.raises(data.UnreadableFileError, match="patient0003_4CH_ES_gt"):
        build_camus(nifti_release, out)
    assert not list(out.glob("camus/frames/*"))
    write_nifti(victim, drawn(1)[1][:5])
    with pytest.raises(data.UnreadableFileError, match=r"expected the shape"):
        build_camus(nifti_release, out)
    write_nifti(victim, drawn(1)[1])
    assert build_camus(nifti_release, out)["train"] == 8
    with pytest.raises(ValueError, match="no split 'test', only train, validation"):
        open_camus(out, "test")


def test_a_leftover_of_a_killed_build_does_not_count(nifti_release, tmp_path):
    leftover = tmp_path / "out" / "camus" / "frames" / "incomplete.ABC_1.0.0"
    leftover.mkdir(parents=True)
    (leftover / "camus-train.array_record-00000-of-00001").write_bytes(b"half")
    with pytest.raises(ValueError, match="has not been built"):
        open_camus(tmp_path / "out", "train")
    assert build_camus(nifti_release, tmp_path / "out")["train"] == 8


def test_info_of_nothing_is_nothing(tmp_path):
    assert read_info(tmp_path / "absent.cfg") == {}


def test_real_releases(data_dir, tmp_path):
    whole = datasets.LAYOUTS["camus"].find(data_dir / "camus_nifti", "frames")
    assert len({item.patient for item in whole.items}) == 50
    few = tmp_path / "few"
    few.mkdir()
    for name in ("patient0200", "patient0206"):
        (few / name).symlink_to(data_dir / "camus_nifti" / name)
    assert build_camus(few, tmp_path / "out") == {"train": 2, "validation": 2}
    example = next(e for e in open_camus(tmp_path / "out", "train") if e["phase"] == b"ED")
    patient = example["patient"].decode()
    path = data_dir / "camus_nifti" / patient / f"{patient}_4CH_ED.nii.gz"
    np.testing.assert_array_equal(example["image"], np.asarray(nibabel.load(path).dataobj).T)
    assert build_camus(data_dir / "camus_mhd", tmp_path / "out", name="camus_mhd") == {"train": 16, "validation": 4}
    defects = [*datasets.check_download(datasets.LAYOUTS["camus_mhd"], data_dir / "camus_mhd")]
    assert {defect.problem for defect in defects} == {"is missing"}  # the sequences


def test_loops_of_the_challenge_are_annotated_at_their_ends(tmp_path):
    folder = tmp_path / "training" / "patient0007"
    folder.mkdir(parents=True)
    loop = drawn(8, 5)[0]
    write_mhd(folder / "patient0007_2CH_sequence.mhd", loop)
    for phase, seed in (("ED", 1), ("ES", 2)):
        image, label = drawn(seed)
        write_mhd(folder / f"patient0007_2CH_{phase}.mhd", image)
        write_mhd(folder / f"patient0007_2CH_{phase}_gt.mhd", label)
    (folder / "Info_2CH.cfg").write_text("ED: 5\nES: 1\nNbFrame: 5\n")
    assert build_camus(tmp_path, tmp_path / "out", "loops", "camus_mhd", 0) == {"train": 1}
    example = open_camus(tmp_path / "out", "train", "loops", "camus_mhd")[0]
    np.testing.assert_array_equal(example["image"], loop[::-1])
    assert example["annotated"].tolist() == [True, False, False, False, True]
    np.testing.assert_array_equal(example["label"][0], drawn(1)[1])
    np.testing.assert_array_equal(example["label"][-1], drawn(2)[1])
    assert (example["end_diastole"], example["end_systole"]) == (0, 4)


def test_every_defect_of_a_release_is_listed(nifti_release):
    layout = datasets.LAYOUTS["camus"]
    folder = nifti_release / "database_nifti"
    (folder / "patient0001" / "patient0001_2CH_ED_gt.nii").unlink()
    (folder / "patient0003" / "Info_4CH.cfg").unlink()
    label = drawn(1)[1]
    write_nifti(folder / "patient0003" / "patient0003_2CH_ES_gt.nii.gz", np.where(label == 3, 7, label))
    write_nifti(folder / "patient0003" / "patient0003_2CH_ED_gt.nii.gz", np.where(label == 3, 0, label))
    (nifti_release / "database_split" / "subgroup_training.txt").write_text("patient0001\npatient0009\npatient0003\n")
    (folder / "patient0004").mkdir()
    found = "\n".join(map(str, datasets.check_download(layout, nifti_release)))
    for expected in (
        "patient0001_2CH_ED.nii: has no mask",
        "patient0002/Info_2CH.cfg: states frame 5 after that of end-systole, 1, for end-diastole; the loop is reversed",
        "patient0003/Info_4CH.cfg: is missing",
        "patient0003_2CH_ES.nii.gz: holds the label 7, expected 0 to 3",
        "patient0003_2CH_ED.nii.gz: shows no left_atrium",
        "patient0004: is in no split file and left out",
        "patient0009: is in the train split but missing",
    ):
        assert expected in found, expected


def test_no_tensorflow(nifti_release, tmp_path):
    code = textwrap.dedent(f"""
        import sys
        from cardiojax.data import datasets
        datasets.build_dataset(datasets.LAYOUTS["camus"], {str(nifti_release)!r}, {str(tmp_path / "out")!r})
        datasets.open_dataset({str(tmp_path / "out")!r}, "camus/frames", "train")[0]
        assert "tensorflow" not in sys.modules
    """)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
