"""Flax layers over the primitives of `cardiojax.ops`, shared by convolutional models, and a head on feature maps."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax import ops

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": nn.relu, "leaky_relu": nn.leaky_relu, "elu": nn.elu}

_KERNEL_INIT = nn.initializers.he_normal()
#: Activations that the normalisation applies in the same pass.
_SLOPES = {"relu": 0.0, "leaky_relu": 0.01}


class InstanceNorm(nn.Module):
    """Instance normalisation with a learned scale and offset per channel, then a leaky rectifier.

    Attributes:
        epsilon: Added to the variance.
        negative_slope: Slope of the rectifier below zero: 1 for none.
        implementation: ``"xla"`` or ``"native"``, as of `ops.instance_norm`.
    """

    epsilon: float = 1e-5
    negative_slope: float = 1.0
    implementation: str = "xla"

    @nn.compact
    def __call__(self, x: Float[Array, "*b h w c"]) -> Float[Array, "*b h w c"]:
        """Normalises each channel of each image over its pixels."""
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],), jnp.float32)
        return ops.instance_norm(x, scale, bias, self.epsilon, self.negative_slope, implementation=self.implementation)


class ConvBlock(nn.Module):
    """Convolution, normalisation, activation.

    Attributes:
        features: Number of output channels.
        kernel_size: Side of the square kernel.
        stride: Pixels between the windows.
        norm: ``"instance"``, ``"group"`` or ``"none"``. The convolution has a bias only without normalisation, which
            would cancel it.
        activation: A key of `ACTIVATIONS`.
        dtype: Type of the computation; parameters are float32.
        implementation: ``"xla"`` or ``"native"``, as of `ops.conv_general_dilated`.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    norm: str = "instance"
    activation: str = "leaky_relu"
    dtype: Any = jnp.float32
    implementation: str = "xla"

    @nn.compact
    def __call__(self, x: Float[Array, "*b h w c"]) -> Float[Array, "*b rows cols d"]:
        """Applies the block."""
        kernel_size, strides = (self.kernel_size, self.kernel_size), (self.stride, self.stride)
        use_bias = self.norm == "none"
        x = nn.Conv(
            self.features,
            kernel_size,
            strides,
            use_bias=use_bias,
            dtype=self.dtype,
            kernel_init=_KERNEL_INIT,
            conv_general_dilated=functools.partial(ops.conv_general_dilated, implementation=self.implementation),
        )(x)
        if self.norm == "instance" and self.activation in _SLOPES:
            return InstanceNorm(negative_slope=_SLOPES[self.activation], implementation=self.implementation)(x)
        if self.norm == "instance":
            x = InstanceNorm(implementation=self.implementation)(x)
        elif self.norm == "group":
            x = nn.GroupNorm(num_groups=min(8, self.features), dtype=self.dtype)(x)
        elif self.norm != "none":
            raise ValueError(f"norm must be 'instance', 'group' or 'none', got {self.norm!r}")
        return ACTIVATIONS[self.activation](x)


class UpConv(nn.Module):
    """Upsampling by 2 with learned weights.

    Attributes:
        features: Number of output channels.
        mode: ``"transpose"`` for a 2 x 2 transposed convolution with stride 2, ``"nearest"`` for nearest-neighbour
            upsampling followed by a 3 x 3 convolution.
        dtype: Type of the computation.
        implementation: ``"xla"`` or ``"native"``, as of `ops.conv_general_dilated`.
    """

    features: int
    mode: str = "transpose"
    dtype: Any = jnp.float32
    implementation: str = "xla"

    @nn.compact
    def __call__(self, x: Float[Array, "*b h w c"]) -> Float[Array, "*b h*2 w*2 d"]:
        """Doubles the height and width."""
        if self.mode == "nearest":
            conv = nn.Conv(
                self.features,
                (3, 3),
                dtype=self.dtype,
                kernel_init=_KERNEL_INIT,
                conv_general_dilated=functools.partial(ops.conv_general_dilated, implementation=self.implementation),
            )
            return conv(ops.upsample_2x(x))
        if self.mode != "transpose":
            raise ValueError(f"mode must be 'transpose' or 'nearest', got {self.mode!r}")
        kernel = self.param("kernel", _KERNEL_INIT, (2, 2, x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
        return ops.conv_transpose_2x2(x, kernel, bias, implementation=self.implementation)


class ConfidenceHead(nn.Module):
    """Reads from feature maps how sure each pixel is: one logit of the confidence, or one raw scale per class.

    It serves ConfidNet on the features of a frozen network, hints and learned scales on those of one that trains along.

    Attributes:
        features: Channels of its 3 x 3 convolutions.
        num_outputs: Channels of the result.

    Example:
        >>> import jax
        >>> head, features = ConfidenceHead(), jnp.zeros((1, 8, 8, 16))
        >>> head.apply(head.init(jax.random.key(0), features), features).shape
        (1, 8, 8, 1)

    References:
        Corbière et al., "Addressing Failure Prediction by Learning Model Confidence", NeurIPS 2019, which also reads
        the last features; the version in the code of CRISP has a decoder of its own.
    """

    features: tuple[int, ...] = (16, 16)
    num_outputs: int = 1

    @nn.compact
    def __call__(self, features: Float[Array, "*b h w c"]) -> Float[Array, "*b h w d"]:
        """Applies the head."""
        x = features.astype(jnp.float32)
        for channels in self.features:
            x = ConvBlock(channels)(x)
        return nn.Conv(self.num_outputs, (1, 1))(x)


def convolve_to_few(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """`ops.conv_to_few` in the place where Flax calls XLA's: stride 1 and padding "SAME" are all that is asked for."""
    return ops.conv_to_few(x, kernel)
