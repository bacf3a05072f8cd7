"""Functions compiled in the background, and the folder of the compilation cache."""

import os
import stat
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from cardiojax import storage
from cardiojax.runtime import aot

_CACHE_OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_enable_compilation_cache",
)


def test_one_compilation_for_each_set_of_shapes():
    traced = []

    def scale(x, factor):
        traced.append(x.shape)
        return x * factor

    program = aot.CompiledFunction(scale, static_argnames="factor")
    soon = program.compile(jax.ShapeDtypeStruct((3,), jnp.float32), factor=2)
    np.testing.assert_array_equal(program(np.ones(3, np.float32), factor=2), [2, 2, 2])
    assert program.compile(np.zeros(3, np.float32), factor=2) is soon
    np.testing.assert_array_equal(program(np.ones(2, np.float32), factor=2), [2, 2])
    np.testing.assert_array_equal(program(np.ones(3, np.float32), factor=5), [5, 5, 5])
    assert traced == [(3,), (2,), (3,)]


def test_a_mistake_is_raised_where_the_result_is_asked_for():
    program = aot.CompiledFunction(lambda x: x @ jnp.ones((5, 5)))
    program.compile(jax.ShapeDtypeStruct((3,), jnp.float32))
    with pytest.raises(TypeError, match="shape"):
        program(np.ones(3, np.float32))


def test_the_cache_is_named_after_jaxlib_and_processor(tmp_path, monkeypatch):
    folder = aot.cache_folder(tmp_path)
    assert folder.parent == tmp_path
    assert folder.name.startswith(f"jaxlib-{jaxlib.__version__}-")
    assert folder == aot.cache_folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(
            aot.Path, "read_text", lambda *_: "processor\t: 0\nmodel name\t: Some CPU (R) 3\nflags\t\t: a b\n"
        )
        few = aot.cache_folder(tmp_path)
        patch.setattr(aot.Path, "read_text", lambda *_: "model name\t: Some CPU (R) 3\nflags\t: a avx\n")
        more = aot.cache_folder(tmp_path)
    assert few.name.startswith(f"jaxlib-{jaxlib.__version__}-some-cpu-r-3-")
    assert few != more


def test_a_folder_that_is_none_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file cannot hold compiled functions \(File exists\)"):
        aot.set_cache_folder(tmp_path / "file")


@pytest.fixture
def restored_options():
    before = {name: jax.config.values[name] for name in _CACHE_OPTIONS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_the_cache_is_private_and_holds_what_is_compiled(tmp_path, restored_options):
    before = os.umask(0o002)  # as on systems where each user has a group
    try:
        aot.set_cache_folder(tmp_path / "new")
        np.testing.assert_array_equal(
            aot.CompiledFunction(lambda x: x * 7 - 1)(np.arange(3, dtype=np.float32)), [-1, 6, 13]
        )
    finally:
        os.umask(before)
    folder = aot.cache_folder(tmp_path / "new")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)] == [0o700, 0o700]
    (entry,) = folder.glob("*-cache")
    assert entry.stat().st_mode & 0o020  # the group could write to it, but cannot enter its folder
    aot.set_cache_folder(tmp_path / "new")
    aot.check_cache_folder()


