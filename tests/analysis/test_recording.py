"""From a recording to a report, with a model whose answer is known."""

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

from cardiojax import anatomy, data, report
from cardiojax.analysis import recording as analysis
from cardiojax.analysis import sector
from cardiojax.cli import analyze as command
from cardiojax.correction import anatomical
from cardiojax.measurement import motion
from cardiojax.report import figures

SIZE = 224


def heart(height, width, semi):
    """An apical view drawn in fractions of its box: half an ellipse of cavity, a wall, an atrium."""
    rows, cols = np.mgrid[:height, :width]
    y, x = (rows + 0.5) / height - 0.65, (cols + 0.5) / width - 0.5
    inner = ((y / semi[0]) ** 2 + (x / semi[1]) ** 2 < 1) & (y < 0)
    outer = ((y / (semi[0] + 0.06)) ** 2 + (x / (semi[1] + 0.06)) ** 2 < 1) & (y < 0)
    atrium = (np.hypot(y - 0.1, x) < 0.12) & (y >= 0)
    return np.select([inner, outer, atrium], [1, 2, 3], 0)


def beat(t, period=16):
    """Half axes of the cavity at a frame: largest at 0, smallest at half a period."""
    share = (1 + np.cos(2 * np.pi * t / period)) / 2
    return 0.35 + 0.1 * share, 0.12 + 0.06 * share


@pytest.fixture(scope="module")
def recording():
    """A sector of 150 x 180 pixels whose grey value is the frame's number, with text beside it."""
    frames = np.zeros((17, 200, 260), np.float32)
    frames[:, 20:170, 40:220] = 0.5
    frames[:, 20, 40] = 1.0
    frames[:, 5:12, 5:40:3] = 0.9
    for t in range(17):
        frames[t, 21, 41] = t / 100
    return data.Recording(frames, (0.8, 0.5), 0.05, "drawn")


def segment(images):
    """Reads the frame's number back and draws the heart of that instant."""
    # the counter below survives the resize only as an order, so the test model counts calls instead
    labels = np.stack([heart(SIZE, SIZE, beat(next(segment.clock))) for _ in images])
    return np.eye(4, dtype=np.float32)[labels] * 0.96 + 0.01


@pytest.fixture(scope="module")
def found(recording):
    segment.clock = iter(range(100))
    return analysis.analyze(recording, segment)


def test_sector_is_found_and_text_is_cut_away(recording):
    where = sector.find_sector(recording.frames)
    assert where.box == (20, 170, 40, 220)
    assert where.mask.all()
    assert sector.crop(recording.frames, where).shape == (17, 150, 180)


def test_black_loop_is_all_sector():
    assert sector.find_sector(np.zeros((2, 40, 50), np.float32)).box == (0, 40, 0, 50)


def test_masks_lie_where_the_model_saw_them(found):
    assert found.labels.shape == (17, 200, 260)
    expected = heart(150, 180, beat(0))
    inside = found.labels[0, 20:170, 40:220]
    assert (inside == expected).mean() > 0.985
    assert found.labels[0, :20].max() == 0


def test_numbers_are_those_of_the_drawn_heart(found):
    numbers = found.measurements
    assert numbers.end_diastole in (0, 1, 15, 16)
    assert numbers.end_systole in (7, 8, 9)

    def volume(t):  # half an ellipsoid of revolution, in ml
        long, wide = beat(t)
        return 2 / 3 * np.pi * (long * 150 * 0.8) * (wide * 180 * 0.5) ** 2 / 1000

    assert numbers.lv_volume[0] == pytest.approx(volume(0), rel=0.05)
    assert numbers.lv_volume[8] == pytest.approx(volume(8), rel=0.05)
    assert numbers.ejection_fraction == pytest.approx(100 * (1 - volume(8) / volume(0)), abs=3)
    assert found.warnings == ()


def test_the_loop_has_beats_strain_and_is_consistent(found):
    moved = found.motion
    assert np.isnan(moved.heart_rate)  # one beat from the first frame to the last: its period is not seen
    angle = np.linspace(0, np.pi, 2001)

    def border(t):  # of the drawn half ellipse, in mm
        long, wide = beat(t)
        return np.hypot(np.diff(long * 150 * 0.8 * np.sin(angle)), np.diff(wide * 180 * 0.5 * np.cos(angle))).sum()

    assert moved.endocardial_peak == pytest.approx(100 * (border(8) / border(0) - 1), abs=1.5)
    assert moved.endocardial_peak < moved.mid_wall_peak < 0
    assert moved.ratio.shape == (17, 7)
    assert moved.is_consistent.all()
    both = found.measurements.ejection_fraction, found.measurements.ejection_fraction_one_length
    assert both[0] - both[1] > 5


