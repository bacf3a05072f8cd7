"""The page in a browser: keys, slider, layers and curves, at the widths of a telephone and of a desk."""

import re

import numpy as np
import pytest

from cardiojax import report
from cardiojax.analysis import recording as analysis
from tests.helpers.browser import browser, missing

WIDTHS = {375: 812, 1280: 800}

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def written(corrected_beat, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "report"
    return report.write_report(corrected_beat, folder, config=analysis.AnalyzeConfig(), name="loop")


@pytest.fixture(scope="module")
def chromium():
    with browser() as session:
        yield session


@pytest.fixture(params=WIDTHS)
def page(request, chromium, written):
    """The page, not playing; nothing that it did was refused or went wrong."""
    chromium.open(written, width=request.param, height=WIDTHS[request.param], prefers_reduced_motion="reduce")
    chromium.wait("return document.documentElement.classList.contains('js')")
    yield chromium
    assert chromium.messages() == []


def status(page):
    return page.run("return document.querySelector('.status').textContent")


def frame(page):
    return int(re.match(r"frame (\d+)", status(page))[1])


def outlines(page, layer):
    return page.run(
        "return [...document.querySelectorAll('.stage path.' + arguments[0])].filter(p => p.getAttribute('d')).length",
        layer,
    )


def test_the_first_frame_is_end_diastole(page):
    assert status(page) == "frame 0 · 0.00 s · end-diastole"
    assert page.run("return document.querySelector('.badge').textContent") == "ED"


def test_nothing_is_wider_than_the_screen(page):
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    first = page.run("return document.querySelector('.stage').getBoundingClientRect().top")
    assert first < 500, "the loop begins on the first screen, after the numbers"


def test_keys_step_jump_and_play(page):
    for keys, expected in (
        (["ArrowRight"], 1),
        (["ArrowRight", "ArrowRight"], 3),
        (["ArrowLeft"], 2),
        (["End"], 16),
        (["ArrowRight"], 0),
        (["ArrowLeft"], 16),
        (["Home"], 0),
        (["s"], 8),
        (["d"], 0),
    ):
        page.press(*keys)
        assert frame(page) == expected, keys
    page.press("Space")
    page.wait("return document.querySelector('.status').textContent.startsWith('frame 3')")
    assert page.run("return document.querySelector('.status').getAttribute('aria-live')") == "off"
    page.press("Space")
    assert page.run("return document.querySelector('[data-act=play]').textContent") == "Play"
    assert page.run("return document.querySelector('.status').getAttribute('aria-live')") == "polite"
    stopped = frame(page)
    page.run("return new Promise(done => setTimeout(done, 200))")
    assert frame(page) == stopped


def test_the_slider_moves_the_frame_and_says_which(page):
    slider = "const s = document.querySelector('.panel input[type=range]'); "
    page.run(f"{slider} s.value = 8; s.dispatchEvent(new Event('input', {{bubbles: true}}))")
    assert frame(page) == 8
    assert page.run(f"{slider} return s.getAttribute('aria-valuetext')") == "frame 8, 0.40 s, end-systole"
    page.run(f"{slider} s.focus()")
    page.press("ArrowRight")  # by the slider itself, once
    assert frame(page) == 9
    page.press("Home")
    assert frame(page) == 0


def test_layers_are_shown_and_hidden_by_keys_and_buttons(page):
    def layers():
        return [outlines(page, name) for name in ("predicted", "anatomical", "final")]

    assert layers() == [0, 0, 3]
    page.press("1", "2", "3")
    assert layers() == [3, 3, 0]
    page.click("[data-act=predicted]")
    assert layers() == [0, 3, 0]
    pressed = "return document.querySelector('[data-act=anatomical]').getAttribute('aria-pressed')"
    assert page.run(pressed) == "true"
    before = pixels(page)
    page.press("u")
    assert not np.array_equal(pixels(page), before)
    page.press("u")
    assert np.array_equal(pixels(page), before)
    page.press("Space", "Space")  # the focus left the button: the key plays and pauses
    assert layers() == [0, 3, 0]


def pixels(page):
    """The picture once it is decoded, read from a copy."""
    script = """const shown = document.querySelector('canvas'), copy = document.createElement('canvas');
        [copy.width, copy.height] = [shown.width, shown.height];
        const context = copy.getContext('2d', {willReadFrequently: true});
        context.drawImage(shown, 0, 0);
        return [...context.getImageData(0, 0, copy.width, copy.height).data]"""
    page.wait(f"const data = (() => {{{script}}})(); return data.some(v => v > 60 && v < 250)")
    return np.array(page.run(script))


def test_a_corrected_frame_shows_both_outlines_and_says_so(page):
    page.press("1", "ArrowRight", "ArrowRight", "ArrowRight")
    assert "anatomical correction of" in status(page)
    paths = [
        page.run("return document.querySelector('.stage path.lv.' + arguments[0]).getAttribute('d')", layer)
        for layer in ("predicted", "final")
    ]
    assert paths[0].count("z") == 2  # the hole
    assert paths[1].count("z") == 1
    page.press("ArrowRight")
    same = "return document.querySelector('.stage path.lv.' + arguments[0]).getAttribute('d')"
    assert page.run(same, "predicted") == page.run(same, "final")


def test_pointing_at_a_curve_moves_the_frame(page):
    for share, expected in ((0.5, 8), (0.98, 16), (0.02, 0)):
        page.point(".chart svg", share)
        assert abs(frame(page) - expected) <= 1
    value = page.run("return document.querySelector('.chart output').textContent")
    assert re.fullmatch(r"\d+\.\d cm²", value)


def test_curves_show_beats_phases_and_corrected_frames(page):
    chart = "return document.querySelectorAll('.chart:first-of-type {}').length"
    page.wait(chart.format(".curve.final"))
    counts = [page.run(chart.format(c)) for c in (".curve.predicted", ".beat", ".systole", ".changed", ".replaced")]
    assert counts == [1, 1, 1, 1, 0]
    names = page.run("return [...document.querySelectorAll('.chart:first-of-type text.phase')].map(t => t.textContent)")
    assert names == ["ED", "ES"]


def test_the_page_prints_stills_and_tables_without_the_player(page):
    page.command("Emulation.setEmulatedMedia", media="print")
    shown = {
        selector: page.run("return getComputedStyle(document.querySelector(arguments[0])).display !== 'none'", selector)
        for selector in (".panel", ".stills", "table", ".chart")
    }
    page.command("Emulation.setEmulatedMedia", media="")
    assert shown == {".panel": False, ".stills": True, "table": True, ".chart": True}


def test_without_a_script_the_numbers_and_the_stills_are_shown(page, written, tmp_path):
    plain = tmp_path / "plain.html"
    plain.write_text(re.sub(r"<script>.*?</script>", "", written.read_text("utf-8"), flags=re.S), "utf-8")
    page.open(plain, width=1280, height=800)
    visible = "return arguments[0].map(s => document.querySelector(s).getClientRects().length > 0)"
    assert page.run(visible, [".tile", ".stills svg", ".panel"]) == [True, True, False]


def test_a_script_from_elsewhere_does_not_run(page, written, tmp_path):
    changed = tmp_path / "changed.html"
    changed.write_text(written.read_text("utf-8").replace("<main>", "<main><script>window.ran = 1</script>"), "utf-8")
    page.open(changed, width=1280, height=800)
    assert page.run("return window.ran") is None
    assert any("Content Security Policy" in message for message in page.messages())
