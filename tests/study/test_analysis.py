"""A study of several recordings: views, the best clip of each, what is refused, stills in pairs."""

from pathlib import Path

import numpy as np
import pytest

from cardiojax import data, study
from cardiojax.analysis import recording as analysis
from cardiojax.analysis.view import VIEWS, ViewEstimate
from cardiojax.study import notes
from cardiojax.study.quality import Quality


def estimate(view, reason=None):
    return ViewEstimate(view, np.array([float(view == each) for each in VIEWS]), reason)


@pytest.fixture(scope="module")
def whole(recording, beating):
    """The analysis of a loop with a whole beat, of more than a few grey values."""
    noise = 0.2 * np.random.default_rng(0).random(recording.frames.shape, np.float32)
    return analysis.analyze(
        recording._replace(frames=np.where(recording.frames > 0, recording.frames - noise, 0)), beating()
    )


def run(clips, whole, **options):
    """A study of recordings in memory: path to (view, analysis or exception)."""
    order = iter([value for view, value in clips.values() if isinstance(value, analysis.Analysis)])
    views = {path: view for path, (view, _) in clips.items()}
    read_last = []

    def read(path):
        value = clips[path][1]
        if isinstance(value, Exception):
            raise value
        read_last.append(path)
        return whole.recording if isinstance(value, analysis.Analysis) else value

    def classify(recording):
        view = views[read_last[-1]]
        return estimate(view, "The images do not look like an apical view." if view == "other" else None)

    return study.analyze_study(
        list(clips), analyze=lambda recording: next(order), classify=classify, read=read, **options
    )


def test_the_best_clip_of_each_view_is_measured_and_the_others_say_why_not(whole):
    worse = whole._replace(uncertainty=np.full_like(whole.uncertainty, 0.4))
    clips = {
        Path("a.dcm"): ("2CH", worse),
        Path("b.dcm"): ("2CH", whole),
        Path("c.dcm"): ("4CH", whole),
        Path("d.dcm"): ("4CH", worse),
        Path("e.dcm"): ("other", whole.recording),
        Path("f.dcm"): ("4CH", data.UnreadableFileError("f.dcm", "is damaged ({stated})", stated="Mustermann")),
    }
    found = run(clips, whole)
    assert (found.two_chamber, found.four_chamber) == (1, 2)
    assert [clip.analysis is not None for clip in found.clips] == [False, True, True, False, False, False]
    assert [clip.reason for clip in found.clips] == [
        "Another two-chamber clip is better: clip 2.",
        "The best of 2 two-chamber clips.",
        "The best of 2 four-chamber clips.",
        "Another four-chamber clip is better: clip 3.",
        "The images do not look like an apical view.",
        "is damaged (...)",
    ]
    assert found.clips[1].quality > found.clips[0].quality
    assert np.isnan(found.clips[4].quality)
    assert np.isfinite(found.measurements.by_key("ejection_fraction_biplane").value)
    assert found.findings[-1].reason == notes.NOT_MEASURABLE


def test_a_study_of_one_clip_is_single_plane_and_says_so(whole):
    found = run({Path("a.dcm"): ("4CH", whole)}, whole)
    assert list(found.chosen) == ["4CH"]
    assert found.clips[0].reason == "The only four-chamber clip."
    assert any("from a single plane" in finding.reason for finding in found.findings)
    fraction = found.measurements.by_key("ejection_fraction_4ch")
    assert fraction.value == pytest.approx(whole.measurements.ejection_fraction, rel=1e-4)
    assert fraction.drawn == pytest.approx(whole.predicted.measurements.ejection_fraction, rel=1e-4)
    assert found.measurements.by_key("end_diastolic_volume_4ch").value == pytest.approx(
        np.median(whole.measurements.lv_volume[whole.measurements.beats.end_diastole]), rel=1e-4
    )


