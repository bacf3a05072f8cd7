"""Frames and probabilities brought from grid to grid, a batch of one size at a time."""

import jax
import numpy as np

from cardiojax import uncertainty
from cardiojax.runtime import aot


def pad(frames: np.ndarray, batch_size: int) -> np.ndarray:
    """Fills a batch with zeros: one shape, one compilation."""
    return np.pad(frames, [(0, batch_size - len(frames)), *[(0, 0)] * (frames.ndim - 1)])


def resize(images: np.ndarray, batch_size: int, height: int, width: int) -> np.ndarray:
    """Interpolates at most ``batch_size`` images ``[n, h, w, c]``."""
    return np.asarray(RESIZE(pad(images, batch_size), height=height, width=width))[: len(images)]


def _linear(images: jax.Array, height: int, width: int) -> jax.Array:
    return jax.image.resize(images, (images.shape[0], height, width, images.shape[3]), "linear")


def _enlarge(probs: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    probs = _linear(probs, height, width)
    return probs.argmax(-1), uncertainty.entropy(probs)


#: Images ``[n, h, w, c]`` on another grid.
RESIZE = aot.CompiledFunction(_linear, static_argnames=("height", "width"))
#: Label maps and entropy of probabilities ``[n, h, w, k]`` on a finer grid.
ENLARGE = aot.CompiledFunction(_enlarge, static_argnames=("height", "width"))
