"""Variational autoencoders over label maps: a heart's shape as a few numbers, and back."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax import ops
from cardiojax.models.blocks import ConvBlock, UpConv, convolve_to_few


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Sizes of a shape autoencoder.

    Attributes:
        size: Height and width of the maps that are encoded and of the logits that come back. A coarse grid of class
            shares holds an outline to a fraction of a pixel, and logits interpolate to smooth outlines at any size.
        features: Channels of the encoder's levels, each of which halves the resolution; the decoder mirrors them.
        bottleneck: Channels of the last level, at half the resolution again.
        latent_size: Length of a code.
        num_classes: Channels of the maps.
        regress_phase: Whether a linear neuron reads the phase of the cycle from the code's mean.
        norm: ``"instance"``, ``"group"`` or ``"none"``.
        activation: ``"relu"``, ``"leaky_relu"`` or ``"elu"``.
        dtype: Type of the computation; parameters and results are float32.
    """

    size: int = 64
    features: tuple[int, ...] = (16, 32, 64)
    bottleneck: int = 64
    latent_size: int = 16
    num_classes: int = 4
    regress_phase: bool = False
    norm: str = "none"
    activation: str = "elu"
    dtype: str = "float32"


#: ``cvae_paper`` has the sizes of Painchaud et al. on its grid.
VAE_PRESETS: dict[str, VAEConfig] = {
    "shape_vae": VAEConfig(),
    "cvae": VAEConfig(regress_phase=True),
    "arvae": VAEConfig(),
    "cvae_paper": VAEConfig(size=256, features=(48, 96, 192, 384), bottleneck=48, latent_size=32, regress_phase=True),
}


class Posterior(NamedTuple):
    """The normal distribution of the code of a map, independent in each dimension."""

    mean: Float[Array, "*b d"]
    log_var: Float[Array, "*b d"]


class VAEOutput(NamedTuple):
    """What an autoencoder returns.

    Attributes:
        logits: Class scores of the reconstruction.
        posterior: The distribution of the code.
        codes: The code that was decoded: a sample in training, else the mean.
        phase: Phase of the cycle, 0 at end-diastole and 1 at end-systole; None without that neuron.
    """

    logits: Float[Array, "*b h w k"]
    posterior: Posterior
    codes: Float[Array, "*b d"]
    phase: Float[Array, "*b"] | None


class VAE(nn.Module):
    """Convolutional variational autoencoder over class probabilities or one-hot label maps.

    ``apply`` reaches the halves by ``method="encode"`` and ``method="decode"``.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = VAE(VAEConfig(size=32, features=(4, 8), bottleneck=4))
        >>> probs = jnp.zeros((2, 32, 32, 4))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), probs)
        >>> jax.eval_shape(model.apply, variables, probs).logits.shape
        (2, 32, 32, 4)

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020 (the architecture and
        the phase neuron); Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014.
    """

    config: VAEConfig = VAEConfig()

    @property
    def divisor(self) -> int:
        """The number of which ``size`` must be a multiple."""
        return 2 ** (len(self.config.features) + 1)

    def setup(self):
        """Makes the two halves."""
        config = self.config
        if config.size % self.divisor:
            raise ValueError(f"size must be a multiple of {self.divisor}, got {config.size}")
        self.encoder = _Encoder(config)
        self.decoder = _Decoder(config)
        if config.regress_phase:
            self.phase = nn.Dense(1)

    def __call__(self, probs: Float[Array, "*b h w k"], *, train: bool = False) -> VAEOutput:
        """Encodes and decodes.

        Args:
            probs: Class probabilities or one-hot label maps of the configured size.
            train: Whether the code is sampled; it then needs a ``"latent"`` random key.

        Returns:
            Reconstruction, code and phase.

        Raises:
            ValueError: If the maps have another size.
        """
        ops.require_auto_axes(probs)
        posterior = self.encode(probs)
        codes = posterior.mean
        if train:
            noise = jax.random.normal(self.make_rng("latent"), codes.shape, codes.dtype)
            codes = codes + jnp.exp(posterior.log_var / 2) * noise
        phase = jnp.squeeze(self.phase(posterior.mean), -1) if self.config.regress_phase else None
        return VAEOutput(self.decode(codes), posterior, codes, phase)

    def encode(self, probs: Float[Array, "*b h w k"]) -> Posterior:
        """Maps to codes.

        Args:
            probs: Class probabilities or one-hot label maps of the configured size.

        Returns:
            The distribution of their codes.

        Raises:
            ValueError: If the maps have another size.
        """
        expected = (self.config.size, self.config.size, self.config.num_classes)
        if probs.shape[-3:] != expected:
            raise ValueError(f"expected maps of {expected}, got {probs.shape[-3:]}")
        return Posterior(*jnp.split(self.encoder(probs), 2, axis=-1))

    def decode(self, codes: Float[Array, "*b d"]) -> Float[Array, "*b h w k"]:
        """Codes to class scores.

        Args:
            codes: Codes.

        Returns:
            Logits of the configured size.
        """
        return self.decoder(codes)


class _Encoder(nn.Module):
    config: VAEConfig

    @nn.compact
    def __call__(self, probs: Array) -> Array:
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        x = probs.astype(dtype)
        for features in config.features:
            x = _block(config, features, stride=2)(x)
            x = _block(config, features)(x)
        x = _block(config, config.bottleneck, stride=2)(x)
        x = x.reshape(*x.shape[:-3], -1)
        return nn.Dense(2 * config.latent_size, dtype=dtype)(x).astype(jnp.float32)


class _Decoder(nn.Module):
    config: VAEConfig

    @nn.compact
    def __call__(self, codes: Array) -> Array:
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        activate = getattr(nn, config.activation)
        side = config.size // 2 ** (len(config.features) + 1)
        x = activate(nn.Dense(side * side * config.bottleneck, dtype=dtype)(codes.astype(dtype)))
        x = x.reshape(*x.shape[:-1], side, side, config.bottleneck)
        for features in reversed(config.features):
            x = activate(UpConv(features, dtype=dtype)(x))
            x = _block(config, features)(x)
        x = activate(UpConv(config.features[0], dtype=dtype)(x))
        last = nn.Conv(config.num_classes, (3, 3), dtype=dtype, conv_general_dilated=convolve_to_few)
        return last(x).astype(jnp.float32)


def _block(config: VAEConfig, features: int, *, stride: int = 1) -> ConvBlock:
    return ConvBlock(
        features, stride=stride, norm=config.norm, activation=config.activation, dtype=jnp.dtype(config.dtype)
    )
