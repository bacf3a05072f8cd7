"""Temporal correction: changes the inconsistent frames of a loop as little as needed."""

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
from cardiojax.correction import signed_distance
from cardiojax.correction.anatomical import CorrectAnatomy, Shapes, load_shapes
from cardiojax.correction.iteration import Loop, Methods, TemporalConfig, iterate
from cardiojax.labels import LV, NUM_CLASSES
from cardiojax.measurement.motion import ATTRIBUTES, consistency_limits
from cardiojax.runtime import aot, map_full_batches
from cardiojax.types import Box

#: Height of the LV cavity at end-diastole in mm that is assumed where the pixel spacing is unknown.
_ASSUMED_HEIGHT = 80.0
#: Largest number of passes of the iteration and the anatomical correction, which may make a frame inconsistent again.
_NUM_PASSES = 3
#: Loops are padded to a multiple of this number of frames, so that few lengths are compiled.
_LENGTH_STEP = 32


class TemporalCorrection(NamedTuple):
    """A corrected loop.

    Attributes:
        before: The given label maps, int32 ``[t, h, w]``.
        labels: The corrected label maps; frames that were not moved are unchanged.
        moved: Frames whose attributes were changed, ``[t]``.
        replaced: Those of them whose outlines were outliers and are interpolated between their neighbours, ``[t]``.
        changed: Pixels changed, as a fraction of those of the heart, ``[t]``.
        num_inconsistent: Number of inconsistent frames at the start and after each iteration.
    """

    before: np.ndarray
    labels: np.ndarray
    moved: np.ndarray
    replaced: np.ndarray
    changed: np.ndarray
    num_inconsistent: tuple[int, ...]


def make_temporal_corrector(name: str = "arvae_camus", **options: Any) -> "TemporalCorrector":
    """Loads an autoencoder of the zoo whose first dimensions follow the attributes.

    Args:
        name: Its name.
        **options: Of `TemporalCorrector`.

    Returns:
        The corrector.
    """
    return TemporalCorrector(load_shapes(name), **options)


def assumed_spacing(labels: np.ndarray) -> tuple[float, float]:
    """The spacing at which the left ventricle has a typical height, for a recording whose spacing is unknown.

    Args:
        labels: Label maps, ``[t, h, w]``.

    Returns:
        ``(dy, dx)`` in mm, both the same.
    """
    rows = (labels == LV).any(2)
    heights = np.array([np.ptp(np.flatnonzero(row)) + 1 for row in rows if row.any()] or [1])
    spacing = _ASSUMED_HEIGHT / float(np.quantile(heights, 0.9))
    return spacing, spacing


