"""Convolutions that are quicker on CPU than XLA's."""

import functools
import operator
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cardiojax.ops.native.layers import convolve, uses_kernel

_NHWC = ("NHWC", "HWIO", "NHWC")


def conv_general_dilated(
    lhs: Array, rhs: Array, window_strides: Any, padding: Any, *, implementation: str = "xla", **options: Any
) -> Array:
    """`lax.conv_general_dilated`, on CPU by a compiled kernel if asked for and where there is one.

    There is one for 3 x 3 kernels in float32 with stride 1 or 2 and one pixel of padding that write a multiple of 16
    channels, with images whose sides the stride divides, channels last, and no other option. It has a gradient but
    neither forward-mode nor second derivatives, takes one example after the other under `jax.vmap`, takes the whole
    batch on each device where XLA divides an array, needs ``check_vma=False`` in `jax.shard_map`, and cannot be
    exported by `jax.export` for CPU.

    Args:
        lhs: Input.
        rhs: Kernel.
        window_strides: As in `lax.conv_general_dilated`.
        padding: As there.
        implementation: ``"xla"``, or ``"native"`` for the compiled kernel, after `runtime.build_kernels`.
        **options: As there.

    Returns:
        Its result.

    Raises:
        ValueError: If there is no such implementation.
        RuntimeError: If the kernels were not built.

    References:
        `benchmarks/RESULTS.md` has the times of both.

    Example:
        >>> import jax.numpy as jnp
        >>> x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
        >>> y = conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        >>> y[0, :, :, 0].astype(int).tolist()
        [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]]
    """
    plain = functools.partial(lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options)
    native = uses_kernel(implementation, lhs, rhs, channels=rhs.shape[-1:])
    if not (native and _has_kernel(lhs, rhs, window_strides, padding, **options)):
        return plain(lhs, rhs)
    convolve_here = functools.partial(convolve, stride=window_strides[0], padding=1)
    return lax.platform_dependent(lhs, rhs, cpu=convolve_here, default=plain)


def _has_kernel(lhs, rhs, window_strides, padding, *, dimension_numbers=None, **options) -> bool:
    if lhs.ndim != 4 or rhs.shape[:2] != (3, 3) or lhs.shape[-1] != rhs.shape[2]:
        return False
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
    numbers = [lax.conv_dimension_numbers(lhs.shape, rhs.shape, d) for d in (dimension_numbers, _NHWC)]
    return (
        numbers[0] == numbers[1]
        and tuple(window_strides) in ((1, 1), (2, 2))
        and not any(side % window_strides[0] for side in lhs.shape[1:3])
        and [tuple(p) for p in padding] == [(1, 1), (1, 1)]
        and all(option is None or option == 1 or option in ((1, 1), [1, 1]) for option in options.values())
    )


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
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_NHWC)


def _sum_of_taps(x: Float[Array, "b h w c"], kernel: Float[Array, "m n c d"]) -> Float[Array, "b h w d"]:
    rows, cols, c, d = kernel.shape
    b, h, w = x.shape[:3]
    taps = (x.reshape(-1, c) @ kernel.transpose(2, 0, 1, 3).reshape(c, -1)).reshape(b, h, w, rows, cols, d)
    around = [(0, 0), (rows // 2, rows // 2), (cols // 2, cols // 2), (0, 0), (0, 0), (0, 0)]
    padded = jnp.pad(taps, around)
    moved = [padded[:, i : i + h, j : j + w, i, j] for i in range(rows) for j in range(cols)]
    return functools.reduce(operator.add, moved)
