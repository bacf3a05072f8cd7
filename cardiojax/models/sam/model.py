"""The Segment Anything Model."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cardiojax import ops
from cardiojax.models.sam.config import SAM_PRESETS as SAM_PRESETS
from cardiojax.models.sam.config import SAMConfig
from cardiojax.models.sam.encoders import make_image_encoder
from cardiojax.models.sam.mask_decoder import MaskDecoder
from cardiojax.models.sam.prompt_encoder import PromptEncoder, Prompts


class SAMOutput(NamedTuple):
    """What a SAM returns.

    Attributes:
        logits: Of four masks, four pixels a feature along each axis: a quarter of the input's resolution, in LiteMedSAM
            all of it. The first mask answers unambiguous prompts, the others are alternatives for an ambiguous
            one.
        quality: Predicted intersection over union of each mask.
    """

    logits: Float[Array, "... 4"]
    quality: Float[Array, "*b 4"]


class SAM(nn.Module):
    """Image encoder, prompt encoder and mask decoder.

    ``apply(variables, images, method="embed")`` and ``apply(variables, features, prompts, method="decode")`` are its
    two halves; `jax.vmap` of the second over prompts alone computes what depends on the image once.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = SAM(SAMConfig(image_size=64, width=16, depth=1, num_heads=2, global_blocks=(0,), prompt_dim=16))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
        >>> boxes = Prompts(boxes=jnp.array([[8.0, 8, 40, 40]]))
        >>> jax.eval_shape(model.apply, variables, jnp.zeros((1, 64, 64, 3)), boxes).logits.shape
        (1, 16, 16, 4)

    References:
        Kirillov et al., "Segment Anything", ICCV 2023. Ma et al., "Segment anything in medical images" (MedSAM),
        Nature Communications 2024. Cheng et al., "SAM-Med2D", 2023. Wang et al., "SAM-Med3D", 2023.
    """

    config: SAMConfig = SAMConfig()

    def setup(self):
        """Declares the parts."""
        self.image_encoder = make_image_encoder(self.config)
        self.prompt_encoder = PromptEncoder(self.config)
        self.mask_decoder = MaskDecoder(self.config)

    def __call__(
        self, images: Float[Array, "... c"], prompts: Prompts | None = None, *, train: bool = False
    ) -> SAMOutput:
        """Segments what the prompts of each image point at.

        Args:
            images: Preprocessed images ``[*b, s, s, 3]`` (or volumes ``[*b, s, s, s, 1]``) of the configuration's size.
            prompts: One set of prompts per image; a point in the middle if not given.
            train: Has no effect: SAM has no dropout.

        Returns:
            Masks and their quality.
        """
        ops.require_auto_axes(images)
        if prompts is None:
            batch, num_axes = images.shape[: -1 - self.config.num_axes], self.config.num_axes
            middle = jnp.full((*batch, 1, num_axes), self.config.image_size / 2)
            prompts = Prompts(points=middle, labels=jnp.ones((*batch, 1), jnp.int32))
        return self.decode(self.embed(images), prompts)

    def embed(self, images: Float[Array, "... c"]) -> Float[Array, "... d"]:
        """Encodes images, once for any number of prompts.

        Raises:
            ValueError: If the images are not of the configuration's size.
        """
        config = self.config
        wanted = (*(config.image_size,) * config.num_axes, config.channels)
        got = images.shape[-len(wanted) :]
        if got != wanted:
            raise ValueError(f"images must be {' x '.join(map(str, wanted))}, got {' x '.join(map(str, got))}")
        return self.image_encoder(images.astype(self.config.dtype))

    def decode(self, features: Float[Array, "... d"], prompts: Prompts) -> SAMOutput:
        """Segments what prompts point at in encoded images."""
        sparse, dense = self.prompt_encoder(prompts)
        logits, quality = self.mask_decoder(features, self.prompt_encoder.grid_positions(), sparse, dense)
        return SAMOutput(logits, quality)
