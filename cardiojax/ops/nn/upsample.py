"""Transposed convolution without overlap, in any number of dimensions."""

import functools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cardiojax.ops.native.layers import convolve_transposed, uses_kernel


def conv_transpose_blocks(
    x: Float[Array, "... c"],
    kernel: Float[Array, "... c d"],
    bias: Float[Array, " d"] | None = None,
    *,
    implementation: str = "xla",
) -> Float[Array, "... d"]:
    """Transposed convolution whose stride is its kernel's size: a matrix product and a rearrangement.

    The general form of `conv_transpose_2x2`, in PyTorch's orientation.

    Args:
        x: Feature maps ``[*b, *size, c]``.
        kernel: Weights ``[*stride, c, d]``: each voxel becomes a block of ``stride`` voxels.
        bias: One value per output channel.
        implementation: ``"xla"``, or ``"native"`` for a compiled kernel on CPU, after `runtime.build_kernels`; it
            serves blocks of 2 x 2 pixels in float32 and multiples of 16 channels, with the limits that
            `conv_general_dilated` names.

    Returns:
        Feature maps ``[*b, *(size * stride), d]``.

    Raises:
        ValueError: If there is no such implementation.
        RuntimeError: If the kernels were not built.

    Example:
        >>> conv_transpose_blocks(jnp.ones((1, 1, 2, 1)), jnp.arange(3.0).reshape(1, 3, 1, 1))[0, 0, :, 0]
        Array([0., 1., 2., 0., 1., 2.], dtype=float32)
    """
    plain = functools.partial(_product, num_axes=kernel.ndim - 2)
    native = uses_kernel(implementation, x, kernel, channels=kernel.shape[-2:])
    if native and kernel.shape[:-2] == (2, 2) and x.ndim > 2 and x.shape[-1] == kernel.shape[-2]:
        y = lax.platform_dependent(x, kernel, cpu=_by_kernel, default=plain)
    else:
        y = plain(x, kernel)
    return y if bias is None else y + bias


def _product(x, kernel, *, num_axes: int):
    *stride, c, d = kernel.shape
    batch, size = x.shape[: -1 - num_axes], x.shape[-1 - num_axes : -1]
    y = x @ jnp.moveaxis(kernel, -2, 0).reshape(c, -1)
    y = y.reshape(*batch, *size, *stride, d)
    first = len(batch)
    order = [axis for i in range(num_axes) for axis in (first + i, first + num_axes + i)]
    y = y.transpose(*range(first), *order, y.ndim - 1)
    return y.reshape(*batch, *(n * s for n, s in zip(size, stride, strict=True)), d)


def _by_kernel(x: Array, kernel: Array) -> Array:
    flat = x.reshape(-1, *x.shape[-3:])
    y: Array = convolve_transposed(flat, kernel.swapaxes(-1, -2), 2, 0)
    return y.reshape(*x.shape[:-3], *y.shape[1:])
