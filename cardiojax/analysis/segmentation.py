"""Label maps of the frames of a loop on the analysis grid, a batch at a time."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from cardiojax import models, ops, uncertainty
from cardiojax.analysis.crisp import UncertaintyEstimate
from cardiojax.analysis.sector import Sector
from cardiojax.labels import BACKGROUND, LEFT_ATRIUM, LV, MYOCARDIUM
from cardiojax.models.preprocess import Box
from cardiojax.runtime import aot

#: Grey images ``[n, s, s, 1]`` in [0, 1] to class probabilities ``[n, s, s, k]``.
Segment = Callable[[np.ndarray], np.ndarray]


@runtime_checkable
class UncertaintyEstimator(Protocol):
    """Estimates where outlines may be wrong, as `cardiojax.analysis.crisp.CrispEstimator` does."""

    def __call__(self, images: np.ndarray, probs: np.ndarray) -> UncertaintyEstimate:
        """Estimates the uncertainty of predicted probabilities ``[n, s, s, k]`` for images ``[n, s, s, 1]``."""
        ...

    def ejection_interval(
        self, end_diastole: np.ndarray, end_systole: np.ndarray, fraction: float
    ) -> tuple[float, float]:
        """Estimates an interval for the ejection fraction, from images ``[s, s, 1]``."""
        ...


class Segmentation(NamedTuple):
    """Label maps of a loop and their uncertainty, on the grid of its frames.

    Attributes:
        labels: Label maps, int32 ``[t, h, w]``.
        uncertainty: Of each pixel in [0, 1], float32 ``[t, h, w]``: that of the estimator, else the entropy of the
            probabilities.
        quality: Percentage of the validation images whose outlines were less certain, ``[t]``; None without an
            estimator.
    """

    labels: np.ndarray
    uncertainty: np.ndarray
    quality: np.ndarray | None


def segment_loop(
    frames: np.ndarray,
    sector: Sector,
    segment: Segment,
    *,
    size: int,
    batch_size: int,
    largest_component: bool = True,
    uncertainty_estimator: UncertaintyEstimator | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Segmentation:
    """Segments every frame inside the sector.

    Probabilities are resampled to the grid of the frames before the most probable class is taken, so that outlines are
    smooth.

    Args:
        frames: Grey values, ``[t, h, w]``.
        sector: The ultrasound sector of these frames.
        segment: The model.
        size: Height and width of the model's grid.
        batch_size: Frames a call of the model.
        largest_component: Whether only the largest region of each structure is kept.
        uncertainty_estimator: Estimates the uncertainty; the entropy is taken if not given.
        on_progress: Called with the number of frames segmented so far.

    Returns:
        Label maps and uncertainty. Frames that are black inside the sector are background.
    """
    num_frames, height, width = frames.shape
    top, bottom, left, right = sector.box
    labels = np.zeros(frames.shape, np.int32)
    maps = np.zeros(frames.shape, np.float32)
    quality = None if uncertainty_estimator is None else np.zeros(num_frames)
    for start in range(0, num_frames, batch_size):
        chunk = slice(start, start + batch_size)
        images = to_model_grid(frames[chunk], sector, size=size, batch_size=batch_size)
        probs = segment(images)
        predicted, entropy = FROM_MODEL(pad(probs, batch_size), as_array(sector.box), height=height, width=width)
        labels[chunk] = np.asarray(predicted)[: len(images)]
        if uncertainty_estimator is None or quality is None:
            maps[chunk] = np.asarray(entropy)[: len(images)]
        else:
            estimate = uncertainty_estimator(images, probs)
            quality[chunk] = estimate.quality
            enlarged = TO_FRAMES(
                pad(estimate.map[..., None], batch_size), as_array(sector.box), height=height, width=width
            )
            maps[chunk] = np.asarray(enlarged)[: len(images), ..., 0]
        if largest_component:
            labels[chunk] = [keep_largest(frame_labels) for frame_labels in labels[chunk]]
        is_black = ~(frames[chunk, top:bottom, left:right] * sector.mask).any((1, 2))
        labels[chunk][is_black] = BACKGROUND
        on_progress(min(start + batch_size, num_frames))
    return Segmentation(labels, maps, quality)


def to_model_grid(frames: np.ndarray, sector: Sector, *, size: int, batch_size: int) -> np.ndarray:
    """Images ``[n, size, size, 1]`` of at most ``batch_size`` frames, as the model gets them."""
    top, bottom, left, right = sector.box
    mask = np.zeros(frames.shape[1:], bool)
    mask[top:bottom, left:right] = sector.mask
    images = TO_MODEL(pad(frames, batch_size), mask, as_array(sector.box), size=size)
    return np.asarray(images)[: len(frames)]


def keep_largest(labels: np.ndarray) -> np.ndarray:
    """Keeps the largest 4-connected region of each structure.

    Args:
        labels: Label map, ``[h, w]``.

    Returns:
        The label map; other regions become background.
    """
    kept = np.zeros_like(labels)
    for label in (LV, MYOCARDIUM, LEFT_ATRIUM):
        numbered, count = ndimage.label(labels == label)
        if count:
            kept[numbered == 1 + np.bincount(numbered.ravel())[1:].argmax()] = label
    return kept


def pad(batch: np.ndarray, batch_size: int) -> np.ndarray:
    """Fills a batch with zeros to ``batch_size``, so that one compilation serves all batches."""
    return np.pad(batch, [(0, batch_size - len(batch)), *[(0, 0)] * (batch.ndim - 1)])


def as_array(box: Box) -> np.ndarray:
    """A box as an argument of a compiled function: one program serves all boxes."""
    return np.asarray(box, np.int32)


def _to_model(frames: jax.Array, mask: jax.Array, box: jax.Array, size: int) -> jax.Array:
    return models.preprocess(frames, size=size, box=box, mask=mask)


def _from_model(probs: jax.Array, box: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    entropy = uncertainty.entropy(ops.resample_to_box(probs, box, height=height, width=width))
    labels = models.postprocess(probs, height=height, width=width, box=box)
    return labels, jnp.where(ops.inside_box(box, height=height, width=width), entropy, 0)


def _to_frames(maps: jax.Array, box: jax.Array, height: int, width: int) -> jax.Array:
    inside = ops.inside_box(box, height=height, width=width)[..., None]
    return jnp.where(inside, ops.resample_to_box(maps, box, height=height, width=width), 0)


#: Frames, the pixels of their sector and its box to the model's grid.
TO_MODEL = aot.CompiledFunction(_to_model, static_argnames="size")
#: Probabilities to label maps and entropy on the grid of the frames, background and zero outside the box of the sector.
FROM_MODEL = aot.CompiledFunction(_from_model, static_argnames=("height", "width"))
#: Maps ``[n, s, s, c]`` on the grid of the frames.
TO_FRAMES = aot.CompiledFunction(_to_frames, static_argnames=("height", "width"))
