"""Segmentation with a vision transformer as encoder."""

import dataclasses
import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax import ops
from cardiojax.models.blocks import ConvBlock, UpConv
from cardiojax.models.unet import UNetOutput
from cardiojax.models.vit import ViT, ViTConfig, ViTOutput


@dataclasses.dataclass(frozen=True, kw_only=True)
class UNETRConfig:
    """Sizes of a UNETR.

    Attributes:
        encoder: The transformer; its patch size is a power of two.
        features: Channels at the input's resolution; each level down doubles them.
        num_classes: Channels of the logits.
    """

    encoder: ViTConfig = ViTConfig(channels=1, pool="mean", num_classes=0)
    features: int = 16
    num_classes: int = 4


class UNETR(nn.Module):
    """Vision transformer whose feature maps at even depths are the skip connections of a convolutional decoder.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = UNETR(UNETRConfig(encoder=ViTConfig(width=16, depth=4, num_heads=2), features=4))
        >>> images = jnp.zeros((2, 64, 48, 1))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> jax.eval_shape(model.apply, variables, images).logits.shape
        (2, 64, 48, 4)

    References:
        Hatamizadeh et al., "UNETR: Transformers for 3D Medical Image Segmentation", WACV 2022.
    """

    config: UNETRConfig = UNETRConfig()

    @property
    def divisor(self) -> int:
        """The number of which the height and width of the input must be multiples."""
        return self.config.encoder.patch_size

    @nn.compact
    def __call__(self, images: Float[Array, "*b h w c"], *, train: bool = False) -> UNetOutput:
        """Segments images.

        Args:
            images: Images in [0, 1].
            train: Whether dropout and stochastic depth act; they then need a ``"dropout"`` random key.

        Returns:
            Logits at the input's resolution, the last feature maps, and the transformer's.

        Raises:
            ValueError: If the patch size is no power of two, or a side of the images no multiple of it.
        """
        ops.require_auto_axes(images)
        config, dtype = self.config, jnp.dtype(self.config.encoder.dtype)
        num_levels = round(math.log2(config.encoder.patch_size))
        if 2**num_levels != config.encoder.patch_size:
            raise ValueError(f"the patch size must be a power of two, got {config.encoder.patch_size}")
        depths = [config.encoder.depth * level // num_levels for level in range(1, num_levels)]
        encoder = dataclasses.replace(config.encoder, keep=tuple(depth - 1 for depth in depths))
        encoded: ViTOutput = ViT(encoder, name="encoder")(images, train=train)

        def double(x: Array, level: int, name: str) -> Array:
            return UpConv(config.features * 2**level, dtype=dtype, name=name)(x)

        def convolve(x: Array, level: int, name: str) -> Array:
            for i in range(2):
                x = ConvBlock(config.features * 2**level, dtype=dtype, name=f"{name}_conv{i}")(x)
            return x

        skips = {0: convolve(images.astype(dtype), 0, "skip0")}
        for level in range(1, num_levels):
            x = encoded.hidden[level - 1]
            for step in reversed(range(level, num_levels)):
                x = double(x, step, f"skip{level}_up{step}")
            skips[level] = convolve(x, level, f"skip{level}")
        x = encoded.features
        for level in reversed(range(num_levels)):
            x = double(x, level, f"up{level}")
            x = convolve(jnp.concatenate([x, skips[level]], axis=-1), level, f"up{level}")
        logits = nn.Conv(config.num_classes, (1, 1), dtype=dtype, name="head")(x).astype(jnp.float32)
        return UNetOutput(logits, x, encoded.features)
