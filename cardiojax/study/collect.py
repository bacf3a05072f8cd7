"""The files of a study: a folder, a DICOMDIR or several files, and all studies below a folder."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from cardiojax import storage
from cardiojax.data import Header, UnreadableFileError, identify, printable, read_header, read_index

#: Files of one study; more are no study but an archive.
MAX_FILES = 2000
#: Pixels that a MetaImage header of the same name refers to.
_PIXEL_SUFFIXES = (".raw", ".zraw")
_HEADER_SUFFIX = ".mhd"


class StudyError(Exception):
    """Files cannot be analysed as the study of one patient; the message is one sentence.

    Args:
        sentence: The message; it may name files.
        problem: The same without names of files, for what is written to files; None if there is no such sentence.

    Attributes:
        problem: As given.
    """

    def __init__(self, sentence: str, *, problem: str | None = None):
        super().__init__(printable(sentence))
        self.problem = None if problem is None else printable(problem)


class StudyFiles(NamedTuple):
    """A study in an archive.

    Attributes:
        key: StudyInstanceUID, or the folder relative to the root.
        files: Its files, sorted.
    """

    key: str
    files: tuple[Path, ...]


class OtherFile(NamedTuple):
    """A file that is no echo recording, and one sentence that says why."""

    path: Path
    reason: str


class CollectedFiles(NamedTuple):
    """The files of one study.

    Attributes:
        files: Recordings, sorted, each once.
        headers: What each of them says about itself.
        others: Files that are no recordings.
    """

    files: tuple[Path, ...]
    headers: tuple[Header, ...]
    others: tuple[OtherFile, ...]


def files_of_study(paths: Iterable[str | Path]) -> CollectedFiles:
    """Lists the recordings of one study; only headers are read.

    Folders are searched in depth. Hidden files, earlier output of this package and links that lead out of a folder are
    left out, and a DICOMDIR stands for the files in its folder that it names.

    Args:
        paths: Files, folders or a DICOMDIR, in any mixture.

    Returns:
        The recordings, and the other files with the reason for each.

    Raises:
        UnreadableFileError: If the only path is no recording.
        StudyError: If a path does not exist, there is no recording, or the files belong to several patients or studies.

    Example:
        >>> from cardiojax.data import example_path
        >>> [file.name for file in files_of_study([example_path()]).files]
        ['examples_ybr_color.dcm']
    """
    paths = [Path(path) for path in paths]
    if len(paths) == 1 and not paths[0].is_dir():
        header = read_header(paths[0])  # it says what is wrong with a single file, as reading its pixels does
        if not header.is_index:
            return CollectedFiles((paths[0],), (header,), ())
    for path in paths:
        if not os.path.lexists(path):
            raise StudyError(f"{path} does not exist")
    headers: dict[Path, Header] = {}
    others: dict[Path, str] = {}
    targets: dict[str, Path] = {}
    for path in paths:
        for file, reason in _expand(path):
            first = targets.setdefault(os.path.realpath(file), file)
            if reason is None and first != file:
                reason = "is the same file as another one, by a second path"
            if reason is None:
                reason = _add(file, headers)
            if reason is not None:
                others.setdefault(file, reason)
            if len(headers) > MAX_FILES:
                raise StudyError(f"{path} holds more than {MAX_FILES} recordings: use `cardiojax batch` for an archive")
    listed = tuple(OtherFile(*item) for item in sorted(others.items()))
    if not headers:
        raise StudyError(_nothing(paths, listed))
    files = tuple(sorted(headers))
    collected = CollectedFiles(files, tuple(headers[file] for file in files), listed)
    problem = several_patients(headers.values())
    if problem is not None:
        raise StudyError(f"{problem}: use `cardiojax batch` for several studies")
    return collected


def several_patients(headers: Iterable[Header]) -> str | None:
    """Whether files state different patients or studies.

    Args:
        headers: What they say about themselves.

    Returns:
        A sentence that names nobody; None if they state one patient and one study, or none.

    Example:
        >>> several_patients([Header("DICOM", patient="a"), Header("DICOM", patient="b")])
        'the files belong to 2 patients, expected those of one'
    """
    headers = list(headers)
    for what, values in (
        ("patients", {header.patient for header in headers} - {None}),
        ("studies", {header.study for header in headers} - {None}),
    ):
        if len(values) > 1:
            return f"the files belong to {len(values)} {what}, expected those of one"
    return None


def find_studies(
    root: str | Path,
    *,
    group: Literal["study", "file"] = "study",
    on_other: Callable[[OtherFile], None] = lambda other: None,
    with_unreadable: bool = False,
) -> Iterator[StudyFiles]:
    """Finds the studies below a folder; only headers are read.

    DICOM files are grouped by StudyInstanceUID wherever they lie, other recordings by folder. The list of files is kept
    in a temporary file, so that memory does not grow with the archive. Files that are no recordings are left out; one
    of a known format whose header is damaged is grouped by folder.

    Args:
        root: The folder.
        group: ``"file"`` takes each recording for a study of its own, as in an archive of one file a patient.
        on_other: Called with each file that is left out, before the first study is yielded.
        with_unreadable: Whether files that are no recordings are among those of their folder, for the analysis to say
            why; links that lead out of the archive and files named DICOMDIR are left out all the same.

    Yields:
        The studies, in the order of their first files.

    Raises:
        StudyError: If the folder does not exist.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as archive:
        ...     for name in ("a", "b"):
        ...         Path(archive, name).mkdir()
        ...         np.save(Path(archive, name, "loop.npy"), np.zeros((3, 40, 40)))
        ...     print([(study.key, len(study.files)) for study in find_studies(archive)])
        [('a', 1), ('b', 1)]
    """
    root = Path(root)
    if not root.is_dir():
        raise StudyError(f"{root} is no folder, expected one that holds studies")
    with contextlib.closing(sqlite3.connect("")) as index:  # a temporary file that a killed process leaves nowhere
        index.execute("PRAGMA synchronous = OFF")
        index.execute("CREATE TABLE files (key BLOB, path BLOB)")
        index.executemany("INSERT INTO files VALUES (?, ?)", _keyed(root, group, on_other, with_unreadable))
        index.execute("CREATE INDEX by_key ON files (key, path)")
        index.commit()
        for (key,) in index.execute("SELECT key FROM files GROUP BY key ORDER BY MIN(path)"):
            rows = index.execute("SELECT path FROM files WHERE key = ? ORDER BY path", (key,))
            yield StudyFiles(os.fsdecode(key), tuple(root / os.fsdecode(path) for (path,) in rows))


def _keyed(
    root: Path, group: str, on_other: Callable[[OtherFile], None], with_unreadable: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Key and relative path of each recording below a folder."""
    for file, left_out in _walk(root):
        study, reason = None, left_out
        if reason is None:
            try:
                study, reason = _study_of(file)
            except UnreadableFileError as error:
                reason = error.problem
        is_kept = with_unreadable and left_out is None and file.name.upper() != "DICOMDIR"
        if reason is not None and not is_kept:
            on_other(OtherFile(file, reason))
            continue
        relative = file.relative_to(root)
        folder = str(relative if group == "file" else relative.parent)
        yield os.fsencode(study if study and group == "study" else folder), os.fsencode(relative)


