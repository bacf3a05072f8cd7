"""``cardiojax batch``: an archive in, a table with a row for each study out."""

import dataclasses
import functools
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

import cardiojax
from cardiojax import storage, zoo
from cardiojax.analysis.pairs import choose_pair_model
from cardiojax.analysis.recording import AnalyzeConfig, check_models
from cardiojax.archive import BatchConfig, BatchCounts, Journal
from cardiojax.archive.batch import run_batch
from cardiojax.archive.cluster import run_cluster
from cardiojax.archive.rows import files_state, study_label
from cardiojax.archive.table import check_table, write_table
from cardiojax.archive.worker import GRID_SIZES, make_analyze_files
from cardiojax.cli.progress import bar
from cardiojax.cli.signals import StopRequest
from cardiojax.data import printable
from cardiojax.study import StudyError, StudyFiles, find_studies

#: Seconds between the lines of progress where there is no terminal.
_INTERVAL = 60.0
_EMPTY = "{} holds no file, expected echo recordings"
_STOPPING = "finishing the studies that have begun"


def batch_command(
    root: Annotated[str, tyro.conf.Positional],
    /,
    *,
    out: Path,
    workers: int = 1,
    studies_at_once: int = 1,
    group: Literal["study", "file"] = "study",
    view: Literal["auto", "2CH", "4CH"] = "auto",
    cache_dir: Path | None = None,
    anatomical_correction: bool = True,
    temporal_correction: bool = True,
    keep_names: bool = False,
    reports: Path | None = None,
    ray: str | None = None,
    gpus_per_worker: float = 0.0,
    config: Annotated[AnalyzeConfig, tyro.conf.arg(name="")] = AnalyzeConfig(grid_sizes=GRID_SIZES),
) -> None:
    """Measures every study of an archive. The same command resumes one that was stopped or killed.

    Studies that have a row are not analysed again, whether they were measured or refused, unless a file of theirs came,
    went or changed since. Another table measures all. Studies that left the archive are left out of the table. A table
    of other options, other weights or another version of cardiojax is not continued.

    Args:
        root: Folder of the archive.
        out: The table, a Parquet file. The folder beside it that ends in `.journal` holds the rows until then.
        workers: Processes, each with its own networks; with --ray, the most of them.
        studies_at_once: Studies that a worker analyses at the same time; their frames share the batches of the
            networks, which keeps a GPU busy.
        group: Whether the files of a study, or of a folder that holds no DICOM, are one patient, or each file is one.
        view: Take this view for that of all recordings instead of recognising it.
        cache_dir: Folder that keeps compiled programs, which the workers share, instead of the user's cache.
        anatomical_correction: Replace anatomically invalid outlines by the nearest valid ones.
        temporal_correction: Correct the frames of a loop that are inconsistent with their neighbours.
        keep_names: Keep study identifiers and names of files in the table; they may identify the patient.
        reports: Folder for a report of each study, as of `cardiojax analyze`, in a folder called by the study's column.
        ray: Address of a Ray cluster that does the work, such as auto or ray://HOST:10001; each node sees the archive,
            and the folder of the reports, under the same path.
        gpus_per_worker: Share of a GPU for each worker of the cluster; without one a worker takes a processor core.
        config: How each recording is analysed.
    """
    batch = BatchConfig(
        analyze=config,
        view=view,
        anatomical_correction=anatomical_correction,
        temporal_correction=temporal_correction,
        cache_dir=None if cache_dir is None else str(cache_dir),
        keep_names=keep_names,
        studies_at_once=studies_at_once,
        reports=None if reports is None else str(reports),
    )
    if not root:  # which is the current folder as a path
        raise ValueError("the root is empty, expected the folder of an archive")
    check_models(config)  # else every study would fail for the same reason
    counts, status = analyze_archive(
        Path(root), out=out, config=batch, group=group, num_workers=workers, ray=ray, gpus_per_worker=gpus_per_worker
    )
    total = counts.num_measured + counts.num_refused + counts.num_failed
    line = f"{total} studies: {counts.num_measured} measured, {counts.num_refused} refused, {counts.num_failed} failed"
    if counts.is_complete:
        print(f"{line}; table: {printable(out)}")
    else:
        print(f"{line}; stopped: the same command resumes")
        raise SystemExit(status)


