"""Segment Anything without prompts from outside: a learned prompt for each structure."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from cardiojax import ops
from cardiojax.models.sam.config import SAM_PRESETS, SAMConfig
from cardiojax.models.sam.encoders import make_image_encoder
from cardiojax.models.sam.mask_decoder import MaskDecoder
from cardiojax.models.sam.model import SAM
from cardiojax.models.sam.processing import preprocess
from cardiojax.models.sam.prompt_encoder import PromptEncoder, Prompts
from cardiojax.models.unet import UNetOutput

#: Tokens of a learned prompt, as many as a box has.
_NUM_TOKENS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptFreeSAMConfig:
    """Sizes of a `PromptFreeSAM`.

    Attributes:
        sam: The Segment Anything model; of two axes.
        num_classes: Channels of the logits, background included.
    """

    sam: SAMConfig = SAM_PRESETS["lite_medsam"]
    num_classes: int = 4


class PromptFreeSAM(nn.Module):
    """A Segment Anything model whose prompts are parameters, one for each structure.

    The image is encoded once. The decoder answers each learned prompt with its first mask, which is the logit of that
    structure; the logit of the background is zero. Parameters are named as those of `SAM`, and `from_sam` takes them
    over, with the tokens of a box as the start of each prompt.

    Example:
        >>> small = SAMConfig(image_size=64, width=16, depth=1, num_heads=2, global_blocks=(0,), prompt_dim=16)
        >>> model = PromptFreeSAM(PromptFreeSAMConfig(sam=small))
        >>> images = jnp.zeros((2, 48, 48, 1))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> jax.eval_shape(model.apply, variables, images).logits.shape
        (2, 48, 48, 4)

    References:
        Kirillov et al., "Segment Anything", ICCV 2023. Learned prompts: Lester et al., "The Power of Scale for
        Parameter-Efficient Prompt Tuning", EMNLP 2021.
    """

    config: PromptFreeSAMConfig = PromptFreeSAMConfig()

    @property
    def divisor(self) -> int:
        """Images of any size are resized to that of the model."""
        return 1

    def setup(self):
        """Declares the parts."""
        sam, num_structures = self.config.sam, self.config.num_classes - 1
        self.image_encoder = make_image_encoder(sam)
        self.prompt_encoder = PromptEncoder(sam)
        self.mask_decoder = MaskDecoder(sam)
        shape = (num_structures, _NUM_TOKENS, sam.prompt_dim)
        self.structure_prompts = self.param("structure_prompts", nn.initializers.normal(1.0), shape)

    def __call__(self, images: Float[Array, "*b h w c"], *, train: bool = False) -> UNetOutput:
        """Segments images.

        Args:
            images: Grey or RGB in [0, 1], of any size.
            train: Has no effect: there is no dropout.

        Returns:
            Logits at the images' size; the features of the image encoder stand for both feature maps.
        """
        ops.require_auto_axes(images)
        height, width = images.shape[-3:-1]
        features = self.embed(images)
        return UNetOutput(self.decode(features, (height, width)), features, features)

    def embed(self, images: Float[Array, "*b h w c"]) -> Float[Array, "*b g g d"]:
        """Encodes images, with both sides resized to those of the model."""
        sam = self.config.sam
        square = jax.image.resize(images, (*images.shape[:-3], *(sam.image_size,) * 2, images.shape[-1]), "linear")
        inputs = preprocess(square, image_size=sam.image_size, unit_range=sam.unit_range, keep_aspect=True)
        return self.image_encoder(inputs.astype(sam.dtype))

    def decode(self, features: Float[Array, "*b g g d"], size: tuple[int, int]) -> Float[Array, "*b h w k"]:
        """Logits of each class at a size, from encoded images."""
        *batch, grid, _, dim = features.shape
        num_structures = self.config.num_classes - 1
        _, no_mask = self.prompt_encoder(Prompts())
        repeated = jnp.broadcast_to(features[..., None, :, :, :], (*batch, num_structures, grid, grid, dim))
        tokens = jnp.broadcast_to(self.structure_prompts, (*batch, *self.structure_prompts.shape)).astype(
            features.dtype
        )
        masks, _ = self.mask_decoder(repeated, self.prompt_encoder.grid_positions(), tokens, no_mask)
        scores = jnp.moveaxis(masks[..., 0], -3, -1)
        scores = jax.image.resize(scores, (*batch, *size, num_structures), "linear")
        return jnp.concatenate([jnp.zeros_like(scores[..., :1]), scores], axis=-1)


def from_sam(config: SAMConfig, variables: PyTree, boxes: Float[Array, "n 4"]) -> PyTree:
    """Variables of a `PromptFreeSAM` from those of a SAM.

    Args:
        config: Sizes of the SAM.
        variables: Its variables.
        boxes: The box that stands for each structure at first, ``(top, left, bottom, right)`` in pixels of the model's
            input: the mean of the training images, say.

    Returns:
        The variables; until it is trained, each structure is what the SAM finds in its box.

    Example:
        >>> small = SAMConfig(image_size=64, width=16, depth=1, num_heads=2, global_blocks=(0,), prompt_dim=16)
        >>> variables = SAM(small).init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
        >>> from_sam(small, variables, jnp.array([[8.0, 8, 40, 40]]))["params"]["structure_prompts"].shape
        (1, 2, 16)
    """
    tokens = SAM(config).apply(
        variables, boxes, method=lambda model, boxes: model.prompt_encoder(Prompts(boxes=boxes))[0]
    )
    return {"params": {**variables["params"], "structure_prompts": tokens}}