def _study_of(file: Path) -> tuple[str | None, str | None]:
    """The study of a file, and the reason if it is no recording."""
    identify(file)
    try:
        header = read_header(file)
    except UnreadableFileError:  # a damaged recording: the analysis says so
        return None, None
    return header.study, _unsuitable(header)


def _unsuitable(header: Header) -> str | None:
    if header.is_index:
        return "is a DICOMDIR, an index of other files"
    return None if header.is_ultrasound else "is a DICOM file of another modality, expected ultrasound (US)"


def _expand(path: Path) -> Iterator[tuple[Path, str | None]]:
    """Files that a path stands for, and why one is left out."""
    if path.is_dir():
        yield from _walk(path)
        return
    try:
        is_index = path.name.upper() == "DICOMDIR" and read_header(path).is_index
        named = read_index(path) if is_index else (path,)
    except UnreadableFileError as error:
        yield path, error.problem
        return
    for file in named:
        yield file, None if file.exists() or not is_index else "is named in the DICOMDIR and missing"


def _walk(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Files below a folder in the order of their paths, and why one is left out.

    Hidden ones and earlier output of this package are not listed.
    """
    base, failed = os.path.realpath(root), list[OSError]()
    for folder, folders, names in os.walk(root, onerror=failed.append):  # links to folders are not followed
        tables = storage.listed_tables(folder, folders)
        journals = {table + storage.JOURNAL_SUFFIX for table in tables}
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in journals)
        present = set(names) - tables
        for name in sorted(present - storage.listed_files(folder)):
            file = Path(folder, name)
            is_pixels = file.suffix in _PIXEL_SUFFIXES and file.with_suffix(_HEADER_SUFFIX).name in present
            if name.startswith(".") or is_pixels:
                continue
            yield file, _of_link(file, base) if file.is_symlink() else None
    for error in failed:
        yield Path(os.fsdecode(error.filename)), f"cannot be opened ({error.strerror})"


def pixel_files(file: Path) -> list[Path]:
    """Files with the pixels of a MetaImage header, which are not listed among those of a study; none for other files.

    Args:
        file: A file of a study.

    Example:
        >>> [path.name for path in pixel_files(Path("a.mhd"))]
        ['a.raw', 'a.zraw']
    """
    return [file.with_suffix(suffix) for suffix in _PIXEL_SUFFIXES] if file.suffix == _HEADER_SUFFIX else []


def _of_link(file: Path, base: str) -> str | None:
    """Why a link is left out; one to a hidden file, as of git-annex, is the only name of that file."""
    target = Path(os.path.realpath(file))  # a loop of links is reported where the file is opened
    if not target.is_relative_to(base):
        return "is a link that leads out of the folder"
    is_listed = target.is_file() and not any(part.startswith(".") for part in target.relative_to(base).parts)
    return "is a link to another file of the folder" if is_listed else None


def _add(file: Path, headers: dict[Path, Header]) -> str | None:
    """Reads a header; the reason if the file is no recording."""
    try:
        header = read_header(file)
    except UnreadableFileError as error:
        return error.problem
    reason = _unsuitable(header)
    if reason is None:
        headers[file] = header
    return reason


def _nothing(paths: list[Path], others: tuple[OtherFile, ...]) -> str:
    where = f"{paths[0]} holds" if len(paths) == 1 else f"the {len(paths)} paths hold"
    if not others:
        return f"{where} no file, expected echo recordings"
    first = f"{others[0].path.name}: {others[0].reason}"
    return f"{where} no echo recording among {len(others)} file{'s' if len(others) > 1 else ''} ({first})"
