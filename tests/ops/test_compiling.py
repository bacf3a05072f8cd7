"""The options with which networks are compiled."""

import jax
import jax.numpy as jnp
import pytest

from cardiojax.ops import compiling


def test_what_is_compiled_briefly_is_the_same():
    options = compiling.brief_compiler_options(0)
    assert options if jax.default_backend() == "cpu" else not options
    x = jnp.arange(12.0)
    brief = jax.jit(lambda x: jnp.sort(x * (x - 5))[::2], compiler_options=options)(x)
    assert (brief == jnp.sort(x * (x - 5))[::2]).all()


@pytest.fixture
def afresh():
    compiling._is_known.cache_clear()
    yield
    compiling._is_known.cache_clear()


def test_they_are_known_to_xla_and_are_none_on_accelerators(afresh, monkeypatch):
    options = compiling.compiler_options()
    assert options if jax.default_backend() == "cpu" else not options
    assert jax.jit(lambda x: x + 1, compiler_options=options)(jnp.zeros(())) == 1
    compiling._is_known.cache_clear()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compiling.compiler_options() == {}


def test_an_option_that_has_gone_is_left_out(afresh, monkeypatch):
    monkeypatch.setattr(compiling, "_CPU", {"xla_cpu_gone": "1"})
    assert compiling.compiler_options() == {}
