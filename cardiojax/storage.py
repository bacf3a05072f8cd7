"""Files that are written whole or not at all, and folders that one process at a time writes to."""

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None


#: Lists the files of a folder that this package wrote, with the SHA-256 of each.
MANIFEST = ".cardiojax.json"
#: Name of the file that holds the rows of a table until it is written, and the end of the name of its folder.
JOURNAL, JOURNAL_SUFFIX = "journal.jsonl", ".journal"
#: Names of the files that `write_atomic` writes before they take the target's name.
_TEMPORARY = re.compile(r"\.\d+\.[0-9a-f]{8}\.tmp")
#: Age in seconds after which such a file is that of a killed process.
_ABANDONED = 3600.0


class FolderInUseError(OSError):
    """Another process writes to a folder."""


def user_cache_folder() -> Path:
    """The folder of what the user need not keep: converted weights and compiled programs.

    Returns:
        ``CARDIOJAX_CACHE`` from the environment, else ``cardiojax`` in ``XDG_CACHE_HOME`` if that is absolute, or in
        ``~/.cache``.

    Raises:
        RuntimeError: If there is no home folder.
    """
    if own := os.environ.get("CARDIOJAX_CACHE"):
        return Path(own).expanduser().resolve()
    general = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (general if general.is_absolute() else Path.home() / ".cache") / "cardiojax"


def write_atomic(path: str | Path, content: bytes | str) -> None:
    """Writes a file so that a reader, or a crash, sees the old content or the new one and nothing between.

    The content goes to a hidden file beside the target, reaches the disk and then takes the target's name. A link is
    followed; a device or a pipe is written to directly. Hidden files that killed processes left there are removed.

    Args:
        path: Target file; its folder must exist.
        content: What it holds afterwards; text is encoded as UTF-8.

    Raises:
        OSError: If it cannot be written; the target is as before and nothing is left beside it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomic(Path(folder) / "table.md", "| a |")
        ...     (Path(folder) / "table.md").read_text(), os.listdir(folder)
        ('| a |', ['table.md'])
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with open_atomic(path) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomic(path: str | Path) -> Iterator[IO[bytes]]:
    """Opens a file whose content takes the target's name when the block ends, as `write_atomic` does.

    Args:
        path: As of `write_atomic`.

    Yields:
        The open hidden file.

    Raises:
        OSError: If it cannot be written; if the block or the write fails, the target is as before and nothing is left
            beside it.
    """
    if Path(path).exists() and not Path(path).is_file():
        with Path(path).open("wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{os.getpid()}.{secrets.token_hex(4)}.tmp")  # fits beside the longest of names
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _remove_abandoned(path.parent)
    except OSError as error:
        if error.errno is None or (error.filename is not None and str(error.filename) != str(temporary)):
            raise  # of something else in the block
        raise type(error)(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def errors_naming(path: str | Path) -> Iterator[None]:
    """Raises errors of the operating system again with the file that the user knows; those of a write name none.

    Args:
        path: The file.

    Raises:
        OSError: Of the same kind.

    Example:
        >>> with errors_naming("rows.jsonl"):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        OSError: [Errno 28] No space left on device: 'rows.jsonl'
    """
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | Path, value: Any) -> None:
    """Writes indented JSON with `write_atomic`.

    Args:
        path: Target file.
        value: What `to_json` takes.
    """
    write_atomic(path, to_json(value, indent=2) + "\n")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Encodes a value as JSON that every reader accepts.

    Args:
        value: Mappings, sequences, arrays, numbers, text and paths. NaN and infinity, which JSON lacks, become null.
        indent: Spaces a level; one line if not given.

    Returns:
        The text.

    Example:
        >>> to_json({"dice": (0.9, float("nan")), "count": np.int32(2)})
        '{"dice": [0.9, null], "count": 2}'
    """
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def listed_files(folder: str | Path) -> set[str]:
    """Names of the files that this package wrote into a folder, by its manifest.

    Args:
        folder: The folder.

    Returns:
        The names, changed and missing files included; none without a manifest that can be read.

    Example:
        >>> listed_files(".")
        set()
    """
    try:
        return set(json.loads((Path(folder) / MANIFEST).read_text("utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def listed_tables(folder: str | Path, folders: Iterable[str]) -> set[str]:
    """Names of the tables in a folder that have a journal beside them.

    Args:
        folder: The folder.
        folders: Names of the folders in it.

    Returns:
        The names; the journal of each has the name and `JOURNAL_SUFFIX`.

    Example:
        >>> listed_tables(".", ["table.parquet.journal"])
        set()
    """
    journals = (name for name in folders if name.endswith(JOURNAL_SUFFIX))
    return {name.removesuffix(JOURNAL_SUFFIX) for name in journals if (Path(folder) / name / JOURNAL).is_file()}


@contextlib.contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Keeps other processes that lock the same folder out of it until the block ends or this process dies.

    Nothing is left in the folder. On a file system without locks, there is none.

    Args:
        folder: The folder; made if absent.

    Raises:
        FolderInUseError: If another holder has it.
        OSError: If it cannot be made.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUseError(
                f"{folder} is in use by another process; wait for it or choose another folder"
            ) from None
        except OSError:  # some network file systems
            pass
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):  # another process may remove it as well
            if _TEMPORARY.fullmatch(path.name) and time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
