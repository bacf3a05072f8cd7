"""The releases of JAX that the package runs on: right results on CPU, and a warning about the others."""

import importlib.metadata
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cardiojax
from cardiojax import ops


@pytest.mark.parametrize("options", [dict, ops.compiler_options, ops.brief_compiler_options])
def test_a_vmapped_product_and_reduction_is_right(options):
    # jaxlib 0.10.2 computes 7,232 of these rows wrongly (https://github.com/jax-ml/jax/issues/39103).
    rows = np.random.default_rng(0).normal(size=(40_000, 3)).astype(np.float32)
    squares = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.eye(3) @ row) ** 2)), compiler_options=options())
    np.testing.assert_allclose(squares(rows), np.square(rows).sum(1), rtol=1e-5)


def test_a_broken_release_is_warned_of(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cardiojax._warn_of_broken_jaxlib()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.10.2")
    with pytest.warns(RuntimeWarning, match=r"jaxlib 0\.10\.2 computes wrong results"):
        cardiojax._warn_of_broken_jaxlib()
