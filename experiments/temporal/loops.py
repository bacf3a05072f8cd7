"""Simulated loops as the experiments on sequences see them: read, outlined by a network, resized."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cardiojax.analysis.recording import AnalyzeConfig, keep_largest, make_segment
from cardiojax.data import phantom
from cardiojax.data.arrays import stack_examples


class Loops(NamedTuple):
    """Loops of one scanner, each one beat from end-diastole to end-diastole.

    Attributes:
        images: Grey values, uint8 ``[n, t, h, w]``.
        labels: Exact masks, int32 ``[n, t, h, w]``.
        spacing: ``(dy, dx)`` in mm, ``[n, 2]``.
        frame_time: Seconds, ``[n]``.
        end_systole: Frame of the smallest true volume, ``[n]``; end-diastole is frame 0.
        patients: Names, ``[n]``.
        views: ``2CH`` or ``4CH``, ``[n]``.
    """

    images: np.ndarray
    labels: np.ndarray
    spacing: np.ndarray
    frame_time: np.ndarray
    end_systole: np.ndarray
    patients: np.ndarray
    views: np.ndarray


def read_loops(folder: Path, split: str, config: phantom.PhantomSet) -> Loops:
    """Opens a split of a phantom, which is simulated first if it is not there.

    Args:
        folder: Where datasets are kept.
        split: ``"train"``, ``"validation"`` or both as ``"train+validation"``.
        config: Which phantom.

    Returns:
        All of it.
    """
    phantom.build_phantom(folder, config)
    parts = [stack_examples(phantom.open_phantom(folder, name, config)) for name in split.split("+")]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Loops(
        arrays["image"],
        arrays["label"].astype(np.int32),
        arrays["spacing"],
        1 / arrays["frame_rate"],
        arrays["volume"].argmin(1),
        arrays["patient"],
        arrays["view"],
    )


def outline(images: np.ndarray, model: str = "unet_camus") -> np.ndarray:
    """Masks by a network of the zoo, frame by frame, the largest region of each structure.

    Args:
        images: Grey values, ``[n, t, h, w]``.
        model: Its name.

    Returns:
        Label maps, int32 ``[n, t, h, w]``.
    """
    segment = make_segment(AnalyzeConfig(model=model))
    frames = images.reshape(-1, *images.shape[2:])
    masks = np.empty(frames.shape, np.int32)
    for first in range(0, len(frames), 64):
        part = frames[first : first + 64].astype(np.float32)
        low, high = part.min((1, 2), keepdims=True), part.max((1, 2), keepdims=True)
        probs = segment(((part - low) / np.maximum(high - low, 1))[..., None])
        masks[first : first + 64] = [keep_largest(p) for p in probs.argmax(-1)]
    return masks.reshape(images.shape)


def keep(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Label maps from a file, which is made if it is not there.

    Args:
        path: The file, ``.npz``.
        make: Makes them.

    Returns:
        Label maps, int32.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, labels=make().astype(np.uint8))
    return np.load(path)["labels"].astype(np.int32)


def phases(loops: Loops, masks: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """The end-diastolic and the end-systolic frame of each loop.

    Args:
        loops: Where they are.
        masks: Label maps of all frames, ``[n, t, h, w]``.

    Returns:
        ``[2 n, h, w]``, and what `cardiojax.evaluation.ejections` asks to know of them, the masks as
        reference.
    """
    chosen, examples = [], []
    for i, end_systole in enumerate(loops.end_systole):
        for phase, frame in (("ED", 0), ("ES", int(end_systole))):
            metadata = {"patient": loops.patients[i], "view": loops.views[i], "spacing": loops.spacing[i]}
            chosen.append(masks[i, frame])
            examples.append({**metadata, "phase": phase, "label": masks[i, frame]})
    return np.stack(chosen), examples
