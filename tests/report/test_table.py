"""The schema of measurements.json and the table of many of them."""

import json

import numpy as np
import pytest

from cardiojax import report
from cardiojax.analysis import recording as analysis
from cardiojax.study import Patient

CONFIG = analysis.AnalyzeConfig()


@pytest.fixture(scope="module")
def outputs(corrected_beat, beating):
    """What is written of a corrected loop, of a loop without a scale or times, and of a still."""
    plain = corrected_beat.recording._replace(spacing=None, frame_time=None)
    analyses = {
        "corrected": corrected_beat,
        "plain": analysis.analyze(plain, beating()),
        "still": analysis.analyze(plain._replace(frames=plain.frames[:1], spacing=(0.8, 0.5)), beating()),
    }
    return {name: report.to_dict(a, config=CONFIG, name=name) for name, a in analyses.items()}


@pytest.fixture(scope="module")
def studies(study_of, recording):
    """What is written of a study of two views and of one of a single recording."""
    patient = Patient("F", 165.0, 60.0)
    made = {
        "two views": study_of(recording, ("a.dcm", "b.dcm", "c.dcm", "d.dcm"), patient=patient),
        "one": study_of(recording, ("b.dcm",)),
    }
    return {
        name: report.study_to_dict(study, config=CONFIG, names=[f"clip {i}" for i in range(len(study.clips))])
        for name, study in made.items()
    }


def test_the_output_is_as_the_schema_says(outputs, studies):
    jsonschema = pytest.importorskip("jsonschema")
    schema = report.json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    assert schema["properties"]["schema_version"]["const"] == report.SCHEMA_VERSION
    for values in (*outputs.values(), *studies.values()):
        validator.validate(json.loads(json.dumps(values, allow_nan=False)))
    wrong = outputs["corrected"] | {"heart_rate_per_min": "70"}
    assert [list(error.path) for error in validator.iter_errors(wrong)] == [["heart_rate_per_min"]]


def test_a_study_is_one_row(studies):
    row = report.to_row(studies["two views"])
    assert list(row) == list(report.table_columns())
    assert (
        row["ejection_fraction_biplane"] == studies["two views"]["measurements"]["ejection_fraction_biplane"]["value"]
    )
    assert row["ejection_fraction_biplane_before_corrections"] > 0
    assert (row["patient_sex"], row["patient_height_cm"], row["num_clips"]) == ("F", 165.0, 4)
    assert row["ejection_fraction_percent"] is None
    one = report.to_row(studies["one"])
    assert one["ejection_fraction_percent"] == pytest.approx(one["ejection_fraction_4ch"], abs=0.01)
    assert "There is no two-chamber clip." in one["withdrawn"]
    assert one["num_warnings"] == len(studies["one"]["warnings"]) + len(studies["one"]["findings"])


def test_every_key_has_a_description_and_every_number_a_unit():
    def types(schema):
        found = schema.get("type", ())
        return {found} if isinstance(found, str) else set(found)

    def walk(schema, path):
        is_item = path[-1:] == ("items",)
        assert is_item or schema["description"].endswith("."), path
        if {"number", "integer"} & (types(schema) | types(schema.get("items", {}))):
            assert is_item or schema["unit"], path
        for name, inner in schema.get("properties", {}).items():
            walk(inner, (*path, name))
        for name, inner in schema.get("$defs", {}).items():
            walk(inner, (name,))
        if "items" in schema:
            walk(schema["items"], (*path, "items"))

    walk(report.json_schema(), ())


def test_a_row_holds_the_numbers_before_and_after_the_corrections(outputs, corrected_beat):
    row = report.to_row(outputs["corrected"], file="a")
    assert list(row) == list(report.table_columns())
    assert row["file"] == "a"
    assert row["ejection_fraction_percent"] == pytest.approx(corrected_beat.measurements.ejection_fraction, abs=1e-3)
    before = corrected_beat.predicted.measurements
    assert row["before_corrections_end_systolic_volume_ml"] == pytest.approx(before.lv_volume[8], rel=1e-4)
    assert (row["spacing_mm_row"], row["spacing_mm_column"]) == (0.8, 0.5)
    assert row["num_beats"] == 1
    still = report.to_row(outputs["still"])
    assert still["before_corrections_lv_area_mm2"] > 0
    assert still["ejection_fraction_percent"] is None


def test_many_reports_are_one_table(outputs, tmp_path):
    pandas = pytest.importorskip("pandas")
    for name, values in outputs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "measurements.json").write_text(json.dumps(values))
    frame = report.to_frame([tmp_path / "corrected", tmp_path / "plain" / "measurements.json", tmp_path / "still"])
    assert isinstance(frame, pandas.DataFrame)
    assert frame["name"].tolist() == list(outputs)
    assert frame["num_frames"].tolist() == [17, 17, 1]
    assert frame.attrs["units"]["end_diastolic_volume_ml"] == "ml"
    assert np.isnan(frame["end_diastolic_volume_ml"]).tolist() == [False, True, True]
    assert len(report.to_frame(tmp_path / "still")) == 1
    (tmp_path / "still" / "measurements.json").write_text(json.dumps(outputs["still"] | {"schema_version": 1}))
    with pytest.raises(ValueError, match="has version 1 of the measurements"):
        report.to_frame(tmp_path / "still")
