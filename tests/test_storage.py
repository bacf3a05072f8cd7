"""Files whole or not at all, JSON that every reader accepts, and one writer a folder."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from cardiojax import storage


def test_a_file_is_replaced_whole_and_a_failed_write_changes_nothing(tmp_path, monkeypatch):
    target = tmp_path / "config.json"
    storage.write_json(target, {"a": 1})
    (tmp_path / "link.json").symlink_to(target)
    storage.write_atomic(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert target.read_text() == "new"

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match=r"No space left on device.*config\.json"):
        storage.write_atomic(target, b"half")
    assert target.read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "link.json"]


def test_an_error_of_another_file_is_not_blamed_on_the_target(tmp_path):
    target = tmp_path / "table.parquet"
    target.write_text("old")
    with pytest.raises(FileNotFoundError, match=r"absent\.jsonl"), storage.open_atomic(target):
        (tmp_path / "absent.jsonl").read_bytes()
    with pytest.raises(OSError, match=r"No space left.*table\.parquet"), storage.open_atomic(target):
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError, match=r"nowhere/x"):
        storage.write_atomic(tmp_path / "nowhere" / "x", "")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.parquet"]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    for name, age in ((".12.0123abcd.tmp", 7200), (".13.0123abcd.tmp", 0), (".mine.tmp", 7200)):
        (tmp_path / name).touch()
        stamp = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (stamp, stamp))
    storage.write_atomic(tmp_path / "file", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".13.0123abcd.tmp", ".mine.tmp", "file"]


def test_the_longest_name_and_a_device_can_be_written(tmp_path):
    storage.write_atomic(tmp_path / ("n" * 255), b"x")
    pipe_end, write_end = os.pipe()
    storage.write_atomic(f"/dev/fd/{write_end}", b"through")
    assert os.read(pipe_end, 20) == b"through"
    os.close(pipe_end)
    os.close(write_end)


def test_json_holds_no_nan():
    value = {"a": (np.float32("nan"), float("inf"), 0.5), 3: np.arange(2), "p": True, "none": None}
    assert json.loads(storage.to_json(value), parse_constant=pytest.fail) == {
        "a": [None, None, 0.5],
        "3": [0, 1],
        "p": True,
        "none": None,
    }


def test_one_holder_a_folder_and_none_once_it_has_died(tmp_path):
    folder = tmp_path / "run"
    code = (
        "import sys, time; from cardiojax import storage\n"
        f"with storage.lock_folder({str(folder)!r}):\n    print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(storage.FolderInUseError, match="run is in use by another process"), storage.lock_folder(folder):
        pass
    other.kill()
    other.communicate()
    with storage.lock_folder(folder):
        assert list(folder.iterdir()) == []
    with storage.lock_folder(folder):
        pass
