"""The page of a report: complete in itself, nothing injected, every control labelled."""

import base64
import hashlib
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from cardiojax import report
from cardiojax.analysis import recording as analysis
from cardiojax.report import figures, panel, pictures
from tests.helpers.shapes import apical_view

EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>$data.dcm"
VOID = {"meta", "link", "input", "br", "hr", "img"}


class Page(html.parser.HTMLParser):
    """The elements of a page with their attributes and texts; asserts that each is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append({"tag": tag, "text": "", "inside": [e["tag"] for e in self.open], **attributes})
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", "inside": [e["tag"] for e in self.open], **dict(attrs)})

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag):
        return [element for element in self.elements if element["tag"] == tag]


@pytest.fixture(scope="module")
def text(corrected_beat, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "report"
    page = report.write_report(corrected_beat, folder, config=analysis.AnalyzeConfig(), name=EVIL)
    return page.read_text("utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_nothing_outside_the_page_is_named(page, text):
    addresses = [e[key] for e in page.elements for key in ("src", "href", "action", "srcset", "data") if e.get(key)]
    assert addresses
    assert [a for a in addresses if not a.startswith(("data:image/webp;base64,", "data:,", "#"))] == []
    assert "@import" not in text
    assert "url(" not in text
    assert [e for e in page.elements for key in e if key.startswith("on") or key == "style"] == []


def test_the_policy_allows_this_script_and_style_only(page):
    policy = next(e["content"] for e in page.all("meta") if e.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("style", "script"):
        (own,) = [e for e in page.all(tag) if e.get("type") != "application/json"]
        digest = base64.b64encode(hashlib.sha256(own["text"].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_a_name_injects_nothing(page, text):
    assert page.all("h1")[0]["text"] == EVIL
    assert page.all("img") == []
    assert len(page.all("script")) == 2
    assert "onerror=alert(1)>" not in text


def test_every_control_has_a_label(page):
    for element in page.elements:
        if element["tag"] in ("button", "a", "summary"):
            assert element.get("aria-label") or element["text"].strip(), element
        elif element["tag"] in ("input", "select"):
            assert element.get("aria-label") or "label" in element["inside"], element
        elif element["tag"] in ("canvas", "svg"):
            is_hidden = element.get("aria-hidden") == "true"
            assert is_hidden or (element.get("role") == "img" and element.get("aria-label")), element
    assert [e["aria-live"] for e in page.elements if "aria-live" in e] == ["polite"]
    identifiers = [e["id"] for e in page.elements if e.get("id")]
    assert len(identifiers) == len(set(identifiers))


def test_the_data_are_those_of_the_analysis(page, corrected_beat):
    data = json.loads(next(e["text"] for e in page.all("script") if e.get("type")))
    assert data["frames"] == list(range(17))
    assert len(data["images"]) == len(data["uncertainty"]) == len(data["notes"]) == 17
    picture = Image.open(io.BytesIO(base64.b64decode(data["images"][0])))
    assert picture.size == (data["width"], data["height"]) == (180, 150)
    assert data["aspect"] == 1.6
    assert data["phases"] == {"end_diastole": 0, "end_systole": 8}
    assert data["beat"] == [0, 8, 16]
    assert all(data["outlines"]["predicted"])
    for layer, changed in (("anatomical", [3]), ("final", [])):  # the others are as in the layer before
        assert [t for t, paths in enumerate(data["outlines"][layer]) if paths] == changed
    assert [t for t, share in enumerate(data["changed"]) if share] == [3]
    assert data["notes"][3].startswith("anatomical correction of ")
    titles = [curve["title"] for curve in data["curves"]]
    assert titles == ["LV area", "LV volume, single plane", "LV length", "longitudinal strain, mid-wall"]
    area = data["curves"][0]
    np.testing.assert_allclose(area["values"], corrected_beat.measurements.lv_area / 100, atol=1e-3)
    assert [t for t in range(17) if area["values"][t] != area["predicted"][t]] == [3]


def test_each_number_is_shown_before_and_after_the_corrections(page, corrected_beat):
    cells = [re.sub(r"\s+", " ", e["text"]) for e in page.all("tr")]
    before = corrected_beat.predicted.measurements.ejection_fraction
    after = corrected_beat.measurements.ejection_fraction
    assert any(f"{after:.0f} %{before:.0f} %" in cell for cell in cells)
    assert any("1 of 17 frames corrected" in e["text"] for e in page.all("p"))


def test_frames_and_pixels_are_described_by_width_and_height(text):
    assert "17 frames of 260 x 200 · pixels of 0.500 x 0.800 mm" in text


def test_outlines_run_along_the_borders():
    rows, cols = (np.mgrid[:90, :80] + 0.5) / np.array([90, 80])[:, None, None]
    labels = apical_view(rows - 0.65, cols - 0.5, cavity=(0.4, 0.2), wall=(0.06, 0.06), atrium=(0.1, 0.12, 0.12))
    (paths,) = pictures.outline_paths(labels[None])
    for path, (members, _) in zip(paths, figures.OUTLINES.values(), strict=True):
        assert path.count("M") == path.count("z") == 1
        start, steps = re.fullmatch(r"M(\S+ \S+)l(.*)z", path).groups()
        numbers = [int(n) for n in re.findall(r"-?\d+", f"{start} {steps}")]
        points = np.cumsum(np.reshape(numbers, (-1, 2)), 0) / pictures.PATH_SCALE
        x, y = np.vstack([points, points[:1]]).T
        area = abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
        assert area == pytest.approx(np.isin(labels, members).sum(), rel=0.02)


def test_a_structure_at_the_edge_has_a_closed_outline():
    assert [path.count("z") for path in pictures.outline_paths(np.ones((1, 20, 20), np.int32))[0]] == [1, 1, 0]


def test_a_long_loop_is_thinned_out_but_keeps_its_phases():
    assert pictures.choose_frames(300, [1, 5], most=120) == sorted({*range(0, 300, 3), 1, 5})
    assert pictures.choose_frames(17, [3], most=120) == list(range(17))


def test_a_page_says_if_not_all_frames_are_shown(corrected_beat, tmp_path, monkeypatch):
    monkeypatch.setattr(panel, "_MAX_FRAMES", 6)
    page = report.write_report(corrected_beat, tmp_path / "r", config=analysis.AnalyzeConfig(), name="x")
    assert "7 of 17 frames are shown" in page.read_text("utf-8")  # every third, and end-systole


def test_the_colours_of_the_page_are_those_of_the_figures(text):
    colours = ["#" + bytes(colour).hex() for _, colour in figures.OUTLINES.values()]
    assert re.findall(r"--(?:lv|epicardium|atrium): (#\w+);", text) == colours
