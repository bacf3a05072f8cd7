"""CRISP: images and shapes in one latent space."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax import ops
from cardiojax.models.blocks import ConvBlock
from cardiojax.models.vae import VAE, VAE_PRESETS, Posterior, VAEConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CRISPConfig:
    """Sizes of the two encoders.

    Attributes:
        shape: The autoencoder over label maps.
        size: Height and width of the images.
        features: Channels of the levels of the image encoder, each of which halves the resolution.
        bottleneck: Channels of its last level, at half the resolution again.
        image_size: Length of the code of an image before it is projected.
        joint_size: Length of the codes that images and shapes share.
        norm: ``"instance"``, ``"group"`` or ``"none"``, in the image encoder.
        activation: ``"relu"``, ``"leaky_relu"`` or ``"elu"``, in the image encoder.
        dtype: Type of the computation; parameters and results are float32.
    """

    shape: VAEConfig = VAE_PRESETS["shape_vae"]
    size: int = 128
    features: tuple[int, ...] = (16, 32, 64, 128)
    bottleneck: int = 32
    image_size: int = 64
    joint_size: int = 8
    norm: str = "group"
    activation: str = "leaky_relu"
    dtype: str = "float32"


#: ``crisp_paper`` has the sizes of Judge et al.
CRISP_PRESETS: dict[str, CRISPConfig] = {
    "crisp": CRISPConfig(),
    "crisp_paper": CRISPConfig(
        shape=VAEConfig(size=256, features=(32, 64, 128, 256), bottleneck=32, latent_size=16),
        size=256,
        features=(32, 64, 128, 256, 512, 1024),
    ),
}


class ShapeCodes(NamedTuple):
    """The codes of a label map.

    Attributes:
        posterior: The distribution of its code in the autoencoder.
        joint: Its code among the images, of length 1.
    """

    posterior: Posterior
    joint: Float[Array, "*b e"]


class CRISPOutput(NamedTuple):
    """What the contrastive loss and the reconstruction loss need.

    Attributes:
        image_codes: Codes of the images, of length 1.
        shapes: Codes of the label maps.
        log_scale: Logarithm of the factor on the cosines.
        logits: Class scores of the reconstructed label maps.
    """

    image_codes: Float[Array, "*b d"]
    shapes: ShapeCodes
    log_scale: Float[Array, ""]
    logits: Float[Array, "*b h w k"]


class CRISP(nn.Module):
    """An image encoder and a shape autoencoder whose codes meet in one space.

    ``apply`` reaches the parts by ``method="encode_image"``, ``"encode_shape"``, ``"project"`` and ``"decode"``.

    References:
        Judge et al., "CRISP - Reliable Uncertainty Estimation for Medical Image Segmentation", MICCAI 2022.

    Example:
        >>> import jax
        >>> shape = VAEConfig(size=32, features=(4, 8), bottleneck=4)
        >>> model = CRISP(CRISPConfig(shape=shape, size=64, features=(4, 8)))
        >>> images, probs = jnp.zeros((2, 64, 64, 1)), jnp.zeros((2, 32, 32, 4))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images, probs)
        >>> jax.eval_shape(model.apply, variables, images, probs).image_codes.shape
        (2, 8)
    """

    config: CRISPConfig = CRISPConfig()

    def setup(self):
        """Makes the parts."""
        config = self.config
        self.shape = VAE(config.shape)
        self.image = _ImageEncoder(config)
        self.project_image = nn.Dense(config.joint_size)
        self.project_shape = nn.Dense(config.joint_size)
        # of the order of the loss at the start, where the authors draw it from a normal distribution
        self.log_scale = self.param("log_scale", nn.initializers.constant(1.0), (), jnp.float32)

    def __call__(
        self,
        images: Float[Array, "*b h w c"],
        probs: Float[Array, "*b rows cols k"] | None = None,
        *,
        train: bool = False,
    ) -> CRISPOutput:
        """Encodes images and their label maps, and reconstructs the label maps.

        Args:
            images: Images in [0, 1] of the configured size.
            probs: Class probabilities or one-hot label maps of the autoencoder's size; empty ones if not given.
            train: Whether the code that is decoded is sampled; it then needs a ``"latent"`` random key.

        Returns:
            Codes and reconstruction.

        Raises:
            ValueError: If images or maps have another size.
        """
        ops.require_auto_axes(images)
        if probs is None:
            shape = self.config.shape
            probs = jnp.zeros((*images.shape[:-3], shape.size, shape.size, shape.num_classes)).at[..., 0].set(1.0)
        output = self.shape(probs, train=train)
        shapes = ShapeCodes(output.posterior, self.project(output.posterior.mean))
        return CRISPOutput(self.encode_image(images), shapes, self.log_scale, output.logits)

    def encode_image(self, images: Float[Array, "*b h w c"]) -> Float[Array, "*b d"]:
        """Images to codes of length 1.

        Args:
            images: Images in [0, 1] of the configured size.

        Returns:
            Their codes.

        Raises:
            ValueError: If the images have another size.
        """
        size = self.config.size
        if images.shape[-3:-1] != (size, size):
            raise ValueError(f"expected images of {size} x {size}, got {images.shape[-3]} x {images.shape[-2]}")
        return _unit(self.project_image(self.image(images)))

    def encode_shape(self, probs: Float[Array, "*b h w k"]) -> ShapeCodes:
        """Label maps to codes.

        Args:
            probs: Class probabilities or one-hot label maps of the configured size.

        Returns:
            The autoencoder's code and that of length 1.
        """
        posterior = self.shape.encode(probs)
        return ShapeCodes(posterior, self.project(posterior.mean))

    def project(self, codes: Float[Array, "*b d"]) -> Float[Array, "*b e"]:
        """Codes of the autoencoder to codes among the images.

        Args:
            codes: Codes, means of posteriors.

        Returns:
            Codes of length 1.
        """
        return _unit(self.project_shape(codes))

    def decode(self, codes: Float[Array, "*b d"]) -> Float[Array, "*b h w k"]:
        """Codes of the autoencoder to class scores.

        Args:
            codes: Codes, not projected.

        Returns:
            Logits of the autoencoder's size.
        """
        return self.shape.decode(codes)


class _ImageEncoder(nn.Module):
    config: CRISPConfig

    @nn.compact
    def __call__(self, images: Array) -> Array:
        config, dtype = self.config, jnp.dtype(self.config.dtype)

        def block(features: int, stride: int) -> ConvBlock:
            return ConvBlock(features, stride=stride, norm=config.norm, activation=config.activation, dtype=dtype)

        # one leading axis, over all others of which a group norm would take its mean
        x = images.reshape(-1, *images.shape[-3:]).astype(dtype)
        for features in config.features:
            x = block(features, 1)(block(features, 2)(x))
        x = block(config.bottleneck, 2)(x)
        return nn.Dense(config.image_size, dtype=dtype)(x.reshape(*images.shape[:-3], -1)).astype(jnp.float32)


def _unit(codes: Array) -> Array:
    # the length of zero codes has no gradient
    return codes / jnp.sqrt(jnp.maximum(jnp.square(codes).sum(-1, keepdims=True), 1e-12))
