"""The DICOM objects of a study, read back by highdicom and pydicom and checked by dciodvfy and DCMTK."""

import json
import math
import shutil
import subprocess
import warnings

import numpy as np
import pytest

from cardiojax import data
from cardiojax import study as studies
from cardiojax.analysis import recording as analysis
from cardiojax.analysis.segmentation import OtherStructures
from cardiojax.analysis.view import VIEWS, ViewEstimate
from cardiojax.report import study_to_dict
from cardiojax.report.dicom import check_dicom, segmentation_problem, write_dicom
from cardiojax.study.quantities import DEFINITIONS
from tests.helpers import identity
from tests.helpers.identity import FOLDER, STEM, TOKENS

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom", reason="needs cardiojax[dicom]")

#: Of 40 elements of `identity.write_dicom`, what names the patient and the study.
IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyID")
PATIENT = studies.Patient("F", 165.0, 60.0)


@pytest.fixture(scope="module")
def study_of(beating):
    """Analyses files as views in turn; the outlines are drawn and of known size."""

    def make(*files, patient=PATIENT):
        views = iter(("2CH", "4CH"))

        def classify(recording):
            view = next(views)
            return ViewEstimate(view, np.eye(3)[VIEWS.index(view)], None)

        return studies.analyze_study(
            files,
            analyze=lambda shown: analysis.analyze(shown, beating()),
            classify=classify,
            patient=patient,
            is_validated=True,
        )

    return make


@pytest.fixture(scope="module")
def named(tmp_path_factory, study_of):
    """A study of two loops of a scanner whose headers, names and frames say who the patient is."""
    folder = tmp_path_factory.mktemp("in") / FOLDER
    folder.mkdir()
    files = []
    for number in (1, 2):
        uid = f"1.2.826.0.1.3680043.8.498.4711.3.{number}"
        file = folder / f"{STEM}_{number}.dcm"
        files.append(identity.write_dicom(file, identity.frames(17 + number), SOPInstanceUID=uid, FrameTime=50))
    return study_of(*files)


@pytest.fixture(scope="module")
def real(tmp_path_factory, study_of):
    """A study of the loop that ships with pydicom, which is compressed and in colour."""
    return study_of(data.example_path())


