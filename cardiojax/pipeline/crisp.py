"""CRISP at work: its weights as functions of images and masks of any size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cardiojax import zoo
from cardiojax.data.shapes import resize_masks
from cardiojax.uncertainty import Bank


class Matcher(NamedTuple):
    """What `cardiojax.uncertainty.crisp` needs.

    Attributes:
        bank: The shapes of the training data, decoded.
        encode_images: Images ``[n, h, w, 1]`` of any size to their codes.
        encode_masks: Label maps ``[n, h, w]`` of any size to theirs.
    """

    bank: Bank
    encode_images: Callable[[Array], Array]
    encode_masks: Callable[[Array], Array]


def load_matcher(name: str = "crisp_camus", *, size: int, weights: str | Path | None = None) -> Matcher:
    """Loads a CRISP model and decodes its bank.

    Args:
        name: A model of the zoo.
        size: Height and width of the masks of the bank, which are those of the predictions.
        weights: A weight file for it, with ``bank.safetensors`` beside it; the packaged ones if not given.

    Returns:
        Bank and encoders.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If its weights do not fit or there is no bank.
    """
    model: Any
    model, variables = zoo.load(name, weights=weights)
    side, shape = model.config.side, model.config.shape

    @jax.jit
    def encode_images(images):
        small = jax.image.resize(images, (len(images), side, side, 1), "linear")
        return jax.lax.map(lambda x: model.apply(variables, x, method="encode_image"), small, batch_size=16)

    @jax.jit
    def encode_masks(masks):
        def one(mask):
            probs = resize_masks(mask.astype(jnp.int32), shape.size, num_classes=shape.num_classes)
            return model.apply(variables, probs, method="encode_shape").joint

        return jax.lax.map(one, masks, batch_size=16)

    @jax.jit
    def decode(codes):
        def one(code):
            logits = model.apply(variables, code, method="decode")
            return jax.image.resize(logits, (size, size, shape.num_classes), "linear").argmax(-1).astype(jnp.uint8)

        return jax.lax.map(one, codes, batch_size=16)

    codes = jnp.asarray(zoo.load_bank(name if weights is None else Path(weights).with_name("bank.safetensors")))
    joint = model.apply(variables, codes.astype(jnp.float32), method="project")
    return Matcher(Bank(joint, decode(codes)), encode_images, encode_masks)
