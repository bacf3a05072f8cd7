"""A small convolutional network that tells the apical views from each other and from all other images."""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax import ops
from cardiojax.models.blocks import ConvBlock


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewClassifierConfig:
    """Sizes of a view classifier.

    Attributes:
        size: Height and width to which images are resampled first, a multiple of ``patch`` and of the pooling.
        patch: Side of the square patches whose pixels become channels before the first level.
        features: Channels of each level; each level halves the one before.
        convs_per_level: Convolutions of each level.
        embedding: Length of the feature vector from which the classes are read.
        num_classes: Classes; the last is what is none of the others.
        dropout: Rate of dropout before the feature vector, active with ``train=True``.
    """

    size: int = 96
    patch: int = 4
    features: tuple[int, ...] = (32, 64, 96)
    convs_per_level: int = 2
    embedding: int = 32
    num_classes: int = 3
    dropout: float = 0.2


VIEW_CLASSIFIER_PRESETS: dict[str, ViewClassifierConfig] = {"view": ViewClassifierConfig()}


class ViewClassifierOutput(NamedTuple):
    """What a view classifier returns.

    Attributes:
        logits: Of each class.
        features: The feature vector from which they are read.
        distance: Mahalanobis distance of the feature vector to the nearest class but the last, in units of the largest
            that counts as known; 0 until the classes are fitted.
    """

    logits: Float[Array, "*b k"]
    features: Float[Array, "*b d"]
    distance: Float[Array, "*b"]


class ViewClassifier(nn.Module):
    """Classifies images, and measures how far they are from those it was trained on.

    The class means and the whitening of the features are parameters, which are fitted after the training: no gradient
    reaches them.

    Example:
        >>> import jax
        >>> model, images = ViewClassifier(), jnp.zeros((2, 224, 224, 1))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> jax.eval_shape(model.apply, variables, images).logits.shape
        (2, 3)

    References:
        Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
        NeurIPS 2018 (the distance); Hendrycks et al., "Deep Anomaly Detection with Outlier Exposure", ICLR 2019.
    """

    config: ViewClassifierConfig = ViewClassifierConfig()

    @nn.compact
    def __call__(self, images: Float[Array, "*b h w 1"], *, train: bool = False) -> ViewClassifierOutput:
        """Classifies images.

        Args:
            images: Grey images in [0, 1], cropped to the sector.
            train: Whether dropout is active; it then needs a ``"dropout"`` random key.

        Returns:
            Logits, feature vectors and distances.
        """
        ops.require_auto_axes(images)
        config = self.config
        *batch, height, width, _ = images.shape
        x = images
        if (height, width) != (config.size, config.size):
            x = jax.image.resize(x, (*batch, config.size, config.size, 1), "linear")
        x = ops.space_to_depth(x, config.patch)
        for depth, features in enumerate(config.features):
            if depth:
                x = ops.max_pool(x)
            for i in range(config.convs_per_level):
                x = ConvBlock(features, name=f"level{depth}_conv{i}")(x)
        x = _pool_quadrants(x)
        x = nn.Dropout(config.dropout, deterministic=not train)(x)
        features = nn.Dense(config.embedding, name="embedding")(x)
        logits = nn.Dense(config.num_classes, name="head")(nn.leaky_relu(features))
        return ViewClassifierOutput(logits, features, self._distance(features))

    def _distance(self, features: Float[Array, "*b d"]) -> Float[Array, "*b"]:
        num, length = self.config.num_classes - 1, self.config.embedding
        means = self.param("means", nn.initializers.zeros_init(), (num, length), jnp.float32)
        whitening = self.param("whitening", nn.initializers.zeros_init(), (length, length), jnp.float32)
        offsets = jax.lax.stop_gradient(features[..., None, :] - means) @ whitening
        return jax.lax.stop_gradient(jnp.sqrt(jnp.min(jnp.sum(jnp.square(offsets), -1), -1)))


def _pool_quadrants(x: Float[Array, "*b h w c"]) -> Float[Array, "*b d"]:
    """Means over the four quadrants, so that left and right, and top and bottom, remain distinct."""
    *batch, height, width, channels = x.shape
    x = x.reshape(*batch, 2, height // 2, 2, width // 2, channels).mean((-4, -2))
    return x.reshape(*batch, 4 * channels)
