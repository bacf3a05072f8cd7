"""Small networks on the feature maps of another one."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax.models.blocks import ConvBlock


class ConfidenceHead(nn.Module):
    """Reads from feature maps how sure each pixel is: one logit of the confidence, or one raw scale per class.

    It serves ConfidNet on the features of a frozen network, hints and learned scales on those of one that trains along.

    Attributes:
        features: Channels of its 3 x 3 convolutions.
        num_outputs: Channels of the result.

    Example:
        >>> import jax
        >>> head, features = ConfidenceHead(), jnp.zeros((1, 8, 8, 16))
        >>> head.apply(head.init(jax.random.key(0), features), features).shape
        (1, 8, 8, 1)

    References:
        Corbière et al., "Addressing Failure Prediction by Learning Model Confidence", NeurIPS 2019, which also reads
        the last features; the version in the code of CRISP has a decoder of its own.
    """

    features: tuple[int, ...] = (16, 16)
    num_outputs: int = 1

    @nn.compact
    def __call__(self, features: Float[Array, "*b h w c"]) -> Float[Array, "*b h w d"]:
        """Applies the head."""
        x = features.astype(jnp.float32)
        for channels in self.features:
            x = ConvBlock(channels)(x)
        return nn.Conv(self.num_outputs, (1, 1))(x)
