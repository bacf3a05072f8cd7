"""An image encoded once, and any number of prompts."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from cardiojax.models.sam.model import SAM
from cardiojax.models.sam.processing import postprocess, preprocess, resized_shape
from cardiojax.models.sam.prompt_encoder import Prompts


class Embedded(NamedTuple):
    """An encoded image.

    Attributes:
        features: Of the image encoder.
        scale: ``(row, column)`` factors from pixels of the image to those of the model's input.
    """

    features: Float[Array, "g g d"]
    scale: Float[Array, "2"]


class Prediction(NamedTuple):
    """Masks of many prompts.

    Attributes:
        logits: Of four masks a prompt at the image's resolution, above 0 inside; see `SAMOutput`.
        quality: Predicted intersection over union of each.
    """

    logits: Float[Array, "n h w 4"]
    quality: Float[Array, "n 4"]


def embed_image(model: SAM, variables: PyTree, image: Float[Array, "h w c"]) -> Embedded:
    """Encodes an image.

    Args:
        model: A SAM.
        variables: Its variables.
        image: Grey or RGB in [0, 1].

    Returns:
        What `predict_masks` needs of it.
    """
    config = model.config
    height, width = image.shape[:2]
    image_size, keep_aspect = config.image_size, config.keep_aspect
    x = preprocess(image, image_size=image_size, unit_range=config.unit_range, keep_aspect=keep_aspect)
    features = model.apply(variables, x, method="embed")
    new = resized_shape(height, width, image_size) if keep_aspect else (image_size, image_size)
    return Embedded(features, jnp.array([new[0] / height, new[1] / width]))  # type: ignore[arg-type]


def predict_masks(
    model: SAM, variables: PyTree, embedded: Embedded, prompts: Prompts, *, size: tuple[int, int], batch_size: int = 64
) -> Prediction:
    """Segments what each of many prompts points at in one image.

    What depends on the image alone is computed once a batch. The peak memory is that of ``batch_size`` prompts, and
    of the result.

    Args:
        model: A SAM.
        variables: Its variables.
        embedded: The image, of `embed_image`.
        prompts: ``n`` prompts, each part with a leading axis; coordinates in pixels of the image.
        size: Height and width of the image.
        batch_size: Prompts handled at a time.

    Returns:
        Masks and their quality.
    """
    config = model.config

    def predict(one: Prompts) -> tuple[Array, Array]:
        points = None if one.points is None else one.points * embedded.scale
        boxes = None if one.boxes is None else one.boxes * jnp.tile(embedded.scale, 2)
        scaled = one._replace(points=points, boxes=boxes)
        out = model.apply(variables, embedded.features, scaled, method="decode")
        logits = postprocess(out.logits, image_size=config.image_size, size=size, keep_aspect=config.keep_aspect)  # type: ignore[union-attr]
        return logits, out.quality  # type: ignore[union-attr]

    return Prediction(*lax.map(predict, prompts, batch_size=batch_size))
