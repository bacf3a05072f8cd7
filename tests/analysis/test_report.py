"""What a report shows and writes, with a model whose answer is known."""

import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cardiojax import anatomy, data, report, zoo
from cardiojax.analysis import recording as analysis
from cardiojax.cli import analyze as command
from cardiojax.report import figures, page

SIZE = 224


def test_outlines_run_along_the_borders(analyzed):
    frame, mask = analyzed.recording.frames[0], analyzed.labels[0]
    picture = figures.overlay(np.zeros_like(frame), mask)
    zoom = 720 / 260
    assert picture.shape == (round(200 * zoom), 720, 3)
    for members, colour in figures.OUTLINES.values():
        region = np.isin(mask, members)
        border = ndimage.binary_dilation(region, iterations=2) & ~ndimage.binary_erosion(region, iterations=2)
        rows, cols = np.nonzero((np.abs(picture.astype(int) - colour) < 12).all(-1))
        assert len(rows) > 100
        assert border[(rows / zoom).astype(int), (cols / zoom).astype(int)].all()


@pytest.fixture(scope="module")
def folder(analyzed, tmp_path_factory):
    target = tmp_path_factory.mktemp("out") / "report"
    report.write_report(analyzed, target, config=analysis.AnalyzeConfig(), name="<loop>&.dcm")
    return target


def test_report_is_complete_and_self_contained(folder, analyzed):
    names = ["config.json", "masks.nii.gz", "measurements.csv", "measurements.json", "report.html"]
    assert sorted(p.name for p in folder.iterdir()) == [".cardiojax.json", *names]
    written = (folder / "report.html").read_text()
    assert "&lt;loop&gt;&amp;.dcm" in written
    assert "<loop>" not in written
    assert len(written) < 1_000_000


def test_a_report_names_every_model_of_an_ensemble(analyzed, tmp_path):
    config = analysis.AnalyzeConfig(ensemble=("nnunet_camus",))
    report.write_report(analyzed, tmp_path / "report", config=config, name="loop")
    written = (tmp_path / "report" / "report.html").read_text()
    assert "unet_camus (CAMUS" in written
    assert "nnunet_camus (CAMUS" in written
    assert written.count("CC BY-NC-SA 4.0") == 1
    values = json.loads((tmp_path / "report" / "measurements.json").read_text())
    assert [values["model"], *values["ensemble"]] == ["unet_camus", "nnunet_camus"]


def test_report_files_agree(folder, analyzed):
    values = json.loads((folder / "measurements.json").read_text())
    assert values["recording"]["spacing_mm"] == [0.8, 0.5]
    assert values["ejection_fraction_percent"] == pytest.approx(analyzed.measurements.ejection_fraction, abs=1e-3)
    rows = list(csv.DictReader((folder / "measurements.csv").read_text().splitlines()))
    assert len(rows) == 17
    assert float(rows[8]["lv_volume_ml"]) == pytest.approx(float(analyzed.measurements.lv_volume[8]), rel=1e-4)
    masks = data.read_labels(folder / "masks.nii.gz")
    np.testing.assert_array_equal(masks.labels, analyzed.labels)
    assert masks.spacing == pytest.approx((0.8, 0.5))
    config = json.dumps(dataclasses.asdict(analysis.AnalyzeConfig()))
    assert json.loads((folder / "config.json").read_text()) == json.loads(config)


def test_an_earlier_report_is_replaced_and_a_failed_one_leaves_it(folder, analyzed, monkeypatch):
    before = (folder / "report.html").read_bytes()

    def broken(*_, **__):
        raise RuntimeError("disk")

    with monkeypatch.context() as patch:
        patch.setattr(page, "make_panel", broken)
        with pytest.raises(RuntimeError, match="disk"):
            report.write_report(analyzed, folder, config=analysis.AnalyzeConfig(), name="x")
    assert (folder / "report.html").read_bytes() == before
    assert [p.name for p in folder.parent.iterdir()] == ["report"]
    report.write_report(analyzed, folder, config=analysis.AnalyzeConfig(), name="second")
    assert "second" in (folder / "report.html").read_text()


