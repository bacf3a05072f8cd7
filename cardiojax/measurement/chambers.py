"""Wall and left atrium of the frames of end-diastole and end-systole."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import clinical
from cardiojax.runtime import aot

#: End-diastole and end-systole of a beat.
_NUM_FRAMES = 2


class Chambers(NamedTuple):
    """Wall and atrium; in pixels where the spacing is unknown, nan where they are not found.

    Attributes:
        wall: Disks of cavity and myocardium along the long axis of the ventricle, up to the outer apex.
        atrial_area: Left atrium, mm², ``[*b]``.
        atrium: Disks of the left atrium along its own axis.
    """

    wall: clinical.Disks
    atrial_area: Any
    atrium: clinical.Disks


def compile_chambers(height: int, width: int) -> None:
    """Begins to compile what `measure_chambers` runs.

    Args:
        height: Height of the label maps.
        width: Their width.
    """
    labels = jax.ShapeDtypeStruct((_NUM_FRAMES, height, width), jnp.int32)
    spacing = jax.ShapeDtypeStruct((2,), jnp.float32)
    _CHAMBERS.compile(labels, spacing, jax.eval_shape(clinical.long_axis, labels, spacing))


def measure_chambers(labels: np.ndarray, spacing: tuple[float, float] | None, axis: clinical.LongAxis) -> Chambers:
    """Measures wall and atrium at end-diastole and end-systole of each beat.

    Args:
        labels: Label maps, ``[n, 2, h, w]``.
        spacing: ``(dy, dx)`` in mm; pixels are the unit if it is unknown.
        axis: The long axis of the ventricle in these frames, ``[n, 2]``.

    Returns:
        The chambers, ``[n, 2]``.

    Example:
        >>> import numpy as np
        >>> labels = np.zeros((1, 2, 64, 64), np.int32)
        >>> labels[:, :, 4:44, 8:40] = 2
        >>> labels[:, :, 8:44, 12:36] = 1
        >>> labels[:, :, 44:60, 12:36] = 3
        >>> axis = clinical.long_axis(jnp.asarray(labels), jnp.ones(2))
        >>> measure_chambers(labels, (1.0, 1.0), axis).atrial_area.tolist()
        [[384.0, 384.0]]
    """
    size = np.asarray(spacing or (1.0, 1.0), np.float32)
    beats = []
    for i, pair in enumerate(labels):
        of_beat = jax.tree.map(lambda x, i=i: np.asarray(x)[i], axis)
        beats.append(jax.tree.map(np.asarray, _CHAMBERS(np.asarray(pair, np.int32), size, of_beat)))
    return jax.tree.map(lambda *parts: np.stack(parts), *beats)


def _chambers(labels, spacing, axis) -> Chambers:
    def one(frame, axis):
        return Chambers(
            clinical.disks(frame, spacing, axis=axis, with_wall=True),
            clinical.atrial_area(frame, spacing),
            clinical.atrial_disks(frame, spacing, axis=axis),
        )

    return jax.lax.map(lambda both: one(*both), (labels, axis))


_CHAMBERS = aot.CompiledFunction(_chambers)
