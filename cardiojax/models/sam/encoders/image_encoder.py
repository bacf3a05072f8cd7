"""SAM's image encoder: a vision transformer with windows and decomposed relative positions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cardiojax.models.sam.config import SAMConfig
from cardiojax.models.sam.encoders.adapter import Adapter
from cardiojax.models.sam.encoders.windows import merge_windows, split_windows
from cardiojax.models.transformer import Mlp


class ImageEncoder(nn.Module):
    """Images or volumes to feature maps of one vector per patch, and the neck that narrows them."""

    config: SAMConfig

    @nn.compact
    def __call__(self, images: Float[Array, "... c"]) -> Float[Array, "... d"]:
        """Encodes images.

        Args:
            images: Preprocessed images of the configuration's size.

        Returns:
            Features of the prompts' size.
        """
        config, zeros = self.config, nn.initializers.zeros_init()
        num_axes = config.num_axes
        patch = (config.patch_size,) * num_axes
        x = nn.Conv(config.width, patch, patch, padding="VALID", dtype=config.dtype, name="patch_embed")(images)
        positions = self.param("pos_embed", zeros, (1, *(config.grid,) * num_axes, config.width))
        x = x + positions[0].astype(x.dtype)
        block: type[_Block] = nn.remat(_Block) if config.remat else _Block
        for i in range(config.depth):
            window = 0 if i in config.global_blocks else config.window
            x = block(config, window, name=f"blocks_{i}")(x)
        for i, edge in ((0, 1), (2, 3)):
            kernel = (edge,) * num_axes
            x = nn.Conv(config.prompt_dim, kernel, use_bias=False, dtype=config.dtype, name=f"neck_{i}")(x)
            x = nn.LayerNorm(epsilon=1e-6, dtype=config.dtype, name=f"neck_{i + 1}")(x)
        return x


class _Block(nn.Module):
    config: SAMConfig
    window: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        config = self.config
        y = nn.LayerNorm(epsilon=1e-6, dtype=config.dtype, name="norm1")(x)
        attention = _Attention(config, self.window or config.grid, name="attn")
        if self.window:
            y = merge_windows(attention(split_windows(y, self.window, config.num_axes)), x.shape, config.num_axes)
        else:
            y = attention(y)
        x = x + y
        y = nn.LayerNorm(epsilon=1e-6, dtype=config.dtype, name="norm2")(x)
        out = x + Mlp(config.width, 4 * config.width, dtype=config.dtype, name="mlp")(y)
        return out + Adapter(config.width, config.dtype, name="adapter")(y) if config.adapters else out


class _Attention(nn.Module):
    """Attention within a square or cube whose scores depend on the distance along each axis too."""

    config: SAMConfig
    side: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        config, side, zeros = self.config, self.side, nn.initializers.zeros_init()
        num_axes, heads, dim = config.num_axes, config.num_heads, config.width // config.num_heads
        tables = [self.param(f"rel_pos_{axis}", zeros, (2 * side - 1, dim)) for axis in "dhw"[-num_axes:]]
        distance = np.arange(side)[:, None] - np.arange(side) + side - 1
        by_row, *by_axis = (table[distance].astype(config.dtype) for table in tables)

        qkv = nn.Dense(3 * config.width, dtype=config.dtype, name="qkv")(x)
        qkv = qkv.reshape(-1, *(side,) * num_axes, 3, heads, dim)
        query = qkv[..., 0, :, :]
        key, value = (qkv[..., i, :, :].reshape(-1, side**num_axes, heads, dim) for i in (1, 2))

        def attend(part: tuple[Array, Array]) -> Array:
            query, by_row = part
            bias = _bias(query, by_row, *by_axis)
            query = query.reshape(query.shape[0], -1, heads, dim)
            bias = bias.reshape(query.shape[0], heads, query.shape[1], side**num_axes)
            return jax.nn.dot_product_attention(query, key, value, bias)

        rows = config.attention_rows
        if rows is None or side <= rows or side % rows:
            out = attend((query, by_row))
        else:
            parts = jnp.moveaxis(query.reshape(query.shape[0], side // rows, rows, *query.shape[2:]), 1, 0)
            out = lax.map(jax.checkpoint(attend), (parts, by_row.reshape(-1, rows, side, dim)))
            out = jnp.moveaxis(out, 0, 1)
        return nn.Dense(config.width, dtype=config.dtype, name="proj")(out.reshape(x.shape))


def _bias(query: Array, *tables: Array) -> Array:
    """Scores of the distances, ``[b, heads, *queries, *keys]``."""
    if len(tables) == 2:
        row = jnp.einsum("brwnd,rkd->bnrwk", query, tables[0])
        column = jnp.einsum("brwnd,wkd->bnrwk", query, tables[1])
        return row[..., None] + column[..., None, :]
    depth, row, column = (
        jnp.einsum(f"bdhwne,{axis}ke->bndhwk", query, table) for axis, table in zip("dhw", tables, strict=True)
    )
    # SAM-Med3D's code adds these axes one place too early, so that scores meet other keys than their table says (the
    # last one for all three, and rows and columns take the scores of other queries); its weights were trained so
    return depth[..., None, None, :] + row[..., None, :, None, :] + column[..., None, None, :, :]
