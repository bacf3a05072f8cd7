"""An archive becomes a table in which each study is once, whatever happens in between."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cardiojax import storage
from cardiojax.archive import BatchConfig, Journal, JournalError, columns, study_label
from cardiojax.archive.rows import completed, files_state, row_of_failure
from cardiojax.archive.table import write_table
from cardiojax.cli.batch import analyze_archive
from cardiojax.study import StudyFiles
from tests.helpers import identity
from tests.helpers.archive import make_sizes

parquet = pytest.importorskip("pyarrow.parquet")
NUM = 12
ROOT = Path(__file__).parents[2]


def make_archive(root: Path, num: int = NUM) -> None:
    """Studies in folders and in DICOM files of one folder, in every format; three are broken, one is so in part."""
    rng = np.random.default_rng(0)
    for i in range(num):
        frames = rng.integers(0, 255, (2, 32 + i, 40)).astype(np.uint8)
        folder = root / f"Mustermann_{i:03d}"
        folder.mkdir(parents=True)
        suffix = list(identity.WRITERS)[i % 4]
        if suffix == ".dcm":
            uid = f"1.2.3.{i}"
            identity.write_dicom(root / f"Mustermann_{i}.dcm", frames, StudyInstanceUID=uid, SOPInstanceUID=f"{uid}.1")
            folder.rmdir()
        else:
            identity.WRITERS[suffix](folder / f"Erika{suffix}", frames)
    for name, content in (("empty.dcm", b""), ("text.mp4", b"no video"), ("torn.png", b"\x89PNG\r\n\x1a\nxx")):
        (root / f"broken_{name}").mkdir()
        (root / f"broken_{name}" / f"Mustermann_{name}").write_bytes(content)
    good = root / "half"
    good.mkdir()
    np.save(good / "good.npy", rng.random((3, 32, 32)).astype(np.float32))
    (good / "bad.npy").write_bytes(b"\x93NUMPY")


def test_every_study_is_a_row_and_every_broken_file_has_a_reason(tmp_path):
    root = tmp_path / "archive"
    make_archive(root)
    for num_workers, studies_at_once in ((2, 1), (1, 4)):
        out = tmp_path / f"{num_workers}.parquet"
        config = BatchConfig(studies_at_once=studies_at_once)
        counts, status = analyze_archive(root, out=out, config=config, make=make_sizes, num_workers=num_workers)
        assert (*counts, status) == (NUM + 1, 3, 0, True, 0)
        rows = parquet.read_table(out).to_pylist()
        assert len({row["study"] for row in rows}) == len(rows) == NUM + 4
        assert list(rows[0]) == list(columns())
        refused = [row for row in rows if row["status"] == "refused"]
        assert all(row["reason"].startswith("clip 1: ") and row["num_files"] == 1 for row in refused)
        half = next(row for row in rows if row["num_files"] == 2)
        assert half["heart_rate_per_min"] == 3 * 32 * 32
        assert half["refused"].startswith("clip 1: ")
        content = b"".join(p.read_bytes() for p in (out, *tmp_path.glob(f"{num_workers}.*/*")))
        content += json.dumps(rows).encode()
        assert not [token for token in (*identity.TOKENS, "broken_", "1.2.3.") if token.encode() in content]
    assert {row["study"] for row in rows} >= {study_label("half"), study_label("1.2.3.0")}


def test_a_study_is_measured_again_when_a_file_came_went_or_changed(tmp_path, monkeypatch):
    folder, out = tmp_path / "archive", tmp_path / "t.parquet"
    for name in "abcd":
        (folder / name).mkdir(parents=True)
        for number in "12":
            np.save(folder / name / f"{number}.npy", np.ones((1, 32, 32), np.float32))
    measured = functools.partial(analyze_archive, out=out, config=BatchConfig(), make=make_sizes)

    def rows():
        return {row["study"]: row for row in parquet.read_table(out).to_pylist()}

    assert measured(folder)[0] == (4, 0, 0, True)
    first = rows()
    np.save(folder / "b" / "3.npy", np.ones((1, 32, 32), np.float32))
    (folder / "c" / "2.npy").unlink()
    np.save(folder / "d" / "2.npy", np.ones((3, 32, 32), np.float32))
    monkeypatch.chdir(tmp_path)
    assert measured(Path("archive"))[0] == (4, 0, 0, True)
    second = rows()
    assert second[study_label("a")] == first[study_label("a")]  # with its seconds: it was not measured
    assert [second[study_label(name)]["num_files"] for name in "abcd"] == [2, 3, 1, 2]
    sizes = [rows[study_label("d")]["heart_rate_per_min"] for rows in (first, second)]
    assert sizes == [2 * 32 * 32, 4 * 32 * 32]
    shutil.rmtree(folder / "a")
    assert measured(folder)[0] == (3, 0, 0, True)
    assert set(rows()) == {study_label(name) for name in "bcd"}


def test_the_pixels_of_a_header_belong_to_the_state_of_a_study(tmp_path):
    header, pixels = tmp_path / "a.mhd", tmp_path / "a.raw"
    study = StudyFiles("a", (header,))
    states = [files_state(study, tmp_path)]  # also where a file cannot be opened
    for file, content in ((header, b"x"), (pixels, b"1"), (pixels, b"12")):
        file.write_bytes(content)
        states.append(files_state(study, tmp_path))
    assert len(set(states)) == 4


def test_a_row_of_an_older_journal_is_current(tmp_path):
    with Journal(tmp_path, settings={}) as journal:
        journal.append("x", {"value": 1.5}, state="1")
    path = tmp_path / "journal.jsonl"
    path.write_text(path.read_text().replace(', "state": "1"', "").replace('"state":"1",', ""))
    assert "state" not in path.read_text()
    with Journal(tmp_path, settings={}) as journal:
        assert journal.is_current("x", "2")


def test_a_study_that_ends_its_process_or_raises_is_recorded_and_costs_no_other_one(tmp_path):
    for i, name in enumerate(("a", "kills_Mustermann", "raises_Mustermann", "x", "y", "z")):
        (tmp_path / "archive" / str(i)).mkdir(parents=True)
        np.save(tmp_path / "archive" / str(i) / f"{name}.npy", np.ones((1, 32, 32), np.float32))
    config = BatchConfig(studies_at_once=3)
    counts, _ = analyze_archive(tmp_path / "archive", out=tmp_path / "t.parquet", config=config, make=make_sizes)
    assert counts == (4, 0, 2, True)
    reasons = {row["reason"] for row in parquet.read_table(tmp_path / "t.parquet").to_pylist()} - {None}
    assert reasons == {"The process that analysed it ended, twice.", "RuntimeError: a bug at clip 1"}


PROGRAM = """
import sys
from pathlib import Path
from cardiojax.cli.batch import analyze_archive
from cardiojax.study import StudyFiles
from cardiojax.archive import BatchConfig
from tests.helpers.archive import make_sizes

