"""Functions of frames, applied to blocks of them: what is compiled does not depend on the length of a loop."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

#: Frames in a call.
NUM_FRAMES = 8


def in_blocks(function: Callable[..., Any], labels: np.ndarray, *arguments: Any) -> Any:
    """Applies a function of label maps, one frame at a time, to blocks of `NUM_FRAMES` frames.

    Args:
        function: Takes label maps ``[NUM_FRAMES, h, w]`` and the arguments, and returns arrays of as many rows.
        labels: ``[t, h, w]``; the last block is filled up by its own frames.
        *arguments: Passed on.

    Returns:
        The arrays, as of one call for all frames.

    Example:
        >>> in_blocks(lambda labels: labels.sum((1, 2)), np.ones((3, 2, 2), np.int32)).tolist()
        [4, 4, 4]
    """
    parts = []
    for start in range(0, len(labels), NUM_FRAMES):
        block = labels[start : start + NUM_FRAMES]
        filled = block[np.resize(np.arange(len(block)), NUM_FRAMES)]
        parts.append(jax.tree.map(lambda x, n=len(block): np.asarray(x)[:n], function(filled, *arguments)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
