"""Studies to workers, rows to the journal; a worker that dies costs the study it had, twice, and nothing else."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cardiojax.archive.journal import Journal
from cardiojax.archive.rows import FAILED, MEASURED, REFUSED, completed, row_of_failure, study_label
from cardiojax.archive.worker import AnalyzeFiles, serve
from cardiojax.study import StudyFiles

#: How often a study is given to a worker before it is recorded as one that ends the process.
_MAX_TRIES = 2
#: Seconds for which a worker is waited for until stopping is asked for again.
_POLL = 0.5


class BatchCounts(NamedTuple):
    """How many studies there are by status, and whether all have been analysed."""

    num_measured: int
    num_refused: int
    num_failed: int
    is_complete: bool


class _Task(NamedTuple):
    """A study that a worker has, how often it was given to one, and when."""

    study: StudyFiles
    tries: int
    start: float


class _Worker:
    """A process and its end of the pipe."""

    def __init__(self, make: Callable[[Any], AnalyzeFiles], config: Any):
        context = multiprocessing.get_context("spawn")  # JAX does not survive a fork
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, make, config), daemon=True)
        self.process.start()
        other.close()  # so that the pipe ends with the process
        self.task: _Task | None = None

    def give(self, study: StudyFiles, tries: int) -> None:
        self.task = _Task(study, tries, time.monotonic())
        with contextlib.suppress(OSError):  # it has died; receiving says so
            self.connection.send((study_label(study.key), [os.fsencode(file) for file in study.files]))

    def stop(self) -> None:
        self.connection.close()
        self.process.join(5)
        self.process.kill()


def run_batch(
    studies: Iterator[StudyFiles],
    journal: Journal,
    *,
    root: Path,
    make: Callable[[Any], AnalyzeFiles],
    config: Any,
    keep_names: bool = False,
    num_workers: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
    on_row: Callable[[dict[str, Any]], None] = lambda row: None,
) -> BatchCounts:
    """Analyses the studies that the journal lacks.

    Frames of different studies are not put into one batch: on a CPU a batch of eight frames of one clip is as fast, and
    a study stays a unit that fails alone.

    Args:
        studies: The studies of the archive.
        journal: Rows of studies that are finished; new rows are appended.
        root: The folder of the archive.
        make: Makes the function that analyses, in each worker; as `cardiojax.archive.worker.make_analyze_files`.
        config: Its argument.
        keep_names: Whether rows hold keys and names of files.
        num_workers: Processes, each with its own networks.
        should_stop: Asked between studies; those that have begun are finished.
        on_row: Called with each new row.

    Returns:
        The counts over the whole journal.
    """
    pending: list[tuple[StudyFiles, int]] = []
    todo = (study for study in studies if study_label(study.key) not in journal.keys)
    workers = [_Worker(make, config) for _ in range(num_workers)]
    is_complete = True

    def feed(worker: _Worker) -> None:
        nonlocal is_complete
        if should_stop():
            is_complete = False
            return
        study, tries = pending.pop() if pending else (next(todo, None), 0)
        if study is not None:
            worker.give(study, tries + 1)

    def record(task: _Task, row: dict[str, Any]) -> None:
        study, _, start = task
        seconds = time.monotonic() - start
        whole = completed(row, key=study.key, files=study.files, seconds=seconds, keep_names=keep_names, root=root)
        journal.append(whole["study"], whole)
        on_row(whole)

    try:
        for worker in workers:
            feed(worker)
        while busy := [worker for worker in workers if worker.task is not None]:
            ready = multiprocessing.connection.wait([worker.connection for worker in busy], _POLL)
            for worker in (worker for worker in busy if worker.connection in ready):
                task, worker.task = worker.task, None
                if task is None:
                    continue
                try:
                    row = worker.connection.recv()
                except (EOFError, OSError):
                    worker.stop()
                    workers[workers.index(worker)] = worker = _Worker(make, config)
                    if task.tries < _MAX_TRIES:
                        pending.append((task.study, task.tries))
                    else:
                        record(task, row_of_failure("The process that analysed it ended, twice."))
                else:
                    record(task, row)
                feed(worker)
    finally:
        for worker in workers:
            worker.stop()
    return count_rows(journal, is_complete=is_complete and not pending)


def count_rows(journal: Journal, *, is_complete: bool) -> BatchCounts:
    """Counts the rows of a journal by status.

    Args:
        journal: The journal.
        is_complete: Whether it holds all studies.

    Returns:
        The counts.
    """
    counts = Counter(row["status"] for row in journal.rows())
    return BatchCounts(counts[MEASURED], counts[REFUSED], counts[FAILED], is_complete)
