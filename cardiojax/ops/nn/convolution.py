"""A convolution for the last layer of a decoder that is quick on CPU."""

import functools
import operator

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def conv_to_few(x: Float[Array, "*b h w c"], kernel: Float[Array, "m n c d"]) -> Float[Array, "*b h w d"]:
    """Convolution with stride 1 and zero padding that keeps the height and width, for few output channels.

    On CPU one matrix product gives the contribution of every tap at every pixel, and shifted copies are added up: for
    16 channels in and 4 out it takes less than half the time of XLA's convolution, whose matrices are too narrow.

    Args:
        x: Feature maps, channels last.
        kernel: Weights with odd height and width.

    Returns:
        Feature maps of the same height and width.

    Raises:
        ValueError: If a side of the kernel is even.

    Example:
        >>> import jax.numpy as jnp
        >>> conv_to_few(jnp.ones((4, 4, 1)), jnp.ones((3, 3, 1, 1)))[:, :, 0].astype(int).tolist()
        [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]]
    """
    if not all(side % 2 for side in kernel.shape[:2]):
        raise ValueError(f"the sides of the kernel must be odd, got {kernel.shape[0]} x {kernel.shape[1]}")
    flat = x.reshape(-1, *x.shape[-3:])
    y = lax.platform_dependent(flat, kernel, cpu=_sum_of_taps, default=_convolve)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def _convolve(x: Float[Array, "b h w c"], kernel: Float[Array, "m n c d"]) -> Float[Array, "b h w d"]:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _sum_of_taps(x: Float[Array, "b h w c"], kernel: Float[Array, "m n c d"]) -> Float[Array, "b h w d"]:
    rows, cols, c, d = kernel.shape
    b, h, w = x.shape[:3]
    taps = (x.reshape(-1, c) @ kernel.transpose(2, 0, 1, 3).reshape(c, -1)).reshape(b, h, w, rows, cols, d)
    around = [(0, 0), (rows // 2, rows // 2), (cols // 2, cols // 2), (0, 0), (0, 0), (0, 0)]
    padded = jnp.pad(taps, around)
    moved = [padded[:, i : i + h, j : j + w, i, j] for i in range(rows) for j in range(cols)]
    return functools.reduce(operator.add, moved)
