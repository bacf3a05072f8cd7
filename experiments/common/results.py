"""Where an experiment leaves its results."""

import json
from pathlib import Path
from typing import Any


def write_results(folder: Path, text: str, scores: Any) -> None:
    """Writes ``table.md`` and ``scores.json``.

    Args:
        folder: Made if it does not exist.
        text: The table as Markdown.
        scores: The figures, as JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(text, "utf-8")
    (folder / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", "utf-8")