def analyze_archive(
    root: Path,
    *,
    out: Path,
    config: BatchConfig,
    group: Literal["study", "file"] = "study",
    num_workers: int = 1,
    ray: str | None = None,
    gpus_per_worker: float = 0.0,
    make: Callable[[Any], Any] = make_analyze_files,
) -> tuple[BatchCounts, int]:
    """Analyses the studies below a folder and writes the table when all are analysed.

    Args:
        root: The folder.
        out: The table.
        config: How studies are analysed.
        group: As of `cardiojax.study.find_studies`.
        num_workers: Processes.
        ray: Address of a Ray cluster; this machine if not given.
        gpus_per_worker: As of `cardiojax.archive.cluster.run_cluster`.
        make: As of `cardiojax.archive.batch.run_batch`.

    Returns:
        The counts, and the status of the process: 0, or the shell's after a signal.

    Raises:
        StudyError: If there is no such folder, or it holds no file.
        JournalError: If the journal is that of other options, weights, version or archive, or damaged.
        BatchError: If no worker can start, or the reports cannot be written; the same call resumes.
        FolderInUseError: If another process writes to it.
        ValueError: If an option is impossible or pyarrow is missing.
    """
    if not 1 <= num_workers <= 1024:
        raise ValueError(f"workers must be 1 to 1024, got {num_workers}")
    root, config = root.absolute(), _absolute(config)
    check_table(out)
    if root.is_dir() and not any(names for _, _, names in os.walk(root)):  # before a journal is made
        raise StudyError(_EMPTY.format(root))
    if config.reports is not None:
        _check_reports(Path(config.reports))
    with (
        Journal(out.with_name(out.name + storage.JOURNAL_SUFFIX), settings=_settings(root, config, group)) as journal,
        StopRequest(_STOPPING) as request,
    ):
        with tempfile.TemporaryFile("w+") as spool:
            labels, num_todo = _spool(find_studies(root, group=group, with_unreadable=True), spool, journal, root)
            if not labels:
                raise StudyError(_EMPTY.format(root))
            journal.keep(labels)
            run = run_batch
            if ray is not None:
                run = functools.partial(run_cluster, address=ray, gpus_per_worker=gpus_per_worker)
            with _progress(len(labels), len(labels) - num_todo) as on_row:
                counts = run(
                    _spooled(spool),
                    journal,
                    root=root,
                    make=make,
                    config=config,
                    keep_names=config.keep_names,
                    num_workers=min(num_workers, max(1, num_todo)),
                    studies_at_once=config.studies_at_once,
                    should_stop=request,
                    on_row=on_row,
                )
        if counts.is_complete:
            write_table(out, journal.rows())
        return counts, 0 if counts.is_complete else request.exit_status


def _absolute(config: BatchConfig) -> BatchConfig:
    """The same with absolute paths: the processes of a cluster have another current folder."""

    def model(name: str) -> str:
        return str(Path(name).absolute()) if name not in zoo.list_models() and Path(name).is_file() else name

    analyze = dataclasses.replace(
        config.analyze,
        model=model(config.analyze.model),
        ensemble=tuple(map(model, config.analyze.ensemble)),
        pair_model=model(config.analyze.pair_model),
    )
    return dataclasses.replace(
        config,
        analyze=analyze,
        cache_dir=None if config.cache_dir is None else str(Path(config.cache_dir).absolute()),
        reports=None if config.reports is None else str(Path(config.reports).resolve()),
    )


def _settings(root: Path, config: BatchConfig, group: str) -> dict[str, Any]:
    """What the rows of a table depend on; models by the content of their weights, since a file may be trained again."""
    settings = {"group": group, "cardiojax": cardiojax.__version__, **dataclasses.asdict(config)}
    for name in ("cache_dir", "studies_at_once"):  # no part of what the rows hold
        del settings[name]
    pair_model = choose_pair_model(config.analyze.model, config.analyze.pair_model)
    settings["analyze"] |= {
        "model": _weights(config.analyze.model),
        "ensemble": [_weights(name) for name in config.analyze.ensemble],
        "pair_model": None if pair_model is None else _weights(pair_model),
    }
    return settings | {"reports": _digest(config.reports), "archive": _digest(root)}  # paths may identify patients


def _weights(name: str) -> list[str]:
    """The SHA-256 of a model's weights, after its name if it has one."""
    digest = storage.sha256(zoo.weights_path(name))
    return [name, digest] if name in zoo.list_models() else [digest]


def _digest(path: str | Path | None) -> str | None:
    """Tells a path from another one without naming it."""
    return None if path is None else hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()


def _spool(studies: Iterable[StudyFiles], file: Any, journal: Journal, root: Path) -> tuple[set[str], int]:
    """Writes the studies to analyse into a file, so that memory holds the labels of all, and the number of these."""
    labels, num_todo = set[str](), 0
    for study in studies:
        label = study_label(study.key)
        labels.add(label)
        if not journal.is_current(label, files_state(study, root)):
            json.dump([study.key, [os.fsencode(path).hex() for path in study.files]], file)
            file.write("\n")
            num_todo += 1
    file.seek(0)
    return labels, num_todo


def _spooled(file: Any) -> Iterator[StudyFiles]:
    for line in file:
        key, files = json.loads(line)
        yield StudyFiles(key, tuple(Path(os.fsdecode(bytes.fromhex(path))) for path in files))


def _check_reports(folder: Path) -> None:
    """Makes the folder of the reports; one that cannot be written is found before the work."""
    folder.mkdir(parents=True, exist_ok=True)
    with storage.errors_naming(folder), tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"0")


class _progress:
    """A bar with the time left; where there is no terminal, a line a minute on stderr."""

    def __init__(self, num_studies: int, num_done: int):
        self._console = Console(stderr=True, soft_wrap=True, highlight=False)
        self._bar, self._num, self._done = bar(self._console), num_studies, num_done
        self._first, self._start, self._said = num_done, time.monotonic(), time.monotonic()

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        self._bar.start()
        self._task = self._bar.add_task("studies", total=self._num, completed=self._done)
        return self._update

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _update(self, row: dict[str, Any]) -> None:
        self._done += 1
        self._bar.update(self._task, completed=self._done)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= _INTERVAL:
            self._said = now
            left = (now - self._start) / (self._done - self._first) * (self._num - self._done)
            self._console.print(f"{self._done} of {self._num} studies, {left / 60:.0f} min left", markup=False)
