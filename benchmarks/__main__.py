"""Runs every benchmark, or those that are named, and writes ``benchmarks/RESULTS.md`` with a plot beside it.

Each script runs alone too, whole or in parts; what it finds is kept in ``benchmarks/results/``, from which the page is
made, so that the lot can be measured in pieces and one piece again.

Run: ``python -m benchmarks [NAME ...]``, or ``python -m benchmarks.NAME [PART ...]``; ``python -m benchmarks --render``
writes the page from what there is.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, save

SCRIPTS = (
    "unet",
    "breakdown",
    "models",
    "blocks",
    "anatomy",
    "surface",
    "rejection_sampling",
    "temporal",
    "uncertainty",
    "adaptation",
    "phantom",
    "data",
    "startup",
    "scaling",
    "roofline",
)
HERE = Path(__file__).parent


def found() -> dict[str, list[dict[str, Any]]]:
    """What the scripts found, part by part in the order in which they would run."""
    pages = {}
    for name in SCRIPTS:
        parts = importlib.import_module(f"benchmarks.{name}").PARTS
        paths = [RESULTS / f"{name}{'.' if part else ''}{part.replace(' ', '-')}.json" for part in parts]
        pages[name] = [json.loads(path.read_text()) for path in paths if path.exists()]
    return {name: parts for name, parts in pages.items() if parts}


def render() -> Path:
    """Writes the page and the plot.

    Returns:
        The page.
    """
    pages = found()
    lines = ["# Results", "", "Made by `python -m benchmarks`; medians of paired runs, ours and the peer in turn."]
    machines = []
    for part in (part for parts in pages.values() for part in parts):
        machines += [] if part["machine"] in machines else [part["machine"]]
    for facts in machines:
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        lines += ["", f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {versions}."]
    if "unet" in pages:
        _plot(pages["unet"])
        lines += ["", "![U-Net, ours and PyTorch](results.svg)"]
    for name, parts in pages.items():
        lines += ["", f"## {parts[0]['title']}"]
        for part in parts:
            lines += ["", part["text"].strip()]
            ratios = [f"{ratio:.2f}" for ratio in part["ratios"]]
            if ratios:
                runs = f", in {len(ratios)} paired runs" if len(ratios) > 1 else ""
                lines += ["", f"Ours over the best peer{runs}: **{', '.join(ratios)}**"]
        note = getattr(importlib.import_module(f"benchmarks.{name}"), "NOTE", None)
        lines += ["", note.strip()] if note else []
    page = HERE / "RESULTS.md"
    page.write_text("\n".join(lines) + "\n")
    return page


def _plot(parts: list[dict[str, Any]]) -> None:
    """Draws ours and PyTorch's milliseconds an image."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.6 * len(parts) + 0.6), layout="constrained")
    FigureCanvasSVG(figure)
    for axes, part in zip(figure.subplots(len(parts), 1, squeeze=False)[:, 0], parts, strict=True):
        timings = [t for t in part["data"]["timings"] if not t["note"]]
        names = [t["name"] for t in timings]
        colours = ["#0072b2" if name.startswith("cardiojax") else "#b0b0b0" for name in names]
        axes.barh(names, [1e3 * t["median"] / 4 for t in timings], color=colours)
        axes.invert_yaxis()
        axes.set_title(part["text"].split(":", 1)[0], loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("ms an image")
    with rc_context({"svg.hashsalt": "cardiojax"}):
        figure.savefig(HERE / "results.svg", metadata={"Date": None})


def main() -> None:
    """Runs what is named on the command line, or all."""
    names = [] if sys.argv[1:] == ["--render"] else sys.argv[1:] or SCRIPTS
    for name in names:
        for part, run in importlib.import_module(f"benchmarks.{name}").PARTS.items():
            print(f"{name} {part}...", flush=True)
            section = run()
            save(name, part, section)
            print(section.text, flush=True)
    print(render())


if __name__ == "__main__":
    main()
