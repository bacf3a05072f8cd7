"""Which files are one study: folders, DICOMDIR, several patients, links, and archives."""

import errno
import os
import re

import numpy as np
import pydicom
import pytest

from cardiojax import data, storage, study
from cardiojax.study import collect
from tests.helpers import identity

ROOT = "1.2.826.0.1.3680043.8.498.77"


def write(path, *, study_uid=f"{ROOT}.1", patient="A", number=1, **elements):
    path.parent.mkdir(parents=True, exist_ok=True)
    stated = {"StudyInstanceUID": study_uid, "PatientID": patient, "SOPInstanceUID": f"{study_uid}.{number}"}
    return identity.write_dicom(path, identity.frames(2), **stated, **elements)


def loop(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(0).random((3, 40, 48)))
    return path


def test_a_folder_gives_its_recordings_and_says_what_the_others_are(tmp_path):
    files = [write(tmp_path / "a" / "2.dcm", number=2), write(tmp_path / "a" / "1.dcm"), loop(tmp_path / "x.npy")]
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / ".hidden.npy").write_bytes(b"x")
    write(tmp_path / "a" / "ct.dcm", number=3, Modality="CT")
    found = study.files_of_study([tmp_path])
    assert found.files == tuple(sorted(files))
    assert [header.format for header in found.headers] == ["DICOM", "DICOM", "NumPy"]
    reasons = {other.path.name: other.reason for other in found.others}
    assert set(reasons) == {"notes.txt", "empty.dcm", "ct.dcm"}
    assert "is empty" in reasons["empty.dcm"]
    assert "no format known" in reasons["notes.txt"]
    assert "expected ultrasound" in reasons["ct.dcm"]
    assert study.files_of_study([tmp_path, files[0]]).files == found.files  # each once


def test_pixels_beside_a_metaimage_header_are_part_of_it(tmp_path):
    header = "NDims = 2\nDimSize = 48 40\nElementType = MET_UCHAR\nElementSpacing = 1 1\nElementDataFile = a.raw\n"
    (tmp_path / "a.mhd").write_text(header)
    (tmp_path / "a.raw").write_bytes(bytes(48 * 40))
    (tmp_path / "b.raw").write_bytes(bytes(10))
    found = study.files_of_study([tmp_path])
    assert [file.name for file in found.files] == ["a.mhd"]
    assert [other.path.name for other in found.others] == ["b.raw"]


def test_links_that_lead_out_are_left_out(tmp_path):
    outside = loop(tmp_path / "elsewhere" / "secret.npy")
    inside = loop(tmp_path / "study" / "loop.npy")
    (tmp_path / "study" / "link.npy").symlink_to(outside)
    (tmp_path / "study" / "folder").symlink_to(outside.parent)
    (tmp_path / "study" / "broken.npy").symlink_to(tmp_path / "study" / "absent.npy")
    found = study.files_of_study([tmp_path / "study"])
    assert found.files == (inside,)
    reasons = {other.path.name: other.reason for other in found.others}
    assert reasons["link.npy"] == "is a link that leads out of the folder"
    assert "cannot be opened" in reasons["broken.npy"]
    assert [each.files for each in study.find_studies(tmp_path / "study")] == [(inside,)]


def test_a_loop_of_links_is_left_out(tmp_path):
    good = loop(tmp_path / "good.npy")
    (tmp_path / "a.npy").symlink_to("b.npy")
    (tmp_path / "b.npy").symlink_to("a.npy")
    (tmp_path / "folder").symlink_to(tmp_path)
    found = study.files_of_study([tmp_path])
    assert found.files == (good,)
    assert [other.path.name for other in found.others] == ["a.npy", "b.npy"]
    assert [each.files for each in study.find_studies(tmp_path)] == [(good,)]


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    good = loop(tmp_path / "good.npy")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = study.files_of_study([tmp_path])
    assert found.files == (good,)
    assert found.others == ((tmp_path / "closed", "cannot be opened (Permission denied)"),)


def test_a_file_by_two_paths_is_one_recording(tmp_path):
    good = loop(tmp_path / "study" / "loop.npy")
    (tmp_path / "study" / "z.npy").symlink_to("loop.npy")
    found = study.files_of_study([good, tmp_path / "study", tmp_path / "study" / ".." / "study" / "loop.npy"])
    assert found.files == (good,)
    assert {other.path.name: other.reason for other in found.others} == {
        "loop.npy": "is the same file as another one, by a second path",
        "z.npy": "is a link to another file of the folder",
    }
    assert [each.files for each in study.find_studies(tmp_path / "study")] == [(good,)]


def test_a_link_to_a_hidden_file_is_a_recording(tmp_path):
    loop(tmp_path / ".annex" / "object.npy")
    (tmp_path / "loop.npy").symlink_to(tmp_path / ".annex" / "object.npy")
    assert study.files_of_study([tmp_path]).files == (tmp_path / "loop.npy",)


def test_an_earlier_report_in_the_folder_is_no_recording(tmp_path):
    good, mine = loop(tmp_path / "loop.npy"), loop(tmp_path / "report" / "mine.npy")
    loop(tmp_path / "report" / "masks.npy")
    (tmp_path / "report" / storage.MANIFEST).write_text('{"files": {"masks.npy": "0"}}')
    found = study.files_of_study([tmp_path])
    assert found.files == (good, mine)
    assert found.others == ()


def test_a_path_that_is_given_and_missing_is_a_mistake(tmp_path):
    with pytest.raises(study.StudyError, match=r"absent\.npy does not exist"):
        study.files_of_study([loop(tmp_path / "loop.npy"), tmp_path / "absent.npy"])


