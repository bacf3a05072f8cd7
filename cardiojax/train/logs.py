"""Where a run writes its numbers: a line of JSON and a TensorBoard event per record."""

import contextlib
import json
from pathlib import Path
from typing import Any

from cardiojax import storage


class MetricLog:
    """Scalars by step, in ``metrics.jsonl`` and in TensorBoard's format.

    Args:
        directory: The run's folder; None for no log.
        resume_step: Records after this step are dropped, since a resumed run writes them again.
    """

    def __init__(self, directory: str | Path | None, *, resume_step: int = 0):
        self._path: Path | None = None
        if directory is None:
            return
        from tensorboardX import SummaryWriter

        directory = Path(directory)
        self._path = directory / "metrics.jsonl"
        kept = [r for r in read_log(directory) if r["step"] <= resume_step]
        storage.write_atomic(self._path, "".join(storage.to_json(r) + "\n" for r in kept))
        self._file = self._path.open("a")
        self._writer = SummaryWriter(str(directory / "tensorboard"), purge_step=resume_step + 1)

    def write(self, step: int, **values: float) -> None:
        """Appends one record.

        Args:
            step: Training step.
            **values: Scalars by name.

        Raises:
            OSError: If the file cannot be written; the sentence names it.
        """
        if self._path is None:
            return
        try:
            self._file.write(storage.to_json({"step": step, **values}) + "\n")
            self._file.flush()
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def close(self) -> None:
        """Closes the files. What could not be written has been reported by `write`."""
        for file in () if self._path is None else (self._file, self._writer):
            with contextlib.suppress(OSError):
                file.close()


def read_log(directory: str | Path) -> list[dict[str, Any]]:
    """Reads the records of a run; a last line cut short by a kill is dropped.

    Args:
        directory: The run's folder.

    Returns:
        Records in the order written, empty if there are none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(read_log(folder))
        []
    """
    path = Path(directory) / "metrics.jsonl"
    records = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            break
        records.append(record)
    return records
