"""Folders for output: what is not ours is never replaced, and every refusal comes before the work."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cardiojax import storage
from cardiojax.report import OutputFolderError, check_output
from cardiojax.report.output import MANIFEST, staged_output


def write(folder, **contents):
    with staged_output(folder) as staging:
        for name, text in contents.items():
            (staging / f"{name}.txt").write_text(text)


def contents(folder):
    return {p.name: p.read_text() for p in folder.iterdir() if p.name != MANIFEST}


def test_own_files_are_replaced_and_those_of_an_earlier_run_go(tmp_path):
    folder = tmp_path / "deep" / "out"
    check_output(folder)
    assert list(tmp_path.iterdir()) == []
    write(folder, page="1", numbers="2")
    assert check_output(folder) == folder
    write(folder, page="3")
    assert contents(folder) == {"page.txt": "3"}
    assert sorted(p.name for p in folder.iterdir()) == [MANIFEST, "page.txt"]


@pytest.mark.parametrize("name", ["thesis.tex", "page.txt"])
def test_foreign_and_changed_files_are_left_alone(tmp_path, name):
    folder = tmp_path / "out"
    write(folder, page="1")
    (folder / name).write_text("years of work")
    for attempt in (lambda: check_output(folder), lambda: write(folder, page="2")):
        with pytest.raises(OutputFolderError, match=f"holds {name}"):
            attempt()
    assert (folder / name).read_text() == "years of work"


@pytest.mark.parametrize("name", [".cardiojax-notes", ".cardiojax-notes/thesis.tex"])
def test_what_only_has_a_name_like_ours_is_foreign(tmp_path, name):
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_text("years of work")
    for attempt in (lambda: check_output(tmp_path / "out"), lambda: write(tmp_path / "out", page="1")):
        with pytest.raises(OutputFolderError, match=r"holds \.cardiojax-notes"):
            attempt()
    assert (tmp_path / "out" / name).read_text() == "years of work"


def test_a_link_with_a_name_like_ours_is_foreign(tmp_path):
    (tmp_path / "theirs" / "new").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".cardiojax-link").symlink_to(tmp_path / "theirs")
    with pytest.raises(OutputFolderError, match=r"holds \.cardiojax-link"):
        check_output(tmp_path / "out")
    assert (tmp_path / "theirs" / "new").is_dir()


def test_files_of_the_same_names_without_a_manifest_are_foreign(tmp_path):
    (tmp_path / "page.txt").write_text("somebody's")
    (tmp_path / MANIFEST).write_text('{"files": {"page.txt": "0"}}')
    with pytest.raises(OutputFolderError, match=r"holds page\.txt"):
        write(tmp_path, page="1")
    (tmp_path / MANIFEST).write_text('{"files": {"../other": ')
    with pytest.raises(OutputFolderError, match="holds"):
        write(tmp_path, page="1")
    assert (tmp_path / "page.txt").read_text() == "somebody's"


def test_a_file_that_appears_during_the_work_is_not_replaced(tmp_path):
    with pytest.raises(OutputFolderError, match=r"holds page\.txt"), staged_output(tmp_path) as staging:  # noqa: PT012
        (staging / "page.txt").write_text("ours")
        (tmp_path / "page.txt").write_text("theirs")
    assert contents(tmp_path) == {"page.txt": "theirs"}


def test_a_failure_leaves_the_earlier_output(tmp_path, monkeypatch):
    write(tmp_path, page="1", numbers="2")
    with pytest.raises(ZeroDivisionError), staged_output(tmp_path) as staging:  # noqa: PT012
        (staging / "page.txt").write_text("3")
        1 / 0  # noqa: B018
    assert contents(tmp_path) == {"page.txt": "1", "numbers.txt": "2"}
    replace = Path.replace

    def broken(self, target):
        if self.parent.name == "new" and self.name == "page.txt":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OutputFolderError, match="No space left"):
        write(tmp_path, numbers="4", page="3")
    assert contents(tmp_path) == {"page.txt": "1", "numbers.txt": "2"}
    assert check_output(tmp_path) == tmp_path


def test_an_error_of_what_the_block_reads_is_no_error_of_the_output(tmp_path):
    source = tmp_path / "loop.dcm"
    with pytest.raises(FileNotFoundError, match=r"loop\.dcm"), staged_output(tmp_path / "out"):
        source.read_bytes()
    with pytest.raises(OSError, match="No space left on device"), staged_output(tmp_path / "out"):
        raise OSError(28, "No space left on device", "/cache/x")
    assert not (tmp_path / "out").exists()


def test_an_error_of_what_the_block_writes_names_the_output(tmp_path):
    with pytest.raises(OutputFolderError, match="out cannot be written"), staged_output(tmp_path / "out") as staging:
        (staging / "absent" / "page.txt").write_text("1")
    for code in (errno.ENOSPC, errno.EROFS, errno.EIO, errno.ESTALE):
        with pytest.raises(OutputFolderError, match="out cannot be written"), staged_output(tmp_path / "out"):
            raise OSError(code, os.strerror(code))
    assert not (tmp_path / "out").exists()


def test_the_input_is_not_in_the_output(tmp_path):
    write(tmp_path, masks="1")
    for file in (tmp_path / "masks.txt", tmp_path / "absent" / "loop.dcm"):
        with pytest.raises(OutputFolderError, match="holds the input"):
            check_output(tmp_path, inputs=[file])
    check_output(tmp_path / "report", inputs=[tmp_path / "masks.txt"])


def test_the_current_folder_stays_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = Path.cwd().stat().st_ino
    for text in "12":
        check_output(".")
        write(".", page=text)
    assert Path.cwd().stat().st_ino == before
    assert Path("page.txt").read_text() == "2"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file/out", "Not a directory"),
        ("file", "is a file"),
        ("x" * 300, "too long"),
        ("a\0b", "null"),
        ("loop", "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_one_sentence_before_the_work(tmp_path, name, reason):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OutputFolderError, match=reason) as refused:
        check_output(tmp_path / name)
    assert "\n" not in str(refused.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "loop"]
    assert (tmp_path / "file").read_text() == ""


def test_long_and_latin_names_are_written(tmp_path):
    for name in ("x" * 250, os.fsdecode(b"caf\xe9"), "\x1b[31mred"):
        folder = tmp_path / name
        check_output(folder)
        write(folder, page="1")
        assert contents(folder) == {"page.txt": "1"}
        (folder / "other").write_text("")
        with pytest.raises(OutputFolderError) as refused:
            check_output(folder)
        str(refused.value).encode()
        assert str(refused.value).isprintable()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="drops the rights of root")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o755)
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    code = (
        "import os, sys; from cardiojax.report import check_output, OutputFolderError; os.setuid(65534)\n"
        "for target in sys.argv[1:]:\n"
        "    try: check_output(target)\n"
        "    except OutputFolderError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(folder), str(folder / "new")]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    assert out.stdout.count("cannot be written") == 2


def test_what_killed_runs_leave_goes_and_what_is_in_use_stays(tmp_path):
    write(tmp_path, page="1")
    for name in (".cardiojax-dead", ".cardiojax-live"):
        (tmp_path / name / "new").mkdir(parents=True)
    with storage.lock_folder(tmp_path / ".cardiojax-live"):
        check_output(tmp_path)
        write(tmp_path, page="2")
        assert sorted(p.name for p in tmp_path.iterdir()) == [".cardiojax-live", MANIFEST, "page.txt"]
    check_output(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [MANIFEST, "page.txt"]


def test_a_run_that_is_killed_between_two_moves_loses_no_earlier_output(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    write(folder, page="1", numbers="2", gone="3")
    replace, copies = Path.replace, []

    def copied(self, target):
        copies.append(shutil.copytree(folder, tmp_path / f"killed{len(copies)}"))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", copied)
    write(folder, page="4", numbers="5")
    monkeypatch.undo()
    assert len(copies) == 4 + 3  # files with their manifest, away and in
    for copy in copies:
        assert check_output(copy) == copy
        assert contents(copy) == {"page.txt": "1", "numbers.txt": "2", "gone.txt": "3"}
        assert not list(copy.glob(".cardiojax-*"))
        write(copy, page="6")
        assert contents(copy) == {"page.txt": "6"}


def test_a_file_written_after_a_killed_run_is_kept(tmp_path):
    write(tmp_path, page="1")
    staging = tmp_path / ".cardiojax-dead"
    (staging / "old").mkdir(parents=True)
    (staging / "new").mkdir()
    (staging / "new" / MANIFEST).write_text('{"files": {"page.txt": "0"}}')
    for name in (MANIFEST, "page.txt"):
        (tmp_path / name).replace(staging / "old" / name)
    (tmp_path / "page.txt").write_text("theirs")
    with pytest.raises(OutputFolderError, match=r"holds page\.txt"):
        check_output(tmp_path)
    assert contents(tmp_path) == {"page.txt": "theirs"}
