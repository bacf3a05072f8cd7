"""The page of a study: both views, its numbers with their ranges, and why each recording was chosen or not."""

import re
from pathlib import Path

import pytest

from cardiojax import runtime
from cardiojax.cli import analyze as command
from cardiojax.report.page import render_study
from cardiojax.study import CollectedFiles, Patient
from tests.helpers.browser import browser, missing
from tests.report.test_page import Page

EVIL = "<b>x</b></script>"


def written(study, **options):
    names = [f"clip {i + 1}" for i in range(len(study.clips))]
    with runtime.thread_pool(1) as pool:
        return render_study(study, pool, name=EVIL, clip_names=names, models=["unet_camus"], **options)


@pytest.fixture(scope="module")
def study(study_of, recording):
    return study_of(recording, ("a.dcm", "b.dcm", "c.dcm"), patient=Patient("F", 165.0, 60.0))


@pytest.fixture(scope="module")
def text(study):
    return written(study, others=[("clip 4", "It is no recording.")])


def test_numbers_have_ranges_and_grades(text, study):
    page = Page(text)
    tiles = [e["text"] for e in page.elements if e.get("class") == "tile"]
    fraction = study.measurements.by_key("ejection_fraction_biplane")
    assert tiles[0].startswith(f"{fraction.value:.0f}%biplane ejection fraction")
    assert "reference 54 to 74 %" in tiles[0]
    assert any("biplane ejection fraction, CAMUS rule" in tile for tile in tiles)
    assert "The CAMUS rule takes the longest length" in text
    rows = {e["text"] for e in page.all("tr")}
    assert any(row.startswith("body surface area") and "1.66 m²" in row for row in rows)
    assert "female · 165 cm · 60 kg" in text
    assert [e["text"] for e in page.all("h1")] == [EVIL]


def test_the_terminal_writes_a_number_as_the_page_does(study):
    new = {"cardiac_output": {"value": 3.6, "beats": (3.44, 4.46)}, "end_diastolic_volume_biplane": {"value": 98.5}}
    quantities = tuple(
        q._replace(reason=None, num_beats=2, beats=(98.2, 98.6))._replace(**new[q.key]) if q.key in new else q
        for q in study.measurements.quantities
    )
    study = study._replace(measurements=study.measurements._replace(quantities=quantities))
    lines = command._lines(study, CollectedFiles((), (), ()))
    assert "cardiac output 3.6 l/min (3.4 to 4.5 over the beats)" in lines
    assert any(line.startswith("biplane end-diastolic volume 99 ml (98 to 99 over") for line in lines)
    tiles = [e["text"] for e in Page(written(study)).elements if e.get("class") == "tile"]
    assert any(tile.startswith("3.6l/mincardiac output") and "3.4 to 4.5 l/min over 2" in tile for tile in tiles)
    assert any(tile.startswith("99mlbiplane end-diastolic volume") for tile in tiles)


def test_every_recording_is_listed_with_its_choice(text, study):
    rows = [
        [c.strip() for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in re.findall(r"<tr>.*?</tr>", text)
    ]
    clips = {row[0]: row[1:] for row in rows if row[0].startswith("clip")}
    assert list(clips) == ["clip 1", "clip 2", "clip 3", "clip 4"]
    assert clips["clip 1"][0] == "Two-chamber view (100 %)"
    assert clips["clip 2"][2].startswith("chosen: The best of 2")
    assert clips["clip 3"][2].startswith("Another four-chamber clip is better")
    assert clips["clip 4"] == ["", "", "It is no recording."]
    assert study.clips[2].analysis is None


def test_a_study_of_one_view_shows_the_numbers_of_that_view(study_of, recording):
    study = study_of(recording, ("b.dcm", "d.dcm"))
    page = Page(written(study))
    tiles = [e["text"] for e in page.elements if e.get("class") == "tile"]
    assert len(tiles) == 6
    assert "ejection fraction, four-chamber" in tiles[0]
    assert not any("not measured" in tile for tile in tiles[:5])
    missing_numbers = next(e["text"] for e in page.elements if e.get("id") == "missing")
    assert "biplane ejection fraction" in missing_numbers
    assert "There is no two-chamber clip." in missing_numbers
    assert "It shows no apical view." in page.all("body")[0]["text"]
    assert [e for e in page.elements if e.get("class") == "linked"] == []
    assert len([e for e in page.elements if "panel" in (e.get("class") or "").split()]) == 1


def test_a_still_shows_the_numbers_of_its_frame(study_of, recording):
    study = study_of(recording, ("e.dcm",), views={Path("e.dcm"): "2CH"})
    page = Page(written(study))
    tiles = [e["text"] for e in page.elements if e.get("class") == "tile"]
    assert tiles[0].startswith(f"{study.clips[0].analysis.measurements.lv_area[0] / 100:.1f}cm²LV area")
    assert page.all("h1")[0]["text"] == "clip 1"


@pytest.fixture(params=[375, 1280])
def shown(request, text, tmp_path):
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    path = tmp_path / "report.html"
    path.write_text(text, "utf-8")
    with browser() as session:
        session.open(path, width=request.param, height=800, prefers_reduced_motion="reduce")
        session.wait("return document.documentElement.classList.contains('js')")
        yield session
        assert session.messages() == []


def frames(page):
    texts = page.run("return [...document.querySelectorAll('.status')].map(s => s.textContent)")
    return [int(re.match(r"frame (\d+)", text)[1]) for text in texts]


def test_both_views_move_in_phase(shown):
    assert shown.run("return document.documentElement.scrollWidth <= innerWidth")
    assert frames(shown) == [0, 0]
    slider = "const s = document.querySelector('.linked input[type=range]'); "
    for phase, expected in ((50, 4), (100, 8), (150, 12), (200, 16)):
        shown.run(f"{slider} s.value = {phase}; s.dispatchEvent(new Event('input', {{bubbles: true}}))")
        assert frames(shown) == [expected, expected]
    assert shown.run("return document.querySelector('.linked output').textContent") == "diastole, 100 %"
    shown.run("document.querySelector('#panel-1 .stage').focus()")
    shown.press("s", "ArrowRight")  # of the second view; the first one follows
    assert frames(shown) == [9, 9]
    shown.click(".linked input[type=checkbox]")
    shown.run("document.querySelector('#panel-1 .stage').focus()")
    shown.press("ArrowRight")
    assert frames(shown) == [9, 10]
    shown.click(".linked input[type=checkbox]")
    shown.run("document.activeElement.blur()")
    shown.press("Space")
    shown.wait("return document.querySelector('.linked button').textContent === 'Pause'")
    shown.wait("return document.querySelector('.status').textContent.startsWith('frame 12')")
    shown.press("Space")
    assert shown.run("return document.querySelector('.linked button').textContent") == "Play both"


def test_the_views_are_beside_each_other_where_there_is_room(shown):
    tops, width = shown.run(
        "return [[...document.querySelectorAll('.stage')].map(s => s.getBoundingClientRect().top), innerWidth]"
    )
    assert (abs(tops[0] - tops[1]) < 2) == (width > 900)
