"""CRISP at work: its weights as functions of images and masks of any size."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cardiojax import labels, uncertainty, zoo
from cardiojax.data.shapes import resize_masks


class Matcher(NamedTuple):
    """What `cardiojax.uncertainty.crisp` needs.

    Attributes:
        bank: The shapes of the training data, decoded.
        encode_images: Images ``[n, h, w, 1]`` of any size to their codes.
        encode_masks: Label maps ``[n, h, w]`` of any size to theirs.
    """

    bank: uncertainty.Bank
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
    return Matcher(uncertainty.Bank(joint, decode(codes)), encode_images, encode_masks)


class Judgement(NamedTuple):
    """How far outlines can be trusted.

    Attributes:
        map: Uncertainty of each pixel in [0, 1], ``[n, side, side]``.
        quality: Percentage of the validation images whose outlines were less certain, ``[n]``.
    """

    map: np.ndarray
    quality: np.ndarray


class Judge:
    """Judges outlines by the training shapes that go best with the images.

    Args:
        matcher: What `load_matcher` returned.
        quantiles: Scores of validation images in ascending order, from the smallest to the largest in equal shares.
        num_samples: Shapes that are compared.
        batch_size: Frames a call; one compilation serves all.
    """

    def __init__(self, matcher: Matcher, quantiles: Sequence[float], *, num_samples: int = 50, batch_size: int = 8):
        self._quantiles, self._batch_size = np.asarray(quantiles), batch_size
        side, num_classes = matcher.bank.masks.shape[-1], labels.NUM_CLASSES

        @jax.jit
        def judge(images, probs, bank):
            shape = (batch_size, side, side)
            predicted = jax.image.resize(probs, (*shape, num_classes), "linear").argmax(-1).astype(jnp.int32)
            small = jax.image.resize(images, (*shape, 1), "linear")
            return uncertainty.crisp(small, predicted, matcher.encode_images(images), bank, num_samples=num_samples)

        self._judge = lambda images, probs: judge(images, probs, matcher.bank)

    def __call__(self, images: np.ndarray, probs: np.ndarray) -> Judgement:
        """Judges the outlines of frames.

        Args:
            images: Images in [0, 1], ``[n, h, w, 1]``.
            probs: What a model made of them, ``[n, h, w, k]``.

        Returns:
            Maps, and one number a frame.
        """
        maps, scores = self.score(images, probs)
        shares = np.linspace(100, 0, len(self._quantiles))
        return Judgement(maps, np.interp(scores, self._quantiles, shares))

    def score(self, images: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps and the scores of `cardiojax.uncertainty.crisp`, of which the quantiles are made."""
        maps, scores = [], []
        for start in range(0, len(images), self._batch_size):
            chunk = [x[start : start + self._batch_size] for x in (images, probs)]
            padding = self._batch_size - len(chunk[0])
            result = self._judge(*(np.pad(x, [(0, padding), (0, 0), (0, 0), (0, 0)]) for x in chunk))
            maps.append(np.asarray(result.map)[: len(chunk[0])])
            scores.append(np.asarray(result.scalar)[: len(chunk[0])])
        return np.concatenate(maps), np.concatenate(scores)


def make_judge(name: str = "crisp_camus", *, side: int = 112) -> Judge:
    """Loads a CRISP model of the zoo to judge outlines with.

    Args:
        name: Its name.
        side: Height and width of the maps.

    Returns:
        The judge.
    """
    return Judge(load_matcher(name, size=side), zoo.card(name, count=False)["score_quantiles"])
