"""The layers' primitives, written so that XLA is quick on every backend.

XLA's own lowering of a few operations is many times slower on CPU than the same arithmetic written another way, most of
all in the backward pass. GPU and TPU keep their native kernels: `jax.lax.platform_dependent` chooses at lowering.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cardiojax.ops.native.layers import normalize, uses_kernel
from cardiojax.ops.nn.upsample import conv_transpose_blocks


def max_pool(x: Float[Array, "*b h w c"]) -> Float[Array, "*b h/2 w/2 c"]:
    """Maximum over non-overlapping 2 x 2 windows.

    A maximum of four strided slices: the backward pass of `lax.reduce_window` is a scatter that takes 25 times longer
    on CPU. The gradient of a tie is shared among the tied pixels.

    Args:
        x: Feature maps with even height and width, channels last.

    Returns:
        Feature maps at half the height and width.

    Raises:
        ValueError: If the height or the width is odd.

    Example:
        >>> import jax.numpy as jnp
        >>> max_pool(jnp.arange(16.0).reshape(4, 4, 1))[..., 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """
    _require_even(x, "max_pool")
    top = jnp.maximum(x[..., ::2, ::2, :], x[..., ::2, 1::2, :])
    bottom = jnp.maximum(x[..., 1::2, ::2, :], x[..., 1::2, 1::2, :])
    return jnp.maximum(top, bottom)


def conv_transpose_2x2(
    x: Float[Array, "*b h w c"],
    kernel: Float[Array, "2 2 c d"],
    bias: Float[Array, " d"] | None = None,
    *,
    implementation: str = "xla",
) -> Float[Array, "*b h*2 w*2 d"]:
    """Transposed convolution with a 2 x 2 kernel and stride 2, as a matrix product and a depth-to-space.

    The windows do not overlap, so no sum is needed. XLA's transposed convolution spends 30 to 450 times longer in the
    weight gradient on CPU. The orientation is PyTorch's `ConvTranspose2d` with its kernel moved to ``(2, 2, in, out)``.

    Args:
        x: Feature maps, channels last.
        kernel: Weights; ``kernel[i, j]`` makes output pixel ``(2 row + i, 2 col + j)``.
        bias: One value per output channel.
        implementation: As of `conv_transpose_blocks`.

    Returns:
        Feature maps at twice the height and width.

    Raises:
        Exception: What `conv_transpose_blocks` raises.

    Example:
        >>> import jax.numpy as jnp
        >>> kernel = jnp.arange(4.0).reshape(2, 2, 1, 1)
        >>> conv_transpose_2x2(jnp.ones((1, 1, 1)), kernel)[..., 0].tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    return conv_transpose_blocks(x, kernel, bias, implementation=implementation)


def upsample_2x(x: Float[Array, "*b h w c"]) -> Float[Array, "*b h*2 w*2 c"]:
    """Nearest-neighbour upsampling by 2 as one broadcast, without a gather.

    Args:
        x: Feature maps, channels last.

    Returns:
        Feature maps at twice the height and width.

    Example:
        >>> import jax.numpy as jnp
        >>> upsample_2x(jnp.array([[[1.0], [2.0]]]))[..., 0].tolist()
        [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
    """
    *batch, h, w, c = x.shape
    y = jnp.broadcast_to(x[..., :, None, :, None, :], (*batch, h, 2, w, 2, c))
    return y.reshape(*batch, 2 * h, 2 * w, c)


def space_to_depth(x: Float[Array, "*b h w c"], size: int) -> Float[Array, "*b rows cols d"]:
    """Moves the pixels of each square patch into channels.

    Args:
        x: Feature maps, channels last, whose height and width are multiples of ``size``.
        size: Side of a patch in pixels.

    Returns:
        Feature maps of a ``size``-th of the height and width; channel ``(size row + col) c + channel``.

    Example:
        >>> space_to_depth(jnp.arange(4.0).reshape(2, 2, 1), 2)
        Array([[[0., 1., 2., 3.]]], dtype=float32)
    """
    *batch, h, w, c = x.shape
    x = x.reshape(*batch, h // size, size, w // size, size, c).swapaxes(-4, -3)
    return x.reshape(*batch, h // size, w // size, size * size * c)


def depth_to_space(x: Float[Array, "*b h w c"], size: int) -> Float[Array, "*b rows cols d"]:
    """Inverse of `space_to_depth`.

    Args:
        x: Feature maps, channels last, whose channels are a multiple of ``size ** 2``.
        size: Side of a patch in pixels.

    Returns:
        Feature maps of ``size`` times the height and width.

    Example:
        >>> import jax.numpy as jnp
        >>> depth_to_space(jnp.arange(4.0).reshape(1, 1, 4), 2)[..., 0].tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    *batch, h, w, c = x.shape
    x = x.reshape(*batch, h, w, size, size, c // size**2).swapaxes(-4, -3)
    return x.reshape(*batch, h * size, w * size, c // size**2)


def instance_norm(
    x: Float[Array, "*b h w c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float = 1e-5,
    negative_slope: float = 1.0,
    *,
    implementation: str = "xla",
) -> Float[Array, "*b h w c"]:
    """Normalises each channel of each image to zero mean and unit variance over its pixels, then rectifies it.

    The derivative is written out, so that the backward pass keeps the input alone: neither the normalised maps nor
    those before the rectifier are stored. Statistics are computed in float32 whatever the input's type.

    Args:
        x: Feature maps, channels last.
        scale: One factor per channel.
        bias: One offset per channel.
        epsilon: Added to the variance.
        negative_slope: Slope of the leaky rectifier below zero: 1 for none, 0 for ReLU.
        implementation: ``"xla"``, or ``"native"`` for a compiled kernel on CPU, after `runtime.build_kernels`; it
            serves float32 and multiples of 16 channels, with the limits that `conv_general_dilated` names.

    Returns:
        Normalised feature maps, of the input's type.

    Raises:
        ValueError: If there is no such implementation.
        RuntimeError: If the kernels were not built.

    References:
        Ulyanov et al., "Instance Normalization: The Missing Ingredient for Fast Stylization", 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[[1.0], [3.0]]])
        >>> instance_norm(x, jnp.ones(1), jnp.zeros(1)).round(3).tolist()
        [[[-1.0], [1.0]]]
    """
    plain = functools.partial(_instance_norm, epsilon=epsilon, negative_slope=negative_slope)
    native = uses_kernel(implementation, x, scale, bias, channels=x.shape[-1:])
    if not (native and scale.shape == bias.shape == x.shape[-1:]):
        return plain(x, scale, bias)
    normalize_here = functools.partial(normalize, epsilon=epsilon, slope=negative_slope)
    flat = x.reshape(-1, *x.shape[-3:])
    return lax.platform_dependent(flat, scale, bias, cpu=normalize_here, default=plain).reshape(x.shape)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _instance_norm(x, scale, bias, epsilon, negative_slope):
    return _normalise(x, scale, bias, *_statistics(x, epsilon), negative_slope)


def _statistics(x, epsilon):
    """Mean and inverse standard deviation of each channel of each image."""
    x32 = x.astype(jnp.float32)
    mean = x32.mean((-3, -2), keepdims=True)
    # the second pass over centred values keeps the variance exact where the mean is large
    variance = jnp.square(x32 - mean).mean((-3, -2), keepdims=True)
    return mean, lax.rsqrt(variance + epsilon)


def _normalise(x, scale, bias, mean, inverse, negative_slope):
    y = (x.astype(jnp.float32) - mean) * (inverse * scale) + bias
    return jnp.where(y >= 0, y, negative_slope * y).astype(x.dtype)


@_instance_norm.defjvp
def _instance_norm_jvp(epsilon, negative_slope, primals, tangents):
    x, scale, bias = primals
    mean, inverse = _statistics(x, epsilon)
    y = _normalise(x, scale, bias, mean, inverse, negative_slope)
    # what the tangent needs of the input is computed again in the backward pass
    tangent = jax.checkpoint(functools.partial(_instance_norm_tangent, negative_slope))
    return y, tangent((x, scale, bias, mean, inverse), tangents)


def _instance_norm_tangent(negative_slope, primals, tangents):
    x, scale, bias, mean, inverse = primals
    dx, d_scale, d_bias = tangents
    dx, factor = dx.astype(jnp.float32), inverse * scale
    centred = x.astype(jnp.float32) - mean
    normal = centred * inverse
    # pixels enter by two means alone, so that the backward pass has no more than two sums over them
    offset = d_bias - factor * dx.mean((-3, -2), keepdims=True)
    slope = d_scale - factor * (dx * normal).mean((-3, -2), keepdims=True)
    dy = factor * dx + slope * normal + offset
    # the sign exactly as the forward pass saw it
    return jnp.where(centred * factor + bias >= 0, dy, negative_slope * dy).astype(x.dtype)


def _require_even(x: Array, name: str) -> None:
    h, w = x.shape[-3:-1]
    if h % 2 or w % 2:
        raise ValueError(f"{name} needs an even height and width, got {h} x {w}")
