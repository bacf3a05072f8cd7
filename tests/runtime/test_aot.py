"""Programs compiled in the background, and the folder that keeps them."""

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

from cardiojax.runtime import aot

_CACHE_OPTIONS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


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
    with pytest.raises(ValueError, match=r"file cannot hold compiled programs \(Not a directory\)"):
        aot.set_cache_folder(tmp_path / "file")


@pytest.fixture
def kept(tmp_path):
    before = {name: jax.config.values[name] for name in _CACHE_OPTIONS}
    aot.set_cache_folder(tmp_path)
    yield lambda: sorted((aot.cache_folder(tmp_path) / "programs").iterdir())
    for name, value in before.items():
        jax.config.update(name, value)


def _counted(traced, function, identity=None):
    def counted(x):
        traced.append(x.shape)
        return function(x)

    return aot.CompiledFunction(counted, identity=identity)


def test_a_kept_program_is_not_traced_again(kept):
    traced, x = [], np.arange(3, dtype=np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(_counted(traced, lambda x: 2 * x, "twice")(x), [0, 2, 4])
    assert traced == [(3,)]
    np.testing.assert_array_equal(_counted(traced, lambda x: 3 * x, "thrice")(x), [0, 3, 6])
    assert len(kept()) == 2
    for path in kept():
        path.write_bytes(path.read_bytes()[:99])
    np.testing.assert_array_equal(_counted(traced, lambda x: 2 * x, "twice")(x), [0, 2, 4])
    assert len(traced) == 3


def test_what_cannot_be_told_apart_or_loaded_is_not_kept(kept):
    traced, x = [], np.eye(2, dtype=np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(_counted(traced, lambda x: 2 * x)(x), 2 * x)  # a closure without a name
    np.testing.assert_array_equal(_counted(traced, jnp.linalg.inv, "inverse")(x), x)  # calls LAPACK
    assert len(traced) == 3
    assert kept() == []
