"""Folders that are written safely: earlier output of this package is replaced, anything else is left alone."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from cardiojax import storage
from cardiojax.data import printable
from cardiojax.storage import MANIFEST

_STAGING = ".cardiojax-"


class OutputFolderError(Exception):
    """A folder cannot be written; the message is one sentence that names it."""

    def __init__(self, folder: str | Path, problem: str):
        super().__init__(printable(f"{folder} {problem}"))


def check_output(folder: str | Path, *, inputs: Iterable[str | Path] = ()) -> Path:
    """Checks that a folder can be written, before the computation of what it shall hold.

    It may be absent, empty, or hold unchanged files of this package. A file is written into it and removed
    again, so that a lack of permission, a full disk or a name that is too long is found now.

    Args:
        folder: The folder.
        inputs: Files that are read, which must not lie in it.

    Returns:
        Its absolute path. Nothing is left behind.

    Raises:
        OutputFolderError: If the folder cannot be written, or holds anything else.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     print(check_output(f"{parent}/report").name)
        report
    """
    try:
        folder = Path(folder).resolve()
        _require_folder(folder)
        _recover(folder)
        for file in inputs:
            if Path(file).resolve().is_relative_to(folder):
                raise OutputFolderError(folder, f"holds the input {file}, expected another folder for the output")
        _refuse_foreign(folder)
        with _made(folder), tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links; ValueError: a null character
        raise OutputFolderError(folder, f"cannot be written ({_reason(error)})") from error
    return folder


@contextlib.contextmanager
def staged_output(folder: str | Path) -> Iterator[Path]:
    """Gives a folder for new files, which replace those of an earlier run when the block ends.

    Files are moved one by one within the folder, which may be a mount point or the current one. If the block or a move
    fails, the earlier files are as they were and nothing else is left. What a process leaves that is killed between two
    moves, the next call undoes.

    Args:
        folder: As in `check_output`.

    Yields:
        A new folder inside of it, to be filled with files.

    Raises:
        OutputFolderError: If the folder cannot be written, or holds anything else. Other errors of the block, such as
            of a file that it reads, are raised as they are.
    """
    folder, error_of_block = Path(folder).resolve(), None
    try:
        _require_folder(folder)
        _recover(folder)
        _refuse_foreign(folder)
        with _made(folder):
            staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
            try:
                with storage.lock_folder(staging):  # for others to see that it is in use
                    (staging / "new").mkdir()
                    try:
                        yield staging / "new"
                    except OSError as error:
                        error_of_block = None if _is_of_output(error, staging) else error
                        raise
                    with storage.lock_folder(folder):
                        _install(staging, folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        if error is error_of_block:
            raise
        raise OutputFolderError(folder, f"cannot be written ({_reason(error)})") from error


def _is_of_output(error: OSError, staging: Path) -> bool:
    """Whether an error is one of writing into a folder; a write to an open file that fails names no file."""
    if error.filename is None:
        return True
    named = isinstance(error.filename, str | bytes | os.PathLike)
    return named and Path(os.fsdecode(error.filename)).is_relative_to(staging)


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Makes a folder with its parents; those of them that are empty at the end are removed."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def _install(staging: Path, folder: Path) -> None:
    """Moves new files to their place and those of an earlier run away; undone if anything fails."""
    _refuse_foreign(folder)  # it may have changed during the work
    new, old = staging / "new", staging / "old"
    old.mkdir()
    names = sorted(path.name for path in new.iterdir())
    (new / MANIFEST).write_text(json.dumps({"files": {name: _digest(new / name) for name in names}}, indent=2), "utf-8")
    moves: list[tuple[Path, Path]] = []
    try:
        for name in sorted(_own_files(folder)):
            _move(folder / name, old / name, moves)
        for name in [*names, MANIFEST]:
            _move(new / name, folder / name, moves)
    except BaseException:
        for source, target in reversed(moves):
            target.replace(source)
        raise


def _move(source: Path, target: Path, moves: list[tuple[Path, Path]]) -> None:
    source.replace(target)
    moves.append((source, target))


def _require_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise OutputFolderError(path, "is a file, expected a folder for the output")


def _refuse_foreign(folder: Path) -> None:
    """Raises if a path is no folder, or holds anything but unchanged files of an earlier run."""
    _require_folder(folder)
    if not folder.exists():
        return
    own = _own_files(folder)
    foreign = sorted(p.name for p in folder.iterdir() if p.name not in own and not _is_staging(p))
    if foreign:
        others = " and other files" if len(foreign) > 1 else ""
        raise OutputFolderError(
            folder, f"holds {foreign[0]}{others}, not written here or changed since; choose an empty folder"
        )


def _own_files(folder: Path, manifest: Path | None = None) -> set[str]:
    """Files that are as a run wrote them, with their manifest; that of the folder if not given."""
    try:
        digests = dict(json.loads((manifest or folder / MANIFEST).read_text("utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    own = {name for name, digest in digests.items() if Path(name).name == name and _digest(folder / name) == digest}
    return own | {MANIFEST}


def _digest(path: Path) -> str | None:
    return None if path.is_symlink() or not path.is_file() else storage.sha256(path)


def _recover(folder: Path) -> None:
    """Restores the earlier files where a process was killed while it installed new ones, and removes what it left."""
    for staging in filter(_is_staging, sorted(folder.glob(f"{_STAGING}*"))):
        with contextlib.suppress(storage.FolderInUseError), storage.lock_folder(staging):
            new, old = staging / "new", staging / "old"
            if (new / MANIFEST).exists() and old.is_dir():  # it is moved last
                for name in _own_files(folder, new / MANIFEST) - {MANIFEST}:
                    (folder / name).unlink()
                for path in old.iterdir():
                    if not (folder / path.name).exists():  # else written by another program since
                        path.replace(folder / path.name)
            shutil.rmtree(staging, ignore_errors=True)


def _is_staging(path: Path) -> bool:
    """Whether a path is what `staged_output` makes, by its name and by what it holds; others' is not touched."""
    if not path.name.startswith(_STAGING) or path.is_symlink():
        return False
    try:
        return {child.name for child in path.iterdir()} <= {"new", "old"}
    except FileNotFoundError:  # another process has just removed it
        return True
    except OSError:
        return False


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
