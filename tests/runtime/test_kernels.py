"""Compilation of the kernels: once for a compiler, in a private folder, with one sentence where it fails."""

import shutil
import subprocess
import sys

import jax.numpy as jnp
import pytest

from cardiojax import ops, runtime
from cardiojax.ops.native import registry


def test_a_library_is_compiled_once(kernels, monkeypatch):
    def fail(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(runtime.kernels, "_compile", fail)
    assert runtime.build_kernels(kernels.parents[1]) == kernels


def test_another_source_is_another_library(kernels, tmp_path, monkeypatch):
    for path in ops.KERNEL_SOURCES[0].parent.glob("*.[ch]*"):
        shutil.copy(path, tmp_path)
    header = tmp_path / "common.h"
    header.write_text(header.read_text("utf-8") + "// changed\n", "utf-8")
    monkeypatch.setattr(ops, "KERNEL_SOURCES", tuple(tmp_path / path.name for path in ops.KERNEL_SOURCES))
    monkeypatch.setattr(ops, "register_kernels", lambda library: None)
    assert runtime.build_kernels(kernels.parents[1]) != kernels


def test_processes_that_compile_at_once_leave_one_whole_library(kernels, tmp_path):
    code = f"from cardiojax import runtime; runtime.build_kernels({str(tmp_path)!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [kernels.name]


def test_without_a_compiler_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RuntimeError, match=r"needs a C\+\+ compiler: none of g\+\+, clang\+\+, c\+\+ was found"):
        runtime.build_kernels(tmp_path)
    monkeypatch.setenv("CXX", "icpx -fast")
    with pytest.raises(RuntimeError, match="no C\\+\\+ compiler 'icpx', which the environment variable CXX names"):
        runtime.build_kernels(tmp_path)
    monkeypatch.setenv("CXX", "g++ 'x")
    with pytest.raises(RuntimeError, match="CXX is no command: No closing quotation"):
        runtime.build_kernels(tmp_path)


def test_an_error_of_the_compiler_is_told_and_leaves_nothing(kernels, tmp_path, monkeypatch):
    wrong = tmp_path / "kernels.cc"
    wrong.write_text("int x = ;\n", "utf-8")
    monkeypatch.setattr(ops, "KERNEL_SOURCES", (wrong,))
    with pytest.raises(RuntimeError, match=r"cannot compile the kernels: .*error"):
        runtime.build_kernels(tmp_path / "cache")
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []


def test_a_folder_of_others_is_refused(kernels, tmp_path):
    folder = runtime.aot.cache_folder(tmp_path)
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(ValueError, match="can be written to by other users"):
        runtime.build_kernels(tmp_path)


def test_a_folder_that_others_can_replace_is_refused(kernels, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ValueError, match="another user could replace"):
        runtime.build_kernels(tmp_path / "open" / "kernels")


def test_a_folder_that_is_a_file_is_told(kernels, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot hold compiled kernels"):
        runtime.build_kernels(tmp_path / "file")


def test_layers_say_that_kernels_are_missing(monkeypatch):
    monkeypatch.setattr(registry, "_targets", {})
    with pytest.raises(RuntimeError, match=r"call cardiojax.runtime.build_kernels\(\) first"):
        ops.instance_norm(jnp.zeros((1, 2, 2, 16)), jnp.ones(16), jnp.zeros(16), implementation="native")


FAULTS = """
import resource, jax, jax.numpy as jnp
from cardiojax import runtime
kept = {keep} and runtime.keep_freed_memory()
x = jnp.ones((64, 512, 512))
step = jax.jit(lambda x: jax.lax.optimization_barrier(x + 1).sum())  # an intermediate result of 64 MiB
for _ in range(3):
    step(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step(x).block_until_ready()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_freed_memory_is_used_again():
    def page_faults(keep):
        command = [sys.executable, "-c", FAULTS.format(keep=keep)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return tuple(map(int, output.split()))

    kept, few = page_faults(True)
    if not kept:
        pytest.skip("the C library has no such settings")
    assert few < page_faults(False)[1] / 10
