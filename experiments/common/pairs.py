"""Pairs of CAMUS frames, end-diastole and end-systole of a view, and their archive for another machine."""

import io
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from cardiojax.data.arrays import ArraySource

_KEYS = ("patient", "view", "phase", "spacing_rc_mm")
#: Masks are stored with their labels spread over the grey values, so that they can be looked at.
_LABEL_STEP = 80


class Frames(NamedTuple):
    """Frames with what is known of them; ``pairs[i]`` are the end-diastolic and the end-systolic frame of one view."""

    images: UInt8[np.ndarray, "n h w"]
    labels: UInt8[np.ndarray, "n h w"]
    metadata: dict[str, np.ndarray]
    pairs: Int[np.ndarray, "p 2"]

    def source(self) -> ArraySource:
        """The frames as a source of examples, like `cardiojax.data.arrays.camus_224`."""
        metadata = {key: self.metadata[key] for key in _KEYS[:3]}
        spacing = self.metadata["spacing_rc_mm"].astype(np.float32)
        return ArraySource({"image": self.images, "label": self.labels, "spacing": spacing, **metadata})


def make_frames(images: np.ndarray, labels: np.ndarray, metadata: dict[str, np.ndarray]) -> Frames:
    """Finds the pairs.

    Args:
        images: uint8 ``[n, h, w]``.
        labels: uint8 ``[n, h, w]``.
        metadata: ``patient``, ``view``, ``phase`` and ``spacing_rc_mm`` of each frame.
    """
    names = zip(metadata["patient"], metadata["view"], metadata["phase"], strict=True)
    index = {tuple(map(str, name)): i for i, name in enumerate(names)}
    pairs = [(i, index[p, v, "ES"]) for (p, v, phase), i in index.items() if phase == "ED"]
    return Frames(images, labels, metadata, np.array(pairs))


def read(data: Path, split: str) -> Frames:
    """Reads one split.

    Args:
        data: A file that `pack` wrote, or the folder of ``camus224_train.npz`` and ``camus224_val.npz``.
        split: ``train`` or ``val``.
    """
    if data.is_dir():
        with np.load(data / f"camus224_{split}.npz") as archive:
            return make_frames(archive["image"], archive["label"], {key: archive[key] for key in _KEYS})
    from PIL import Image

    with zipfile.ZipFile(data) as archive:
        metadata = {key: np.array(value) for key, value in json.loads(archive.read(f"{split}.json")).items()}

        def stack(kind: str) -> np.ndarray:
            names = (f"{split}/{i:04d}.{kind}" for i in range(len(metadata["patient"])))
            return np.stack([np.array(Image.open(io.BytesIO(archive.read(name))).convert("L")) for name in names])

        return make_frames(stack("webp"), stack("png") // _LABEL_STEP, metadata)


def pack(data: Path, out: Path) -> None:
    """Writes both splits as lossless WebP and PNG into one ZIP file.

    Args:
        data: Folder of ``camus224_train.npz`` and ``camus224_val.npz``.
        out: The file.
    """
    from PIL import Image

    def encode(image: np.ndarray, kind: str, **options) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind, **options)
        return buffer.getvalue()

    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for split in ("train", "val"):
            frames = read(data, split)
            archive.writestr(f"{split}.json", json.dumps({k: v.tolist() for k, v in frames.metadata.items()}))
            for i, (image, labels) in enumerate(zip(frames.images, frames.labels, strict=True)):
                archive.writestr(f"{split}/{i:04d}.webp", encode(image, "webp", lossless=True, quality=60))
                archive.writestr(f"{split}/{i:04d}.png", encode(labels * _LABEL_STEP, "png", optimize=True))


def select(frames: Frames, which: np.ndarray) -> Frames:
    """Frames of some patients.

    Args:
        frames: All.
        which: Whether each frame is kept.
    """
    return make_frames(
        frames.images[which], frames.labels[which], {key: value[which] for key, value in frames.metadata.items()}
    )


def split_fold(frames: Frames, fold: int) -> tuple[Frames, Frames]:
    """Training and held-out frames of a five-fold cross-validation by patient.

    Args:
        frames: The training frames of CAMUS.
        fold: 0 to 4.
    """
    patients = frames.metadata["patient"]
    held_out = np.isin(patients, np.unique(patients)[fold::5])
    return select(frames, ~held_out), select(frames, held_out)
