"""The table of the numbers of a study. ``python -m tests.helpers.clinical_numbers`` writes it into the docs."""

import re
from pathlib import Path

from cardiojax.study.precision import PRECISION
from cardiojax.study.quantities import DEFINITIONS

PAGE = Path(__file__).parents[2] / "docs" / "clinical_numbers.md"


def table() -> str:
    """Every number with its unit, formula, source and the half-width of its interval, as Markdown."""
    lines = ["| key | number | unit | formula | source | agreement with an expert: bias, ± 1.96 SD |", "|---" * 6 + "|"]
    for key, definition in DEFINITIONS.items():
        interval = "not measured"
        if key in PRECISION:
            bias, deviation = PRECISION[key]
            interval = f"{bias:+.2g}, ± {1.96 * deviation:.2g}"
        row = (f"`{key}`", definition.name, definition.unit, definition.method, definition.source, interval)
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def write_table() -> None:
    """Replaces the table in the page."""
    page = re.sub(r"\| key \|.*?\n(?=\n)", lambda _: table(), PAGE.read_text("utf-8"), count=1, flags=re.S)
    PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    write_table()
