"""Convolutions and instance normalisation by compiled kernels, with their gradients."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cardiojax.ops.native.registry import foreign_function

#: The kernels write channels in groups of so many.
CHANNELS = 16


def uses_kernel(implementation: str, *arrays: Array, channels: Sequence[int]) -> bool:
    """Whether an implementation is by compiled kernels, and they serve arrays like these: float32 and not empty.

    Args:
        implementation: ``"xla"`` or ``"native"``.
        *arrays: Inputs.
        channels: Numbers of channels that must be multiples of `CHANNELS`.

    Returns:
        Whether it is.

    Raises:
        ValueError: If there is no such implementation.
    """
    if implementation not in ("xla", "native"):
        raise ValueError(f"implementation must be 'xla' or 'native', got {implementation!r}")
    return (
        implementation == "native"
        and all(array.dtype == jnp.float32 and array.size > 0 for array in arrays)
        and not any(number % CHANNELS for number in channels)
    )


def _float32(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k c d"], stride: int, padding: int
) -> Float[Array, "n rows cols d"]:
    """Convolution whose result has a ``stride``-th of the height and width, by a compiled kernel.

    Args:
        x: Feature maps, channels last, whose height and width are multiples of ``stride``.
        kernel: Weights of `CHANNELS` output channels or a multiple.
        stride: 1 or 2.
        padding: Zeros around the image.

    Returns:
        Feature maps.

    Raises:
        RuntimeError: If no library has been registered.
    """
    n, h, w, _ = x.shape
    function = foreign_function("convolve", _float32((n, h // stride, w // stride, kernel.shape[3])))
    return function(x, kernel, stride=stride, padding=padding, transposed=False)


def _convolve_forward(x, kernel, stride, padding):
    return convolve(x, kernel, stride, padding), (x, kernel)


def _convolve_backward(stride, padding, residuals, gradient):
    x, kernel = residuals
    of_kernel = _kernel_gradient(x, gradient, kernel.shape, stride, padding)
    if x.shape[-1] % CHANNELS == 0:
        return convolve_transposed(gradient, kernel, stride, padding), of_kernel
    numbers, around = ("NHWC", "HWIO", "NHWC"), [(padding, padding)] * 2
    plain = functools.partial(lax.conv_general_dilated, window_strides=(stride, stride), padding=around)
    _, pull = jax.vjp(lambda x: plain(x, kernel, dimension_numbers=numbers), x)
    return (*pull(gradient), of_kernel)


convolve.defvjp(_convolve_forward, _convolve_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_transposed(
    x: Float[Array, "n h w d"], kernel: Float[Array, "k k c d"], stride: int, padding: int
) -> Float[Array, "n rows cols c"]:
    """Transpose of `convolve`, by a compiled kernel.

    Args:
        x: Feature maps, channels last.
        kernel: Weights of the convolution, which has `CHANNELS` input channels or a multiple.
        stride: Of the convolution.
        padding: Of the convolution.

    Returns:
        Feature maps of ``stride`` times the height and width.

    Raises:
        RuntimeError: If no library has been registered.
    """
    n, h, w, _ = x.shape
    function = foreign_function("convolve", _float32((n, h * stride, w * stride, kernel.shape[2])))
    return function(x, kernel, stride=stride, padding=padding, transposed=True)


def _transposed_forward(x, kernel, stride, padding):
    return convolve_transposed(x, kernel, stride, padding), (x, kernel)


def _transposed_backward(stride, padding, residuals, gradient):
    x, kernel = residuals
    of_kernel = _kernel_gradient(gradient, x, kernel.shape, stride, padding)
    return convolve(gradient, kernel, stride, padding), of_kernel


convolve_transposed.defvjp(_transposed_forward, _transposed_backward)


def _kernel_gradient(larger, smaller, shape, stride, padding):
    """Gradient of the kernel, from the larger map of a convolution and its smaller one."""
    function = foreign_function("convolve_kernel_gradient", _float32(shape))
    return function(larger, smaller, stride=stride, padding=padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalize(
    x: Float[Array, "n h w c"], scale: Float[Array, " c"], bias: Float[Array, " c"], epsilon: float, slope: float
) -> Float[Array, "n h w c"]:
    """Instance normalisation and a leaky rectifier, by a compiled kernel; see `ops.instance_norm`.

    Args:
        x: Feature maps, channels last, their number a multiple of `CHANNELS`.
        scale: One factor per channel.
        bias: One offset per channel.
        epsilon: Added to the variance.
        slope: Of the rectifier below zero.

    Returns:
        Normalised feature maps.

    Raises:
        RuntimeError: If no library has been registered.
    """
    return _normalize_forward(x, scale, bias, epsilon, slope)[0]


def _normalize_forward(x, scale, bias, epsilon, slope):
    statistics = _float32((x.shape[0], x.shape[-1]))
    function = foreign_function("normalize", (_float32(x.shape), statistics, statistics))
    y, mean, inverse = function(x, scale, bias, epsilon=np.float32(epsilon), slope=np.float32(slope))
    return y, (x, scale, bias, mean, inverse)


def _normalize_backward(epsilon, slope, residuals, gradient):
    results = [_float32(residuals[i].shape) for i in (0, 3, 3)]
    function = foreign_function("normalize_gradient", results)
    of_x, of_scale, of_bias = function(*residuals, gradient, slope=np.float32(slope))
    return of_x, of_scale.sum(0), of_bias.sum(0)


normalize.defvjp(_normalize_forward, _normalize_backward)
