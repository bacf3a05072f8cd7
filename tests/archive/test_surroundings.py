"""What surrounds the studies of an archive: earlier tables, odd names, full disks, workers that fail."""

import errno
import os
import sqlite3
import tempfile
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from cardiojax import storage, zoo
from cardiojax.analysis.recording import AnalyzeConfig
from cardiojax.archive import BatchConfig, BatchError, Journal, JournalError, batch
from cardiojax.archive.batch import run_batch
from cardiojax.archive.rows import completed, no_row
from cardiojax.archive.worker import analyze_safely, make_analyze_files
from cardiojax.cli.batch import analyze_archive
from cardiojax.study import StudyError, StudyFiles, find_studies
from tests.helpers import identity
from tests.helpers.archive import make_sizes

parquet = pytest.importorskip("pyarrow.parquet")


def loop(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.ones((2, 32, 32), np.float32))
    return path


class InThisProcess(batch._Worker):
    """A worker without a process: what it would send is read from a list."""

    def __init__(self, answers):
        self.connection: Any = self
        self.tasks, self.is_ready = {}, False
        self._answers = list(answers)

    def give(self, study, tries):
        self.tasks[batch.study_label(study.key)] = batch._Task(study, tries, 0.0)

    def recv(self):
        if not self._answers:
            raise EOFError
        label, value = self._answers.pop(0)
        return (next(iter(self.tasks)) if label else None), value

    def stop(self):
        pass


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Analyses two studies with workers that answer as listed, one list for each start of a worker."""

    def run(*answers):
        starts = iter(answers)
        monkeypatch.setattr(batch, "_Worker", lambda start: InThisProcess(next(starts)))
        monkeypatch.setattr("multiprocessing.connection.wait", lambda connections, timeout: connections)
        studies = [StudyFiles(key, (tmp_path / key,)) for key in "ab"]
        with Journal(tmp_path / "journal", settings={}) as journal:
            counts = run_batch(iter(studies), journal, root=tmp_path, make=make_sizes, config=None)
            return counts, [row["reason"] for row in journal.rows()]

    return run


READY, MEASURED = (None, None), ("label", {"status": "measured"})


def test_workers_that_end_while_they_start_stop_the_batch(run):
    with pytest.raises(BatchError, match="before its networks were loaded, twice"):
        run([], [])


def test_a_worker_that_ends_once_while_it_starts_is_replaced(run):
    assert run([], [READY, MEASURED, MEASURED]) == ((2, 0, 0, True), [None, None])


@pytest.mark.parametrize("value", ["no GPU\nhere", no_row("/reports: no space")])
def test_what_every_study_would_meet_is_no_row(run, tmp_path, value):
    answer = (None, value) if isinstance(value, str) else ("label", value)
    with pytest.raises(BatchError, match=r"no GPU|no space"):
        run([READY, MEASURED, answer])
    with Journal(tmp_path / "journal", settings={}) as journal:
        assert [row["status"] for row in journal.rows()] == ["measured"]


def test_a_study_during_which_a_ready_worker_ends_is_still_recorded(run):
    counts, reasons = run([READY, MEASURED], [READY], [READY])
    assert counts == (1, 0, 1, True)
    assert reasons == [None, "The process that analysed it ended, twice."]


def test_a_full_disk_is_no_fault_of_a_study_and_no_error_names_a_folder(tmp_path):
    def analyze(code):
        def raises(label, files):
            raise OSError(code, os.strerror(code), "/home/Mustermann/reports")

        return analyze_safely(raises, "label", [tmp_path / "a"])

    options = {"key": "a", "files": [], "seconds": 1.0, "keep_names": False, "root": tmp_path}
    with pytest.raises(BatchError, match="No space left on device"):
        completed(analyze(errno.ENOSPC), **options)
    assert completed(analyze(errno.EIO), **options)["reason"] == "OSError: Input/output error"


def test_only_whole_names_of_files_become_clips():
    def raises(label, files):
        raise ValueError("/a/32.dcm and 320.dcm: frames of 32 x 32.5, 32.raw, not as old_Erika.mhd, Erika, \x1b.png")

    files = [Path(f"/a/{name}") for name in ("32.dcm", "320.dcm", "Erika.png", "\x1b.png")]
    reason = analyze_safely(raises, "label", files)["reason"]
    expected = "clip 1 and clip 2: frames of 32 x 32.5, clip 1.raw, not as old_clip 3.mhd, clip 3, clip 4"
    assert reason == f"ValueError: {expected}"


def test_a_short_number_that_is_a_whole_name_becomes_a_clip():
    def raises(label, files):
        raise ValueError("patient 1234: no frames")

    assert analyze_safely(raises, "label", [Path("/a/1234")])["reason"] == "ValueError: patient clip 1: no frames"


def test_a_study_that_cannot_be_measured_says_why_with_its_numbers(tmp_path, monkeypatch):
    reason = "It has frames of 20 x 32 pixels, expected at least 32 x 32."
    error = StudyError(f"/archive/32.dcm: {reason}", problem=f"clip 1: {reason}")

    def refuses(*_, **__):
        raise error

    analyzer = types.SimpleNamespace(load=lambda: None, is_validated=True)
    monkeypatch.setattr("cardiojax.study.analyze_study", refuses)
    monkeypatch.setattr("cardiojax.study.analyzer.Analyzer", lambda *_, **__: analyzer)
    monkeypatch.setattr("cardiojax.analysis.view.make_view_classifier", lambda **_: None)
    row = make_analyze_files(BatchConfig(cache_dir=str(tmp_path / "cache")))("label", [Path("/archive/32.dcm")])
    assert row["reason"] == f"clip 1: {reason}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_journal_on_a_full_disk_names_its_file_and_loses_nothing(tmp_path):
    def append_twice():
        with Path("/dev/full").open("ab") as full, Journal(tmp_path, settings={}) as journal:
            journal.append("a", {"value": 1}, state="1")
            journal._file = full
            journal.append("b", {"value": 2}, state="1")

    with pytest.raises(OSError, match=r"No space.*journal\.jsonl"):
        append_twice()
    with Journal(tmp_path, settings={}) as journal:
        assert journal.states == {"a": "1"}


def test_tables_and_their_journals_are_no_studies(tmp_path):
    file = loop(tmp_path / "p" / "x.npy")
    with Journal(tmp_path / ("t.parquet" + storage.JOURNAL_SUFFIX), settings={}):
        pass
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    (tmp_path / "other.journal").mkdir()
    other = loop(tmp_path / "other.journal" / "y.npy")
    studies = [study.files for study in find_studies(tmp_path, with_unreadable=True)]
    assert studies == [(other,), (file,)]


def test_a_table_is_of_one_archive_and_its_journal_names_no_path(tmp_path):
    out, reports = tmp_path / "t.parquet", tmp_path / "Mustermann_reports"
    config = BatchConfig(reports=str(reports))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cardiojax.cli.batch.run_batch", lambda studies, *_, **__: batch.BatchCounts(0, 0, 0, False))
        for name in ("a", "b"):
            loop(tmp_path / f"Mustermann_{name}" / "p" / "x.npy")
        analyze_archive(tmp_path / "Mustermann_a", out=out, config=config)
        assert b"Mustermann" not in (tmp_path / "t.parquet.journal" / storage.JOURNAL).read_bytes()
        (tmp_path / "link").symlink_to(tmp_path / "Mustermann_a")
        analyze_archive(tmp_path / "link", out=out, config=config)
        with pytest.raises(JournalError, match="another archive"):
            analyze_archive(tmp_path / "Mustermann_b", out=out, config=config)
        with pytest.raises(IsADirectoryError):
            analyze_archive(tmp_path / "Mustermann_a", out=_folder(tmp_path / "d.parquet"), config=config)


def save_network(path: Path, value: float) -> Path:
    params = jax.tree.map(
        lambda x: np.full(x.shape, value, x.dtype), zoo.abstract_variables("unet_camus", features=(2,))
    )
    zoo.save(path, "unet_camus", params["params"], features=(2,))
    return path


def test_rows_of_other_weights_or_of_another_version_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("cardiojax.cli.batch.run_batch", lambda studies, *_, **__: batch.BatchCounts(0, 0, 0, False))
    loop(tmp_path / "archive" / "p" / "x.npy")
    weights = save_network(tmp_path / "own.safetensors", 0.0)
    config = BatchConfig(analyze=AnalyzeConfig(model=str(weights), ensemble=("unet_camus",)))

    def analyze():
        analyze_archive(tmp_path / "archive", out=tmp_path / "t.parquet", config=config)

    analyze()
    assert str(weights).encode() not in (tmp_path / "t.parquet.journal" / storage.JOURNAL).read_bytes()
    analyze()
    before = weights.read_bytes()
    save_network(weights, 1.0)
    with pytest.raises(JournalError, match="of other options, other weights or another version"):
        analyze()
    weights.write_bytes(before)
    analyze()
    monkeypatch.setattr("cardiojax.__version__", "0.0.1")
    with pytest.raises(JournalError, match="another version of cardiojax"):
        analyze()


def test_relative_paths_reach_the_workers_as_absolute_ones(tmp_path, monkeypatch):
    given = []

    def run(studies, journal, **options):
        given.append((list(studies), options["root"], options["config"]))
        return batch.BatchCounts(0, 0, 0, False)

    monkeypatch.setattr("cardiojax.cli.batch.run_batch", run)
    loop(tmp_path / "archive" / "p" / "x.npy")
    save_network(tmp_path / "own.safetensors", 0.0)
    monkeypatch.chdir(tmp_path)
    for folder in (Path(), tmp_path):
        model = str(folder / "own.safetensors")
        config = BatchConfig(
            analyze=AnalyzeConfig(model=model, ensemble=("unet_camus", model)),
            cache_dir=str(folder / "cache"),
            reports=str(folder / "reports"),
        )
        analyze_archive(folder / "archive", out=folder / "t.parquet", config=config)
    relative, absolute = given
    assert relative == absolute
    assert absolute[0] == [StudyFiles("p", (tmp_path / "archive" / "p" / "x.npy",))]
    assert absolute[2] == config


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.skipif(os.name != "posix", reason="names of files that are bytes")
def test_names_that_are_not_utf8_are_kept_apart_and_can_be_written(tmp_path):
    from cardiojax.archive.table import write_table

    names = [b"M\xfcller", "Müller".encode(), b"line\nbreak"]
    for name in names:
        loop(tmp_path / "archive" / os.fsdecode(name) / "x.npy")
    studies = list(find_studies(tmp_path / "archive"))
    assert {os.fsencode(study.key) for study in studies} == set(names)
    options = {"seconds": 1.0, "keep_names": True, "root": tmp_path / "archive"}
    rows = [completed({"status": "measured"}, key=s.key, files=s.files, **options) for s in studies]
    assert write_table(tmp_path / "t.parquet", rows) == 3
    written = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert sorted(row["files"] for row in written) == ["Müller/x.npy", "Müller/x.npy", "line\\nbreak/x.npy"]


def test_the_list_of_files_leaves_nothing_behind_when_the_process_is_killed(tmp_path, monkeypatch):
    loop(tmp_path / "archive" / "Mustermann" / "x.npy")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    opened = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path: opened.append(path) or connect(path))
    studies = find_studies(tmp_path / "archive")
    next(studies)
    assert opened == [""]  # which SQLite removes from its folder when it opens it
    assert not list((tmp_path / "tmp").iterdir())


def test_two_patients_with_one_study_are_refused_before_anything_is_measured(tmp_path, monkeypatch):
    class Networks:
        is_validated = True

        def load(self):
            pass

    monkeypatch.setattr("cardiojax.study.analyzer.Analyzer", lambda *_, **__: Networks())
    monkeypatch.setattr("cardiojax.analysis.view.make_view_classifier", lambda config: None)
    analyze = make_analyze_files(BatchConfig())
    for name in ("a", "b"):
        identity.write_dicom(tmp_path / f"{name}.dcm", identity.frames(2), PatientID=name)
    ((_, files),) = find_studies(tmp_path)
    row = analyze("label", files)
    assert row == {"status": "refused", "reason": "The files belong to 2 patients, expected those of one."}
