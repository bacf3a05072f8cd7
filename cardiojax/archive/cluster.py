"""Studies to the actors of a Ray cluster, rows to the journal. The only importer of ray.

Ray Data holds the queue, scales the pool of actors, and gives the studies of an actor or a node that dies to another.
"""

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cardiojax.archive.batch import BatchCounts, count_rows
from cardiojax.archive.journal import Journal
from cardiojax.archive.rows import completed, files_state, no_row, row_of_failure, study_label
from cardiojax.archive.worker import AnalyzeFiles, analyze_safely, cannot_start
from cardiojax.runtime import thread_pool
from cardiojax.study import StudyFiles

#: How often Ray gives a study whose actor died to another one.
_MAX_RETRIES = 1
#: Blocks of studies in the queue; with more studies than that, a block holds several.
_MAX_BLOCKS = 10_000
#: How long the head of a cluster may take to accept a connection.
_CONNECT_SECONDS = 10.0


class _Options(NamedTuple):
    """How the studies are spread over the actors, see `run_cluster`."""

    num_workers: int
    gpus_per_worker: float
    num_blocks: int
    batch_size: int


class _Actor:
    """A process of the cluster with its own networks, which analyses the studies of a batch at the same time."""

    def __init__(self, make: Callable[[Any], AnalyzeFiles], config: Any):
        try:
            self._analyze_files = make(config)
        except Exception as error:  # else every study would be taken for one that ends its process
            problem = no_row(cannot_start(error))
            self._analyze_files = lambda label, files: problem

    def __call__(self, studies: dict[str, Any]) -> dict[str, Any]:
        with thread_pool(len(studies["label"])) as pool:
            results = list(pool.map(self._analyze, studies["label"], studies["files"]))
        return {name: [result[name] for result in results] for name in results[0]}

    def _analyze(self, label: str, files: str) -> dict[str, Any]:
        start = time.monotonic()
        paths = [Path(os.fsdecode(bytes.fromhex(file))) for file in json.loads(files)]
        row = analyze_safely(self._analyze_files, label, paths)
        return {"label": label, "row": json.dumps(row), "seconds": time.monotonic() - start}


def run_cluster(
    studies: Iterable[StudyFiles],
    journal: Journal,
    *,
    root: Path,
    make: Callable[[Any], AnalyzeFiles],
    config: Any,
    address: str,
    keep_names: bool = False,
    num_workers: int = 1,
    studies_at_once: int = 1,
    gpus_per_worker: float = 0.0,
    should_stop: Callable[[], bool] = lambda: False,
    on_row: Callable[[dict[str, Any]], None] = lambda row: None,
) -> BatchCounts:
    """Analyses the studies that the journal lacks on a Ray cluster.

    Every node must see the archive under the same path and have this package. The list of studies is in memory, about a
    kilobyte each. When stopping is asked for, studies that have begun are given up and analysed again by the next call.

    Args:
        studies: The studies of the archive.
        journal: Rows of studies that are finished; new rows are appended here, by this process.
        root: The folder of the archive.
        make: Makes the function that analyses, in each actor; as `cardiojax.archive.worker.make_analyze_files`.
        config: Its argument.
        address: Address of the cluster, as ``ray.init`` takes it.
        keep_names: Whether rows hold keys and names of files.
        num_workers: The most actors; Ray starts as many as the cluster has room for.
        studies_at_once: Studies that an actor analyses at the same time.
        gpus_per_worker: Share of a GPU that an actor takes; without one it takes a processor core.
        should_stop: Asked after each study.
        on_row: Called with each new row.

    Returns:
        The counts over the whole journal.

    Raises:
        ValueError: If ray is not installed or the cluster cannot be reached.
        BatchError: As of `cardiojax.archive.batch.run_batch`.
    """
    todo = {study_label(study.key): study for study in studies}
    states = {label: files_state(study, root) for label, study in todo.items()}  # before the analysis
    todo = {label: study for label, study in todo.items() if not journal.is_current(label, states[label])}
    ray = _connect(address)

    def record(label: str, row: dict[str, Any], seconds: float) -> None:
        study = todo.pop(label)
        whole = completed(row, key=study.key, files=study.files, seconds=seconds, keep_names=keep_names, root=root)
        journal.append(label, whole, state=states[label])
        on_row(whole)

    try:
        # a study that ends its process takes its block with it: the second time, each is a block of its own
        for num_blocks, batch_size in ((_MAX_BLOCKS, studies_at_once), (len(todo), 1)):
            options = _Options(num_workers, gpus_per_worker, min(num_blocks, len(todo)), batch_size)
            for result in _results(ray, todo, make, config, options):
                record(result["label"], json.loads(result["row"]), result["seconds"])
                if should_stop():
                    return count_rows(journal, is_complete=False)
        for label in list(todo):
            record(label, row_of_failure("The process that analysed it ended, each time."), 0.0)
    finally:
        ray.shutdown()
    return count_rows(journal, is_complete=True)


def _connect(address: str) -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.data  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(f"a cluster needs Ray: pip install 'cardiojax[cluster]' ({error})") from error
    _check_address(address)
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"no Ray cluster at {address} ({reason})") from error
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = -1  # what is left of their studies is found by its absence
    context.enable_progress_bars = False
    return ray


def _check_address(address: str) -> None:
    """Raises if nothing listens at a host and port: Ray itself would try again for twenty minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise ValueError(f"no Ray cluster at {address} ({error})") from error


def _results(
    ray: Any,
    todo: dict[str, StudyFiles],
    make: Callable[[Any], AnalyzeFiles],
    config: Any,
    options: _Options,
) -> Iterator[dict[str, Any]]:
    """Results in the order in which their blocks end."""
    if not todo:
        return
    items = [
        {"label": label, "files": json.dumps([os.fsencode(file.absolute()).hex() for file in study.files])}
        for label, study in todo.items()  # an actor has another current folder
    ]
    rows = ray.data.from_items(items, override_num_blocks=options.num_blocks)
    results = rows.map_batches(
        _Actor,
        fn_constructor_args=(make, config),
        batch_size=options.batch_size,
        concurrency=(1, options.num_workers),
        num_cpus=0 if options.gpus_per_worker else 1,
        num_gpus=options.gpus_per_worker,
        max_restarts=-1,
        max_task_retries=_MAX_RETRIES,
    )
    yield from results.iter_rows()