def test_a_frame_that_jumps_is_inconsistent(found):
    masks = found.labels.copy()
    masks[8] = np.roll(masks[8], 12, axis=0)
    moved = motion.measure_motion(masks, (0, 8), spacing=(0.8, 0.5), frame_time=0.05)
    assert np.flatnonzero(~moved.is_consistent).tolist() == [7, 8, 9]
    assert b"<svg" in figures.consistency(moved, 0.05)
    missing = motion.measure_motion(masks * 0, None, spacing=(0.8, 0.5), frame_time=0.05)
    assert np.isnan(missing.ratio).all()
    assert np.isnan([missing.heart_rate, missing.mid_wall_peak]).all()


def test_certain_and_uncertain_pixels(found):
    entropy = found.uncertainty
    certain = -(0.97 * np.log(0.97) + 3 * 0.01 * np.log(0.01)) / np.log(4)
    assert entropy[0, 100, 130] == pytest.approx(certain, abs=1e-3)
    assert entropy[:, :15].max() == 0


def test_without_spacing_there_are_no_millilitres(recording):
    segment.clock = iter(range(100))
    bare = analysis.analyze(recording._replace(spacing=None, frames=recording.frames[:, :, :]), segment)
    values = report.to_dict(bare, config=analysis.AnalyzeConfig(), name="x")
    assert values["end_diastolic_volume_ml"] is None
    assert values["ejection_fraction_percent"] > 30
    assert any("spacing is unknown" in w for w in bare.warnings)


def test_an_empty_prediction_is_said_in_words(recording):
    nothing = analysis.analyze(recording, lambda images: np.eye(4, dtype=np.float32)[np.zeros(images.shape[:3], int)])
    assert any("No left ventricle was found in 17 of 17 frames" in w for w in nothing.warnings)
    values = report.to_dict(nothing, config=analysis.AnalyzeConfig(), name="x")
    assert values["ejection_fraction_percent"] is None
    json.dumps(values, allow_nan=False)


def test_a_lost_frame_is_empty_and_its_neighbours_are_not_at_odds_with_it(recording):
    lost = recording.frames.copy()
    lost[5] = 0
    segment.clock = iter(range(100))
    found = analysis.analyze(recording._replace(frames=lost), segment)
    assert np.flatnonzero(~found.labels.any((1, 2))).tolist() == [5]
    assert any("No left ventricle was found in 1 of 17 frames" in w for w in found.warnings)
    assert found.motion.is_consistent.all()
    assert np.flatnonzero(np.isnan(found.motion.ratio).any(1)).tolist() == [4, 5, 6]


def test_only_the_largest_region_of_a_structure_is_kept(recording):
    def noisy(images):
        labels = np.stack([heart(SIZE, SIZE, beat(0)) for _ in images])
        labels[:, 2:8, 2:8] = 1
        return np.eye(4, dtype=np.float32)[labels]

    kept = analysis.analyze(recording, noisy)
    raw = analysis.analyze(recording, noisy, config=analysis.AnalyzeConfig(largest_component=False))
    assert (raw.labels[0, 20:30, 40:60] == 1).any()
    assert not (kept.labels[0, 20:30, 40:60] == 1).any()


def test_outlines_run_along_the_borders(found):
    frame, mask = found.recording.frames[0], found.labels[0]
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
def folder(found, tmp_path_factory):
    target = tmp_path_factory.mktemp("out") / "report"
    report.write_report(found, target, config=analysis.AnalyzeConfig(), name="<loop>&.dcm")
    return target


def test_report_is_complete_and_self_contained(folder, found):
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


def test_a_report_names_every_model_of_an_ensemble(found, tmp_path):
    config = analysis.AnalyzeConfig(ensemble=("nnunet_camus",))
    report.write_report(found, tmp_path / "report", config=config, name="loop")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "unet_camus (CAMUS" in page
    assert "nnunet_camus (CAMUS" in page
    assert page.count("CC BY-NC-SA 4.0") == 1
    values = json.loads((tmp_path / "report" / "measurements.json").read_text())
    assert [values["model"], *values["ensemble"]] == ["unet_camus", "nnunet_camus"]


def test_report_files_agree(folder, found):
    values = json.loads((folder / "measurements.json").read_text())
    assert values["recording"]["spacing_mm"] == [0.8, 0.5]
    assert values["ejection_fraction_percent"] == pytest.approx(found.measurements.ejection_fraction, abs=1e-3)
    rows = list(csv.DictReader((folder / "measurements.csv").read_text().splitlines()))
    assert len(rows) == 17
    assert float(rows[8]["lv_volume_ml"]) == pytest.approx(float(found.measurements.lv_volume[8]), rel=1e-4)
    masks = data.read_labels(folder / "masks.nii.gz")
    np.testing.assert_array_equal(masks.labels, found.labels)
    assert masks.spacing == pytest.approx((0.8, 0.5))
    config = json.dumps(dataclasses.asdict(analysis.AnalyzeConfig()))
    assert json.loads((folder / "config.json").read_text()) == json.loads(config)


