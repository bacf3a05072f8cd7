"""Pre-training of a vision transformer by reconstructing hidden patches."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from cardiojax import ops
from cardiojax.models.transformer import Transformer, sine_positions
from cardiojax.models.vit import ViT, ViTConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MAEConfig:
    """Sizes of a masked autoencoder.

    Attributes:
        encoder: The transformer that is pre-trained.
        mask_ratio: Share of the patches that the encoder does not see.
        decoder_width: Size of a token of the decoder.
        decoder_depth: Number of its blocks.
        decoder_heads: Its heads.
        normalize_targets: Whether each patch is brought to zero mean and unit variance before the comparison.
    """

    encoder: ViTConfig = ViTConfig(positions="sine", num_classes=0)
    mask_ratio: float = 0.75
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    normalize_targets: bool = True


class MAEOutput(NamedTuple):
    """What a masked autoencoder returns.

    Attributes:
        loss: Mean squared error over the hidden patches of each image.
        patches: Predicted pixels of every patch, in the scale of the targets.
        is_hidden: Which patches were hidden.
    """

    loss: Float[Array, "*b"]
    patches: Float[Array, "*b n ppc"]
    is_hidden: Bool[Array, "*b n"]


class MAE(nn.Module):
    """Masked autoencoder: its parameters under ``encoder`` are those of a `ViT` of the same configuration.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = MAE(MAEConfig(encoder=ViTConfig(width=16, depth=1, num_heads=2), decoder_width=8,
        ...                       decoder_depth=1, decoder_heads=2))
        >>> rngs = {"params": jax.random.key(0), "mask": jax.random.key(1)}
        >>> images = jnp.zeros((2, 64, 64, 3))
        >>> variables = jax.eval_shape(model.init, rngs, images)
        >>> jax.eval_shape(lambda v: model.apply(v, images, rngs={"mask": jax.random.key(1)}), variables).loss.shape
        (2,)

    References:
        He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.
    """

    config: MAEConfig = MAEConfig()

    @nn.compact
    def __call__(self, images: Float[Array, "*b h w c"], *, train: bool = False) -> MAEOutput:
        """Hides patches and reconstructs them.

        Args:
            images: Images whose sides are multiples of the patch size.
            train: Whether dropout acts; it then needs a ``"dropout"`` random key.

        Returns:
            The loss of each image, with the reconstruction. Which patches are hidden is drawn from a ``"mask"`` key.
        """
        ops.require_auto_axes(images)
        config = self.config
        patch, dtype = config.encoder.patch_size, config.encoder.dtype
        rows, columns = images.shape[-3] // patch, images.shape[-2] // patch
        num_patches, num_seen = rows * columns, round(rows * columns * (1 - config.mask_ratio))
        encoder = ViT(config.encoder, name="encoder")
        tokens = encoder.embed(images)
        batch = tokens.shape[:-2]

        order = jnp.argsort(jax.random.uniform(self.make_rng("mask"), (*batch, num_patches)), axis=-1)
        rank = jnp.argsort(order, axis=-1)
        seen = jnp.take_along_axis(tokens, order[..., :num_seen, None], axis=-2)
        encoded = encoder.encode(encoder.add_prefix(seen), train=train)
        encoded = nn.Dense(config.decoder_width, dtype=dtype, name="decoder_embed")(encoded)

        first = encoded.shape[-2] - num_seen
        blank = self.param("mask_token", nn.initializers.normal(0.02), (1, 1, config.decoder_width))[0]
        blanks = jnp.broadcast_to(blank.astype(encoded.dtype), (*batch, num_patches - num_seen, config.decoder_width))
        shuffled = jnp.concatenate([encoded[..., first:, :], blanks], axis=-2)
        x = jnp.take_along_axis(shuffled, rank[..., None], axis=-2)
        x = x + sine_positions(rows, columns, config.decoder_width).astype(x.dtype)
        decoder = dataclasses.replace(
            config.encoder, width=config.decoder_width, depth=config.decoder_depth, num_heads=config.decoder_heads
        )
        x = jnp.concatenate([encoded[..., :first, :], x], axis=-2)
        x, _ = Transformer(decoder, name="decoder")(x, train=train)
        size = patch * patch * images.shape[-1]
        predicted = nn.Dense(size, dtype=dtype, name="decoder_pred")(x[..., first:, :]).astype(jnp.float32)

        target = _patchify(images.astype(jnp.float32), patch)
        if config.normalize_targets:
            variance = target.var(-1, ddof=1, keepdims=True)
            target = (target - target.mean(-1, keepdims=True)) / jnp.sqrt(variance + 1e-6)
        is_hidden = rank >= num_seen
        error = jnp.square(predicted - target).mean(-1)
        loss = jnp.where(is_hidden, error, 0).sum(-1) / (num_patches - num_seen)
        return MAEOutput(loss, predicted, is_hidden)


def _patchify(images: Array, patch: int) -> Array:
    *batch, h, w, c = images.shape
    x = images.reshape(*batch, h // patch, patch, w // patch, patch, c).swapaxes(-4, -3)
    return x.reshape(*batch, (h // patch) * (w // patch), patch * patch * c)
