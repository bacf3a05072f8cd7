"""The convolution against XLA's own, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cardiojax import ops


def random(*shape, seed=0, dtype: type = np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def plain(x, kernel):
    flat = x.reshape(-1, *x.shape[-3:])
    y = lax.conv_general_dilated(flat, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y.reshape(*x.shape[:-1], -1)


def gradients(function, x, kernel, weights):
    return jax.jit(jax.grad(lambda x, k: (function(x, k) * weights).sum(), (0, 1)))(x, kernel)


@pytest.mark.parametrize(("size", "channels"), [((3, 3), (16, 4)), ((5, 1), (6, 2))])
def test_a_convolution_to_few_channels_equals_the_plain_form(size, channels):
    with jax.enable_x64(True):
        x, kernel = random(2, 3, 10, 6, channels[0]), random(*size, *channels, seed=1)
        weights = random(2, 3, 10, 6, channels[1], seed=2)
        np.testing.assert_allclose(jax.jit(ops.conv_to_few)(x, kernel), plain(x, kernel), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ops.conv_to_few(x[0, 0], kernel), plain(x[0, 0], kernel), rtol=1e-12, atol=1e-12)
        for got, want in zip(*(gradients(f, x, kernel, weights) for f in (ops.conv_to_few, plain)), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_refuses_even_kernels():
    with pytest.raises(ValueError, match="2 x 3"):
        ops.conv_to_few(jnp.zeros((1, 4, 4, 1)), jnp.zeros((2, 3, 1, 1)))