@pytest.mark.parametrize("content", [b"", b"half", b"x\x9cnot zlib", aot._ZSTD + b"not zstd"])
def test_entries_that_are_not_whole_are_made_anew(tmp_path, restored_options, content):
    def run():
        aot.set_cache_folder(tmp_path)
        return aot.CompiledFunction(lambda x: x * 3 - 2)(np.arange(3, dtype=np.float32))

    np.testing.assert_array_equal(run(), [-2, 1, 4])
    (entry,) = aot.cache_folder(tmp_path).glob("*-cache")
    whole = entry.read_bytes()
    entry.write_bytes(content if content != b"half" else whole[: len(whole) // 2])
    np.testing.assert_array_equal(run(), [-2, 1, 4])  # without a warning of JAX
    assert zlib.decompress(entry.read_bytes())


def test_the_oldest_entries_over_the_limit_are_removed(tmp_path, restored_options, monkeypatch):
    aot.set_cache_folder(tmp_path)
    for number in range(3):
        aot.CompiledFunction(lambda x, n=number: x * n - 5)(np.arange(3, dtype=np.float32))
    entries = sorted(aot.cache_folder(tmp_path).glob("*-cache"))
    for age, path in enumerate(entries):
        os.utime(path, (1000 - age, 1000 - age))
    monkeypatch.setattr(aot, "_MOST_BYTES", sum(path.stat().st_size for path in entries[:2]))
    aot.set_cache_folder(tmp_path)
    assert sorted(aot.cache_folder(tmp_path).glob("*-cache")) == entries[:2]


def test_the_users_cache_is_used_unless_another_is_named_or_it_is_not_private(tmp_path, restored_options, monkeypatch):
    monkeypatch.setenv("CARDIOJAX_CACHE", str(tmp_path))
    folder = aot.cache_folder(tmp_path / "programs")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "other"))
    aot.use_user_cache()
    assert not folder.exists()
    jax.config.update("jax_compilation_cache_dir", None)
    aot.use_user_cache()
    assert jax.config.values["jax_compilation_cache_dir"] == str(folder)
    for unsafe in (folder, tmp_path):
        before = unsafe.stat().st_mode
        unsafe.chmod(0o777)
        jax.config.update("jax_compilation_cache_dir", None)
        aot.use_user_cache()
        assert jax.config.values["jax_compilation_cache_dir"] is None
        unsafe.chmod(before)


@pytest.mark.parametrize("place", ["~nobodyofthisname/x", "loop", "file", "no home"])
def test_without_a_usable_place_there_is_no_cache(tmp_path, restored_options, monkeypatch, place):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setenv("CARDIOJAX_CACHE", place if place.startswith("~") else str(tmp_path / place))
    if place == "no home":
        monkeypatch.delenv("CARDIOJAX_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", _no_home)
    jax.config.update("jax_compilation_cache_dir", None)
    aot.use_user_cache()
    assert jax.config.values["jax_compilation_cache_dir"] is None


def _no_home():
    raise RuntimeError("Could not determine home directory.")


def test_a_relative_general_folder_is_ignored(monkeypatch):
    monkeypatch.delenv("CARDIOJAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert storage.user_cache_folder() == Path.home() / ".cache" / "cardiojax"


def test_nothing_is_kept_where_jax_keeps_nothing(tmp_path, restored_options, monkeypatch):
    monkeypatch.setenv("CARDIOJAX_CACHE", str(tmp_path / "new"))
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    aot.use_user_cache()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("call", ["command", "worker"])
def test_commands_and_their_workers_use_the_users_cache(tmp_path, call):
    code = {
        "command": "import cardiojax.cli; cardiojax.cli.main(['zoo', 'list'])",
        "worker": "from cardiojax.archive import worker; worker.make_analyze_files(worker.BatchConfig())",
    }[call]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
    command = [sys.executable, "-c", f"{code}; import jax; print(jax.config.values['jax_compilation_cache_dir'])"]
    environment |= {"CARDIOJAX_CACHE": str(tmp_path)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == str(aot.cache_folder(tmp_path / "programs"))


def test_the_folder_of_jaxs_own_settings_must_be_private(tmp_path, restored_options):
    for folder in (tmp_path / "absent", tmp_path, "gs://bucket/cache", None):
        jax.config.update("jax_compilation_cache_dir", folder and str(folder))
        aot.check_cache_folder()
    tmp_path.chmod(0o777)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    with pytest.raises(ValueError, match="can be written to by other users"):
        aot.check_cache_folder()


@pytest.mark.parametrize("planted", ["parent", "folder", "file"])
def test_a_cache_that_others_can_write_to_is_refused(tmp_path, restored_options, planted):
    folder = aot.cache_folder(tmp_path)
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "jit_f-0123-cache").touch()
    {"parent": tmp_path, "folder": folder, "file": folder / "jit_f-0123-cache"}[planted].chmod(0o777)
    with pytest.raises(ValueError, match="can be written to by other users"):
        aot.set_cache_folder(tmp_path)
    assert jax.config.values["jax_compilation_cache_dir"] != str(folder)


def test_nothing_is_loaded_from_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "programs").mkdir()
    monkeypatch.chdir(tmp_path)
    opened = []
    read = aot.Path.read_bytes
    monkeypatch.setattr(aot.Path, "read_bytes", lambda self: opened.append(self) or read(self))
    aot.CompiledFunction(lambda x: x + 3)(np.zeros(2, np.float32))
    assert opened == []
    assert list((tmp_path / "programs").iterdir()) == []
