"""Which image encoder a configuration has."""

import flax.linen as nn

from cardiojax.models.sam.config import SAMConfig
from cardiojax.models.sam.encoders.image_encoder import ImageEncoder
from cardiojax.models.sam.encoders.tiny_vit import TinyViT


def make_image_encoder(config: SAMConfig) -> nn.Module:
    """Makes the image encoder of a Segment Anything model.

    Args:
        config: Sizes; with ``tiny_vit`` it is LiteMedSAM's, else the vision transformer.

    Returns:
        The module.

    Example:
        >>> type(make_image_encoder(SAMConfig())).__name__
        'ImageEncoder'
    """
    return ImageEncoder(config) if config.tiny_vit is None else TinyViT(config, config.tiny_vit)
