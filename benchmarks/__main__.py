"""Runs every benchmark and writes ``benchmarks/RESULTS.md`` with a plot beside it.

Run: ``python -m benchmarks [NAME ...]``
"""

import importlib
import sys
from pathlib import Path

from benchmarks.harness import machine, save

SCRIPTS = (
    "unet",
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


def plot(sections: dict) -> None:
    """Draws ours and the best peer of the paired runs."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    rows = []
    for mode in ("train step", "forward"):
        for timing in sections["unet"].data[mode]["timings"]:
            if not timing["note"]:
                rows.append((f"{mode}: {timing['name']}", 1e3 * timing["median"] / 4, timing["name"] == "cardiojax"))
    figure = Figure(figsize=(8, 0.4 * len(rows) + 1), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.barh([r[0] for r in rows], [r[1] for r in rows], color=["#0072b2" if r[2] else "#b0b0b0" for r in rows])
    axes.invert_yaxis()
    axes.set(xlabel="ms an image", title=sections["unet"].title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "results.svg", metadata={"Date": None})


def main() -> None:
    """Runs what is named on the command line, or all."""
    names = sys.argv[1:] or SCRIPTS
    sections = {}
    for name in names:
        print(f"{name} ...", flush=True)
        sections[name] = importlib.import_module(f"benchmarks.{name}").run()
        save(name, sections[name])
        print(sections[name].text, flush=True)
    if set(names) == set(SCRIPTS):
        plot(sections)
        facts = machine()
        place = f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}"
        head = f"# Results\n\n{place}. Made by `python -m benchmarks`.\n"
        body = "\n".join(f"\n## {s.title}\n\n{s.text}" for s in sections.values())
        (HERE / "RESULTS.md").write_text(f"{head}\n![ours and PyTorch](results.svg)\n{body}\n")


if __name__ == "__main__":
    main()
