"""Layers by compiled kernels against the same layers by XLA, forward and backward."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cardiojax import ops
from cardiojax.ops.native import layers
from cardiojax.ops.native.registry import foreign_function

pytestmark = pytest.mark.usefixtures("kernels")
NHWC, VOLUMES = ("NHWC", "HWIO", "NHWC"), ("NDHWC", "DHWIO", "NDHWC")


def random(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def convolution(implementation, stride=1):
    around = [(1, 1), (1, 1)]
    convolve = functools.partial(ops.conv_general_dilated, dimension_numbers=NHWC, implementation=implementation)
    return lambda x, kernel: convolve(x, kernel, (stride, stride), around)


def is_native(function, *arguments):
    return "custom_call @cardiojax_" in jax.jit(function).lower(*arguments).as_text()


def value_and_gradients(function, *arguments):
    value, pull = jax.vjp(jax.jit(function), *arguments)
    return value, *pull(random(*value.shape, seed=9))


def assert_equal(function, *arguments):
    """The two implementations agree within float32's precision of sums of values near 1; the native one is a kernel."""
    assert is_native(functools.partial(function, "native"), *arguments)
    plain, native = (value_and_gradients(functools.partial(function, name), *arguments) for name in ("xla", "native"))
    for got, want in zip(native, plain, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5 * max(1.0, float(jnp.abs(want).max())), rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_convolutions_equal_those_of_xla(data):
    stride = data.draw(st.sampled_from([1, 2]))
    n, rows, cols = (data.draw(st.integers(1, high)) for high in (3, 9, 35))
    c_in, c_out = data.draw(st.sampled_from([1, 3, 16, 20, 48])), data.draw(st.sampled_from([16, 32, 48]))
    x, kernel = random(n, rows * stride, cols * stride, c_in), random(3, 3, c_in, c_out, seed=1)
    assert_equal(lambda name, x, kernel: convolution(name, stride)(x, kernel), x, kernel)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 35), st.sampled_from([16, 64]), st.sampled_from([16, 32]))
def test_transposed_convolutions_equal_those_of_xla(n, rows, cols, c_in, c_out):
    x, kernel, bias = random(n, rows, cols, c_in), random(2, 2, c_in, c_out, seed=1), random(c_out, seed=2)
    assert_equal(lambda name, *a: ops.conv_transpose_2x2(*a, implementation=name), x, kernel, bias)


def test_large_maps_are_divided_among_tasks():
    assert_equal(lambda name, *a: convolution(name)(*a), random(2, 130, 150, 32), random(3, 3, 32, 32, seed=1))


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 70), st.sampled_from([16, 48]), st.sampled_from([0.0, 0.01, 1])
)
def test_the_normalisation_equals_that_of_xla(n, rows, cols, channels, slope):
    x, scale, bias = random(n, rows, cols, channels), random(channels, seed=1), random(channels, seed=2)
    # no value lies so near to zero that the implementations could rectify it differently
    x = x + jnp.where(jnp.abs(ops.instance_norm(x, scale, bias)) < 1e-3, 0.01, 0.0)
    assert_equal(lambda name, *a: ops.instance_norm(*a, 1e-5, slope, implementation=name), x, scale, bias)


def test_the_variance_is_exact_where_the_mean_is_large():
    x = np.random.default_rng(0).normal(size=(1, 128, 128, 16))
    one, zero = jnp.ones(16), jnp.zeros(16)
    got = ops.instance_norm(jnp.asarray(x + 1000, jnp.float32), one, zero, implementation="native")
    want = (x - x.mean((1, 2))) / np.sqrt(x.var((1, 2)) + 1e-5)
    np.testing.assert_allclose(got, want, atol=3e-4)  # 1000 + x is rounded to 6e-5


def test_under_vmap_each_example_has_its_own_result():
    xs, kernels = random(3, 2, 6, 8, 16), random(3, 3, 3, 16, 16, seed=1)
    for axes in ((0, None), (0, 0)):
        kernel = kernels[0] if axes[1] is None else kernels
        plain, native = (jax.vmap(convolution(name), axes)(xs, kernel) for name in ("xla", "native"))
        np.testing.assert_allclose(native, plain, atol=1e-4)


def test_results_do_not_depend_on_the_run():
    x, gradient = random(4, 64, 64, 16), random(4, 64, 64, 32, seed=1)
    run = jax.jit(lambda: layers._kernel_gradient(x, gradient, (3, 3, 16, 32), 1, 1))
    first = run()
    assert all((run() == first).all() for _ in range(10))


