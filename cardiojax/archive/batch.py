"""Studies to workers, rows to the journal; a worker that dies costs the study that ended it, and nothing else."""

import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from cardiojax.archive.journal import Journal
from cardiojax.archive.rows import (
    FAILED,
    MEASURED,
    REFUSED,
    BatchError,
    completed,
    files_state,
    row_of_failure,
    study_label,
)
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
    """A process, its end of the pipe, and the studies that it has, by their labels."""

    def __init__(self, start: Callable[[Connection], None]):
        context = multiprocessing.get_context("spawn")  # JAX does not survive a fork
        self.connection, other = context.Pipe()
        self.process = context.Process(target=start, args=(other,), daemon=True)
        self.process.start()
        other.close()  # so that the pipe ends with the process
        self.tasks: dict[str, _Task] = {}
        self.is_ready = False

    def give(self, study: StudyFiles, tries: int) -> None:
        label = study_label(study.key)
        self.tasks[label] = _Task(study, tries, time.monotonic())
        with contextlib.suppress(OSError):  # it has died; receiving says so
            self.connection.send((label, [os.fsencode(file) for file in study.files]))

    def stop(self) -> None:
        self.connection.close()
        self.process.join(5)
        self.process.kill()


class _Pool:
    """Workers, the studies that no worker has had, and those whose worker has died.

    Args:
        start: What a worker runs.
        todo: The studies.
        num_workers: Workers.
        studies_at_once: Studies that a worker has at a time.
    """

    def __init__(
        self,
        start: Callable[[Connection], None],
        todo: Iterator[StudyFiles],
        *,
        num_workers: int,
        studies_at_once: int,
    ):
        self._start, self._todo, self._studies_at_once = start, todo, studies_at_once
        self._workers = [_Worker(start) for _ in range(num_workers)]
        self._interrupted: list[_Task] = []
        self._failed_starts = 0  # since a worker was ready

    def take_rest(self) -> bool:
        """Whether a study is left that no worker has; it is taken from the list."""
        return bool(self._interrupted) or next(self._todo, None) is not None

    @property
    def is_busy(self) -> bool:
        return any(worker.tasks for worker in self._workers)

    def feed(self) -> None:
        """Gives studies to the workers that have room; one whose worker has died goes to a worker of its own."""
        for worker in self._workers:
            while self._has_room(worker):
                if self._interrupted and not worker.tasks:
                    study, tries, _ = self._interrupted.pop()
                elif self._interrupted or (study := next(self._todo, None)) is None:
                    break
                else:
                    tries = 0
                worker.give(study, tries + 1)

    def receive(self) -> Iterator[tuple[_Task, dict[str, Any]]]:
        """Studies that are finished, with their rows, after some time at most."""
        busy = [worker for worker in self._workers if worker.tasks]
        ready = multiprocessing.connection.wait([worker.connection for worker in busy], _POLL)
        for worker in (worker for worker in busy if worker.connection in ready):
            try:
                label, value = worker.connection.recv()
            except (EOFError, OSError):
                yield from self._replace(worker)
                continue
            if label is not None:
                yield worker.tasks.pop(label), value
            elif value is not None:
                raise BatchError(value)
            else:
                worker.is_ready, self._failed_starts = True, 0

    def stop(self) -> None:
        for worker in self._workers:
            worker.stop()

    def _has_room(self, worker: _Worker) -> bool:
        is_alone = any(task.tries > 1 for task in worker.tasks.values())
        return len(worker.tasks) < self._studies_at_once and not is_alone

    def _replace(self, worker: _Worker) -> Iterator[tuple[_Task, dict[str, Any]]]:
        """Starts another worker in the place of one that has died; its studies wait, or have failed."""
        worker.stop()
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts >= _MAX_TRIES:
                raise BatchError("a worker ended before its networks were loaded, twice; is there enough memory?")
        self._workers[self._workers.index(worker)] = _Worker(self._start)
        for task in worker.tasks.values():
            if not worker.is_ready:  # no study is to blame
                self._interrupted.append(task._replace(tries=task.tries - 1))
            elif task.tries < _MAX_TRIES:
                self._interrupted.append(task)
            else:
                yield task, row_of_failure("The process that analysed it ended, twice.")


def run_batch(
    studies: Iterator[StudyFiles],
    journal: Journal,
    *,
    root: Path,
    make: Callable[[Any], AnalyzeFiles],
    config: Any,
    keep_names: bool = False,
    num_workers: int = 1,
    studies_at_once: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
    on_row: Callable[[dict[str, Any]], None] = lambda row: None,
) -> BatchCounts:
    """Analyses the studies that the journal lacks, and those of which a file came, went or changed since.

    A study whose worker ends while it is analysed is given out once more, alone; if the worker ends again, its row says
    so.

    Args:
        studies: The studies of the archive.
        journal: Rows of studies that are finished; new rows are appended.
        root: The folder of the archive.
        make: Makes the function that analyses, in each worker; as `cardiojax.archive.worker.make_analyze_files`.
        config: Its argument.
        keep_names: Whether rows hold keys and names of files.
        num_workers: Processes, each with its own networks.
        studies_at_once: Studies that each of them analyses at the same time.
        should_stop: Asked between studies; those that have begun are finished.
        on_row: Called with each new row.

    Returns:
        The counts over the whole journal.

    Raises:
        BatchError: If no worker can start, or what is beside the studies keeps them from being analysed.
    """
    states: dict[str, str] = {}  # before the analysis: a file may grow while it is read

    def todo() -> Iterator[StudyFiles]:
        for study in studies:
            label, state = study_label(study.key), files_state(study, root)
            if not journal.is_current(label, state):
                states[label] = state
                yield study

    start = functools.partial(serve, make=make, config=config, num_threads=studies_at_once)
    pool = _Pool(start, todo(), num_workers=num_workers, studies_at_once=studies_at_once)
    try:
        while True:
            if not should_stop():
                pool.feed()
            if not pool.is_busy:
                break
            for (study, _, began), row in pool.receive():
                seconds = time.monotonic() - began
                whole = completed(
                    row, key=study.key, files=study.files, seconds=seconds, keep_names=keep_names, root=root
                )
                journal.append(whole["study"], whole, state=states.pop(whole["study"]))
                on_row(whole)
    finally:
        pool.stop()
    return count_rows(journal, is_complete=not pool.take_rest())


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
