"""The layers' primitives against their plain forms, forward and backward, in float64."""

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cardiojax import ops


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def assert_same_with_gradients(ours, plain, *arguments):
    def weighted(function):
        return lambda *a: (function(*a) * random(*jax.eval_shape(plain, *arguments).shape, seed=9)).sum()

    np.testing.assert_allclose(ours(*arguments), plain(*arguments), rtol=1e-10, atol=1e-12)
    argnums = tuple(range(len(arguments)))
    got = jax.jit(jax.grad(weighted(ours), argnums))(*arguments)
    expected = jax.jit(jax.grad(weighted(plain), argnums))(*arguments)
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-11)


def test_max_pool():
    def plain(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    assert_same_with_gradients(ops.max_pool, plain, random(2, 8, 12, 3))


def test_max_pool_refuses_odd_sizes():
    with pytest.raises(ValueError, match="5 x 4"):
        ops.max_pool(random(1, 5, 4, 1))


def test_conv_transpose_has_the_orientation_of_pytorch():
    def plain(x, kernel, bias):
        return lax.conv_transpose(x, kernel[::-1, ::-1], (2, 2), "VALID") + bias

    assert_same_with_gradients(
        ops.conv_transpose_2x2, plain, random(2, 5, 7, 3), random(2, 2, 3, 4, seed=1), random(4, seed=2)
    )
    one = jnp.zeros((1, 1, 1, 1)).at[0, 0, 0, 0].set(1.0)
    kernel = jnp.arange(4.0).reshape(2, 2, 1, 1)
    np.testing.assert_array_equal(ops.conv_transpose_2x2(one, kernel)[0, :, :, 0], [[0, 1], [2, 3]])


def test_upsample():
    assert_same_with_gradients(ops.upsample_2x, lambda x: jnp.repeat(jnp.repeat(x, 2, -3), 2, -2), random(2, 3, 4, 2))


def test_instance_norm():
    def plain(x, scale, bias):
        mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
        return (x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias

    with jax.enable_x64(False):  # statistics are float32 by design
        x, scale, bias = (jnp.asarray(a, jnp.float32) for a in (random(2, 8, 6, 3) * 3 + 5, random(3), random(3)))
        weights = jnp.asarray(random(2, 8, 6, 3, seed=4), jnp.float32)

        def total(function):
            return lambda *a: (function(*a) * weights).sum()

        np.testing.assert_allclose(ops.instance_norm(x, scale, bias), plain(x, scale, bias), atol=2e-6)
        got = jax.grad(total(ops.instance_norm), (0, 1, 2))(x, scale, bias)
        expected = jax.grad(total(plain), (0, 1, 2))(x, scale, bias)
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-5 * float(jnp.abs(e).max()))


@pytest.mark.parametrize("slope", [0.0, 0.01])
def test_instance_norm_rectifies(slope):
    def plain(x, scale, bias):
        return jax.nn.leaky_relu(ops.instance_norm(x, scale, bias), slope)

    with jax.enable_x64(False):
        x, scale, bias, weights = (
            jnp.asarray(a, jnp.float32) for a in (random(2, 8, 6, 3), random(3), random(3), random(2, 8, 6, 3, seed=4))
        )

        def total(function):
            return lambda *a: (function(*a) * weights).sum()

        def ours(x, scale, bias):
            return ops.instance_norm(x, scale, bias, 1e-5, slope)

        np.testing.assert_allclose(ours(x, scale, bias), plain(x, scale, bias), atol=1e-6)
        got, expected = (jax.grad(total(f), (0, 1, 2))(x, scale, bias) for f in (ours, plain))
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-5, atol=1e-5)


def test_instance_norm_equals_flax():
    with jax.enable_x64(False):
        x = jnp.asarray(random(2, 8, 8, 4), jnp.float32)
        norm = nn.InstanceNorm(epsilon=1e-5)
        expected = norm.apply(norm.init(jax.random.key(0), x), x)
        np.testing.assert_allclose(ops.instance_norm(x, jnp.ones(4), jnp.zeros(4)), expected, atol=1e-5)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_layers_lower_for_accelerators(platform):
    with jax.enable_x64(False):

        def chain(x, kernel, scale):
            y = ops.conv_transpose_2x2(ops.max_pool(ops.instance_norm(x, scale, scale)), kernel)
            return (ops.upsample_2x(y) ** 2).sum()

        shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 8, 8, 4), (2, 2, 4, 4), (4,))]
        exported = jax.export.export(jax.jit(jax.grad(chain, (0, 1, 2))), platforms=[platform])(*shapes)
        assert exported.platforms == (platform,)


def test_space_to_depth_takes_patches_and_depth_to_space_undoes_it():
    x = random(2, 4, 6, 3)
    y = ops.space_to_depth(x, 2)
    assert y.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(y[1, 1, 2].reshape(2, 2, 3), x[1, 2:4, 4:6])
    np.testing.assert_array_equal(ops.depth_to_space(y, 2), x)
    np.testing.assert_array_equal(ops.space_to_depth(x, 1), x)


@pytest.mark.parametrize("slope", [1.0, 0.01])
def test_instance_norm_has_all_derivatives(slope):
    """Forward mode, and both modes over the gradient, against JAX's own of the formula."""

    def plain(x, scale, bias):
        mean, variance = x.mean((-3, -2), keepdims=True), x.var((-3, -2), keepdims=True)
        return jax.nn.leaky_relu((x - mean) / jnp.sqrt(variance + 1e-5) * scale + bias, slope)

    def ours(x, scale, bias):
        return ops.instance_norm(x, scale, bias, 1e-5, slope)

    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        primals, tangents = (tuple(jnp.asarray(rng.normal(size=s)) for s in ((2, 5, 4, 3), (3,), (3,))) for _ in "ab")

        def derivatives(function):
            gradient = jax.grad(lambda *a: (function(*a) ** 3).sum(), (0, 1, 2))
            forward = jax.jvp(gradient, primals, tangents)[1]
            reverse = jax.grad(lambda x: (gradient(x, *primals[1:])[0] * tangents[0]).sum())(primals[0])
            mapped = jax.vmap(lambda x: jax.jvp(function, (x, *primals[1:]), (x, *tangents[1:]))[1])(primals[0])
            return [jax.jvp(function, primals, tangents)[1], *gradient(*primals), *forward, reverse, mapped]

        # the statistics are in float32
        for got, want in zip(derivatives(ours), derivatives(plain), strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3 * np.abs(want).max())