def masks_of(segmentation):
    """Masks by structure and frame of the loop, as highdicom decodes them."""
    found = {}
    seg = highdicom.seg.Segmentation.from_dataset(segmentation)
    labels = {item.SegmentNumber: item.SegmentLabel for item in seg.SegmentSequence}
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for groups, mask in zip(seg.PerFrameFunctionalGroupsSequence, frames, strict=True):
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        found[labels[number], source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber")] = mask
    return found


@pytest.mark.parametrize("keep_identity", [False, True])
@pytest.mark.parametrize("which", ["named", "real"])
def test_masks_are_those_of_the_analysis_and_lie_on_the_frames(which, keep_identity, request, tmp_path):
    study = request.getfixturevalue(which)
    write_dicom(study, tmp_path, keep_identity=keep_identity)
    for view, clip in study.chosen.items():
        segmentation = pydicom.dcmread(tmp_path / f"segmentation_{view.lower()}.dcm")
        found = masks_of(segmentation)
        uids = {uid for _, uid, _ in found}
        assert len(uids) == 1
        labels, uid = clip.analysis.labels_of_frames(), uids.pop()
        if keep_identity:
            assert uid == pydicom.dcmread(clip.path, stop_before_pixels=True).SOPInstanceUID
        for label, name in ((1, "LV cavity"), (2, "LV myocardium"), (3, "Left atrium")):
            for index, frame in enumerate(labels):
                expected = frame == label
                mask = found.pop((name, uid, index + 1), np.zeros_like(expected))
                np.testing.assert_array_equal(mask.astype(bool), expected)
        assert not found


def test_other_structures_are_segments_with_a_code_of_their_name(named, tmp_path):
    clip = named.chosen["4CH"]
    names = ("right_ventricle", "a_structure_of_a_very_long_name_that_no_short_code_could_hold")
    drawn = np.zeros_like(clip.analysis.labels)
    drawn[:, 2:9, 3:11], drawn[1, 2:4, 20:30] = 1, 2
    others = OtherStructures(names, drawn)
    analysis_ = clip.analysis._replace(others=others)
    clips = [each._replace(analysis=analysis_) if each is clip else each for each in named.clips]
    write_dicom(named._replace(clips=tuple(clips)), tmp_path)
    labels = analysis_.labels_of_frames()
    segmentation = pydicom.dcmread(tmp_path / "segmentation_4ch.dcm")
    masks = masks_of(segmentation)
    for value, name in enumerate(names, 4):
        label = name.replace("_", " ").capitalize()
        found = {number: mask for (segment, _, number), mask in masks.items() if segment == label}
        assert sorted(found) == [i + 1 for i, frame in enumerate(labels) if (frame == value).any()] != []
        for number, mask in found.items():
            np.testing.assert_array_equal(mask.astype(bool), labels[number - 1] == value)
        (segment,) = (each for each in segmentation.SegmentSequence if each.SegmentLabel == label)
        code = segment.SegmentedPropertyTypeCodeSequence[0]
        assert code.get("CodeValue", code.get("LongCodeValue")) == name
        assert (code.CodingSchemeDesignator, code.CodeMeaning) == ("99CARDIOJAX", label)
    assert segmentation.ContentDescription == "Heart in each frame"
    three = pydicom.dcmread(tmp_path / "segmentation_2ch.dcm")
    assert [each.SegmentLabel for each in three.SegmentSequence] == ["LV cavity", "LV myocardium", "Left atrium"]


def numbers_of(report):
    """Values by concept, method and view, with units, as highdicom reads them."""
    document = highdicom.sr.ComprehensiveSR.from_dataset(report)
    found = {}
    for item in highdicom.sr.utils.find_content_items(document, value_type="NUM", recursive=True):
        modifiers = {}
        for child in item.get("ContentSequence", []):
            if child.RelationshipType == "HAS CONCEPT MOD":
                modifiers[child.ConceptNameCodeSequence[0].CodeMeaning] = child.ConceptCodeSequence[0].CodeValue
        if item.RelationshipType != "CONTAINS":
            continue
        code = item.ConceptNameCodeSequence[0].CodeValue
        key = (code, modifiers.get("Measurement Method"), modifiers.get("Image View"))
        assert key not in found, "two numbers cannot be told apart"
        unit = item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue
        found[key] = (float(item.MeasuredValueSequence[0].NumericValue), unit)
    return found


def test_numbers_are_those_of_the_json_file(named, tmp_path):
    from cardiojax.report.dicom import codes

    write_dicom(named, tmp_path)
    found = numbers_of(pydicom.dcmread(tmp_path / "structured_report.dcm"))
    values = study_to_dict(named, config=analysis.AnalyzeConfig(), names=["a", "b"])["measurements"]
    stated = {
        ("8302-2", None, None): (165.0, "cm"),
        ("29463-7", None, None): (60.0, "kg"),
        ("8277-6", None, None): (values["body_surface_area"]["value"], "m2"),
    }
    assert {key: found.pop(key) for key in stated} == stated
    for key, code in codes.QUANTITIES.items():
        place = (
            code.concept.value,
            None if code.method is None else code.method.value,
            None if code.view is None else codes.VIEWS[code.view].value,
        )
        if values[key]["withheld"] is None:
            assert found.pop(place) == (values[key]["value"], codes.UNITS[values[key]["unit"]].value), key
        else:
            assert place not in found
    assert not found
    assert len(stated) + sum(values[key]["withheld"] is None for key in codes.QUANTITIES) > 20


def test_every_quantity_has_a_code_and_a_unit():
    from cardiojax.report.dicom import codes

    assert set(codes.QUANTITIES) | {"body_surface_area"} == set(DEFINITIONS)
    assert {definition.unit for definition in DEFINITIONS.values()} <= set(codes.UNITS)
    places = [(code.concept.value, code.method, code.view) for code in codes.QUANTITIES.values()]
    assert len(set(places)) == len(places)


def test_standard_codes_are_those_of_the_standard():
    """pydicom holds the codes of PS3.16 with their meanings."""
    from pydicom.sr._concepts_dict import concepts
    from pydicom.sr.coding import Code

    from cardiojax.report.dicom import codes

    known = {(scheme, value) for scheme, of in concepts.items() for each in of.values() for value in each}
    described = [c for code in codes.QUANTITIES.values() for c in (code.concept, code.method) if c is not None]
    described += [value for value in vars(codes).values() if isinstance(value, Code)]
    described += [*codes.SITES.values(), *codes.VIEWS.values(), *(code for _, code in codes.STRUCTURES.values())]
    unknown = {
        code.value
        for code in described
        if code.scheme_designator != codes.PRIVATE and (code.scheme_designator, code.value) not in known
    }
    # of TID 5201, not in a context group of its own; sexes are DCM codes of CID 7455
    assert unknown <= {"8302-2", "29463-7", "8278-4"}


def test_measurements_carry_range_interval_and_the_frames(named, tmp_path):
    write_dicom(named, tmp_path)
    document = highdicom.sr.ComprehensiveSR.from_dataset(pydicom.dcmread(tmp_path / "structured_report.dcm"))
    ejection = next(
        item
        for item in highdicom.sr.utils.find_content_items(document, value_type="NUM", recursive=True)
        if item.ConceptNameCodeSequence[0].CodeValue == "18043-0"
    )
    quantity = named.measurements.by_key("ejection_fraction_biplane")
    numbers = {
        item.ConceptNameCodeSequence[0].CodeMeaning: float(item.MeasuredValueSequence[0].NumericValue)
        for item in ejection.ContentSequence
        if item.ValueType == "NUM"
    }
    assert numbers["Normal Range Lower Limit"] == quantity.reference.low == 54
    assert numbers["Normal Range Upper Limit"] == quantity.reference.high
    interval = [value for name, value in numbers.items() if "95 % interval" in name]
    np.testing.assert_allclose(interval, quantity.interval, atol=1e-4)
    images = [item.ReferencedSOPSequence[0] for item in ejection.ContentSequence if item.ValueType == "IMAGE"]
    segmentations = {pydicom.dcmread(path).SOPInstanceUID for path in tmp_path.glob("segmentation_*.dcm")}
    assert {image.ReferencedSOPInstanceUID for image in images} > segmentations
    chosen = named.chosen["4CH"].analysis.measurements.beats
    frames = {int(frame) + 1 for frame in (*chosen.end_diastole, *chosen.end_systole)}
    assert any(set(np.atleast_1d(image.get("ReferencedFrameNumber", []))) == frames for image in images)


def test_nothing_says_who_the_patient_is_unless_asked(named, tmp_path):
    write_dicom(named, tmp_path)
    for path in sorted(tmp_path.glob("*.dcm")):
        content = path.read_bytes().lower()
        assert [token for token in TOKENS if token.lower().encode() in content] == []
        dataset = pydicom.dcmread(path)
        dates = [element.value for element in dataset.iterall() if element.VR in ("DA", "DT")]
        assert set(dates) <= {"", None, "19000101"}
        assert dataset.PatientIdentityRemoved == "YES"
        uids = {element.value for element in dataset.iterall() if element.VR == "UI"}
        assert all(uid.startswith(("2.25.", "1.2.840.10008.")) for uid in uids)  # new ones, and classes of the standard


def test_the_same_study_gives_the_same_files(named, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_dicom(named, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_objects_with_identity_file_into_the_study(named, tmp_path):
    write_dicom(named, tmp_path, keep_identity=True)
    source = pydicom.dcmread(named.clips[0].path, stop_before_pixels=True)
    objects = [pydicom.dcmread(path) for path in tmp_path.glob("*.dcm")]
    for dataset in objects:
        assert {name: dataset[name].value for name in IDENTITY} == {name: source[name].value for name in IDENTITY}
        assert "PatientIdentityRemoved" not in dataset
        assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
    assert len({dataset.SeriesInstanceUID for dataset in objects}) == len(objects) == 3


@pytest.mark.parametrize(
    ("elements", "num_objects"),
    [
        ({"SOPClassUID": "1.3.12.2.1107.5.9.1"}, 2),  # of a vendor
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.3"}, 2),  # retired, in files before 2000
        ({"SOPClassUID": None}, 1),
        ({"SOPClassUID": "1.2\\1.3"}, 1),
        ({"SeriesInstanceUID": "1.2\\1.3", "SOPInstanceUID": None}, 2),
        ({"LossyImageCompression": "01", "LossyImageCompressionRatio": "9", "LossyImageCompressionMethod": "ERIKA"}, 2),
    ],
)
def test_unusual_classes_identifiers_and_compressions_are_no_obstacle(study_of, tmp_path, elements, num_objects):
    path = identity.write_dicom(tmp_path / "a.dcm", identity.frames(17), FrameTime=50)
    dataset = pydicom.dcmread(path)
    for name, value in elements.items():
        dataset.pop(name) if value is None else setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=False)
    (tmp_path / "out").mkdir()
    written = write_dicom(study_of(path), tmp_path / "out")
    assert len(written) == num_objects
    assert not [token for token in TOKENS if any(token.lower().encode() in p.read_bytes().lower() for p in written)]
    report = pydicom.dcmread(written[-1])
    sequence = report.get("CurrentRequestedProcedureEvidenceSequence", [])
    assert [len(study.ReferencedSeriesSequence) for study in sequence] == [2] * (num_objects - 1)
    if shutil.which("dciodvfy") is not None:
        run = subprocess.run(["dciodvfy", str(written[-1])], capture_output=True, text=True)
        errors = {line for line in run.stderr.splitlines() if line.startswith("Error")}
        assert all("SOP Class that is not multi-frame" in line for line in errors)  # it takes classes it lacks for such


@pytest.mark.parametrize("value", ["1.2\\1.3", "Mustermann"])
def test_an_identifier_that_is_none_is_not_kept(tmp_path, value):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = identity.write_dicom(tmp_path / "a.dcm", identity.frames(2), SeriesInstanceUID=value)
    with pytest.raises(data.UnreadableFileError, match="states no SeriesInstanceUID"):
        check_dicom([path], keep_identity=True)


def test_two_files_with_one_identifier_are_refused_if_it_is_to_be_kept(tmp_path):
    files = [identity.write_dicom(tmp_path / f"{num}.dcm", identity.frames(num)) for num in (2, 3)]
    with pytest.raises(data.UnreadableFileError, match=r"3.dcm: states the SOPInstanceUID of another file"):
        check_dicom(files, keep_identity=True)
    check_dicom(files, keep_identity=False)
    check_dicom([files[0], shutil.copy(files[0], tmp_path / "copy.dcm")], keep_identity=True)


def test_names_in_other_alphabets_are_kept(study_of, tmp_path):
    path = identity.write_dicom(tmp_path / "a.dcm", identity.frames(17), FrameTime=50)
    dataset = pydicom.dcmread(path)
    dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 144", "Жанна"
    dataset.save_as(path)
    (tmp_path / "out").mkdir()
    for written in write_dicom(study_of(path), tmp_path / "out", keep_identity=True):
        assert str(pydicom.dcmread(written).PatientName) == "Жанна"


@pytest.mark.parametrize(
    "element", [("PatientBirthDate", "17.03.1952"), ("PatientSex", "weiblich"), ("StudyTime", "noon")]
)
def test_a_damaged_header_does_not_stop_the_report(study_of, tmp_path, element):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = identity.write_dicom(tmp_path / "a.dcm", identity.frames(17), FrameTime=50, **dict([element]))
    (tmp_path / "out").mkdir()
    written = write_dicom(study_of(path), tmp_path / "out", keep_identity=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [str(pydicom.dcmread(each).PatientID) for each in written] == ["PID4711", "PID4711"]


def test_a_video_has_a_report_without_references(study_of, tmp_path):
    video = identity.write_video(tmp_path / "loop.mp4", identity.frames(17))
    study = study_of(video)
    assert "no DICOM file" in segmentation_problem(study.clips[0])
    (tmp_path / "out").mkdir()
    (written,) = write_dicom(study, tmp_path / "out")
    report = pydicom.dcmread(written)
    assert "CurrentRequestedProcedureEvidenceSequence" not in report
    assert not highdicom.sr.utils.find_content_items(report, value_type="IMAGE", recursive=True)
    assert numbers_of(report)
    with pytest.raises(ValueError, match="keep_identity needs a DICOM file"):
        check_dicom([video], keep_identity=True)


def test_a_file_with_fewer_frames_than_it_states_is_not_referred_to(study_of, tmp_path):
    path = identity.write_dicom(tmp_path / "a.dcm", identity.frames(17), NumberOfFrames=20)
    clip = study_of(path).clips[0]
    assert segmentation_problem(clip) == "Its source states 20 frames, and 17 were read."


def test_an_identity_that_is_not_stated_is_refused_before_the_work(tmp_path):
    path = identity.write_dicom(tmp_path / "a.dcm", identity.frames(2), StudyInstanceUID=None)
    with pytest.raises(data.UnreadableFileError, match="states no StudyInstanceUID, expected the identity to be kept"):
        check_dicom([path], keep_identity=True)
    check_dicom([path], keep_identity=False)


@pytest.mark.parametrize("keep_identity", [False, True])
@pytest.mark.parametrize("which", ["named", "real"])
def test_validators_accept_the_objects(which, keep_identity, request, tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy (Debian: dicom3tools)")
    for path in write_dicom(request.getfixturevalue(which), tmp_path, keep_identity=keep_identity):
        said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True).stderr.splitlines()
        assert said[-1] in ("Segmentation", "ComprehensiveSR") or said, said
        assert [line for line in said if line.startswith("Error")] == []
        # What it does not know or finds unusual: codes of a private scheme, absent identity, a name of one part.
        known = ("99CARDIOJAX", "needed to build DICOMDIR", "Retired Person Name form")
        unknown = [line for line in said if line.startswith("Warning") and not any(word in line for word in known)]
        assert unknown == []


def test_dcmtk_reads_the_report(named, tmp_path):
    if shutil.which("dsrdump") is None:
        pytest.skip("needs dsrdump (Debian: dcmtk)")
    write_dicom(named, tmp_path)
    run = subprocess.run(["dsrdump", str(tmp_path / "structured_report.dcm")], capture_output=True, text=True)
    assert run.returncode == 0
    assert "E:" not in run.stderr
    assert "Left Ventricular Ejection Fraction" in run.stdout


def test_withheld_numbers_are_named_with_their_reason(real, tmp_path):
    write_dicom(real, tmp_path)
    report = pydicom.dcmread(tmp_path / "structured_report.dcm")
    texts = [str(item.TextValue) for item in report.ContentSequence if item.ValueType == "TEXT"]
    assert any(text.startswith("Not measured: ") and "There is no four-chamber clip." in text for text in texts)
    assert json.dumps(texts)
    assert all(math.isfinite(value) for value, _ in numbers_of(report).values())
