"""Transposed convolution without overlap, in any number of dimensions."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def conv_transpose_blocks(
    x: Float[Array, "... c"], kernel: Float[Array, "... c d"], bias: Float[Array, " d"] | None = None
) -> Float[Array, "... d"]:
    """Transposed convolution whose stride is its kernel's size: a matrix product and a rearrangement.

    The general form of `conv_transpose_2x2`, in PyTorch's orientation.

    Args:
        x: Feature maps ``[*b, *size, c]``.
        kernel: Weights ``[*stride, c, d]``: each voxel becomes a block of ``stride`` voxels.
        bias: One value per output channel.

    Returns:
        Feature maps ``[*b, *(size * stride), d]``.

    Example:
        >>> conv_transpose_blocks(jnp.ones((1, 1, 2, 1)), jnp.arange(3.0).reshape(1, 3, 1, 1))[0, 0, :, 0]
        Array([0., 1., 2., 0., 1., 2.], dtype=float32)
    """
    *stride, c, d = kernel.shape
    num_axes = len(stride)
    batch, size = x.shape[: -1 - num_axes], x.shape[-1 - num_axes : -1]
    y = x @ jnp.moveaxis(kernel, -2, 0).reshape(c, -1)
    y = y.reshape(*batch, *size, *stride, d)
    first = len(batch)
    order = [axis for i in range(num_axes) for axis in (first + i, first + num_axes + i)]
    y = y.transpose(*range(first), *order, y.ndim - 1)
    y = y.reshape(*batch, *(n * s for n, s in zip(size, stride, strict=True)), d)
    return y if bias is None else y + bias
