"""SAM's mask decoder: tokens and image attend to each other, and each mask token becomes a filter."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax import ops
from cardiojax.models.nnunet.layers import BlockUpConv
from cardiojax.models.sam.config import SAMConfig

_NUM_MASKS = 4
_NUM_HEADS = 8


class MaskDecoder(nn.Module):
    """Features and prompts to masks and their predicted quality."""

    config: SAMConfig

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "... d"],
        positions: Float[Array, "... d"],
        sparse: Float[Array, "*b n d"],
        dense: Float[Array, "... d"],
    ) -> tuple[Float[Array, "... 4"], Float[Array, "*b 4"]]:
        """Predicts masks.

        Args:
            features: Of the image.
            positions: Of the patches.
            sparse: Tokens of the prompts.
            dense: Feature map of the prompts.

        Returns:
            Logits of four masks, and their predicted intersection over union.
        """
        config, normal = self.config, nn.initializers.normal(1.0)
        dim, num_axes, dtype = config.prompt_dim, config.num_axes, config.dtype
        grid = (config.grid,) * num_axes
        quality_token = self.param("iou_token", normal, (1, dim))
        mask_tokens = self.param("mask_tokens", normal, (_NUM_MASKS, dim))
        own = jnp.concatenate([quality_token, mask_tokens]).astype(dtype)
        own = jnp.broadcast_to(own, (*sparse.shape[:-2], *own.shape))
        tokens = jnp.concatenate([own, sparse], axis=-2)
        image = features + dense
        image = image.reshape(*image.shape[: -1 - num_axes], math.prod(grid), dim)
        positions = positions.reshape(-1, dim).astype(dtype)
        tokens, image = _TwoWayTransformer(config, name="transformer")(tokens, image, positions)

        x = image.reshape(*image.shape[:-2], *grid, dim)
        x = BlockUpConv(dim // 4, (2,) * num_axes, dtype=dtype, name="output_upscaling_0")(x)
        x = nn.gelu(nn.LayerNorm(epsilon=1e-6, dtype=dtype, name="output_upscaling_1")(x), approximate=False)
        x = nn.gelu(
            BlockUpConv(dim // 8, (2,) * num_axes, dtype=dtype, name="output_upscaling_3")(x), approximate=False
        )
        filters = [
            _Perceptron((dim, dim, dim // 8), dtype, name=f"output_hypernetworks_mlps_{i}")(tokens[..., 1 + i, :])
            for i in range(_NUM_MASKS)
        ]
        flat = x.reshape(*image.shape[:-2], -1, dim // 8)
        logits = jnp.einsum("...nc,...kc->...nk", flat, jnp.stack(filters, axis=-2))
        logits = logits.reshape(*x.shape[:-1], _NUM_MASKS)
        quality = _Perceptron((256, 256, _NUM_MASKS), dtype, name="iou_prediction_head")(tokens[..., 0, :])
        return logits.astype(jnp.float32), quality.astype(jnp.float32)


class _TwoWayTransformer(nn.Module):
    config: SAMConfig

    @nn.compact
    def __call__(self, tokens: Array, image: Array, positions: Array) -> tuple[Array, Array]:
        dtype, dim, prompts = self.config.dtype, self.config.prompt_dim, tokens
        for i in range(2):
            layer = _TwoWayLayer(dim, is_first=i == 0, dtype=dtype, name=f"layers_{i}")
            tokens, image = layer(tokens, image, prompts, positions)
        attend = _CrossAttention(dim, dim // 2, dtype, name="final_attn_token_to_image")
        tokens = tokens + attend(tokens + prompts, image + positions, image)
        return nn.LayerNorm(epsilon=1e-5, dtype=dtype, name="norm_final_attn")(tokens), image


class _TwoWayLayer(nn.Module):
    dim: int
    is_first: bool
    dtype: str

    @nn.compact
    def __call__(self, tokens: Array, image: Array, prompts: Array, positions: Array) -> tuple[Array, Array]:
        def norm(i: int, x: Array) -> Array:
            return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=f"norm{i}")(x)

        def cross(name: str) -> _CrossAttention:
            return _CrossAttention(self.dim, self.dim // 2, self.dtype, name=name)

        attend = _CrossAttention(self.dim, self.dim, self.dtype, name="self_attn")
        if self.is_first:  # replaces the tokens: they are nothing but prompts so far
            tokens = attend(tokens, tokens, tokens)
        else:
            query = tokens + prompts
            tokens = tokens + attend(query, query, tokens)
        tokens = norm(1, tokens)
        query, key = tokens + prompts, image + positions
        tokens = norm(2, tokens + cross("cross_attn_token_to_image")(query, key, image))
        tokens = norm(3, tokens + _Perceptron((2048, self.dim), self.dtype, prefix="lin", first=1, name="mlp")(tokens))
        query = tokens + prompts
        image = norm(4, image + cross("cross_attn_image_to_token")(key, query, tokens))
        return tokens, image


class _CrossAttention(nn.Module):
    dim: int
    inner: int
    dtype: str

    @nn.compact
    def __call__(self, query: Array, key: Array, value: Array) -> Array:
        heads = []
        for name, x in (("q_proj", query), ("k_proj", key), ("v_proj", value)):
            x = nn.Dense(self.inner, dtype=self.dtype, name=name)(x)
            heads.append(x.reshape(*x.shape[:-1], _NUM_HEADS, self.inner // _NUM_HEADS))
        out = ops.attention(*heads)
        return nn.Dense(self.dim, dtype=self.dtype, name="out_proj")(out.reshape(*out.shape[:-2], self.inner))


class _Perceptron(nn.Module):
    """Linear layers with ReLU between."""

    features: tuple[int, ...]
    dtype: str
    prefix: str = "layers_"
    first: int = 0

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i, features in enumerate(self.features):
            x = nn.Dense(features, dtype=self.dtype, name=f"{self.prefix}{i + self.first}")(nn.relu(x) if i else x)
        return x
