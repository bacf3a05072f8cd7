"""An append-only file of finished studies: after a crash at any point, a row is in it whole or not at all."""

import contextlib
import json
import os
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from cardiojax import storage
from cardiojax.data import printable


class JournalError(Exception):
    """A journal cannot be used; the message is one sentence."""

    def __init__(self, folder: Path, problem: str):
        super().__init__(printable(f"{folder} {problem}"))


class Journal:
    """Rows that have reached the disk, one line of JSON each.

    One process at a time writes to it. A line that a killed process left half written is removed.

    ::

        with Journal(folder, settings={"model": "unet_camus"}) as journal:
            if journal.states.get("a") != "3 files":
                journal.append("a", {"ejection_fraction_percent": 55.0}, state="3 files")

    Args:
        folder: Its folder, made if absent.
        settings: What the rows depend on; those of an earlier run must be the same.

    Attributes:
        states: The keys of the rows, and of each what it was made of, None if that is unknown. The last row of a key
            replaces those before.
    """

    def __init__(self, folder: str | Path, *, settings: Mapping[str, Any]):
        self._folder, self._settings = Path(folder), json.loads(storage.to_json(settings))
        self._stack = contextlib.ExitStack()
        self.states: dict[str, str | None] = {}
        self._kept: Container[str] | None = None

    def __enter__(self) -> "Journal":
        with contextlib.ExitStack() as stack:
            stack.enter_context(storage.lock_folder(self._folder))
            self._path = self._folder / storage.JOURNAL
            self._recover()
            self._file = stack.enter_context(self._path.open("ab"))
            if not self._path.stat().st_size:
                self._write({"settings": self._settings})
                _sync_folder(self._folder)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def append(self, key: str, row: Mapping[str, Any], *, state: str) -> None:
        """Writes a row; it is on the disk when this returns.

        Args:
            key: Key of the row.
            row: JSON values by column.
            state: What it was made of, such as a digest of the files.

        Raises:
            ValueError: If there is a row with this key and this state.
        """
        if self.is_current(key, state):
            raise ValueError(f"the journal holds a row of {key} already")
        self._write({"key": key, "state": state, "row": dict(row)})
        self.states[key] = state

    def is_current(self, key: str, state: str) -> bool:
        """Whether there is a row with this key that was made of the same, or of what is unknown.

        Args:
            key: Key of the row.
            state: What it would be made of now.
        """
        return key in self.states and self.states[key] in (state, None)

    def keep(self, keys: Container[str]) -> None:
        """Leaves out the rows of other keys from now on; they stay in the file.

        Args:
            keys: Those whose rows count.
        """
        self._kept = keys

    def rows(self) -> Iterator[dict[str, Any]]:
        """The last row of each key, one at a time, in the order in which they were written."""
        last = {line["key"]: number for number, line in enumerate(self._lines()) if "row" in line}
        for number, line in enumerate(self._lines()):
            if "row" in line and last[line["key"]] == number and (self._kept is None or line["key"] in self._kept):
                yield line["row"]

    def _write(self, value: Mapping[str, Any]) -> None:
        with storage.errors_naming(self._path):
            try:
                self._file.write(storage.to_json(value).encode() + b"\n")
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError:
                with contextlib.suppress(OSError):  # it tries to write once more
                    self._file.close()
                raise

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self._path.open("rb") as file:
            for line in file:
                yield json.loads(line)

    def _recover(self) -> None:
        """Removes a torn last line, reads the keys and compares the settings."""
        if not self._path.exists():
            return
        end = _end_of_last_line(self._path)
        if end < self._path.stat().st_size:
            os.truncate(self._path, end)
        with self._path.open("rb") as file:
            for number, text in enumerate(file, 1):
                try:
                    line = json.loads(text)
                    if number > 1:
                        self.states[line["key"]] = line.get("state")
                except (ValueError, KeyError, TypeError):
                    raise JournalError(self._path, f"is damaged in line {number}; delete it to start again") from None
                if number == 1 and line.get("settings") != self._settings:
                    problem = (
                        "holds rows of another archive, or of other options, other weights or another version of "
                        "cardiojax; choose another table or delete it"
                    )
                    raise JournalError(self._folder, problem)


def _end_of_last_line(path: Path) -> int:
    """Bytes up to and with the last end of a line."""
    size = path.stat().st_size
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - 2**16)
            file.seek(start)
            index = file.read(end - start).rfind(b"\n")
            if index >= 0:
                return start + index + 1
            end = start
    return 0


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system opens folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
