"""Temporal correction: inconsistent frames of a loop, changed as little as needed."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from cardiojax import anatomy, temporal
from cardiojax.correction import contours
from cardiojax.correction.anatomical import Box, CorrectAnatomy, Shapes, load_shapes
from cardiojax.correction.iteration import Loop, Methods, TemporalConfig, iterate
from cardiojax.labels import LV, NUM_CLASSES
from cardiojax.measurement.motion import ATTRIBUTES, consistency_limits
from cardiojax.runtime import aot

#: Length of the LV cavity in mm that stands in for an unknown pixel spacing.
_USUAL_LENGTH = 80.0
#: Passes of the iteration and of the anatomical correction after it, which may make a frame inconsistent again.
_NUM_PASSES = 3
#: Frames to multiples of which loops are filled up, so that few lengths are compiled.
_PADDED = 32


class TemporalCorrection(NamedTuple):
    """A corrected loop.

    Attributes:
        before: The given label maps, int32 ``[t, h, w]``.
        labels: The corrected label maps; frames that were not moved are unchanged.
        moved: Frames whose attributes were changed, ``[t]``.
        replaced: Those of them whose outlines were outliers and are interpolated between their neighbours, ``[t]``.
        changed: Pixels changed, as a fraction of those of the heart, ``[t]``.
        rounds: Inconsistent frames at the start and after each iteration.
    """

    before: np.ndarray
    labels: np.ndarray
    moved: np.ndarray
    replaced: np.ndarray
    changed: np.ndarray
    rounds: tuple[int, ...]


def make_temporal_corrector(name: str = "arvae_camus", **options: Any) -> "TemporalCorrector":
    """Loads an autoencoder of the zoo whose first dimensions follow the attributes.

    Args:
        name: Its name.
        **options: Of `TemporalCorrector`.

    Returns:
        The corrector.
    """
    return TemporalCorrector(load_shapes(name), **options)


def usual_spacing(labels: np.ndarray) -> tuple[float, float]:
    """The spacing at which the heart would be of usual size, for a recording whose spacing is unknown.

    Args:
        labels: Label maps, ``[t, h, w]``.

    Returns:
        ``(dy, dx)`` in mm, both the same.
    """
    rows = (labels == LV).any(2)
    heights = np.array([np.ptp(np.flatnonzero(row)) + 1 for row in rows if row.any()] or [1])
    spacing = _USUAL_LENGTH / float(np.quantile(heights, 0.9))
    return spacing, spacing


class TemporalCorrector:
    """Brings the attributes of a loop within the limits of temporal consistency.

    The iteration of `cardiojax.correction.iteration` changes the latent codes of the frames until their attributes are
    consistent. The difference of the two decoded shapes is added to the outline as it was drawn, so that its details do
    not pass through the autoencoder, and a frame that need not change does not. An outlier is interpolated between its
    neighbours.

    All of that happens on the square grid of the segmentation model, so that it compiles once for all recordings.

    Args:
        shapes: The autoencoder.
        anatomical_corrector: Applied to the corrected frames; none if not given.
        size: Side of the grid.
        batch_size: Frames a call.
        config: Numbers of the iteration.
    """

    def __init__(
        self,
        shapes: Shapes,
        *,
        anatomical_corrector: CorrectAnatomy | None = None,
        size: int = 224,
        batch_size: int = 8,
        config: TemporalConfig = TemporalConfig(),
    ):
        self._anatomical_corrector, self._config = anatomical_corrector, config
        self._size, self._batch_size = size, batch_size
        self._variables, self._code_size = shapes.variables, shapes.model.config.latent_size

        def encode(variables, labels):
            return dataclasses.replace(shapes, variables=variables).encode(labels)

        def move(variables, distances, keep, start, end):
            """Adds to signed distances what a change of the code does to logits, or takes the new shape itself."""
            first, second = (
                shapes.model.apply(variables, codes, method="decode") / 2  # see `data.shapes.soft_labels`
                for codes in (start, end)
            )
            keep = keep[:, None, None, None]
            change = keep * contours.soften(second - first) + (1 - keep) * second
            distances = keep * distances + contours.resize(change, size, size) * (size / shapes.model.config.size)
            return distances, contours.part_at_the_hinges(distances.argmax(-1))

        self._encode, self._move = (aot.CompiledFunction(f) for f in (encode, move))

    def compile(self, num_frames: int, *, box: Box) -> None:
        """Begins to compile for a length of loops in the background, so that the first call need not wait as long.

        Args:
            num_frames: Frames of a loop.
            box: As it will be given with it.
        """

        def shape(*sizes: int, dtype: DTypeLike = jnp.float32) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(sizes, dtype)

        n, side, num = self._batch_size, self._size, len(ATTRIBUTES)
        labels, maps = shape(n, side, side, dtype=jnp.int32), shape(n, side, side, NUM_CLASSES)
        limits, padded = (shape(num, 2), shape(num)), num_frames + -num_frames % _PADDED
        _MEASURE.compile(labels, shape(n, 2))
        self._encode.compile(self._variables, labels)
        _CONSISTENCY.compile(shape(num_frames, num), *limits)
        _PROJECT.compile(shape(padded, num), *limits, shape(padded, dtype=bool))
        _DISTANCES.compile(labels)
        self._move.compile(self._variables, maps, shape(n), *[shape(n, self._code_size)] * 2)
        _DRAW.compile(maps, height=box[1] - box[0], width=box[3] - box[2])

    def __call__(
        self, labels: np.ndarray, *, spacing: tuple[float, float], frame_time: float | None, box: Box | None = None
    ) -> TemporalCorrection:
        """Corrects a loop.

        Args:
            labels: Label maps over time, ``[t, h, w]``. Frames without a left ventricle stay as they are.
            spacing: ``(dy, dx)`` in mm.
            frame_time: Seconds from frame to frame, if known.
            box: Part of the image that the model sees as its square; the whole if not given.

        Returns:
            The corrected loop.
        """
        labels = np.asarray(labels, np.int32)
        box = box or (0, labels.shape[1], 0, labels.shape[2])
        once = self._correct_once(labels, spacing=spacing, frame_time=frame_time, box=box)
        result, moved, replaced, rounds = once.labels.copy(), once.moved, once.replaced, once.rounds
        for passes_left in range(_NUM_PASSES - 1, -1, -1):
            rows = np.flatnonzero(once.moved)
            if self._anatomical_corrector is None or not len(rows):
                break
            corrected = self._anatomical_corrector(result[rows], box=box)
            result[rows] = corrected.labels
            if corrected.was_valid.all() or not passes_left:
                break
            once = self._correct_once(result, spacing=spacing, frame_time=frame_time, box=box)
            result, moved, replaced = once.labels.copy(), moved | once.moved, replaced | once.replaced
            rounds += once.rounds
        either = np.maximum(((labels > 0) | (result > 0)).sum((1, 2)), 1)
        return TemporalCorrection(labels, result, moved, replaced, (labels != result).sum((1, 2)) / either, rounds)

    def _correct_once(
        self, labels: np.ndarray, *, spacing: tuple[float, float], frame_time: float | None, box: Box
    ) -> TemporalCorrection:
        """The iteration, without the anatomical correction."""
        num, (top, bottom, left, right) = len(labels), box
        if not num:
            nobody = np.zeros(0, bool)
            return TemporalCorrection(labels, labels.copy(), nobody, nobody, np.zeros(0), ())
        size, inside = self._size, labels[:, top:bottom, left:right]
        small = inside[:, _nearest_index(bottom - top, size)][:, :, _nearest_index(right - left, size)]
        pixel = np.array([spacing[0] * (bottom - top) / size, spacing[1] * (right - left) / size], np.float32)
        bounds, thresholds = map(np.asarray, consistency_limits(frame_time))
        methods, is_drawn = self._methods(pixel, bounds), (small == LV).any((1, 2))
        attributes = np.where(is_drawn[:, None], methods.measure(small), np.nan)
        unit = thresholds * (bounds[:, 1] - bounds[:, 0])
        loop = Loop(small, attributes, methods.encode(small), is_drawn, thresholds, unit)
        state = iterate(loop, methods, self._config)
        result, rows = labels.copy(), np.flatnonzero(state.is_moved)
        if len(rows):
            draw = functools.partial(_DRAW, height=bottom - top, width=right - left)
            result[rows, top:bottom, left:right] = self._in_batches(draw)(state.distances[rows])
        return TemporalCorrection(labels, result, state.is_moved, state.is_outlier, np.zeros(num), state.inconsistent)

    def _methods(self, pixel: np.ndarray, bounds: np.ndarray) -> Methods:
        """The compiled functions for label maps of one pixel size."""
        measure = self._in_batches(_MEASURE)

        def project(series: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
            num = len(series)
            padded = np.pad(np.asarray(series, np.float32), ((0, -num % _PADDED), (0, 0)))
            return np.asarray(_PROJECT(padded, bounds, thresholds, np.arange(len(padded)) < num))[:num]

        return Methods(
            encode=self._in_batches(functools.partial(self._encode, self._variables)),
            measure=lambda labels: measure(labels, np.tile(pixel, (len(labels), 1))),
            distances=self._in_batches(_DISTANCES),
            move=self._in_batches(functools.partial(self._move, self._variables)),
            consistency=lambda series, thresholds: _CONSISTENCY(np.asarray(series, np.float32), bounds, thresholds),
            project=project,
        )

    def _in_batches(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A compiled function of any number of frames, always as many at a time."""

        def apply(*arrays: np.ndarray) -> Any:
            parts = []
            for first in range(0, len(arrays[0]), self._batch_size):
                part = [a[first : first + self._batch_size] for a in arrays]
                block = [a[np.resize(np.arange(len(a)), self._batch_size)] for a in part]
                parts.append(jax.tree.map(lambda v, n=len(part[0]): np.asarray(v)[:n], function(*block)))
            return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

        return apply


def _attributes(labels: Int[Array, "n h w"], spacing: Float[Array, "n 2"]) -> Float[Array, "n a"]:
    return jnp.stack(anatomy.attributes(labels, spacing, batch_size=4), -1)


def _project(series, bounds, thresholds, valid):
    return temporal.nearest_consistent(series, bounds, thresholds, valid=valid)


#: The parts that are the same for every autoencoder.
_MEASURE, _DISTANCES, _CONSISTENCY, _PROJECT = map(
    aot.CompiledFunction, (_attributes, contours.signed_distances, temporal.consistency, _project)
)
_DRAW = aot.CompiledFunction(contours.label_maps, static_argnames=("height", "width"))


def _nearest_index(length: int, size: int) -> np.ndarray:
    return ((np.arange(size) + 0.5) * length / size).astype(int)
