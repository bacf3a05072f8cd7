"""What a report shows and writes, with a model whose answer is known."""

import base64
import csv
import dataclasses
import io
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cardiojax import anatomy, data, report, zoo
from cardiojax.analysis import recording as analysis
from cardiojax.cli import analyze as command
from cardiojax.correction import anatomical
from cardiojax.report import figures

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
    page = (folder / "report.html").read_text()
    assert "&lt;loop&gt;&amp;.dcm" in page
    assert "<loop>" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    pictures = re.findall(r'src="data:image/(\w+)(?:\+xml)?;base64,([^"]+)"', page)
    assert [kind for kind, _ in pictures] == ["webp", "png", "png", "svg", "svg", "png", "png"]
    for kind, content in pictures:
        if kind != "svg":
            picture = Image.open(io.BytesIO(base64.b64decode(content)))
            assert getattr(picture, "n_frames", 1) == (17 if kind == "webp" else 1)


def test_a_report_names_every_model_of_an_ensemble(analyzed, tmp_path):
    config = analysis.AnalyzeConfig(ensemble=("nnunet_camus",))
    report.write_report(analyzed, tmp_path / "report", config=config, name="loop")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "unet_camus (CAMUS" in page
    assert "nnunet_camus (CAMUS" in page
    assert page.count("CC BY-NC-SA 4.0") == 1
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

    def broken(*_):
        raise RuntimeError("disk")

    with monkeypatch.context() as patch:
        patch.setattr(figures, "animation", broken)
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
    lines = command._summary(analyzed)
    assert lines[1].startswith("not measured: ejection fraction, volumes")
    assert not any("%" in line for line in lines)
    page = report.write_report(analyzed, tmp_path / "r", config=analysis.AnalyzeConfig(), name="x")
    assert "Not measured: ejection fraction" in page.read_text()
    values = json.loads((page.parent / "measurements.json").read_text())
    assert values["ejection_fraction_percent"] is None
    assert set(values["curves"]["lv_volume_ml"]) == {None}
    rows = list(csv.DictReader((page.parent / "measurements.csv").read_text().splitlines()))
    assert {row["lv_volume_ml"] for row in rows} == {""}


def test_pictures_do_not_show_what_lies_outside_the_sector(folder, analyzed):
    frames = analyzed.frames_of_sector()
    assert analyzed.recording.frames[:, 5:12, 5:40].any()
    assert not frames[:, :20].any()
    inside, shown = analyzed.recording.frames[:, 20:170, 40:220], frames[:, 20:170, 40:220]
    assert (shown == inside).mean() > 0.99  # corners may be hidden
    assert set(np.unique(shown[shown != inside])) == {0}
    page, zoom = (folder / "report.html").read_text(), 720 / 260
    pictures = re.findall(r'src="data:image/(?:png|webp);base64,([^"]+)"', page)
    assert len(pictures) == 5
    for content in pictures[:3]:  # those with outlines
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("L"))
        assert shown[: int(18 * zoom)].max() < 10
    whole = analyzed.sector._replace(box=(0, 200, 0, 260), mask=np.ones((200, 260), bool))
    for burned_in, is_shown in ((None, False), (True, False), (False, True)):
        stated = analyzed._replace(sector=whole, recording=analyzed.recording._replace(burned_in=burned_in))
        assert stated.frames_of_sector().any() == is_shown


def test_a_long_loop_is_thinned_out(analyzed):
    times = np.arange(300) % 17
    frames = analyzed.recording.frames[times] * 0.5 + np.arange(300)[:, None, None] / 600
    content = figures.animation(frames, analyzed.labels[times], 0.05)()
    picture = Image.open(io.BytesIO(content))
    assert picture.n_frames == 100
    picture.load()
    assert picture.info["duration"] == 150


def test_a_single_frame_has_numbers_but_no_phases(recording, tmp_path, beating):
    one = analysis.analyze(recording._replace(frames=recording.frames[:1]), beating())
    config = analysis.AnalyzeConfig()
    values = report.to_dict(one, config=config, name="x")
    assert values["end_diastole_frame"] is None
    assert values["end_diastolic_volume_ml"] is None
    assert values["ejection_fraction_percent"] is None
    assert len(values["curves"]["lv_volume_ml"]) == 1
    page = report.write_report(one, tmp_path / "one", config=config, name="x").read_text()
    assert "End-diastole" not in page
    assert page.count("<img") == 2


