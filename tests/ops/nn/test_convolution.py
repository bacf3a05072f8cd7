"""The convolution against XLA's own, forward and backward."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cardiojax import ops
from cardiojax.ops.nn import convolution


def random(*shape, seed=0, dtype: type = np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def plain(x, kernel):
    flat = x.reshape(-1, *x.shape[-3:])
    y = lax.conv_general_dilated(flat, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y.reshape(*x.shape[:-1], -1)


def gradients(function, x, kernel, weights):
    return jax.jit(jax.grad(lambda x, k: (function(x, k) * weights).sum(), (0, 1)))(x, kernel)


@pytest.mark.parametrize(
    ("batch", "size", "channels"),
    [
        ((3,), (3, 3), (8, 24)),
        ((2,), (3, 3), (40, 20)),
        ((2, 2), (5, 1), (6, 20)),
        ((), (3, 3), (16, 32)),
        ((2,), (3, 3), (1, 20)),
    ],
)
def test_gradients_are_those_of_the_plain_form(batch, size, channels):
    with jax.enable_x64(True):
        x, kernel = random(*batch, 10, 6, channels[0]), random(*size, *channels, seed=1)
        weights = random(*batch, 10, 6, channels[1], seed=2)
        np.testing.assert_allclose(ops.conv(x, kernel), plain(x, kernel), rtol=1e-12, atol=1e-12)
        expected = gradients(plain, x, kernel, weights)
        for got, want in zip(gradients(ops.conv, x, kernel, weights), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)
        single = gradients(ops.conv, *(a.astype(jnp.float32) for a in (x, kernel, weights)))
        for got, want in zip(single, expected, strict=True):
            assert jnp.linalg.norm(got - want) < 1e-5 * jnp.linalg.norm(want)


def test_steps_of_several_images(monkeypatch):
    x, kernel = random(6, 4, 4, 8, dtype=np.float32), random(3, 3, 8, 20, seed=1, dtype=np.float32)
    weights = random(6, 4, 4, 20, seed=2, dtype=np.float32)
    whole = gradients(ops.conv, x, kernel, weights)[1]
    monkeypatch.setattr(convolution, "_STEP_ELEMENTS", 4 * 4 * 20 * 4)  # room for four images; three divide six
    np.testing.assert_allclose(gradients(ops.conv, x, kernel, weights)[1], whole, rtol=1e-4, atol=1e-4)


def test_gradient_under_vmap():
    x, kernel = random(3, 2, 6, 6, 8, dtype=np.float32), random(3, 3, 8, 20, seed=1, dtype=np.float32)

    def gradient(function):
        return lambda x: jax.grad(lambda k: (function(x, k) ** 2).sum())(kernel)

    got, want = jax.vmap(gradient(ops.conv))(x), jnp.stack([gradient(plain)(a) for a in x])
    assert jnp.linalg.norm(got - want) < 1e-5 * jnp.linalg.norm(want)


def test_half_precision_keeps_its_type():
    x, kernel = random(2, 8, 8, 8).astype(jnp.bfloat16), random(3, 3, 8, 20, seed=1).astype(jnp.bfloat16)
    dx, dk = gradients(ops.conv, x, kernel, jnp.ones((2, 8, 8, 20), jnp.bfloat16))
    assert (dx.dtype, dk.dtype) == (jnp.bfloat16, jnp.bfloat16)
    want = gradients(plain, x.astype(jnp.float32), kernel.astype(jnp.float32), jnp.ones((2, 8, 8, 20)))[1]
    assert jnp.linalg.norm(dk.astype(jnp.float32) - want) < 1e-2 * jnp.linalg.norm(want)


def test_refuses_even_kernels():
    with pytest.raises(ValueError, match="2 x 3"):
        ops.conv(jnp.zeros((1, 4, 4, 1)), jnp.zeros((2, 3, 1, 1)))


@pytest.mark.parametrize(("platform", "native"), [("cuda", True), ("tpu", True), ("cpu", False)])
def test_only_cpu_gets_matrix_products(platform, native):
    def gradient(x, kernel):
        return jax.grad(lambda k: (ops.conv(x, k) ** 2).sum())(kernel)

    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 8, 8, 8), (3, 3, 8, 20))]
    text = jax.export.export(jax.jit(gradient), platforms=[platform])(*shapes).mlir_module()
    assert text.count("stablehlo.convolution") == (2 if native else 1)  # forward, and the weight gradient
    assert ("stablehlo.dot_general" in text) != native


@pytest.mark.parametrize("channels", [(8, 24), (3, 4)])
def test_forward_mode_and_second_derivatives(channels):
    """In both arguments at once, along the gradient of a loss, and mapped."""
    with jax.enable_x64(True):
        x, kernel = random(2, 6, 5, channels[0]), random(3, 3, *channels, seed=1)
        tangents = random(2, 6, 5, channels[0], seed=2), random(3, 3, *channels, seed=3)
        for got, want in zip(*(jax.jvp(f, (x, kernel), tangents) for f in (ops.conv, plain)), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-10)

        def second(function):
            gradient = jax.grad(lambda x, k: (function(x, k) ** 3).sum(), (0, 1))
            forward = jax.jvp(gradient, (x, kernel), tangents)[1]
            reverse = jax.grad(
                lambda *a: sum((g * t).sum() for g, t in zip(gradient(*a), tangents, strict=True)), (0, 1)
            )
            return [*forward, *reverse(x, kernel)]

        for got, want in zip(second(ops.conv), second(plain), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-8)

        kernels = jnp.stack([kernel, -kernel])
        for axes, arguments in (
            ((None, 0), (x, kernels)),
            ((0, 0), (x, kernels)),
            ((2, None), (x[:, :, None], kernel)),
        ):
            got, want = (jax.vmap(f, axes)(*arguments) for f in (ops.conv, plain))
            np.testing.assert_allclose(got, want, atol=1e-10)


@pytest.mark.parametrize(("size", "channels"), [((3, 3), (16, 4)), ((5, 1), (6, 2))])
def test_a_convolution_to_few_channels_equals_the_plain_form(size, channels):
    with jax.enable_x64(True):
        x, kernel = random(2, 3, 10, 6, channels[0]), random(*size, *channels, seed=1)
        weights = random(2, 3, 10, 6, channels[1], seed=2)
        np.testing.assert_allclose(jax.jit(ops.conv_to_few)(x, kernel), plain(x, kernel), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ops.conv_to_few(x[0, 0], kernel), plain(x[0, 0], kernel), rtol=1e-12, atol=1e-12)
        for got, want in zip(*(gradients(f, x, kernel, weights) for f in (ops.conv_to_few, plain)), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
