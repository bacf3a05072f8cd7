"""Shapes of hearts over half a cycle, for models that learn from masks alone."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import ndimage

from cardiojax.labels import PHASES


class ShapePairs:
    """A Grain source over the end-diastolic and end-systolic mask of each patient and view, as signed distances.

    They are measured once, when the source is made; each example takes ``8 * size ** 2`` numbers of two bytes.

    Args:
        source: Examples with ``label`` (``[h, w]``, one size), ``patient``, ``view`` and ``phase`` (``ED`` or ``ES``).
        size: Height and width of the maps.
    """

    def __init__(self, source: Any, *, size: int):
        masks: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        for i in range(len(source)):
            example = source[i]
            masks.setdefault((str(example["patient"]), str(example["view"])), {})[str(example["phase"])] = example[
                "label"
            ]
        pairs = [pair for _, pair in sorted(masks.items()) if set(PHASES) <= set(pair)]
        if not pairs:
            raise ValueError("no patient has an ED and an ES mask of one view")
        self._maps = np.stack([signed_distances([pair[phase] for pair in pairs], size=size) for phase in PHASES])

    def __len__(self) -> int:
        return self._maps.shape[1]

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"maps": self._maps[:, index]}


def signed_distances(masks: Sequence[np.ndarray], *, size: int, num_classes: int = 4) -> np.ndarray:
    """Distance of each pixel to the border of each class, positive inside: a form of masks that can be interpolated.

    The class with the largest value is the mask, also after interpolation in space or between two masks.

    Args:
        masks: Label maps of one size, ``[h, w]`` each.
        size: Height and width of the result.
        num_classes: Number of classes.

    Returns:
        Distances in pixels of the result, float16 ``[n, size, size, num_classes]``; a class that is absent is far away
        everywhere.
    """
    shape = np.array(np.shape(masks[0]))
    far, sampling = float(2 * size), size / shape

    @jax.jit
    def resize(distances):
        return jax.image.resize(distances, (size, size, num_classes), "linear").astype(jnp.float16)

    def measure(mask: np.ndarray) -> np.ndarray:
        maps = np.full((*shape, num_classes), -far, np.float32)
        for k in np.unique(mask):
            inside, half_pixel = mask == k, sampling.mean() / 2
            if inside.all():
                maps[..., k] = far
                continue
            depth = ndimage.distance_transform_edt(inside, sampling) - half_pixel
            distance = ndimage.distance_transform_edt(~inside, sampling) - half_pixel
            maps[..., k] = np.where(inside, depth, -distance)
        return np.asarray(resize(maps))

    return np.stack([measure(np.asarray(mask)) for mask in masks])


def soft_labels(distances: Float[Array, "*b h w k"]) -> Float[Array, "*b h w k"]:
    """Class probabilities as they come out when a finer mask is resized: steep, but not hard, at the borders.

    Args:
        distances: Signed distances in pixels.

    Returns:
        Probabilities.
    """
    # between two classes this is a logistic step of slope 1 per pixel, that of a linear antialiasing kernel
    return jax.nn.softmax(2.0 * distances)


def resize_masks(labels: Int[Array, "*b h w"], size: int, *, num_classes: int = 4) -> Float[Array, "*b size size k"]:
    """Resizes label maps to class probabilities: the share of each class in each pixel.

    Args:
        labels: Label maps.
        size: Height and width of the result.
        num_classes: Number of classes.

    Returns:
        Probabilities.
    """
    one_hot = jax.nn.one_hot(labels, num_classes)
    return jax.image.resize(one_hot, (*labels.shape[:-2], size, size, num_classes), "linear")
