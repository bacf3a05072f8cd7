"""Layers that work in two and in three dimensions: the number of axes is that of the kernel."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax import ops
from cardiojax.models.blocks import InstanceNorm

_HE = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")


class ConvNormAct(nn.Module):
    """Convolution, instance normalisation, leaky ReLU, as in nnU-Net.

    Attributes:
        features: Number of output channels.
        kernel: Odd size along each axis.
        stride: Along each axis; 1 if not given.
        use_bias: Whether the convolution has one; the normalisation cancels it, the originals have it all the same.
        activate: Whether the activation follows.
        dtype: Type of the computation.
        implementation: ``"xla"`` or ``"native"``, as of `ops.conv_general_dilated`.
    """

    features: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] | None = None
    use_bias: bool = True
    activate: bool = True
    dtype: str = "float32"
    implementation: str = "xla"

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... d"]:
        """Applies the block."""
        padding = [((k - 1) // 2, (k - 1) // 2) for k in self.kernel]
        is_volume = len(self.kernel) == 3 and set(self.stride or (1,)) == {1}
        convolve = _convolve_volumes if is_volume else ops.conv_general_dilated
        x = nn.Conv(
            self.features,
            self.kernel,
            strides=self.stride,
            padding=padding,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=_HE,
            conv_general_dilated=functools.partial(convolve, implementation=self.implementation),
            name="conv",
        )(x)
        num_batch = x.ndim - 1 - len(self.kernel)
        flat = x.reshape(*x.shape[:num_batch], -1, *x.shape[-2:])  # the statistics do not see how voxels are arranged
        slope = 0.01 if self.activate else 1.0
        norm = InstanceNorm(negative_slope=slope, implementation=self.implementation, name="norm")
        return norm(flat).reshape(x.shape)


def _convolve_volumes(x: Array, kernel: Array, *args: Any, implementation: str, **options: Any) -> Array:
    """In the place where Flax calls XLA's: on CPU, neighbouring slices side by side as the channels of images."""

    def as_images(x, kernel):
        size, num = kernel.shape[0], x.shape[1]
        padded = jnp.pad(x, [(0, 0), (size // 2, size // 2), *[(0, 0)] * 3])
        slices = jnp.concatenate([padded[:, i : i + num] for i in range(size)], axis=-1)
        kernel = jnp.moveaxis(kernel, 0, 2).reshape(*kernel.shape[1:3], -1, kernel.shape[-1])
        images = slices.reshape(-1, *slices.shape[2:])
        numbers = ("NHWC", "HWIO", "NHWC")
        y = ops.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=numbers, implementation=implementation
        )
        return y.reshape(*x.shape[:-1], -1)

    def as_volumes(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, *args, **options)

    return jax.lax.platform_dependent(x, kernel, cpu=as_images, default=as_volumes)


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity, which is averaged and projected where the size changes.

    Attributes:
        features: Number of output channels.
        kernel: Odd size along each axis.
        stride: Along each axis, of the first convolution.
        dtype: Type of the computation.
        implementation: ``"xla"`` or ``"native"``, as of `ops.conv_general_dilated`.

    References:
        He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks" (ResNet-D), CVPR 2019.
    """

    features: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str = "float32"
    implementation: str = "xla"

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... d"]:
        """Applies the block."""
        layer = functools.partial(ConvNormAct, dtype=self.dtype, implementation=self.implementation)
        y = layer(self.features, self.kernel, self.stride, name="conv1")(x)
        y = layer(self.features, self.kernel, activate=False, name="conv2")(y)
        if any(s != 1 for s in self.stride):
            x = nn.avg_pool(x, window_shape=self.stride, strides=self.stride)
        if x.shape[-1] != self.features:
            one = (1,) * len(self.kernel)
            x = layer(self.features, one, use_bias=False, activate=False, name="skip")(x)
        return nn.leaky_relu(x + y)


class BlockUpConv(nn.Module):
    """Transposed convolution whose kernel is its stride.

    Attributes:
        features: Number of output channels.
        stride: Voxels that each voxel becomes, along each axis.
        dtype: Type of the computation.
        implementation: ``"xla"`` or ``"native"``, as of `ops.conv_transpose_blocks`.
    """

    features: int
    stride: tuple[int, ...]
    dtype: str = "float32"
    implementation: str = "xla"

    @nn.compact
    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... d"]:
        """Upsamples."""
        kernel = self.param("kernel", _HE, (*self.stride, x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
        kernel, bias = kernel.astype(self.dtype), bias.astype(self.dtype)
        return ops.conv_transpose_blocks(x, kernel, bias, implementation=self.implementation)
