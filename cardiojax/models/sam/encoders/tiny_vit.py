"""LiteMedSAM's image encoder: TinyViT, convolutions first, then attention within windows.

The original has a batch normalisation after each convolution. `cardiojax.zoo.convert` folds it into the kernel and the
bias, which computes the same at inference.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiojax.models.sam.config import SAMConfig, TinyViTConfig
from cardiojax.models.sam.encoders.adapter import Adapter
from cardiojax.models.sam.encoders.windows import merge_windows, split_windows
from cardiojax.models.transformer import Mlp

#: Channels within a block of convolutions, and hidden size of a block's linear layers, relative to its width.
_EXPANSION = 4
#: Strides between the stages. The published network has 2 also at the end, and 4 at the start.
_STRIDES = (2, 2, 1)


class TinyViT(nn.Module):
    """Images to feature maps of a quarter of their height and width, and the neck that sets their channels.

    References:
        Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", ECCV 2022. Ma et al.,
        "Segment anything in medical images", Nature Communications 2024, and its LiteMedSAM (the strides).
    """

    config: SAMConfig
    sizes: TinyViTConfig

    @nn.compact
    def __call__(self, images: Float[Array, "*b h w c"]) -> Float[Array, "*b h/4 w/4 d"]:
        """Encodes images.

        Args:
            images: Preprocessed images of the configuration's size.

        Returns:
            Features of the prompts' size.
        """
        dim, dtype, sizes = self.config.prompt_dim, self.config.dtype, self.sizes
        width = sizes.widths[0]
        x = images.reshape(-1, *images.shape[-3:])
        x = nn.Dense(width // 2, dtype=dtype, name="patch_embed_seq_0")(x)
        x = nn.Dense(width, dtype=dtype, name="patch_embed_seq_2")(_gelu(x))
        for stage, (width, depth) in enumerate(zip(sizes.widths, sizes.depths, strict=True)):
            if stage:
                merge = _Downsample(width, _STRIDES[stage - 1], dtype, name=f"layers_{stage - 1}_downsample")
                x = merge(x)
            for i in range(depth):
                name = f"layers_{stage}_blocks_{i}"
                if stage:
                    heads, window = sizes.num_heads[stage], sizes.windows[stage]
                    x = _Block(width, heads, window, self.config.adapters, dtype, name=name)(x)
                else:
                    x = _ConvBlock(width, dtype, name=name)(x)
        for i, edge in ((0, 1), (2, 3)):
            x = nn.Conv(dim, (edge, edge), use_bias=False, dtype=dtype, name=f"neck_{i}")(x)
            x = nn.LayerNorm(epsilon=1e-6, dtype=dtype, name=f"neck_{i + 1}")(x)
        return x.reshape(*images.shape[:-3], *x.shape[1:])


def _gelu(x: Array) -> Array:
    return nn.gelu(x, approximate=False)


class _ConvBlock(nn.Module):
    """A bottleneck turned inside out: wide in the middle, where each channel is convolved by itself."""

    width: int
    dtype: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = _gelu(nn.Dense(_EXPANSION * self.width, dtype=self.dtype, name="conv1")(x))
        y = _gelu(_Depthwise(dtype=self.dtype, name="conv2")(y))
        return _gelu(x + nn.Dense(self.width, dtype=self.dtype, name="conv3")(y))


class _Downsample(nn.Module):
    width: int
    stride: int
    dtype: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = _gelu(nn.Dense(self.width, dtype=self.dtype, name="conv1")(x))
        x = _gelu(_Depthwise(stride=self.stride, dtype=self.dtype, name="conv2")(x))
        return nn.Dense(self.width, dtype=self.dtype, name="conv3")(x)


class _Block(nn.Module):
    """Attention within windows, a convolution of each channel, and two linear layers, with an adapter beside them."""

    width: int
    num_heads: int
    window: int
    adapters: bool
    dtype: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        attend = _WindowAttention(self.num_heads, self.dtype, name="attn")
        x = x + merge_windows(attend(split_windows(x, self.window, 2)), x.shape, 2)
        x = _Depthwise(dtype=self.dtype, name="local_conv")(x)
        y = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="mlp_norm")(x)
        out = x + Mlp(self.width, _EXPANSION * self.width, dtype=self.dtype, name="mlp")(y)
        return out + Adapter(self.width, self.dtype, name="adapter")(y) if self.adapters else out


class _WindowAttention(nn.Module):
    """Attention within square windows whose scores have a bias for the distance in rows and columns."""

    num_heads: int
    dtype: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        side, width, heads = x.shape[-2], x.shape[-1], self.num_heads
        tokens = nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name="norm")(x.reshape(-1, side * side, width))
        qkv = nn.Dense(3 * width, dtype=self.dtype, name="qkv")(tokens)
        query, key, value = jnp.split(qkv.reshape(*tokens.shape[:2], heads, -1), 3, -1)
        zeros = nn.initializers.zeros_init()
        table = self.param("attention_biases", zeros, (heads, side * side))
        bias = table[:, _distances(side)].astype(self.dtype)
        out = jax.nn.dot_product_attention(query, key, value, bias[None])
        return nn.Dense(width, dtype=self.dtype, name="proj")(out.reshape(tokens.shape)).reshape(x.shape)


def _distances(side: int) -> np.ndarray:
    """For two cells of a square, numbered row after row, ``side`` times their distance in rows plus that in columns."""
    row, column = np.divmod(np.arange(side * side), side)
    return side * np.abs(row[:, None] - row) + np.abs(column[:, None] - column)


class _Depthwise(nn.Module):
    """A 3 x 3 convolution of each channel by itself, as a sum of nine shifted products.

    XLA fuses the sum into one loop; its own grouped convolution is many times slower on CPU.
    """

    dtype: str
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels, step = x.shape[-1], self.stride
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, 1, channels)).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,)).astype(x.dtype)
        height, width = x.shape[1:3]
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        taps = [(row, column) for row in range(3) for column in range(3)]
        shifted = (x[:, r : r + height : step, c : c + width : step] * kernel[r, c, 0] for r, c in taps)
        return sum(shifted, bias)