def test_nothing_to_measure_is_one_sentence(whole):
    refused = {Path("a.dcm"): ("other", whole.recording)}
    with pytest.raises(study.StudyError, match=r"^a\.dcm: the images do not look like an apical view\. \(--view"):
        run(refused, whole)
    with pytest.raises(study.StudyError, match=r"none of 2 recordings can be measured: a\.dcm: The images") as error:
        run(refused | {Path("b.dcm"): ("other", whole.recording)}, whole)
    assert ".dcm" not in error.value.problem
    assert "can be measured: clip 1: The images do not look like an apical view.; clip 2: The" in error.value.problem
    damaged = {Path("a.dcm"): ("4CH", data.UnreadableFileError("a.dcm", "is empty"))}
    with pytest.raises(data.UnreadableFileError, match=r"a\.dcm: is empty"):
        run(damaged, whole)


def test_a_stated_view_counts_and_what_speaks_against_it_is_said(whole):
    found = run({Path("a.dcm"): ("other", whole)}, whole, views={Path("a.dcm"): "2CH"})
    clip = found.chosen["2CH"]
    assert (clip.view.view, clip.view.probs.tolist()) == ("2CH", [0.0, 0.0, 1.0])
    stated = "The two-chamber view was stated by hand."
    assert f"{stated} The images do not look like an apical view." in clip.analysis.warnings
    found = run({Path("a.dcm"): ("4CH", whole)}, whole, views={Path("a.dcm"): "2CH"})
    assert f"{stated} The images look like an apical four-chamber view." in found.chosen["2CH"].analysis.warnings
    found = run({Path("a.dcm"): ("2CH", whole)}, whole, views={Path("a.dcm"): "2CH"})
    assert found.chosen["2CH"].analysis.findings == whole.findings
    with pytest.raises(ValueError, match="a view must be one of 2CH, 4CH"):
        run({Path("a.dcm"): ("other", whole)}, whole, views={Path("a.dcm"): "PLAX"})


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (np.zeros((2, 20, 64), np.float32), "expected at least 32 x 32"),
        (np.random.default_rng(0).integers(0, 4, (2, 64, 64)) / np.float32(3), "label maps"),
    ],
)
def test_what_is_no_image_is_not_measured(whole, frames, reason):
    small = data.Recording(frames, None, None, "drawn")
    found = run({Path("a.dcm"): ("4CH", small), Path("b.dcm"): ("4CH", whole)}, whole)
    assert reason in found.clips[0].reason
    assert found.four_chamber == 1


def test_a_foreshortened_clip_and_one_whose_fraction_is_withheld_come_later():
    best = Quality(0.8, 1, 1, 1, 1, length=90.0, is_measured=True, is_calibrated=True)
    for longest in (90.0, 120.0):
        assert best.rank(longest) > best._replace(length=70.0).rank(longest)
        assert best.rank(longest) > best._replace(score=0.7).rank(longest)
        assert best._replace(score=0.1).rank(longest) > best._replace(is_measured=False).rank(longest)


@pytest.mark.parametrize("names", [("unscaled", "scaled"), ("scaled", "unscaled")])
def test_a_clip_without_spacing_comes_later_and_says_so(whole, monkeypatch, names):
    parts = {
        "unscaled": Quality(0.9, 1, 1, 1, 1, length=np.nan, is_measured=True, is_calibrated=False),
        "scaled": Quality(0.5, 1, 1, 1, 1, length=85.0, is_measured=True, is_calibrated=True),
    }
    order = iter(names)
    monkeypatch.setattr(study.analysis, "assess_quality", lambda _: parts[next(order)])
    found = run({Path(name): ("4CH", whole) for name in names}, whole)
    chosen = names.index("scaled")
    assert found.four_chamber == chosen
    other = found.clips[1 - chosen]
    assert [found.clips[chosen].quality, other.quality] == [0.5, 0.9]
    assert other.reason == f"Another four-chamber clip is better: clip {chosen + 1}; its pixel spacing is unknown."