@pytest.fixture(scope="module")
def corrected(recording, draw):
    """Frame 3 has a hole, frame 5 no heart; the corrector fills the one and never sees the other."""
    clock = iter(range(100))

    def damaged(images):
        drawn = np.stack([draw.heart(SIZE, SIZE, draw.beat(0)) for _ in images])
        for mask in drawn:
            t = next(clock)
            mask[80:100, 105:120] = 0 if t == 3 else mask[80:100, 105:120]
            mask[:] = 0 if t == 5 else mask
        return np.eye(4, dtype=np.float32)[drawn]

    def correct(masks, *, box):
        assert box == (20, 170, 40, 220)
        assert masks.any((1, 2)).all()
        filled = masks.copy()
        whole = ndimage.binary_fill_holes(masks[3] > 0)
        filled[3][whole & (masks[3] == 0)] = 1
        changed = (filled != masks).sum((1, 2)) / (filled > 0).sum((1, 2))
        good = np.ones(len(masks), bool)
        return anatomical.AnatomicalCorrection(masks, filled, changed == 0, good, 2.5 * (changed > 0), changed)

    return analysis.analyze(recording, damaged, anatomical_corrector=correct)


def test_what_is_measured_and_written_is_the_corrected_mask(corrected):
    correction = corrected.correction
    np.testing.assert_array_equal(corrected.labels, correction.labels)
    assert np.flatnonzero(correction.changed).tolist() == [3]
    assert (correction.before[3] != correction.labels[3]).any()
    assert not corrected.labels[5].any()
    assert np.flatnonzero(~correction.valid).tolist() == [5]
    area = corrected.measurements.lv_area
    assert area[3] == pytest.approx(area[2], rel=0.01)
    assert any("The outlines of 1 of 17 frames" in w and "in frame 3" in w for w in corrected.warnings)


def test_the_same_is_measured_before_any_correction_at_the_same_beats(corrected, analyzed):
    before, after = corrected.predicted, corrected.measurements
    np.testing.assert_array_equal(before.labels, corrected.correction.before)
    assert before.measurements.lv_area[3] < 0.98 * after.lv_area[3]
    others = np.arange(17) != 3
    np.testing.assert_array_equal(before.measurements.lv_area[others], after.lv_area[others])
    assert before.measurements.timing is after.timing
    assert before.motion is not corrected.motion
    assert np.flatnonzero(corrected.replaced.changed).tolist() == [3]
    assert analyzed.predicted.measurements is analyzed.measurements
    assert analyzed.predicted.motion is analyzed.motion


def test_the_report_says_which_frames_were_changed_and_how_far(corrected, tmp_path):
    page = report.write_report(corrected, tmp_path / "r", config=analysis.AnalyzeConfig(), name="x").read_text()
    assert "The largest anatomical correction" in page
    assert "as predicted, frame 3" in page
    values = json.loads((tmp_path / "r" / "measurements.json").read_text())["anatomical_correction"]
    assert values["valid_before"] == 15
    assert values["valid_after"] == 16
    assert [row["frame"] for row in values["corrected"]] == [3]
    assert values["corrected"][0]["latent_distance"] == 2.5
    rows = list(csv.DictReader((tmp_path / "r" / "measurements.csv").read_text().splitlines()))
    assert [t for t, row in enumerate(rows) if float(row["changed_percent"]) > 0] == [3]


def test_what_the_command_writes_is_anatomically_valid(tmp_path):
    command.analyze_file(out=tmp_path / "report", example=True)
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
    config = analysis.AnalyzeConfig(size=size, batch_size=2)
    text = command.analyze_file(tmp_path / "loop.npy", out=tmp_path / "report", config=config, **options)
    assert text.endswith("report.html")
    values = json.loads((tmp_path / "report" / "measurements.json").read_text())
    assert values["model"] == "own.safetensors"
    assert values["pair_model"] is None
    assert "Model: unet_camus" in (tmp_path / "report" / "report.html").read_text()
    with pytest.raises(report.OutputFolderError, match="holds the input"):
        command.analyze_file(tmp_path / "report" / "masks.nii.gz", out=tmp_path / "report", config=config, **options)
    assert data.read_labels(tmp_path / "report" / "masks.nii.gz").labels.shape == frames.shape
