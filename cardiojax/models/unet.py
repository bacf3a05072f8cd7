"""U-Net for 2-D segmentation."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax import ops
from cardiojax.models.blocks import ConvBlock, UpConv


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes of a U-Net.

    Attributes:
        features: Channels of each level, from the input's resolution down; each level halves the one before.
        num_classes: Channels of the logits.
        convs_per_level: Convolutions of each level of the encoder and of the decoder.
        norm: ``"instance"``, ``"group"`` or ``"none"``.
        activation: ``"relu"``, ``"leaky_relu"`` or ``"elu"``.
        upsample: ``"transpose"`` (2 x 2, stride 2) or ``"nearest"`` (then a 3 x 3 convolution).
        patch: Side of the square patches whose pixels become channels before the first level (space to depth); the
            logits are unfolded the same way. 2 starts at half the resolution, where most of the time is saved.
        frames: Frames of one view, the one to segment first, that the input holds as channels; an image alone takes
            the place of all.
        dropout: Rate of channel dropout after the deepest level, active with ``train=True``.
        dtype: Type of the computation; parameters and logits are float32.
        remat: Whether the backward pass recomputes the insides of a block, for less memory.
    """

    features: tuple[int, ...] = (16, 32, 64, 128, 256)
    num_classes: int = 4
    convs_per_level: int = 2
    norm: str = "instance"
    activation: str = "leaky_relu"
    upsample: str = "transpose"
    patch: int = 1
    frames: int = 1
    dropout: float = 0.0
    dtype: str = "float32"
    remat: bool = False


#: ``unet_pair`` sees the other phase of the view beside the frame to segment, and starts at half the resolution;
#: ``lecture`` is the plain network of the slides: 3 x 3 convolutions with biases and ReLU, no normalisation.
UNET_PRESETS: dict[str, UNetConfig] = {
    "unet": UNetConfig(),
    "unet_pair": UNetConfig(features=(32, 64, 128, 256), patch=2, frames=2),
    "unet_lecture": UNetConfig(norm="none", activation="relu", upsample="nearest"),
}


class UNetOutput(NamedTuple):
    """What a U-Net returns."""

    logits: Float[Array, "*b h w k"]
    features: Float[Array, "*b rows cols c"]
    bottleneck: Float[Array, "*b h/s w/s d"]


class UNet(nn.Module):
    """U-Net: an encoder, a decoder and skip connections between their levels.

    The height and width of the images must be multiples of `divisor`.

    Attributes:
        config: Sizes.
        implementation: ``"native"`` computes 3 x 3 and transposed convolutions and instance normalisation on CPU in
            float32 by compiled kernels, after `runtime.build_kernels`, with the limits that `ops.conv_general_dilated`
            names; the parameters are the same.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = UNet(UNetConfig(features=(4, 8)))
        >>> images = jnp.zeros((2, 32, 48, 1))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> jax.eval_shape(model.apply, variables, images).logits.shape
        (2, 32, 48, 4)

    References:
        Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
    """

    config: UNetConfig = UNetConfig()
    implementation: str = "xla"

    @property
    def divisor(self) -> int:
        """The number of which the height and width of the input must be multiples."""
        return self.config.patch * 2 ** (len(self.config.features) - 1)

    @nn.compact
    def __call__(self, images: Float[Array, "*b h w c"], *, train: bool = False) -> UNetOutput:
        """Segments images.

        Args:
            images: Images in [0, 1], of one channel or of ``frames``.
            train: Whether dropout is active; it then needs a ``"dropout"`` random key.

        Returns:
            Logits at the input's resolution, the last feature maps, and those of the deepest level.

        Raises:
            ValueError: If the height or width is no multiple of `divisor`.
        """
        ops.require_auto_axes(images)
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        h, w = images.shape[-3:-1]
        if h % self.divisor or w % self.divisor:
            raise ValueError(f"height and width must be multiples of {self.divisor}, got {h} x {w}")

        block: type[ConvBlock] = nn.remat(ConvBlock) if config.remat else ConvBlock

        def level(x: Array, features: int, name: str) -> Array:
            for i in range(config.convs_per_level):
                x = block(
                    features,
                    norm=config.norm,
                    activation=config.activation,
                    dtype=dtype,
                    implementation=self.implementation,
                    name=f"{name}_conv{i}",
                )(x)
            return x

        if images.shape[-1] == 1:
            images = jnp.repeat(images, config.frames, axis=-1)
        x = ops.space_to_depth(images.astype(dtype), config.patch)
        skips = []
        for depth, features in enumerate(config.features):
            if depth:
                skips.append(x)
                x = ops.max_pool(x)
            x = level(x, features, f"down{depth}")
        x = nn.Dropout(config.dropout, broadcast_dims=(-3, -2), deterministic=not train)(x)
        bottleneck = x
        for depth, features in reversed(tuple(enumerate(config.features[:-1]))):
            up = UpConv(
                features, mode=config.upsample, dtype=dtype, implementation=self.implementation, name=f"up{depth}"
            )
            x = up(x)
            x = level(jnp.concatenate([x, skips[depth]], axis=-1), features, f"up{depth}")
        logits = nn.Conv(config.num_classes * config.patch**2, (1, 1), dtype=dtype, name="head")(x)
        return UNetOutput(ops.depth_to_space(logits.astype(jnp.float32), config.patch), x, bottleneck)