def test_the_quality_that_is_shown_is_the_one_that_clips_are_compared_by(whole, monkeypatch):
    """Of clips with a length, the chosen one has the highest."""
    draw = np.random.default_rng(0)
    parts = [
        Quality(s, 1, 1, 1, 1, n, is_measured=True, is_calibrated=True)
        for s, n in draw.uniform((0.2, 60), (1, 100), (9, 2))
    ]
    order = iter(parts)
    monkeypatch.setattr(study.analysis, "assess_quality", lambda _: next(order))
    found = run({Path(f"{i}.dcm"): ("2CH", whole) for i in range(len(parts))}, whole)
    shown = [clip.quality for clip in found.clips]
    assert found.two_chamber == int(np.argmax(shown))
    expected = [part.score * part.length / max(each.length for each in parts) for part in parts]
    assert shown == pytest.approx(expected)


def test_limits_are_said_in_words(whole):
    view = study.View.of_analysis("4CH", whole)
    slow, other = view._replace(frame_time=1 / 25, heart_rate=60.0), view._replace(name="2CH", heart_rate=80.0)
    short = view.corrected.cavity._replace(length=0.8 * view.corrected.cavity.length)
    other = other._replace(corrected=view.corrected._replace(cavity=short), corrected_frames=(3,))
    reasons = " ".join(
        f.reason for f in notes.study_findings({"2CH": other, "4CH": slow}, study.Patient("F", 170.0, None))
    )
    assert "frame rate of the four-chamber clip is 25/s, below 40/s" in reasons
    assert "heart rates of the two clips differ: 80/min (two-chamber) and 60/min" in reasons
    assert "the two-chamber view may be foreshortened" in reasons
    assert "1 outline of end-diastole or end-systole was changed" in reasons
    assert "Height or weight is unknown" in reasons
    assert "The CAMUS rule takes one length" in reasons
    assert "sex is unknown" not in reasons


def test_a_beat_without_an_axis_does_not_hide_that_a_view_is_foreshortened(whole):
    view = study.View.of_analysis("4CH", whole)
    cavity = view.corrected.cavity
    beats = cavity._replace(length=np.concatenate([0.8 * cavity.length, np.full_like(cavity.length, np.nan)]))
    short = view._replace(name="2CH", corrected=view.corrected._replace(cavity=beats))
    reasons = [f.reason for f in notes.study_findings({"2CH": short, "4CH": view}, study.Patient())]
    assert any("the two-chamber view may be foreshortened" in reason for reason in reasons)


def test_stills_whose_names_and_outlines_disagree_are_reported(whole):
    recognised, measurements = estimate("4CH"), whole.measurements._replace(end_diastole=1, end_systole=0)
    (finding,) = notes.clip_findings(None, recognised, measurements, is_pair=True)
    assert "named end-systole shows the larger ventricle" in finding.reason
    assert notes.clip_findings(None, recognised, measurements, is_pair=False) == ()
    in_order = measurements._replace(end_diastole=0, end_systole=1)
    assert notes.clip_findings(None, recognised, in_order, is_pair=True) == ()


def test_two_stills_of_one_view_cannot_be_of_two_views(whole):
    still = whole.recording._replace(frames=whole.recording.frames[:1])
    stills = {Path("p_2CH_ED.png"): ("2CH", still), Path("p_2CH_ES.png"): ("2CH", still)}
    with pytest.raises(ValueError, match="stills of one view, got 2CH and 4CH"):
        run(stills, whole, views=dict(zip(stills, ("2CH", "4CH"), strict=True)))