@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((1, 8, 8, 16), (3, 3, 16, 8), {}),  # channels
        ((1, 8, 8, 16), (5, 5, 16, 16), {}),  # another size
        ((1, 8, 8, 16), (3, 3, 16, 16), {"padding": "VALID"}),
        ((1, 8, 8, 16), (3, 3, 16, 16), {"window_strides": (2, 2)}),  # XLA's "SAME" pads one side alone
        ((1, 7, 8, 16), (3, 3, 16, 16), {"window_strides": (2, 2), "padding": [(1, 1), (1, 1)]}),
        ((1, 8, 8, 16), (3, 3, 16, 16), {"rhs_dilation": (2, 2)}),
        ((1, 8, 8, 32), (3, 3, 16, 16), {"feature_group_count": 2}),
        ((1, 8, 8, 16), (3, 3, 16, 16), {"preferred_element_type": jnp.float32}),
        ((1, 8, 8, 8, 16), (3, 3, 3, 16, 16), {"window_strides": (1, 1, 1), "dimension_numbers": VOLUMES}),
    ],
)  # fmt: skip
def test_what_has_no_kernel_is_left_to_xla(shape, kernel, options):
    options = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": NHWC} | options
    convolve = functools.partial(ops.conv_general_dilated, **options, implementation="native")
    x, k = random(*shape), random(*kernel, seed=1)
    assert not is_native(convolve, x, k)
    np.testing.assert_array_equal(
        jax.jit(convolve)(x, k), jax.jit(functools.partial(jax.lax.conv_general_dilated, **options))(x, k)
    )


@pytest.mark.parametrize("shape", [(0, 8, 8, 16), (1, 0, 8, 16), (1, 8, 0, 16)])
def test_empty_maps_are_left_to_xla(shape):
    x = jnp.zeros(shape)
    for function in (
        lambda x: convolution("native")(x, jnp.zeros((3, 3, 16, 16))),
        lambda x: ops.conv_transpose_2x2(x, jnp.zeros((2, 2, 16, 16)), implementation="native"),
    ):
        assert not is_native(function, x)
        assert value_and_gradients(function, x)[1].shape == shape
    normal = ops.instance_norm(x, jnp.ones(16), jnp.zeros(16), implementation="native")
    assert normal.shape == shape


def test_shapes_that_do_not_fit_get_the_error_of_xla():
    with pytest.raises((TypeError, ValueError), match="feature"):
        convolution("native")(random(1, 8, 8, 32), random(3, 3, 16, 16))


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


@pytest.mark.parametrize(
    ("name", "result", "arguments", "options"),
    [
        (
            "convolve",
            shape(1, 8, 8, 16),
            [(1, 8, 8, 32), (3, 3, 16, 16)],
            {"stride": 1, "padding": 1, "transposed": False},
        ),
        ("convolve_kernel_gradient", shape(3, 3, 16, 16), [(1, 8, 8, 32), (1, 8, 8, 16)], {"stride": 1, "padding": 1}),
        (
            "normalize",
            (shape(1, 8, 8, 32), shape(1, 32), shape(1, 32)),
            [(1, 8, 8, 32), (16,), (16,)],
            {"epsilon": np.float32(1e-5), "slope": np.float32(0)},
        ),
    ],
)
def test_the_kernels_refuse_shapes_that_do_not_fit(name, result, arguments, options):
    function = foreign_function(name, result)
    with pytest.raises(jax.errors.JaxRuntimeError, match="the shapes do not fit"):
        jax.block_until_ready(function(*(random(*sizes) for sizes in arguments), **options))


def test_values_that_are_no_numbers_are_where_xla_has_them():
    x = random(1, 6, 8, 16).at[0, 2, 3, 4].set(jnp.nan).at[0, 5, 5, 5].set(jnp.inf)
    one, zero, kernel = jnp.ones(16), jnp.zeros(16), random(3, 3, 16, 16, seed=1)
    for function in (
        lambda name: convolution(name)(x, kernel),
        lambda name: ops.instance_norm(x, one, zero, 1e-5, 0.1, implementation=name),
    ):
        np.testing.assert_array_equal(jnp.isfinite(function("native")), jnp.isfinite(function("xla")))


def test_in_a_scan_with_recomputation():
    x, kernel = random(1, 8, 8, 16), random(3, 3, 16, 16, seed=1) / 12

    def loss(kernel, name):
        layer = jax.checkpoint(lambda x, _: (jnp.sin(convolution(name)(x, kernel)), None))
        return jax.lax.scan(layer, x, length=3)[0].sum()

    plain, native = (jax.jit(jax.grad(loss), static_argnums=1)(kernel, name) for name in ("xla", "native"))
    np.testing.assert_allclose(native, plain, atol=1e-5 * float(jnp.abs(plain).max()))


def test_half_precision_is_left_to_xla():
    x, kernel = random(1, 8, 8, 16).astype(jnp.bfloat16), random(3, 3, 16, 16).astype(jnp.bfloat16)
    assert not is_native(convolution("native"), x, kernel)
    assert not is_native(lambda x: ops.instance_norm(x, jnp.ones(16), jnp.zeros(16), implementation="native"), x)


def test_other_backends_get_xla():
    x, kernel = random(1, 8, 8, 16), random(3, 3, 16, 16)
    exported = jax.export.export(jax.jit(convolution("native")), platforms=["cuda"])(x, kernel)
    assert "cardiojax_" not in exported.mlir_module()


def test_refuses_other_implementations():
    x = jnp.zeros((1, 2, 2, 16))
    for call in (
        lambda: convolution("oneDNN")(x, jnp.zeros((3, 3, 16, 16))),
        lambda: ops.instance_norm(x, jnp.ones(16), jnp.zeros(16), implementation="oneDNN"),
        lambda: ops.conv_transpose_2x2(x, jnp.zeros((2, 2, 16, 16)), implementation="oneDNN"),
    ):
        with pytest.raises(ValueError, match="'xla' or 'native', got 'oneDNN'"):
            call()
