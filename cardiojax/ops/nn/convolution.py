"""Convolutions that are quick on CPU: the weight gradient, and the last layer of a decoder."""

import functools
import math
import operator

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

#: Up to this many channels, in or out, the matrices are too narrow, and up to the last number if more come in than go
#: out: XLA's own gradient is as quick.
_NARROW = (4, 16, 32)
#: Elements of the feature maps that one step of the weight gradient takes: more outgrow the cache.
_STEP_ELEMENTS = 2**20


def conv(x: Float[Array, "*b h w c"], kernel: Float[Array, "m n c d"]) -> Float[Array, "*b h w d"]:
    """Convolution with stride 1 and zero padding that keeps the height and width.

    Its weight gradient on CPU is a matrix product over the pixels: the columns of one factor are the input shifted
    along the width, those of the other the output's gradient shifted along the height, so that ``m + n`` shifted
    copies serve all ``m n`` taps. XLA's convolution with the whole image as its window takes 1.5 to 4 times longer
    there. GPU and TPU keep it, and so does CPU for few channels. Derivatives of all orders and modes are there.

    Args:
        x: Feature maps, channels last.
        kernel: Weights with odd height and width.

    Returns:
        Feature maps of the same height and width.

    Raises:
        ValueError: If a side of the kernel is even.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.ones((4, 4, 1))
        >>> conv(x, jnp.ones((3, 3, 1, 1)))[:, :, 0].astype(int).tolist()
        [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]]
    """
    if not all(side % 2 for side in kernel.shape[:2]):
        raise ValueError(f"the sides of the kernel must be odd, got {kernel.shape[0]} x {kernel.shape[1]}")
    y = _conv_p.bind(x.reshape(-1, *x.shape[-3:]), kernel)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def _convolve(x: Float[Array, "b h w c"], kernel: Float[Array, "m n c d"]) -> Float[Array, "b h w d"]:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def conv_to_few(x: Float[Array, "*b h w c"], kernel: Float[Array, "m n c d"]) -> Float[Array, "*b h w d"]:
    """The convolution of `conv` for a last layer of few output channels.

    On CPU one matrix product gives the contribution of every tap at every pixel, and shifted copies are added up: for
    16 channels in and 4 out it takes less than half the time of XLA's convolution, whose matrices are too narrow.

    Args:
        x: Feature maps, channels last.
        kernel: Weights with odd height and width.

    Returns:
        Feature maps of the same height and width.

    Example:
        >>> import jax.numpy as jnp
        >>> conv_to_few(jnp.ones((4, 4, 1)), jnp.ones((3, 3, 1, 1)))[:, :, 0].astype(int).tolist()
        [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]]
    """
    flat = x.reshape(-1, *x.shape[-3:])
    y = lax.platform_dependent(flat, kernel, cpu=_sum_of_taps, default=_convolve)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def _sum_of_taps(x: Float[Array, "b h w c"], kernel: Float[Array, "m n c d"]) -> Float[Array, "b h w d"]:
    rows, cols, c, d = kernel.shape
    b, h, w = x.shape[:3]
    taps = (x.reshape(-1, c) @ kernel.transpose(2, 0, 1, 3).reshape(c, -1)).reshape(b, h, w, rows, cols, d)
    around = [(0, 0), (rows // 2, rows // 2), (cols // 2, cols // 2), (0, 0), (0, 0), (0, 0)]
    padded = jnp.pad(taps, around)
    moved = [padded[:, i : i + h, j : j + w, i, j] for i in range(rows) for j in range(cols)]
    return functools.reduce(operator.add, moved)


def _abstract(x, kernel):
    return x.update(shape=jax.eval_shape(_convolve, x, kernel).shape)


def _input_gradient(g, x, kernel):
    del x
    return _conv_p.bind(g, kernel[::-1, ::-1].swapaxes(-2, -1))


def _weight_gradient(g, x, kernel):
    shape, dtype = kernel.aval.shape, kernel.aval.dtype

    def native(x, g):
        return jax.linear_transpose(lambda k: _convolve(x, k), jax.ShapeDtypeStruct(shape, dtype))(g)[0]

    def products(x, g):
        return _kernel_gradient(x, g, shape[:2]).astype(dtype)

    c, d = shape[2:]
    if c <= _NARROW[0] or d <= _NARROW[1] or d <= _NARROW[2] < c:
        return native(x, g)
    return lax.platform_dependent(x, g, cpu=products, default=native)


def _batch(args, axes):
    x, kernel = (a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(args, axes, strict=True))
    if axes[1] is None:
        return conv(x, kernel), 0
    return jax.vmap(_convolve, in_axes=(None if axes[0] is None else 0, 0))(x, kernel), 0


# A function that is linear in each argument and knows its transposes: JAX makes all derivatives from that. A custom_vjp
# has no forward mode, and a custom_jvp cannot say how the weight gradient is to be computed.
_conv_p = Primitive("conv_same")
_conv_p.def_impl(jax.jit(_convolve))
_conv_p.def_abstract_eval(_abstract)
ad.defbilinear(_conv_p, _input_gradient, _weight_gradient)
batching.primitive_batchers[_conv_p] = _batch
mlir.register_lowering(_conv_p, mlir.lower_fun(_convolve, multiple_results=False))


def _kernel_gradient(x: Array, g: Array, size: tuple[int, ...]) -> Array:
    """Gradient of the kernel, summed over steps of a few images each."""
    h, w, c = x.shape[-3:]
    num, d = math.prod(x.shape[:-3]), g.shape[-1]
    limit = max(_STEP_ELEMENTS // (h * w * max(c, d)), 1)
    images = max(i for i in range(1, min(limit, num) + 1) if num % i == 0)
    x, g = (a.reshape(num // images, images, h, w, -1) for a in (x, g))

    def step(total, xg):
        columns = _shifted(xg[0], size[1], -2).reshape(-1, size[1] * c)
        rows = _shifted(xg[1], size[0], -3).reshape(-1, size[0] * d)
        # plain matrices: with the taps as axes of their own, XLA transposes both factors first
        over_pixels = (((0,), (0,)), ((), ()))
        return total + lax.dot_general(columns, rows, over_pixels, preferred_element_type=total.dtype), None

    zero = jnp.zeros((size[1] * c, size[0] * d), jnp.promote_types(x.dtype, jnp.float32))
    total = lax.scan(step, zero, (x, g))[0].reshape(size[1], c, size[0], d)
    return total[:, :, ::-1].transpose(2, 0, 1, 3)


def _shifted(x: Array, num: int, axis: int) -> Array:
    """Copies of ``[b, h, w, c]`` moved by -num // 2 ... num // 2 pixels along an axis, side by side."""
    pads = [(0, 0)] * x.ndim
    pads[axis] = (num // 2, num // 2)
    padded = jnp.pad(x, pads)
    moved = [lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis % x.ndim) for i in range(num)]
    return jnp.concatenate(moved, axis=-1)