def test_an_earlier_report_is_replaced_and_a_failed_one_leaves_it(folder, found, monkeypatch):
    before = (folder / "report.html").read_bytes()

    def broken(*_):
        raise RuntimeError("disk")

    with monkeypatch.context() as patch:
        patch.setattr(figures, "animation", broken)
        with pytest.raises(RuntimeError, match="disk"):
            report.write_report(found, folder, config=analysis.AnalyzeConfig(), name="x")
    assert (folder / "report.html").read_bytes() == before
    assert [p.name for p in folder.parent.iterdir()] == ["report"]
    report.write_report(found, folder, config=analysis.AnalyzeConfig(), name="second")
    assert "second" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"batch_size": -3}, {"size": 0}, {"size": 10**9}, {"max_size": 0}]
)
def test_sizes_below_one_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        analysis.AnalyzeConfig(**wrong)


def answer(labels):
    """A model that sees the same in every frame."""
    return lambda images: np.eye(4, dtype=np.float32)[np.stack([labels] * len(images))]


def test_a_ventricle_at_the_edge_or_without_atrium_is_said_in_words(recording):
    drawn = heart(SIZE, SIZE, beat(0))
    assert analysis.analyze(recording, answer(drawn)).warnings == ()
    shifted = np.roll(drawn, -SIZE // 2, axis=1)
    shifted[:, SIZE // 2 :] = 0
    said = analysis.analyze(recording, answer(shifted)).warnings
    assert any("reaches the edge of the sector in 17 of 17" in w for w in said)
    said = analysis.analyze(recording, answer(np.where(drawn == 3, 0, drawn))).warnings
    assert any("No left atrium was found in 17 of 17" in w for w in said)


def test_a_volume_that_jumps_is_said_in_words(recording):
    clock = iter(range(100))

    def unsteady(images):
        drawn = np.stack([heart(SIZE, SIZE, (0.25, 0.1) if next(clock) == 8 else beat(0)) for _ in images])
        return np.eye(4, dtype=np.float32)[drawn]

    assert any("jumps in 1 of 17" in w for w in analysis.analyze(recording, unsteady).warnings)


def test_a_frame_time_that_makes_systole_too_long_is_reported(recording):
    segment.clock = iter(range(100))
    slow = analysis.analyze(recording._replace(frame_time=0.2), segment)
    assert any("follows end-diastole by more than 0.5 s" in w for w in slow.warnings)


def test_an_unmeasured_ejection_fraction_is_not_printed_as_nan(recording):
    drawn = heart(SIZE, SIZE, beat(0))
    lines = command._summary(analysis.analyze(recording, answer(np.where(drawn == 2, 0, drawn))))
    assert "ejection fraction not measured" in lines
    assert not any("nan" in line for line in lines)


def test_a_turned_image_has_no_numbers(recording, tmp_path):
    """The model draws an upright heart into it all the same: the fan of ultrasound shows it."""
    rows, cols = np.mgrid[:200, :260] - np.array([5, 130])[:, None, None]
    fan = (np.hypot(rows, cols) < 180) & (np.abs(cols) < 0.8 * rows)
    frames = np.where(fan[::-1], recording.frames + 0.3, 0).astype(np.float32)
    segment.clock = iter(range(100))
    found = analysis.analyze(recording._replace(frames=frames), segment)
    assert "upside down" in found.withdrawn["ejection fraction"]
    lines = command._summary(found)
    assert lines[1].startswith("not measured: ejection fraction, volumes")
    assert not any("%" in line for line in lines)
    page = report.write_report(found, tmp_path / "r", config=analysis.AnalyzeConfig(), name="x")
    assert "Not measured: ejection fraction" in page.read_text()
    values = json.loads((page.parent / "measurements.json").read_text())
    assert values["ejection_fraction_percent"] is None
    assert set(values["curves"]["lv_volume_ml"]) == {None}
    rows = list(csv.DictReader((page.parent / "measurements.csv").read_text().splitlines()))
    assert {row["lv_volume_ml"] for row in rows} == {""}


def test_large_frames_are_analysed_on_a_coarser_grid(recording, found):
    segment.clock = iter(range(100))
    coarse = analysis.analyze(recording, segment, config=analysis.AnalyzeConfig(max_size=128))
    assert coarse.grid.stride == 2
    assert coarse.labels.shape[1:] == coarse.grid.shape
    assert any("2 x 2" in w for w in coarse.warnings)
    full = coarse.labels_of_frames()
    assert full.shape == found.labels.shape
    overlap = ((full == 1) & (found.labels == 1)).sum() / ((full == 1) | (found.labels == 1)).sum()
    assert overlap > 0.95
    fine, rough = found.measurements, coarse.measurements
    assert rough.ejection_fraction == pytest.approx(fine.ejection_fraction, abs=3)
    assert rough.lv_volume[0] == pytest.approx(fine.lv_volume[0], rel=0.05)


def test_pictures_do_not_show_what_lies_outside_the_sector(folder, found):
    frames = found.frames_of_sector()
    assert found.recording.frames[:, 5:12, 5:40].any()
    assert not frames[:, :20].any()
    np.testing.assert_array_equal(frames[:, 20:170, 40:220], found.recording.frames[:, 20:170, 40:220])
    page, zoom = (folder / "report.html").read_text(), 720 / 260
    pictures = re.findall(r'src="data:image/(?:png|webp);base64,([^"]+)"', page)
    assert len(pictures) == 5
    for content in pictures[:3]:  # those with outlines
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("L"))
        assert shown[: int(18 * zoom)].max() < 10
    whole = found.sector._replace(box=(0, 200, 0, 260), mask=np.ones((200, 260), bool))
    assert found._replace(sector=whole).frames_of_sector().any()
    stated = found._replace(sector=whole, recording=found.recording._replace(burned_in=True))
    assert not stated.frames_of_sector().any()


def test_of_two_stated_scales_that_of_the_sector_is_taken(recording):
    regions = [
        data.Region(box, data_type=1, spatial_format=1, spacing=spacing)
        for box, spacing in (((15, 175, 35, 225), (0.8, 0.5)), ((0, 14, 0, 260), (3.0, 3.0)))
    ]
    config, black = analysis.AnalyzeConfig(), np.eye(4, dtype=np.float32)[np.zeros((8, SIZE, SIZE), int)]
    stated = recording._replace(spacing=(3.0, 3.0), regions=tuple(regions), frames=recording.frames[:2])
    found = analysis.analyze(stated, lambda images: black[: len(images)], config=config)
    assert found.recording.spacing == (0.8, 0.5)


def test_progress_is_reported(recording):
    seen = []
    analysis.analyze(recording, answer(heart(SIZE, SIZE, beat(0))), on_progress=seen.append)
    assert seen == [8, 16, 17]


def test_a_long_loop_is_thinned_out(found):
    times = np.arange(300) % 17
    frames = found.recording.frames[times] * 0.5 + np.arange(300)[:, None, None] / 600
    content = figures.animation(frames, found.labels[times], 0.05)()
    picture = Image.open(io.BytesIO(content))
    assert picture.n_frames == 100
    picture.load()
    assert picture.info["duration"] == 150


def test_a_single_frame_has_numbers_but_no_phases(recording, tmp_path):
    segment.clock = iter(range(100))
    one = analysis.analyze(recording._replace(frames=recording.frames[:1]), segment)
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
def corrected(recording):
    """Frame 3 has a hole, frame 5 no heart; the corrector fills the one and never sees the other."""
    clock = iter(range(100))

    def damaged(images):
        drawn = np.stack([heart(SIZE, SIZE, beat(0)) for _ in images])
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
    np.testing.assert_array_equal(corrected.labels, correction.masks)
    assert np.flatnonzero(correction.changed).tolist() == [3]
    assert (correction.before[3] != correction.masks[3]).any()
    assert not corrected.labels[5].any()
    assert np.flatnonzero(~correction.valid).tolist() == [5]
    area = corrected.measurements.lv_area
    assert area[3] == pytest.approx(area[2], rel=0.01)
    assert any("The outlines of 1 of 17 frames" in w and "in frame 3" in w for w in corrected.warnings)


def test_the_report_says_which_frames_were_changed_and_how_far(corrected, tmp_path):
    page = report.write_report(corrected, tmp_path / "r", config=analysis.AnalyzeConfig(), name="x").read_text()
    assert "The largest anatomical correction" in page
    assert "as the model drew it, frame 3" in page
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
    values = json.loads((tmp_path / "report" / "measurements.json").read_text())["anatomical_correction"]
    has_heart = (masks == 1).any((1, 2)) & (masks == 2).any((1, 2))
    assert has_heart.all()
    assert values["valid_after"] == len(masks)
    for start in range(0, len(masks), 4):  # four at a time
        block = np.resize(masks[start : start + 4], (4, *masks.shape[1:]))
        assert jax.jit(anatomy.is_valid)(jnp.asarray(block, jnp.int32)).all()
