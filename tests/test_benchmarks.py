"""The benchmark harness: its page, its JSON, and ratios only where every baseline ran."""

import json
import math

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks.harness import Section, Timing, ratio_to_best, save
from benchmarks.system import gpu


def test_a_ratio_needs_every_baseline():
    timings = {name: Timing(name=name, median=median) for name, median in (("cardiojax", 1.0), ("a", 2.0), ("b", 4.0))}
    assert ratio_to_best(timings) == 0.5
    assert ratio_to_best({**timings, "c": Timing(name="c", note="ModuleNotFoundError")}) is None
    assert ratio_to_best({"cardiojax": timings["cardiojax"]}) is None


def test_results_are_json_without_nan_and_say_where_they_come_from(tmp_path):
    section = Section(title="t", text="x", data={"timings": [{"name": "a", "median": math.nan}]}, ratio=0.5)
    for _ in range(4):
        save("surface", "", section, folder=tmp_path)
    written = json.loads((tmp_path / "surface.json").read_text(), parse_constant=pytest.fail)
    assert written["data"]["timings"][0]["median"] is None
    assert written["ratios"] == [0.5] * 3
    assert {"backend", "device", "commit", "date", "versions"} <= set(written["machine"])


def test_sections_that_were_not_measured_stay(tmp_path):
    page = tmp_path / "RESULTS.md"
    page.write_text("# Results\n\nIntro.\n\n## Other\n\nkept\n\n## Surface\n\nold\n")
    save("surface", "", Section(title="Surface", text="new", data={}), folder=tmp_path)
    text = command.render(tmp_path, page).read_text()
    assert text.startswith("# Results\n\nIntro.\n\n## Other\n\nkept\n\n## Surface\n\nnew\n")
    assert "old" not in text
    assert command.render(tmp_path, page).read_text() == text


def test_two_results_compared(tmp_path):
    for name, median in (("old", 2.0), ("new", 1.0)):
        data = {"timings": [{"name": "cardiojax", "median": median}]}
        save(name, "", Section(title="t", text="", data=data), folder=tmp_path)
    assert "| cardiojax | 2 | 1 | 0.50 |" in command.compare(tmp_path / "old.json", tmp_path / "new.json")


def test_difference_between_two_devices():
    here = [np.array([1.0, -4.0, np.nan], np.float32), np.array([2.0], np.float32)]
    there = [np.array([1.0, -4.1, np.nan], np.float32), np.array([2.0], np.float32)]
    assert gpu.difference(here, there)["relative"] == pytest.approx(0.1 / 4.1, rel=1e-4)
    assert gpu.difference(here[1], np.array([np.nan], np.float32))["relative"] == math.inf
    assert gpu.difference(np.array([True, False]), np.array([True, True])) == {"relative": None, "different": 1}
    infinite = np.array([np.inf], np.float32)
    assert gpu.difference(infinite, -infinite)["relative"] == math.inf
    assert gpu.difference(infinite, infinite)["relative"] == 0
    zeros = np.zeros(2, np.float32)
    assert gpu.difference((zeros, np.arange(2)), (zeros, np.arange(2))) == {"relative": 0, "different": 0}


def test_figures_of_a_gpu_are_not_made_on_a_cpu():
    with pytest.raises(SystemExit, match="no GPU"):
        gpu.PARTS["agreement"]()
