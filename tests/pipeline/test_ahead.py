"""Programs compiled in the background, and the folder that keeps them."""

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

from cardiojax.pipeline import ahead


def test_one_compilation_for_each_set_of_shapes():
    traced = []

    def scale(x, factor):
        traced.append(x.shape)
        return x * factor

    program = ahead.Program(scale, static_argnames="factor")
    soon = program.compile(jax.ShapeDtypeStruct((3,), jnp.float32), factor=2)
    np.testing.assert_array_equal(program(np.ones(3, np.float32), factor=2), [2, 2, 2])
    assert program.compile(np.zeros(3, np.float32), factor=2) is soon
    np.testing.assert_array_equal(program(np.ones(2, np.float32), factor=2), [2, 2])
    np.testing.assert_array_equal(program(np.ones(3, np.float32), factor=5), [5, 5, 5])
    assert traced == [(3,), (2,), (3,)]


def test_a_mistake_is_raised_where_the_result_is_asked_for():
    program = ahead.Program(lambda x: x @ jnp.ones((5, 5)))
    program.compile(jax.ShapeDtypeStruct((3,), jnp.float32))
    with pytest.raises(TypeError, match="shape"):
        program(np.ones(3, np.float32))


def test_the_cache_is_named_after_jaxlib_and_processor(tmp_path, monkeypatch):
    folder = ahead.cache_folder(tmp_path)
    assert folder.parent == tmp_path
    assert folder.name.startswith(f"jaxlib-{jaxlib.__version__}-")
    assert folder == ahead.cache_folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(
            ahead.Path, "read_text", lambda *_: "processor\t: 0\nmodel name\t: Some CPU (R) 3\nflags\t\t: a b\n"
        )
        few = ahead.cache_folder(tmp_path)
        patch.setattr(ahead.Path, "read_text", lambda *_: "model name\t: Some CPU (R) 3\nflags\t: a avx\n")
        more = ahead.cache_folder(tmp_path)
    assert few.name.startswith(f"jaxlib-{jaxlib.__version__}-some-cpu-r-3-")
    assert few != more
