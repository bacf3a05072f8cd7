"""Where an experiment leaves its results."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cardiojax import storage


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


class KeptScores:
    """Scores by name in a JSON file: a command that is called again measures only those that are missing.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        self._path = path
        self.values: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def measure(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The scores of a name, measured and written if there are none.

        Args:
            name: Of what is scored.
            measure: Returns its scores.
        """
        if name not in self.values:
            self.values[name] = measure()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            storage.write_atomic(self._path, json.dumps(self.values, indent=2) + "\n")  # read again, NaN included
            print(name, json.dumps(self.values[name]), flush=True)
        return self.values[name]