if __name__ == "__main__":
    root, out = map(Path, sys.argv[1:])
    counts, status = analyze_archive(root, out=out, config=BatchConfig(), make=make_sizes)
    print(*counts, status)
    sys.exit(status)
"""


def start(tmp_path: Path, delay: float) -> subprocess.Popen:
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments = [tmp_path / "program.py", tmp_path / "archive", tmp_path / "t.parquet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CARDIOJAX_TEST_DELAY": str(delay)}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_lines(path: Path, num: int) -> None:
    for _ in range(1200):
        if path.exists() and path.read_bytes().count(b"\n") >= num:
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} has not {num} lines after a minute")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_killed_twice_and_stopped_once_each_study_is_there_once(tmp_path):
    make_archive(tmp_path / "archive")
    journal = tmp_path / "t.parquet.journal" / "journal.jsonl"
    for num, number in ((3, signal.SIGKILL), (7, signal.SIGKILL), (10, signal.SIGTERM)):
        process = start(tmp_path, 0.3)
        wait_for_lines(journal, num)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        assert not (tmp_path / "t.parquet").exists()
        if number == signal.SIGKILL:
            with journal.open("ab") as file:
                file.write(b'{"key": "torn')  # as if it had been writing
    assert process.returncode == 128 + signal.SIGTERM
    assert "finishing the studies that have begun" in errors
    assert "False" in output
    process = start(tmp_path, 0.0)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert output.split() == [str(NUM + 1), "3", "0", "True", "0"]
    studies = parquet.read_table(tmp_path / "t.parquet").column("study").to_pylist()
    assert len(studies) == len(set(studies)) == NUM + 4


def test_a_journal_keeps_whole_lines_and_refuses_other_options(tmp_path):
    with Journal(tmp_path, settings={"model": "a"}) as journal:
        journal.append("x", {"value": 1.5}, state="1")
        with pytest.raises(ValueError, match="already"):
            journal.append("x", {"value": 2.0}, state="1")
        with pytest.raises(storage.FolderInUseError), Journal(tmp_path, settings={"model": "a"}):
            pass
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    for end in range(len(whole) - 1, whole.index(b"\n") + 1, -7):
        path.write_bytes(whole[:end])
        with Journal(tmp_path, settings={"model": "a"}) as journal:
            assert journal.states == {}
            journal.append("x", {"value": 1.5}, state="1")
            assert list(journal.rows()) == [{"value": 1.5}]
    with Journal(tmp_path, settings={"model": "a"}) as journal:
        journal.append("y", {"value": 3.0}, state="1")
        journal.append("x", {"value": 2.0}, state="more files")
        assert list(journal.rows()) == [{"value": 3.0}, {"value": 2.0}]
        assert journal.states == {"x": "more files", "y": "1"}
    path.write_bytes(whole)
    with pytest.raises(JournalError, match="of other options"), Journal(tmp_path, settings={"model": "b"}):
        pass
    path.write_bytes(whole + b"nonsense\n")
    with pytest.raises(JournalError, match="damaged in line 3"), Journal(tmp_path, settings={"model": "a"}):
        pass
    path.write_bytes(whole[:10])  # killed before the first line was whole
    with Journal(tmp_path, settings={"model": "b"}) as journal:
        assert journal.states == {}


def test_a_table_has_units_in_its_columns_and_one_type_each(tmp_path):
    assert {"stroke_volume_ml", "cardiac_output_l_per_min", "body_surface_area_m2", "heart_rate_per_min"} <= set(
        columns()
    )
    options = {"files": [tmp_path / "Mustermann.dcm"], "seconds": 1.0, "root": tmp_path}
    rows = [completed(row_of_failure("why"), key=str(i), keep_names=bool(i), **options) for i in range(2)]
    assert write_table(tmp_path / "t.parquet", iter(rows)) == 2
    read = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert [row["files"] for row in read] == [None, "Mustermann.dcm"]
    assert read[0]["stroke_volume_ml"] is None
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_a_table_is_written_through_a_link(tmp_path):
    target, link = tmp_path / "table.parquet", tmp_path / "link.parquet"
    link.symlink_to(target)
    for num in (1, 2):
        row = completed(row_of_failure("x"), key="a", files=(), seconds=1.0, keep_names=False, root=tmp_path)
        assert write_table(link, [row] * num) == num
        assert link.is_symlink()
        assert len(parquet.read_table(target)) == num
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.parquet", "table.parquet"]