def test_a_turned_image_has_no_numbers(recording, tmp_path, beating):
    """The model draws an upright heart into it all the same: the fan of ultrasound shows it."""
    rows, cols = np.mgrid[:200, :260] - np.array([5, 130])[:, None, None]
    fan = (np.hypot(rows, cols) < 180) & (np.abs(cols) < 0.8 * rows)
    frames = np.where(fan[::-1], recording.frames + 0.3, 0).astype(np.float32)
    analyzed = analysis.analyze(recording._replace(frames=frames), beating())
    assert "upside down" in analyzed.withdrawn["ejection fraction"]
    lines = command._summary(analyzed, "4CH")
    assert lines[1].startswith("not measured: ejection fraction, volumes")
    assert not any("%" in line for line in lines)
    written = report.write_report(analyzed, tmp_path / "r", config=analysis.AnalyzeConfig(), name="x")
    assert "Not measured: ejection fraction" in written.read_text()
    values = json.loads((written.parent / "measurements.json").read_text())
    assert values["ejection_fraction_percent"] is None
    assert set(values["curves"]["lv_volume_ml"]) == {None}
    rows = list(csv.DictReader((written.parent / "measurements.csv").read_text().splitlines()))
    assert {row["lv_volume_ml"] for row in rows} == {""}


def test_pictures_do_not_show_what_lies_outside_the_sector(folder, analyzed):
    frames = analyzed.frames_of_sector()
    assert analyzed.recording.frames[:, 5:12, 5:40].any()
    assert not frames[:, :20].any()
    inside, shown = analyzed.recording.frames[:, 20:170, 40:220], frames[:, 20:170, 40:220]
    assert (shown == inside).mean() > 0.99  # corners may be hidden
    assert set(np.unique(shown[shown != inside])) == {0}
    whole = analyzed.sector._replace(box=(0, 200, 0, 260), mask=np.ones((200, 260), bool), is_found=False)
    for burned_in, is_shown in ((None, False), (True, False), (False, True)):
        stated = analyzed._replace(sector=whole, recording=analyzed.recording._replace(burned_in=burned_in))
        assert stated.frames_of_sector().any() == is_shown


def test_a_single_frame_has_numbers_but_no_phases(recording, tmp_path, beating):
    one = analysis.analyze(recording._replace(frames=recording.frames[:1]), beating())
    config = analysis.AnalyzeConfig()
    values = report.to_dict(one, config=config, name="x")
    assert values["end_diastole_frame"] is None
    assert values["end_diastolic_volume_ml"] is None
    assert values["ejection_fraction_percent"] is None
    assert len(values["curves"]["lv_volume_ml"]) == 1
    written = report.write_report(one, tmp_path / "one", config=config, name="x").read_text()
    assert "end-diastole, frame" not in written
    assert written.count("<image ") == 3  # the frame with its outlines, and below its uncertainty
    assert 'type="range"' not in written


def test_what_is_measured_and_written_is_the_corrected_mask(corrected_loop):
    correction = corrected_loop.correction
    np.testing.assert_array_equal(corrected_loop.labels, correction.labels)
    assert np.flatnonzero(correction.changed).tolist() == [3]
    assert (correction.before[3] != correction.labels[3]).any()
    assert not corrected_loop.labels[5].any()
    assert np.flatnonzero(~correction.valid).tolist() == [5]
    area = corrected_loop.measurements.lv_area
    assert area[3] == pytest.approx(area[2], rel=0.01)
    assert any("The outlines of 1 of 17 frames" in w and "in frame 3" in w for w in corrected_loop.warnings)