def test_stills_of_two_phases_are_one_clip():
    names = ["p_2CH_ED.mhd", "p_2CH_ED_gt.mhd", "p_2CH_ES.mhd", "p_2CH_ES_gt.mhd", "p_4CH_ED.mhd", "loop_edited.mp4"]
    groups = study.stills.pair_stills([Path(name) for name in names])
    assert [tuple(file.name for file in group) for group in groups] == [
        ("p_2CH_ED.mhd", "p_2CH_ES.mhd"),
        ("p_2CH_ED_gt.mhd", "p_2CH_ES_gt.mhd"),
        ("p_4CH_ED.mhd",),
        ("loop_edited.mp4",),
    ]
    stills = {
        Path(f"{phase}.png"): data.Recording(np.full((1, 40, 40), level, np.float32), (1.0, 1.0), None, "drawn")
        for phase, level in (("ED", 0.2), ("ES", 0.8))
    }
    pair = study.stills.read_pair(list(stills), stills.__getitem__)
    assert pair.frames[:, 0, 0].tolist() == pytest.approx([0.2, 0.8])
    region = data.Region((0, 40, 0, 40), data_type=1, spatial_format=1, spacing=(1.0, 1.0))
    for other, what in (({"spacing": (2.0, 1.0)}, "pixel spacing"), ({"regions": (region,)}, "ultrasound regions")):
        changed = stills | {Path("ES.png"): stills[Path("ES.png")]._replace(**other)}
        with pytest.raises(data.UnreadableFileError, match=rf"end-diastole \(ED\.png\) in its {what}") as error:
            study.stills.read_pair(list(changed), changed.__getitem__)
        assert "ED.png" not in error.value.problem
        assert f"differs from the still of end-diastole (...) in its {what}" in error.value.problem


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ((None, True), True), ((True, False), True), ((False, False), False), ((False, None), None),
        ((None, None), None),
    ],
)  # fmt: skip
def test_two_stills_keep_what_either_file_says(stated, expected):
    share = np.zeros((40, 40), np.float32)
    share[:20] = 1.0
    first, second = (
        data.Recording(np.full((1, 40, 40), 0.5, np.float32), (1.0, 1.0), None, "drawn", notes, **options)
        for notes, options in (
            (("A note.",), {"burned_in": stated[0], "coloured": share}),
            (("A note.", "Another."), {"burned_in": stated[1], "coloured": share.T, "heart_rate": 60.0}),
        )
    )
    files = {Path("ED.png"): first, Path("ES.png"): second}
    pair = study.stills.read_pair(list(files), files.__getitem__)
    assert pair.burned_in is expected
    assert pair.notes[:-1] == ("A note.", "Another.")
    assert pair.heart_rate == 60.0
    np.testing.assert_array_equal(pair.coloured, np.maximum(share, share.T))


def test_a_pair_that_differs_is_refused_without_names(whole):
    shapes = {"Mustermann_ED.png": (1, 40, 40), "Mustermann_ES.png": (1, 40, 44)}
    clips = {Path(n): ("4CH", data.Recording(np.ones(s, np.float32), None, None, "drawn")) for n, s in shapes.items()}
    found = run(clips | {Path("loop.dcm"): ("4CH", whole)}, whole)
    assert [len(clip.files) for clip in found.clips] == [2, 1]
    assert "in its frames: (1, 40, 44), (1, 40, 40)" in found.clips[0].reason
    assert "Mustermann" not in found.clips[0].reason


def test_two_loops_that_are_named_by_phase_are_two_clips(whole):
    loops = {Path(f"rest_{phase}.avi"): ("4CH", whole) for phase in ("ED", "ES")}
    found = run(loops, whole, views={Path("rest_ES.avi"): "4CH"})
    assert [clip.name for clip in found.clips] == ["rest_ED.avi", "rest_ES.avi"]
    assert [clip.analysis is not None for clip in found.clips].count(True) == 1


def test_stills_of_a_pair_are_read_once(whole):
    def read(file):
        opened.append(file.name)
        return recordings[file.name]

    loop = whole.recording
    still = loop._replace(frames=loop.frames[:1])
    recordings = {"p_ED.png": still, "p_ES.png": still, "q_ED.avi": still, "q_ES.avi": loop, "r.avi": loop}
    groups, opened = study.stills.pair_stills([Path(name) for name in recordings]), []
    separated, stills = study.stills.separate_loops(groups, read)
    assert [[file.name for file in group] for group in separated] == [
        ["p_ED.png", "p_ES.png"],
        ["q_ED.avi"],
        ["q_ES.avi"],
        ["r.avi"],
    ]
    assert opened == ["p_ED.png", "p_ES.png", "q_ED.avi", "q_ES.avi"]
    assert {file.name for file in stills} == {"p_ED.png", "p_ES.png", "q_ED.avi"}
