"""A process that analyses studies with its own networks."""

import contextlib
import dataclasses
import errno
import os
import re
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from cardiojax.analysis.recording import AnalyzeConfig
from cardiojax.archive.rows import REFUSED, no_row, row_of_failure, row_of_study
from cardiojax.data import UnreadableFileError, printable
from cardiojax.runtime import thread_pool

#: Sizes of the analysis grid: so many programs of each kind are compiled for an archive.
GRID_SIZES = (128, 256, 384, 512, 640)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How the studies of an archive are analysed.

    Attributes:
        analyze: How each recording is analysed.
        view: ``auto``: the view of each recording is recognised; ``2CH`` or ``4CH``: that of all recordings.
        anatomical_correction: Whether anatomically invalid outlines are replaced by the nearest valid ones.
        temporal_correction: Whether temporally inconsistent frames are corrected.
        cache_dir: Folder that keeps compiled programs, which the workers share; that of the user if not given.
        keep_names: Whether names of files are kept; they may identify the patient.
        studies_at_once: Studies that a worker analyses at the same time; their frames share the
            batches of the networks.
        reports: Folder in which each measured study has a folder with its report, called by its label; None without.
    """

    analyze: AnalyzeConfig = AnalyzeConfig(grid_sizes=GRID_SIZES)
    view: Literal["auto", "2CH", "4CH"] = "auto"
    anatomical_correction: bool = True
    temporal_correction: bool = True
    cache_dir: str | None = None
    keep_names: bool = False
    studies_at_once: int = 1
    reports: str | None = None

    def __post_init__(self):
        if not 1 <= self.studies_at_once <= 256:
            raise ValueError(f"studies_at_once must be 1 to 256, got {self.studies_at_once}")


#: What ends the analysis of every study.
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
#: Names of files that are numbers of a sentence too, unless a suffix follows.
_SHORT_NUMBER, _BEFORE_SUFFIX = re.compile(r"\d{1,4}"), r"(?=\.[A-Za-z])"
#: A study's label and files to a row.
AnalyzeFiles = Callable[[str, Sequence[Path]], dict[str, Any]]


def make_analyze_files(config: BatchConfig) -> AnalyzeFiles:
    """Loads the networks and gives the function that analyses the files of a study.

    Args:
        config: How.

    Returns:
        A function of a study's label and files that gives values of `cardiojax.archive.columns`. A study that cannot be
        measured is a row that says why.
    """
    from cardiojax.analysis import view as views
    from cardiojax.data.headers import read_header
    from cardiojax.report import OutputFolderError, write_study
    from cardiojax.runtime import aot
    from cardiojax.study import StudyError, analyze_study, describe_patient, several_patients
    from cardiojax.study.analyzer import Analyzer

    if config.cache_dir is None:
        aot.use_user_cache()
    else:
        aot.set_cache_folder(config.cache_dir)
    analyzer = Analyzer(
        config.analyze,
        num_threads=config.studies_at_once,
        anatomical_correction=config.anatomical_correction,
        temporal_correction=config.temporal_correction,
    )
    analyzer.load()
    classify = views.make_view_classifier(config=config.analyze)

    def headers(files: Sequence[Path]):
        for file in files:
            try:
                yield read_header(file)
            except UnreadableFileError:  # the analysis says why
                continue

    def analyze_files(label: str, files: Sequence[Path]) -> dict[str, Any]:
        stated_by_files = list(headers(files))
        problem = several_patients(stated_by_files)  # such as of two patients with one StudyInstanceUID
        if problem is not None:
            return row_of_failure(problem.capitalize() + ".", status=REFUSED)
        stated = {} if config.view == "auto" else dict.fromkeys(files, config.view)
        try:
            study = analyze_study(
                files,
                analyze=analyzer,
                classify=classify,
                views=stated,
                patient=describe_patient(stated_by_files),
                is_validated=analyzer.is_validated,
            )
        except UnreadableFileError as error:  # of the only file
            return row_of_failure(f"clip 1: {error.problem}", status=REFUSED)
        except StudyError as error:
            return row_of_failure(error.problem or _without_names(str(error), files), status=REFUSED)
        if config.reports is not None:  # before the row, so that a row has its report after a crash too
            folder = Path(config.reports) / label
            try:
                write_study(study, folder, config=config.analyze, keep_names=config.keep_names)
            except OutputFolderError as error:
                if isinstance(error.__cause__, OSError):  # no space, no permission: none could be written
                    return no_row(str(error))
                return row_of_failure("Its folder of the reports holds other files, or ones changed since.")
        return row_of_study(study)

    return analyze_files


def serve(connection: Connection, make: Callable[[Any], AnalyzeFiles], config: Any, num_threads: int) -> None:
    """Analyses the studies that arrive until the other end is closed.

    Args:
        connection: Receives ``(label, files)`` and sends ``(label, row)`` for each; before the first, ``(None, None)``
            when it is ready, or ``(None, sentence)`` if it cannot start.
        make: Makes the function that analyses, as `make_analyze_files`; with several threads, they all call it.
        config: Its argument.
        num_threads: Studies that are analysed at the same time.
    """
    is_sending = threading.Lock()

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to every process of the terminal; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        try:
            analyze_files = make(config)
        except Exception as error:
            connection.send((None, cannot_start(error)))
            return
        connection.send((None, None))

        def analyze(label: str, files: Sequence[bytes]) -> None:
            row = analyze_safely(analyze_files, label, [Path(os.fsdecode(file)) for file in files])
            with is_sending, contextlib.suppress(OSError):  # the parent has gone; receiving says so
                connection.send((label, row))

        with thread_pool(num_threads) as pool:
            while True:
                pool.submit(analyze, *connection.recv())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def analyze_safely(analyze_files: AnalyzeFiles, label: str, files: Sequence[Path]) -> dict[str, Any]:
    """Analyses a study; an exception becomes its row, because one study must not end the others.

    Args:
        analyze_files: As of `make_analyze_files`.
        label: Label of the study.
        files: Its files.

    Returns:
        Its row.
    """
    try:
        return analyze_files(label, files)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            return no_row(f"{error.strerror}: {error.filename or 'while a study was analysed'}")
        named = isinstance(error, OSError) and error.strerror  # without its file, which may not be one of the study
        return row_of_failure(f"{type(error).__name__}: {named or _without_names(str(error), files)}")


def cannot_start(error: Exception) -> str:
    """Why a worker cannot start, in one sentence."""
    return f"a worker cannot start ({type(error).__name__}: {' '.join(str(error).split())[:300]})"


def _without_names(sentence: str, files: Sequence[Path]) -> str:
    """A sentence in which files are numbered as clips, since their names may identify the patient.

    Names within a word are left, and so are short numbers, which are sizes and counts, unless they are a whole name.
    """
    clips: dict[str, int] = {}
    for number, file in enumerate(files, 1):
        for name in (str(file), str(file.parent), file.name, file.stem):
            clips.setdefault(printable(name), number)
    names = [name for name in sorted(clips, key=len, reverse=True) if len(name) > 1]
    whole_names = {printable(file.name) for file in files}
    patterns = [
        re.escape(name) + (_BEFORE_SUFFIX if _SHORT_NUMBER.fullmatch(name) and name not in whole_names else "")
        for name in names
    ]
    sentence = printable(sentence)  # as the names are
    if patterns:
        whole = rf"(?<![^\W_])(?:{'|'.join(patterns)})(?![^\W_])"
        sentence = re.sub(whole, lambda found: f"clip {clips[found[0]]}", sentence)
    return printable(sentence, max_length=500)