def test_several_patients_are_refused(tmp_path):
    write(tmp_path / "a.dcm")
    write(tmp_path / "b.dcm", patient="B", number=2)
    with pytest.raises(study.StudyError, match=r"belong to 2 patients.*cardiojax batch"):
        study.files_of_study([tmp_path])
    write(tmp_path / "b.dcm", study_uid=f"{ROOT}.2", number=2)
    with pytest.raises(study.StudyError, match=r"belong to 2 studies.*cardiojax batch") as caught:
        study.files_of_study([tmp_path])
    assert ROOT not in str(caught.value)


def test_nothing_there_is_one_sentence(tmp_path):
    with pytest.raises(study.StudyError, match="holds no file"):
        study.files_of_study([tmp_path])
    (tmp_path / "a.txt").write_text("nothing")
    with pytest.raises(study.StudyError, match=r"holds no echo recording among 1 file \(a.txt: "):
        study.files_of_study([tmp_path])
    with pytest.raises(data.UnreadableFileError, match="no format known"):
        study.files_of_study([tmp_path / "a.txt"])
    with pytest.raises(study.StudyError, match="is no folder"):
        next(study.find_studies(tmp_path / "absent"))


def write_index(path, names):
    """A DICOMDIR that names files by their path components."""
    dataset = pydicom.Dataset()
    dataset.DirectoryRecordSequence = []
    for name in names:
        record = pydicom.Dataset()
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", name
        dataset.DirectoryRecordSequence.append(record)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    dataset.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.9"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def test_a_dicomdir_stands_for_the_files_that_it_names(tmp_path):
    files = [write(tmp_path / "S1" / f"IM{i}", number=i) for i in (1, 2)]
    unnamed = loop(tmp_path / "unnamed.npy")
    index = write_index(tmp_path / "DICOMDIR", [["S1", "IM1"], ["S1", "IM2"], ["S1", "ABSENT"]])
    found = study.files_of_study([index])
    assert found.files == tuple(file.resolve() for file in files)
    assert [(other.path.name, other.reason) for other in found.others] == [
        ("ABSENT", "is named in the DICOMDIR and missing")
    ]
    whole = study.files_of_study([tmp_path])
    assert whole.files == (*files, unnamed)
    assert [other.reason for other in whole.others] == ["is a DICOMDIR, an index of other files"]


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize("parts", [["..", "elsewhere", "SECRET"], ["LINK"]])
def test_a_dicomdir_cannot_name_files_outside_its_folder(tmp_path, parts):
    outside = write(tmp_path / "elsewhere" / "SECRET")
    inside = write(tmp_path / "media" / "IM1", number=2)
    (tmp_path / "media" / "LINK").symlink_to(outside)
    found = study.files_of_study([write_index(tmp_path / "media" / "DICOMDIR", [parts, ["IM1"]])])
    assert found.files == (inside.resolve(),)
    assert found.others == ()


def test_an_archive_is_grouped_by_study_else_by_folder(tmp_path):
    first = [write(tmp_path / "b" / "one.dcm"), write(tmp_path / "c" / "two.dcm", number=2)]
    second = write(tmp_path / "b" / "other.dcm", study_uid=f"{ROOT}.2", patient="B")
    loops = [loop(tmp_path / "a" / "1.npy"), loop(tmp_path / "a" / "2.npy")]
    single = loop(tmp_path / "b" / "z.npy")
    broken = tmp_path / "b" / "broken.dcm"
    broken.write_bytes(b"\0" * 128 + b"DICM" + b"garbage")
    (tmp_path / "b" / "empty.dcm").write_bytes(b"")
    others = []
    found = list(study.find_studies(tmp_path, on_other=others.append))
    assert [other.path.name for other in others] == ["empty.dcm"]
    assert [each.key for each in found] == ["a", "b", f"{ROOT}.1", f"{ROOT}.2"]
    assert [each.files for each in found] == [tuple(loops), (broken, single), tuple(first), (second,)]
    assert found == list(study.find_studies(tmp_path))
    alone = list(study.find_studies(tmp_path, group="file"))
    assert sorted(file for each in alone for file in each.files) == sorted([*first, second, *loops, single, broken])
    assert all(len(each.files) == 1 for each in alone)


def test_a_folder_of_an_archive_is_no_study(tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "MAX_FILES", 2)
    for i in range(3):
        loop(tmp_path / f"{i}.npy")
    with pytest.raises(study.StudyError, match=re.escape("more than 2 recordings: use `cardiojax batch`")):
        study.files_of_study([tmp_path])


def test_a_patient_is_described_by_the_files_or_by_hand(tmp_path):
    write(tmp_path / "a.dcm")
    headers = study.files_of_study([tmp_path]).headers
    assert study.describe_patient(headers) == study.Patient("F", 168.0, 64.0)
    assert study.describe_patient(headers, given=study.Patient("M", None, 80.0)) == study.Patient("M", 168.0, 80.0)
    wrong = [data.Header("DICOM", height_cm=1.68, weight_kg=0.0), data.Header("DICOM", sex="F")]
    found = study.describe_patient([*wrong, data.Header("DICOM", sex="M")])
    assert found[:3] == (None, None, None)
    assert found.notes == (
        "The files state different values of the sex: none is used.",
        "The file states a height of 1.68 cm: not used.",
    )
    with pytest.raises(ValueError, match="a height must be 120 to 230 cm, got 17"):
        study.describe_patient([], given=study.Patient(height_cm=17.0))
