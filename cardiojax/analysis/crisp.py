"""CRISP as an uncertainty estimator: its networks as functions of images and label maps of any size."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cardiojax import clinical, uncertainty, zoo
from cardiojax.data.shapes import resize_masks
from cardiojax.labels import NUM_CLASSES


class Matcher(NamedTuple):
    """Bank and encoders that `cardiojax.uncertainty.crisp` takes.

    Attributes:
        bank: The decoded shapes of the training data.
        encode_images: Codes of images ``[n, h, w, 1]`` of any size.
        encode_masks: Codes of label maps ``[n, h, w]`` of any size.
    """

    bank: uncertainty.ShapeBank
    encode_images: Callable[[Array], Array]
    encode_masks: Callable[[Array], Array]


def load_matcher(name: str = "crisp_camus", *, size: int, weights: str | Path | None = None) -> Matcher:
    """Loads a CRISP model and decodes its bank.

    Args:
        name: A model of the zoo.
        size: Height and width of the label maps of the bank, which are those of the predictions.
        weights: A weight file for it, with ``bank.safetensors`` beside it; the packaged ones if not given.

    Returns:
        Bank and encoders.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If its weights do not fit or there is no bank.
    """
    model: Any
    model, variables = zoo.load(name, weights=weights)
    image_size, shape = model.config.size, model.config.shape

    @jax.jit
    def encode_images(images):
        small = jax.image.resize(images, (len(images), image_size, image_size, 1), "linear")
        return jax.lax.map(lambda x: model.apply(variables, x, method="encode_image"), small, batch_size=16)

    @jax.jit
    def encode_masks(labels):
        def one(frame):
            probs = resize_masks(frame.astype(jnp.int32), shape.size, num_classes=shape.num_classes)
            return model.apply(variables, probs, method="encode_shape").joint

        return jax.lax.map(one, labels, batch_size=16)

    @jax.jit
    def decode(codes):
        def one(code):
            logits = model.apply(variables, code, method="decode")
            return jax.image.resize(logits, (size, size, shape.num_classes), "linear").argmax(-1).astype(jnp.uint8)

        return jax.lax.map(one, codes, batch_size=16)

    codes = jnp.asarray(zoo.load_bank(name if weights is None else Path(weights).with_name("bank.safetensors")))
    joint = model.apply(variables, codes.astype(jnp.float32), method="project")
    return Matcher(uncertainty.ShapeBank(joint, decode(codes)), encode_images, encode_masks)


class UncertaintyEstimate(NamedTuple):
    """Uncertainty of label maps.

    Attributes:
        map: Uncertainty of each pixel in [0, 1], ``[n, size, size]``.
        quality: Percentage of the validation images whose outlines were less certain, ``[n]``.
    """

    map: np.ndarray
    quality: np.ndarray


class CrispEstimator:
    """Estimates the uncertainty of label maps by the training shapes that match the images best.

    Args:
        matcher: What `load_matcher` returns.
        quantiles: Quantiles of the scores of validation images, ascending, at equal steps of probability.
        bound: Factor from the spread of the matching shapes' ejection fractions to half the width of the interval: the
            conformal quantile of this ratio, see `cardiojax.uncertainty.conformal_quantile`; nan for no interval.
        num_samples: Shapes that are compared.
        batch_size: Frames a call; one compilation serves all.
    """

    def __init__(
        self,
        matcher: Matcher,
        quantiles: Sequence[float],
        *,
        bound: float = math.nan,
        num_samples: int = 50,
        batch_size: int = 8,
    ):
        self._quantiles, self._batch_size, self._bound = np.asarray(quantiles), batch_size, bound
        size, num_classes = matcher.bank.masks.shape[-1], NUM_CLASSES

        @jax.jit
        def estimate(images, probs, bank):
            shape = (batch_size, size, size)
            predicted = jax.image.resize(probs, (*shape, num_classes), "linear").argmax(-1).astype(jnp.int32)
            small = jax.image.resize(images, (*shape, 1), "linear")
            return uncertainty.crisp(small, predicted, matcher.encode_images(images), bank, num_samples=num_samples)

        @jax.jit
        def spread(images, bank, volumes):
            matched = uncertainty.retrieve_shapes(matcher.encode_images(images), bank, num_samples=num_samples)
            return _ejection_spread(volumes[matched.indices], matched.weights)

        self._matcher = matcher
        self._estimate = lambda images, probs: estimate(images, probs, matcher.bank)
        self._spread = lambda images: spread(images, matcher.bank, self._volumes)

    @functools.cached_property
    def _volumes(self) -> Array:
        """Volumes of the bank's shapes, in pixels cubed."""

        @jax.jit
        def volumes(labels):
            return jax.lax.map(lambda shape: clinical.single_plane_volume(clinical.disks(shape, jnp.ones(2))), labels)

        return volumes(self._matcher.bank.masks.astype(jnp.int32))

    def __call__(self, images: np.ndarray, probs: np.ndarray) -> UncertaintyEstimate:
        """Estimates the uncertainty of frames.

        Args:
            images: Images in [0, 1], ``[n, h, w, 1]``.
            probs: Class probabilities of a model for them, ``[n, h, w, k]``.

        Returns:
            Maps, and one number a frame.
        """
        maps, scores = self.score(images, probs)
        shares = np.linspace(100, 0, len(self._quantiles))
        return UncertaintyEstimate(maps, np.interp(scores, self._quantiles, shares))

    def ejection_spread(self, end_diastole: np.ndarray, end_systole: np.ndarray) -> float:
        """Spread of the ejection fractions of the shapes that match two images.

        Args:
            end_diastole: Image in [0, 1], ``[h, w, 1]``.
            end_systole: Another image.

        Returns:
            Weighted standard deviation over all pairs of a shape for one and a shape for the other, in points.
        """
        return float(self._spread(np.stack([end_diastole, end_systole])))

    def ejection_interval(
        self, end_diastole: np.ndarray, end_systole: np.ndarray, fraction: float
    ) -> tuple[float, float]:
        """Interval that holds the ejection fraction of an expert's outlines with the coverage of the bound.

        Args:
            end_diastole: Image in [0, 1], ``[h, w, 1]``.
            end_systole: Another image.
            fraction: Measured ejection fraction in percent.

        Returns:
            Both ends in percent, 0 to 100; nan without a bound.
        """
        half_width = self._bound * self.ejection_spread(end_diastole, end_systole)
        low, high = np.clip([fraction - half_width, fraction + half_width], 0.0, 100.0)
        return float(low), float(high)

    def score(self, images: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps and scores of `cardiojax.uncertainty.crisp`; the quantiles are those of such scores."""
        maps, scores = [], []
        for start in range(0, len(images), self._batch_size):
            chunk = [x[start : start + self._batch_size] for x in (images, probs)]
            padding = self._batch_size - len(chunk[0])
            result = self._estimate(*(np.pad(x, [(0, padding), (0, 0), (0, 0), (0, 0)]) for x in chunk))
            maps.append(np.asarray(result.map)[: len(chunk[0])])
            scores.append(np.asarray(result.score)[: len(chunk[0])])
        return np.concatenate(maps), np.concatenate(scores)


def make_crisp_estimator(name: str = "crisp_camus", *, size: int = 112) -> CrispEstimator:
    """Loads a CRISP model of the zoo as an uncertainty estimator.

    Args:
        name: Its name.
        size: Height and width of the maps.

    Returns:
        The estimator.
    """
    card = zoo.card(name, count=False)
    return CrispEstimator(load_matcher(name, size=size), card["score_quantiles"], bound=card["ejection_bound"])


def _ejection_spread(volumes: Float[Array, "2 m"], weights: Float[Array, "2 m"]) -> Float[Array, ""]:
    weights = jnp.where(jnp.isfinite(volumes), weights, 0.0)
    end_diastole, end_systole = jnp.where(jnp.isfinite(volumes), volumes, 1.0)
    fractions = 100 * (1 - end_systole / end_diastole[:, None])
    pairs = weights[0][:, None] * weights[1]
    mean = (pairs * fractions).sum() / pairs.sum()
    return jnp.sqrt((pairs * jnp.square(fractions - mean)).sum() / pairs.sum())
