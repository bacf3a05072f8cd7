"""An image encoded once, and any number of prompts; a loop from the boxes of its first frame."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from cardiojax.models.sam.model import SAM
from cardiojax.models.sam.processing import mask_box, postprocess, preprocess, resized_shape
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


class LoopPrediction(NamedTuple):
    """Masks of several structures over a loop.

    Attributes:
        masks: ``[t, n, h, w]``.
        boxes: The box that prompted each mask, ``(top, left, bottom, right)`` in pixels of the frames, ``[t, n, 4]``.
        quality: Predicted intersection over union of each mask, ``[t, n]``.
    """

    masks: Bool[Array, "t n h w"]
    boxes: Float[Array, "t n 4"]
    quality: Float[Array, "t n"]


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


def segment_loop(
    model: SAM,
    variables: PyTree,
    frames: Float[Array, "t h w c"],
    boxes: Float[Array, "n 4"],
    *,
    margin: float = 0.05,
) -> LoopPrediction:
    """Segments structures in every frame of a loop from their boxes in the first one.

    The box of a mask, enlarged by a margin, prompts the next frame. Where a mask is empty, the box stays.

    Args:
        model: A SAM.
        variables: Its variables.
        frames: Grey or RGB in [0, 1].
        boxes: ``(top, left, bottom, right)`` of each structure in the first frame, pixels.
        margin: By what part of its height and width a box grows on each side, to follow motion from frame to frame.

    Returns:
        Masks, boxes and quality.
    """
    _, height, width, _ = frames.shape
    outward, limit = jnp.array([-1.0, -1.0, 1.0, 1.0]), jnp.tile(jnp.array([height - 1.0, width - 1.0]), 2)

    def next_box(mask, box):
        found = mask_box(mask)
        grown = found + margin * outward * jnp.tile(found[2:] - found[:2], 2)
        return jnp.where(mask.any(), jnp.clip(grown, 0, limit), box)

    def segment(boxes, frame):
        embedded = embed_image(model, variables, frame)
        logits, quality = predict_masks(model, variables, embedded, Prompts(boxes=boxes), size=(height, width))
        masks = logits[..., 0] > 0
        return jax.vmap(next_box)(masks, boxes), LoopPrediction(masks, boxes, quality[..., 0])

    return lax.scan(segment, boxes.astype(jnp.float32), frames)[1]
