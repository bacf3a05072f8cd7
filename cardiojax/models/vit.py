"""Vision transformer."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax import ops
from cardiojax.models.transformer import Transformer, TransformerConfig, resize_positions, sine_positions


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTConfig(TransformerConfig):
    """Sizes of a vision transformer.

    Attributes:
        image_size: Height and width of the images on which positions are learned; images of another size get them
            interpolated.
        channels: Channels of the images.
        patch_size: Side of a patch.
        num_classes: Size of the linear head; 0 for none.
        pool: What stands for the image: ``"token"``, an extra class token, or ``"mean"``, the mean over patches.
        positions: ``"learned"`` or ``"sine"``.
        num_registers: Extra tokens without position that are thrown away at the end.
        keep: Numbers of blocks (0 is the first) whose feature maps are returned.
    """

    image_size: tuple[int, int] = (224, 224)
    channels: int = 3
    patch_size: int = 16
    num_classes: int = 1000
    pool: str = "token"
    positions: str = "learned"
    num_registers: int = 0
    keep: tuple[int, ...] = ()


#: Widths of the papers; patches of 16 x 16.
VIT_PRESETS: dict[str, ViTConfig] = {
    "vit_ti16": ViTConfig(width=192, depth=12, num_heads=3),
    "vit_s16": ViTConfig(width=384, depth=12, num_heads=6),
    "vit_b16": ViTConfig(width=768, depth=12, num_heads=12),
    "vit_l16": ViTConfig(width=1024, depth=24, num_heads=16),
}


class ViTOutput(NamedTuple):
    """What a vision transformer returns.

    Attributes:
        logits: Class scores, float32; those of no class without a head.
        pooled: The vector that stands for the image.
        features: Final feature map, a vector per patch.
        hidden: Feature maps after the blocks of ``keep``, before the final norm.
    """

    logits: Float[Array, "*b k"]
    pooled: Float[Array, "*b d"]
    features: Float[Array, "*b h/p w/p d"]
    hidden: tuple[Float[Array, "*b h/p w/p d"], ...]


class ViT(nn.Module):
    """Vision transformer: patches as tokens, with positions, through pre-norm blocks.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = ViT(ViTConfig(width=16, depth=2, num_heads=2, num_classes=5))
        >>> images = jnp.zeros((2, 64, 48, 3))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> jax.eval_shape(model.apply, variables, images).features.shape
        (2, 4, 3, 16)

    References:
        Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021. Registers: Darcet et al., ICLR 2024.
        Stochastic depth: Huang et al., ECCV 2016.
    """

    config: ViTConfig = ViTConfig()

    @property
    def divisor(self) -> int:
        """The number of which the height and width of the input must be multiples."""
        return self.config.patch_size

    def setup(self):
        """Declares the parts."""
        config = self.config
        if config.pool not in ("token", "mean"):
            raise ValueError(f"pool must be 'token' or 'mean', got {config.pool!r}")
        if config.positions not in ("learned", "sine"):
            raise ValueError(f"positions must be 'learned' or 'sine', got {config.positions!r}")
        patch = (config.patch_size, config.patch_size)
        self.patch_embed = nn.Conv(config.width, patch, strides=patch, padding="VALID", dtype=config.dtype)
        normal = nn.initializers.normal(0.02)
        if config.pool == "token":
            self.cls_token = self.param("cls_token", nn.initializers.zeros_init(), (1, 1, config.width))
        if config.positions == "learned":
            rows, columns = self._grid(config.image_size)
            num_tokens = rows * columns + (config.pool == "token")
            self.pos_embed = self.param("pos_embed", normal, (1, num_tokens, config.width))
        if config.num_registers:
            self.reg_token = self.param("reg_token", normal, (1, config.num_registers, config.width))
        self.encoder = Transformer(config, config.keep)
        if config.num_classes:
            self.head = nn.Dense(config.num_classes, dtype=config.dtype)

    def __call__(self, images: Float[Array, "*b h w c"], *, train: bool = False) -> ViTOutput:
        """Encodes images.

        Args:
            images: Images whose sides are multiples of the patch size.
            train: Whether dropout and stochastic depth act; they need a ``"dropout"`` random key.

        Returns:
            Class scores, the vector of the image, and feature maps.

        Raises:
            ValueError: If a side is no multiple of the patch size.
        """
        ops.require_auto_axes(images)
        grid = self._grid(images.shape[-3:-1])
        tokens, hidden = self.encoder(self.add_prefix(self.embed(images)), train=train)
        patches = self._patches(tokens, grid)
        pooled = tokens[..., 0, :] if self.config.pool == "token" else patches.mean((-3, -2))
        logits = self.head(pooled) if self.config.num_classes else pooled[..., :0]
        return ViTOutput(
            logits.astype(jnp.float32), pooled, patches, tuple(self._patches(each, grid) for each in hidden)
        )

    def embed(self, images: Float[Array, "*b h w c"]) -> Float[Array, "*b n d"]:
        """Makes a token with its position of each patch, row after row."""
        config = self.config
        rows, columns = self._grid(images.shape[-3:-1])
        x = self.patch_embed(images.astype(config.dtype))
        x = x.reshape(*x.shape[:-3], rows * columns, config.width)
        if config.positions == "sine":
            positions = sine_positions(rows, columns, config.width)
        else:
            first = int(config.pool == "token")
            learned = self.pos_embed[0, first:]
            positions = resize_positions(learned, self._grid(config.image_size), (rows, columns))
        return x + positions.astype(x.dtype)

    def add_prefix(self, tokens: Float[Array, "*b n d"]) -> Float[Array, "*b m d"]:
        """Puts the class token and the registers before the patches."""
        config, prefix = self.config, []
        if config.pool == "token":
            token = self.cls_token[0]
            prefix.append(token + self.pos_embed[0, :1] if config.positions == "learned" else token)
        if config.num_registers:
            prefix.append(self.reg_token[0])
        batch = tokens.shape[:-2]
        prefix = [jnp.broadcast_to(p.astype(tokens.dtype), (*batch, *p.shape)) for p in prefix]
        return jnp.concatenate([*prefix, tokens], axis=-2)

    def encode(self, tokens: Float[Array, "*b n d"], *, train: bool = False) -> Float[Array, "*b n d"]:
        """Runs the blocks and the final norm over any tokens."""
        return self.encoder(tokens, train=train)[0]

    def _patches(self, tokens: Array, grid: tuple[int, int]) -> Array:
        first = (self.config.pool == "token") + self.config.num_registers
        return tokens[..., first:, :].reshape(*tokens.shape[:-2], *grid, self.config.width)

    def _grid(self, size) -> tuple[int, int]:
        (h, w), patch = size, self.config.patch_size
        if h % patch or w % patch:
            raise ValueError(f"height and width must be multiples of {patch}, got {h} x {w}")
        return h // patch, w // patch
