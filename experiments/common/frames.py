"""CAMUS frames and their boxes, as several experiments use them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cardiojax import labels
from cardiojax.data.arrays import camus_224, stack_examples


class Frames(NamedTuple):
    """Frames of a split.

    Attributes:
        images: Grey values in [0, 1], float32 ``[n, h, w]``.
        labels: True label maps, ``[n, h, w]``.
        patients: Name of each frame's patient, ``[n]``.
        phases: ``ED`` or ``ES``, ``[n]``.
        spacing: ``(dy, dx)`` in mm, ``[n, 2]``.
    """

    images: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    phases: np.ndarray
    spacing: np.ndarray


def read_frames(path: Path, limit: int = 0) -> Frames:
    """Reads a split.

    Args:
        path: ``camus224_train.npz`` or ``camus224_val.npz``.
        limit: Frames, 0 for all.
    """
    arrays = stack_examples(camus_224(path), limit=limit)
    images, masks = arrays["image"].astype(np.float32) / 255, arrays["label"].astype(np.int32)
    return Frames(images, masks, arrays["patient"], arrays["phase"], arrays["spacing"])


def validation_frames(data: Path, limit: int = 0) -> Frames:
    """Reads the validation split.

    Args:
        data: Folder with ``camus224_val.npz``.
        limit: Frames, 0 for all.
    """
    return read_frames(data / "camus224_val.npz", limit)


def training_labels(data: Path) -> np.ndarray:
    """Label maps of the training split, ``[n, h, w]``.

    Args:
        data: Folder with ``camus224_train.npz``.
    """
    return stack_examples(camus_224(data / "camus224_train.npz"))["label"]


def rows_of_patients(split: Frames, num: int, seed: int) -> np.ndarray:
    """Rows of so many patients at random; those of a smaller number are among those of a larger one.

    Args:
        split: Frames.
        num: Number of patients.
        seed: Of the choice.
    """
    chosen = np.random.default_rng(seed).permutation(np.unique(split.patients))[:num]
    return np.flatnonzero(np.isin(split.patients, chosen))


def boxes_of(label_maps: np.ndarray) -> np.ndarray:
    """``(top, left, bottom, right)`` of each structure of label maps, ``[n, 3, 4]``; the image where one is absent.

    Args:
        label_maps: ``[n, h, w]``.
    """
    boxes = np.zeros((len(label_maps), 3, 4), np.float32)
    for k, members in enumerate(labels.STRUCTURES.values()):
        inside = np.isin(label_maps, members)
        for axis, seen in enumerate((inside.any(2), inside.any(1))):
            boxes[:, k, axis] = seen.argmax(1)
            boxes[:, k, 2 + axis] = seen.shape[1] - 1 - seen[:, ::-1].argmax(1)
    return boxes


def perturb(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Changes brightness and contrast by up to 20 %, and adds up to ten diffuse blobs, each with a chance of 3/4."""
    h, w = image.shape
    if rng.random() < 0.75:
        image = image * (1 + rng.uniform(-0.2, 0.2)) + rng.uniform(-0.2, 0.2)
    if rng.random() < 0.75:
        blobs, rows, cols = np.zeros((h, w)), np.arange(h)[:, None], np.arange(w)
        for _ in range(rng.integers(1, 11)):
            radius = rng.uniform(0.1, 0.25) * h
            blobs[np.hypot(rows - rng.uniform(0, h), cols - rng.uniform(0, w)) < radius] = rng.random()
        image = image + 0.6 * ndimage.gaussian_filter(blobs, 0.1 * h) - 0.1
    return image.clip(0, 1).astype(np.float32)
