"""Where a run writes its numbers: a line of JSON and a TensorBoard event per record."""

import json
from pathlib import Path
from typing import Any


class MetricLog:
    """Scalars by step, in ``metrics.jsonl`` and in TensorBoard's format.

    Args:
        directory: The run's folder.
        resume_step: Records after this step are dropped, since a resumed run writes them again.
    """

    def __init__(self, directory: str | Path, *, resume_step: int = 0):
        from tensorboardX import SummaryWriter

        directory = Path(directory)
        self._path = directory / "metrics.jsonl"
        kept = [r for r in read_log(directory) if r["step"] <= resume_step]
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(r) + "\n" for r in kept))
        temporary.replace(self._path)
        self._file = self._path.open("a")
        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=resume_step + 1)

    def write(self, step: int, **values: float) -> None:
        """Appends one record.

        Args:
            step: Training step.
            **values: Scalars by name.
        """
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        self._writer.close()


def read_log(directory: str | Path) -> list[dict[str, Any]]:
    """Reads the records of a run; a last line cut short by a kill is dropped.

    Args:
        directory: The run's folder.

    Returns:
        Records in the order written, empty if there are none.
    """
    path = Path(directory) / "metrics.jsonl"
    records = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