def test_the_same_is_measured_before_any_correction_at_the_same_beats(corrected_loop, analyzed):
    before, after = corrected_loop.predicted, corrected_loop.measurements
    np.testing.assert_array_equal(before.labels, corrected_loop.correction.before)
    assert before.measurements.lv_area[3] < 0.98 * after.lv_area[3]
    others = np.arange(17) != 3
    np.testing.assert_array_equal(before.measurements.lv_area[others], after.lv_area[others])
    assert before.measurements.timing is after.timing
    assert before.motion is not corrected_loop.motion
    assert np.flatnonzero(corrected_loop.replaced.changed).tolist() == [3]
    assert analyzed.predicted.measurements is analyzed.measurements
    assert analyzed.predicted.motion is analyzed.motion


def test_the_report_says_which_frames_were_changed_and_how_far(corrected_loop, tmp_path):
    report.write_report(corrected_loop, tmp_path / "r", config=analysis.AnalyzeConfig(), name="x")
    values = json.loads((tmp_path / "r" / "measurements.json").read_text())["anatomical_correction"]
    assert values["valid_before"] == 15
    assert values["valid_after"] == 16
    assert [row["frame"] for row in values["corrected"]] == [3]
    assert values["corrected"][0]["latent_distance"] == 2.5
    rows = list(csv.DictReader((tmp_path / "r" / "measurements.csv").read_text().splitlines()))
    assert [t for t, row in enumerate(rows) if float(row["changed_percent"]) > 0] == [3]


def test_what_the_command_writes_is_anatomically_valid(tmp_path):
    command.analyze_files(out=tmp_path / "report", example=True)
    masks = data.read_labels(tmp_path / "report" / "masks.nii.gz").labels
    values = json.loads((tmp_path / "report" / "measurements.json").read_text())
    has_heart = (masks == 1).any((1, 2)) & (masks == 2).any((1, 2))
    assert has_heart.all()
    assert values["anatomical_correction"]["valid_after"] == len(masks)
    assert values["pair_model"] == "unet_pair_camus"
    assert values["pair_frames"] == [values["end_diastole_frame"], values["end_systole_frame"]]
    areas = np.prod(values["recording"]["spacing_mm"]) * (masks[values["pair_frames"]] == 1).sum((1, 2))
    measured = [values[f"end_{phase}_area_mm2"] for phase in ("diastolic", "systolic")]
    np.testing.assert_allclose(measured, areas, rtol=1e-4)  # the masks that are written are those that are measured
    for start in range(0, len(masks), 4):  # four at a time
        block = np.resize(masks[start : start + 4], (4, *masks.shape[1:]))
        assert jax.jit(anatomy.is_valid)(jnp.asarray(block, jnp.int32)).all()


def test_own_weights_make_a_report(tmp_path, fill):
    """A file that `zoo.save` wrote takes the place of a model of the zoo, sizes included."""
    features, size = (4, 8), 32
    shapes = zoo.abstract_variables("unet_camus", features=features)
    zoo.save(tmp_path / "own.safetensors", "unet_camus", fill(shapes)["params"], features=features)
    frames = np.random.default_rng(0).random((2, 40, 48)).astype(np.float32)
    np.save(tmp_path / "loop.npy", frames)
    options = {"anatomical_correction": False, "temporal_correction": False, "weights": tmp_path / "own.safetensors"}
    options["study"] = command.StudyConfig(view=("4CH",))  # noise shows no view
    config = analysis.AnalyzeConfig(size=size, batch_size=2)
    text = command.analyze_files([tmp_path / "loop.npy"], out=tmp_path / "report", config=config, **options)
    assert text.endswith("report.html")
    values = json.loads((tmp_path / "report" / "measurements.json").read_text())
    assert values["model"] == "own.safetensors"
    assert values["pair_model"] is None
    assert "Model: unet_camus" in (tmp_path / "report" / "report.html").read_text()
    with pytest.raises(report.OutputFolderError, match="holds the input"):
        command.analyze_files([tmp_path / "report" / "masks.nii.gz"], out=tmp_path / "report", config=config, **options)
    assert data.read_labels(tmp_path / "report" / "masks.nii.gz").labels.shape == frames.shape
