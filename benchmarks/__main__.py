"""Runs benchmarks and writes their results into ``benchmarks/RESULTS.md``, with a plot beside it.

Each script runs alone too, whole or in parts. Results are kept in ``benchmarks/results/`` as JSON; a section of the
page is replaced when its script has results there, all others stay.

All but ``gpu`` run if none is named.

Run: ``python -m benchmarks [NAME ...]``, ``--list``, ``--render``, ``--compare OLD NEW``, or
``python -m benchmarks.FOLDER.NAME [PART ...]``
"""

import argparse
import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.harness import RESULTS, describe, save

#: The folder of each script, in the order of the page.
SCRIPTS = {
    "unet": "networks",
    "breakdown": "networks",
    "models": "networks",
    "lite_medsam": "networks",
    "blocks": "networks",
    "anatomy": "methods",
    "correction": "methods",
    "vmapped": "methods",
    "surface": "methods",
    "rejection_sampling": "methods",
    "temporal": "methods",
    "uncertainty": "methods",
    "adaptation": "methods",
    "phantom": "system",
    "data": "system",
    "startup": "system",
    "uses": "system",
    "scaling": "system",
    "sizes": "system",
    "roofline": "system",
    "gpu": "system",
}
HERE = Path(__file__).parent
_INTRO = "# Results\n\nMade by `python -m benchmarks`; medians of paired runs, ours and the baseline in turn."


def render(results: Path = RESULTS, page: Path = HERE / "RESULTS.md") -> Path:
    """Writes the sections that have results into the page; the other sections stay as they are.

    Args:
        results: Folder of what `save` wrote.
        page: The page.

    Returns:
        The page.
    """
    intro, sections = _split(page.read_text()) if page.exists() else (_INTRO, {})
    order = list(sections)
    for name in SCRIPTS:
        module = _load(name)
        paths = [results / f"{name}{'.' if part else ''}{part.replace(' ', '-')}.json" for part in module.PARTS]
        parts = [json.loads(path.read_text()) for path in paths if path.exists()]
        if not parts:
            continue
        title = parts[0]["title"]
        if title not in sections:
            order.append(title)
        sections[title] = _section(parts, getattr(module, "NOTE", None))
        if name == "unet":
            _plot(parts)
    written = [f"\n## {title}\n\n{sections[title].strip()}" for title in order]
    page.write_text("\n".join([intro.strip(), *written]) + "\n")
    return page


def _load(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{SCRIPTS[name]}.{name}")


def _split(text: str) -> tuple[str, dict[str, str]]:
    """The introduction of a page, and the text of each section by its title."""
    intro, *rest = text.split("\n## ")
    return intro, dict(part.split("\n", 1) for part in rest)


def _section(parts: list[dict[str, Any]], note: str | None) -> str:
    """The Markdown of the parts of one script."""
    lines = []
    for part in parts:
        lines += [part["text"].strip(), ""]
        ratios = [f"{ratio:.2f}" for ratio in part["ratios"]]
        if ratios:
            runs = f", in {len(ratios)} paired runs" if len(ratios) > 1 else ""
            lines += [f"Ours over the best baseline{runs}: **{', '.join(ratios)}**", ""]
        lines += [f"<sub>{describe(part['machine'])}</sub>", ""]
    return "\n".join([*lines, *([note.strip()] if note else [])])


def compare(old: Path, new: Path) -> str:
    """A table of the medians of two results of one benchmark.

    Args:
        old: A file that `save` wrote.
        new: Another of the same part.

    Returns:
        Markdown.
    """
    before, after = (
        {timing["name"]: timing["median"] for timing in json.loads(path.read_text())["data"]["timings"]}
        for path in (old, new)
    )
    rows = [
        f"| {name} | {before[name]:.4g} | {after[name]:.4g} | {after[name] / before[name]:.2f} |"
        for name in before
        if before[name] and after.get(name)
    ]
    return "\n".join(["| median, s | old | new | new / old |", "|---|---|---|---|", *rows])


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
    """Runs benchmarks and writes their results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; all if none is named")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and their parts")
    parser.add_argument("--render", action="store_true", help="write the page from the results there are")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="DIR", help="folder of the results")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"), help="compare two result files")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(SCRIPTS))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(SCRIPTS)}")
    if options.list:
        for name in SCRIPTS:
            module = _load(name)
            print(f"{name:<20}{', '.join(filter(None, module.PARTS))}")
        return
    if options.compare:
        print(compare(*options.compare))
        return
    everywhere = [name for name in SCRIPTS if name != "gpu"]
    for name in () if options.render else options.names or everywhere:
        for part, run in _load(name).PARTS.items():
            print(f"{name} {part}...", flush=True)
            section = run()
            save(name, part, section, folder=options.json)
            print(section.text, flush=True)
    print(render(options.json))


if __name__ == "__main__":
    main()
