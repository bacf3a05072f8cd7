"""Pre-norm transformer blocks, and positions on a grid of patches."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from cardiojax import ops


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Sizes of a stack of blocks.

    Attributes:
        width: Size of a token.
        depth: Number of blocks.
        num_heads: Heads of each attention; they share the width.
        mlp_ratio: Width of the hidden layer over that of a token.
        dropout: Rate after each attention and each linear layer of the MLP.
        drop_path: Rate of stochastic depth at the last block; it rises linearly from 0 at the first.
        scan: Whether one compiled block runs over stacked parameters; see `stack_blocks`.
        remat: Whether the backward pass recomputes the insides of a block.
        attention_chunk: Queries an attention handles at a time, see `cardiojax.ops.attention`.
        attention: ``"xla"``, ``"cudnn"`` or None, see `cardiojax.ops.attention`.
        dtype: Type of the computation; parameters are float32.
    """

    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    dropout: float = 0.0
    drop_path: float = 0.0
    scan: bool = False
    remat: bool = False
    attention_chunk: int | None = None
    attention: str | None = None
    dtype: str = "float32"


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, x: Float[Array, "*b n d"]) -> Float[Array, "*b n d"]:
        """Mixes tokens."""
        config = self.config
        qkv = nn.Dense(3 * config.width, dtype=config.dtype, name="qkv")(x)
        qkv = qkv.reshape(*x.shape[:-1], 3, config.num_heads, config.width // config.num_heads)
        query, key, value = (qkv[..., i, :, :] for i in range(3))
        x = ops.attention(query, key, value, chunk=config.attention_chunk, implementation=config.attention)
        return nn.Dense(config.width, dtype=config.dtype, name="proj")(x.reshape(*x.shape[:-2], config.width))


class Mlp(nn.Module):
    """Two linear layers with the exact GELU between."""

    features: int
    hidden: int
    dropout: float = 0.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"], *, train: bool = False) -> Float[Array, "*b d"]:
        """Transforms each token."""
        x = nn.gelu(nn.Dense(self.hidden, dtype=self.dtype, name="fc1")(x), approximate=False)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = nn.Dense(self.features, dtype=self.dtype, name="fc2")(x)
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class Block(nn.Module):
    """Attention and MLP, each after a layer norm and beside an identity."""

    config: TransformerConfig
    train: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "*b n d"], drop_path: Float[Array, ""]
    ) -> tuple[Float[Array, "*b n d"], Float[Array, "*b n d"]]:
        """Transforms tokens.

        Args:
            x: Tokens.
            drop_path: Probability that a branch is left out for a whole image in training.

        Returns:
            The new tokens twice: to carry on, and to keep.
        """
        config = self.config

        def branch(y: Array) -> Array:
            if not self.train or not config.drop_path:
                return y
            keep = 1 - drop_path
            kept = jax.random.bernoulli(self.make_rng("dropout"), keep, (*y.shape[:-2], 1, 1))
            return jnp.where(kept, y / keep, 0).astype(y.dtype)

        y = Attention(config, name="attn")(_norm(config, "norm1")(x))
        x = x + branch(nn.Dropout(config.dropout, deterministic=not self.train)(y))
        hidden = int(config.width * config.mlp_ratio)
        mlp = Mlp(config.width, hidden, config.dropout, config.dtype, name="mlp")
        x = x + branch(mlp(_norm(config, "norm2")(x), train=self.train))
        return x, x


class Transformer(nn.Module):
    """Blocks one after another, then a layer norm.

    Attributes:
        config: Sizes.
        keep: Numbers of blocks (0 is the first) whose outputs are returned too.
    """

    config: TransformerConfig
    keep: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self, x: Float[Array, "*b n d"], *, train: bool = False
    ) -> tuple[Float[Array, "*b n d"], tuple[Float[Array, "*b n d"], ...]]:
        """Transforms tokens.

        Args:
            x: Tokens with positions.
            train: Whether dropout and stochastic depth act; they need a ``"dropout"`` random key.

        Returns:
            The tokens after the norm, and those after each block of ``keep``, before it.
        """
        config = self.config
        block: type[Block] = nn.remat(Block, prevent_cse=not config.scan) if config.remat else Block
        rates = np.linspace(0, config.drop_path, config.depth, dtype=np.float32)
        kept = []
        if config.scan:
            scanned = nn.scan(
                block,
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                length=config.depth,
            )
            x, every = scanned(config, train, name="blocks")(x, jnp.asarray(rates))
            kept = [every[i] for i in self.keep]
        else:
            for i, rate in enumerate(rates):
                x, copy = block(config, train, name=f"blocks_{i}")(x, jnp.asarray(rate))
                if i in self.keep:
                    kept.append(copy)
        return _norm(config, "norm")(x), tuple(kept)


def _norm(config: TransformerConfig, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, dtype=config.dtype, name=name)


def stack_blocks(params: PyTree, depth: int) -> PyTree:
    """Turns the parameters of separate blocks into those of ``scan=True``.

    Args:
        params: A dictionary with ``blocks_0`` to ``blocks_{depth - 1}``.
        depth: Number of blocks.

    Returns:
        The same with one ``blocks``, whose leaves have a leading axis of ``depth``.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> params = {"blocks_0": {"w": jnp.zeros(3)}, "blocks_1": {"w": jnp.ones(3)}, "norm": {"scale": jnp.ones(3)}}
        >>> jax.tree.map(jnp.shape, stack_blocks(params, 2))
        {'blocks': {'w': (2, 3)}, 'norm': {'scale': (3,)}}
    """
    blocks = [params[f"blocks_{i}"] for i in range(depth)]
    rest = {name: value for name, value in params.items() if not name.startswith("blocks_")}
    return {**rest, "blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)}


def sine_positions(height: int, width: int, dim: int) -> Float[Array, "n {dim}"]:
    """Fixed positions of a grid: a quarter each of sines and cosines of the column and of the row.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        dim: Size of a token, a multiple of 4.

    Returns:
        One vector per cell, row after row.

    Raises:
        ValueError: If ``dim`` is no multiple of 4.

    References:
        Chen et al., "An Empirical Study of Training Self-Supervised Vision Transformers" (MoCo v3), ICCV 2021.

    Example:
        >>> sine_positions(2, 3, 8).shape
        (6, 8)
    """
    if dim % 4:
        raise ValueError(f"sine positions need a multiple of 4 features, got {dim}")
    omega = 1 / 10_000 ** (np.arange(dim // 4) / (dim // 4))
    rows, columns = (np.outer(axis.ravel(), omega) for axis in np.indices((height, width)))
    parts = [np.sin(columns), np.cos(columns), np.sin(rows), np.cos(rows)]
    return jnp.asarray(np.concatenate(parts, axis=1), jnp.float32)


def resize_positions(positions: Float[Array, "n d"], grid: tuple[int, int], to: tuple[int, int]) -> Float[Array, "m d"]:
    """Brings learned positions to another grid, bicubically.

    Args:
        positions: One vector per cell, row after row.
        grid: Rows and columns they were learned on.
        to: Rows and columns wanted.

    Returns:
        One vector per cell of the new grid.

    Example:
        >>> import jax.numpy as jnp
        >>> resize_positions(jnp.ones((4, 8)), (2, 2), (3, 5)).shape
        (15, 8)
    """
    if grid == to:
        return positions
    dim = positions.shape[-1]
    return jax.image.resize(positions.reshape(*grid, dim), (*to, dim), "cubic").reshape(-1, dim)