class TemporalCorrector:
    """Brings the attributes of a loop within the limits of temporal consistency.

    The iteration of `cardiojax.correction.iteration` changes the latent codes of the frames until their attributes are
    consistent. The difference of the shapes before and after the change, both decoded, is added to the given outline.
    Its details therefore do not pass through the autoencoder, and a frame whose code is not changed keeps its outline.
    The code of an outlier is interpolated between its neighbours.

    The correction works on the square grid of the segmentation model, so that it compiles once for all recordings.

    Args:
        shapes: The autoencoder.
        anatomical_corrector: Applied to the corrected frames; none if not given.
        size: Height and width of the grid.
        batch_size: Frames a call.
        separate_atrium: Whether myocardium is separated from the atrium in the corrected frames, as in
            `cardiojax.analysis.recording.AnalyzeConfig`.
        config: Parameters of the iteration.
    """

    def __init__(
        self,
        shapes: Shapes,
        *,
        anatomical_corrector: CorrectAnatomy | None = None,
        size: int = 224,
        batch_size: int = 8,
        separate_atrium: bool = True,
        config: TemporalConfig = TemporalConfig(),
    ):
        self._anatomical_corrector, self._config = anatomical_corrector, config
        self._size, self._batch_size, self._separate_atrium = size, batch_size, separate_atrium
        self._variables, self._code_size = shapes.variables, shapes.model.config.latent_size

        def encode(variables, labels):
            return dataclasses.replace(shapes, variables=variables).encode(labels)

        def move(variables, distances, keeps_outline, start, end):
            """As `cardiojax.correction.iteration.Methods` describes it."""
            # the logits of the autoencoder are twice signed distances in its pixels, see `data.shapes.soft_labels`
            first, second = (shapes.model.apply(variables, codes, method="decode") / 2 for codes in (start, end))
            keeps_outline = keeps_outline[:, None, None, None]
            change = keeps_outline * signed_distance.smooth(second - first) + (1 - keeps_outline) * second
            change = signed_distance.resize(change, size, size) * (size / shapes.model.config.size)
            distances = keeps_outline * distances + change
            labels = distances.argmax(-1)
            if separate_atrium:
                labels = anatomy.separate_atrium(labels, max_contact=anatomy.MAX_EXPERT_CONTACT)
            return distances, labels

        self._encode, self._move = (aot.CompiledFunction(f) for f in (encode, move))

    def compile(self, num_frames: int, height: int, width: int) -> None:
        """Begins to compile for a length of loops in the background, so that the first call need not wait as long.

        Args:
            num_frames: Frames of a loop.
            height: Height of its label maps.
            width: Their width.
        """

        def shape(*sizes: int, dtype: DTypeLike = jnp.float32) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(sizes, dtype)

        n, size, num = self._batch_size, self._size, len(ATTRIBUTES)
        labels, maps = shape(n, size, size, dtype=jnp.int32), shape(n, size, size, NUM_CLASSES)
        limits, padded = (shape(num, 2), shape(num)), num_frames + -num_frames % _LENGTH_STEP
        _MEASURE.compile(labels, shape(n, 2))
        self._encode.compile(self._variables, labels)
        _CONSISTENCY.compile(shape(num_frames, num), *limits)
        _PROJECT.compile(shape(padded, num), *limits, shape(padded, dtype=bool))
        _DISTANCES.compile(labels)
        self._move.compile(self._variables, maps, shape(n), *[shape(n, self._code_size)] * 2)
        options = {"height": height, "width": width, "separate_atrium": self._separate_atrium}
        _TO_LABELS.compile(maps, shape(4, dtype=jnp.int32), **options)

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
        result, moved, replaced = once.labels.copy(), once.moved, once.replaced
        num_inconsistent = once.num_inconsistent
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
            num_inconsistent += once.num_inconsistent
        heart = np.maximum(((labels > 0) | (result > 0)).sum((1, 2)), 1)
        changed = (labels != result).sum((1, 2)) / heart
        return TemporalCorrection(labels, result, moved, replaced, changed, num_inconsistent)

    def _correct_once(
        self, labels: np.ndarray, *, spacing: tuple[float, float], frame_time: float | None, box: Box
    ) -> TemporalCorrection:
        """Runs the iteration on the grid of the model, without the anatomical correction; ``changed`` stays zero."""
        num, (top, bottom, left, right) = len(labels), box
        if not num:
            no_frames = np.zeros(0, bool)
            return TemporalCorrection(labels, labels.copy(), no_frames, no_frames, np.zeros(0), ())
        size, inside = self._size, labels[:, top:bottom, left:right]
        small = inside[:, _nearest_index(bottom - top, size)][:, :, _nearest_index(right - left, size)]
        pixel_size = np.array([spacing[0] * (bottom - top) / size, spacing[1] * (right - left) / size], np.float32)
        bounds, thresholds = map(np.asarray, consistency_limits(frame_time))
        methods, has_lv = self._methods(pixel_size, bounds), (small == LV).any((1, 2))
        attributes = np.where(has_lv[:, None], methods.measure(small), np.nan)
        loop = Loop(
            labels=small,
            attributes=attributes,
            codes=methods.encode(small),
            has_lv=has_lv,
            thresholds=thresholds,
            absolute_thresholds=thresholds * (bounds[:, 1] - bounds[:, 0]),
        )
        state = iterate(loop, methods, self._config)
        result, rows = labels.copy(), np.flatnonzero(state.is_moved)
        if len(rows):
            height, width = labels.shape[1:]
            options = {"height": height, "width": width, "separate_atrium": self._separate_atrium}
            edges = np.asarray(box, np.int32)
            moved = self._in_batches(lambda maps: _TO_LABELS(maps, edges, **options))
            result[rows, top:bottom, left:right] = moved(state.distances[rows])[:, top:bottom, left:right]
        return TemporalCorrection(
            labels, result, state.is_moved, state.is_outlier, np.zeros(num), state.num_inconsistent
        )

    def _methods(self, pixel_size: np.ndarray, bounds: np.ndarray) -> Methods:
        """The compiled functions for label maps whose pixels have one size in mm."""
        measure = self._in_batches(_MEASURE)

        def project(series: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
            num = len(series)
            padded = np.pad(np.asarray(series, np.float32), ((0, -num % _LENGTH_STEP), (0, 0)))
            return np.asarray(_PROJECT(padded, bounds, thresholds, np.arange(len(padded)) < num))[:num]

        return Methods(
            encode=self._in_batches(functools.partial(self._encode, self._variables)),
            measure=lambda labels: measure(labels, np.tile(pixel_size, (len(labels), 1))),
            distances=self._in_batches(_DISTANCES),
            move=self._in_batches(functools.partial(self._move, self._variables)),
            consistency=lambda series, thresholds: _CONSISTENCY(np.asarray(series, np.float32), bounds, thresholds),
            project=project,
        )

    def _in_batches(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.partial(map_full_batches, function, batch_size=self._batch_size)


def _attributes(labels: Int[Array, "n h w"], spacing: Float[Array, "n 2"]) -> Float[Array, "n a"]:
    return jnp.stack(anatomy.attributes(labels, spacing, batch_size=4), -1)


def _project(series, bounds, thresholds, valid):
    return temporal.nearest_consistent(series, bounds, thresholds, valid=valid)


#: Functions that are the same for every autoencoder.
_MEASURE, _DISTANCES, _CONSISTENCY, _PROJECT = map(
    aot.CompiledFunction, (_attributes, signed_distance.signed_distances, temporal.consistency, _project)
)
_TO_LABELS = aot.CompiledFunction(signed_distance.to_labels, static_argnames=("height", "width", "separate_atrium"))


def _nearest_index(length: int, size: int) -> np.ndarray:
    """Indices of nearest-neighbour resampling of an axis from ``length`` to ``size`` pixels."""
    return ((np.arange(size) + 0.5) * length / size).astype(int)
