"""The nearest temporally consistent attributes of a loop, reached by a Gauss-Newton iteration on latent codes.

Let ``a(z)`` be the attributes (areas, lengths, positions) of the shape that an autoencoder decodes from a code ``z``.
A frame with the code ``z`` and the attributes ``a`` shall take the attributes ``b`` of the nearest consistent series.
Each iteration changes its code by ``J^+ (b - a)``, where ``J`` holds finite differences of ``a`` along the dimensions
of the code that the autoencoder ties to the attributes, measures the attributes of the new shape and projects again.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cardiojax.labels import NUM_CLASSES

#: Singular values of the Jacobian below this fraction of the largest count as zero: a change of the code in their
#: directions hardly changes the attributes.
_MIN_SINGULAR_VALUE = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """Parameters of the iteration.

    Limits are multiples of the thresholds of temporal consistency, see `cardiojax.temporal.Limits`. They were chosen on
    loops of CAMUS patients and phantoms such that few frames are changed.

    Attributes:
        max_iterations: Largest number of iterations.
        target_limit: Limit to which the attributes are projected. It is below ``stop_limit``, because attributes that
            are measured on pixels differ from the projected ones.
        start_limit: Limit within which a loop is left as it is; below 1, because the report measures consistency on
            another grid.
        stop_limit: Limit within which the iteration ends.
        outlier_median: Difference between an attribute and its running median, in thresholds, from which on a frame is
            an outlier.
        median_frames: Window of that median in frames: a fifth of a beat at 50 frames a second.
        outlier_change: Change of an attribute by the projection, in thresholds, from which on a frame is an outlier.
        outlier_pixels: Changed pixels, as a fraction of those of the heart, from which on a frame is an outlier.
        max_outliers: Largest fraction of the frames that may be outliers, since the others have to determine them.
        min_change: Changes of all attributes of a frame below this, in thresholds, are not made.
        step: Change of a dimension of the code for finite differences; its standard deviation is 1.
    """

    max_iterations: int = 16
    target_limit: float = 0.6
    start_limit: float = 0.9
    stop_limit: float = 0.8
    outlier_median: float = 6.0
    median_frames: int = 9
    outlier_change: float = 3.0
    outlier_pixels: float = 0.18
    max_outliers: float = 0.5
    min_change: float = 0.05
    step: float = 0.5


class Methods(NamedTuple):
    """Functions that the iteration calls, for any number ``n`` of frames.

    Attributes:
        encode: Codes ``[n, d]`` of label maps ``[n, s, s]``.
        measure: Attributes ``[n, a]`` of label maps.
        distances: Signed distances ``[n, s, s, k]`` of label maps.
        move: Signed distances and label maps of ``(distances, keeps_outline, start, end)``. Where ``keeps_outline`` is
            1, the outlines of ``distances`` change as the shape of code ``start`` changes to that of code ``end``;
            where it is 0, the result is the shape of code ``end``.
        consistency: `cardiojax.temporal.consistency` of a series ``[t, a]`` for given thresholds.
        project: The nearest series that is consistent for given thresholds.
    """

    encode: Callable[[np.ndarray], np.ndarray]
    measure: Callable[[np.ndarray], np.ndarray]
    distances: Callable[[np.ndarray], np.ndarray]
    move: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    consistency: Callable[[np.ndarray, np.ndarray], Any]
    project: Callable[[np.ndarray, np.ndarray], np.ndarray]


class Loop(NamedTuple):
    """A loop before the correction.

    Attributes:
        labels: Label maps, ``[t, s, s]``.
        attributes: Their attributes, ``[t, a]``; nan without a left ventricle.
        codes: Their codes, ``[t, d]``.
        has_lv: Whether a frame shows a left ventricle, ``[t]``.
        thresholds: Threshold of each attribute as a fraction of its range, ``[a]``.
        absolute_thresholds: The same in the unit of the attribute, ``[a]``.
    """

    labels: np.ndarray
    attributes: np.ndarray
    codes: np.ndarray
    has_lv: np.ndarray
    thresholds: np.ndarray
    absolute_thresholds: np.ndarray


class State(NamedTuple):
    """A loop during the iteration.

    Attributes:
        attributes: Attributes of the current shapes, ``[t, a]``.
        shift: Change of each code, ``[t, d]``.
        is_moved: Frames whose shape is changed, ``[t]``.
        is_outlier: Those of them whose code is interpolated between their neighbours, ``[t]``.
        initial_distances: Signed distances of the label maps before the correction, ``[t, s, s, k]``.
        has_initial_distances: Whether those of a frame are computed: only moved frames need them, ``[t]``.
        distances: Signed distances of the current shapes of moved frames, ``[t, s, s, k]``.
        changed: Pixels that differ from the label map, as a fraction of those of the heart, ``[t]``; 0 for outliers.
        inverse: Change of the code for one threshold more of each attribute, ``[a, a]``; None before the first use.
        num_inconsistent: Number of inconsistent frames at the start and after each iteration.
    """

    attributes: np.ndarray
    shift: np.ndarray
    is_moved: np.ndarray
    is_outlier: np.ndarray
    initial_distances: np.ndarray
    has_initial_distances: np.ndarray
    distances: np.ndarray
    changed: np.ndarray
    inverse: np.ndarray | None
    num_inconsistent: tuple[int, ...]


def iterate(loop: Loop, methods: Methods, config: TemporalConfig = TemporalConfig()) -> State:
    """Changes the codes of the frames until the attributes of the loop are consistent.

    Args:
        loop: The loop.
        methods: The functions that are called.
        config: Parameters.

    Returns:
        The state at the end; no frame is moved if most are outliers.
    """
    state = _start(loop, config)
    if not loop.has_lv.any() or _are_too_many(state.is_outlier, loop, config):
        return state._replace(is_moved=state.is_moved & False, is_outlier=state.is_outlier & False)
    for is_last in [False] * config.max_iterations + [True]:
        state = _render(state, loop, methods)
        rejected = None if is_last else _reject_outliers(state, state.changed > config.outlier_pixels, loop, config)
        if rejected is not None:
            state = rejected
            continue
        limit = config.stop_limit if state.num_inconsistent else config.start_limit
        series = state.attributes if state.num_inconsistent else loop.attributes
        result = methods.consistency(series, limit * loop.thresholds)
        num_inconsistent = int((~np.asarray(result.is_frame_consistent)).sum())
        state = state._replace(num_inconsistent=(*state.num_inconsistent, num_inconsistent))
        if not num_inconsistent or is_last:
            break
        wanted = methods.project(state.attributes, config.target_limit * loop.thresholds)
        is_far = (np.abs(wanted - loop.attributes) > config.outlier_change * loop.absolute_thresholds).any(1)
        rejected = _reject_outliers(state, loop.has_lv & is_far, loop, config)
        if rejected is not None:
            state = rejected
            continue
        if state.inverse is None:
            frame = _reference_frame(result, loop, state.is_outlier)
            state = state._replace(inverse=_invert_jacobian(frame, loop, methods, config))
        state = _update(state, wanted, loop, config)
    return state


def _start(loop: Loop, config: TemporalConfig) -> State:
    """Marks the frames that are far from the median of their neighbours as outliers."""
    num, size = loop.labels.shape[:2]
    away = np.abs(loop.attributes - _running_median(loop.attributes, config.median_frames))
    is_outlier = loop.has_lv & (away > config.outlier_median * loop.absolute_thresholds).any(1)
    initial, distances = np.zeros((2, num, size, size, NUM_CLASSES), np.float32)
    return State(
        attributes=loop.attributes,
        shift=np.zeros_like(loop.codes),
        is_moved=is_outlier.copy(),
        is_outlier=is_outlier,
        initial_distances=initial,
        has_initial_distances=np.zeros(num, bool),
        distances=distances,
        changed=np.zeros(num),
        inverse=None,
        num_inconsistent=(),
    )


def _render(state: State, loop: Loop, methods: Methods) -> State:
    """Computes the shapes of the moved frames from their codes, and the attributes of these shapes."""
    rows = np.flatnonzero(state.is_moved)
    if not len(rows):
        return state
    initial, has_initial = state.initial_distances, state.has_initial_distances
    new = rows[~(has_initial | state.is_outlier)[rows]]
    if len(new):
        initial, has_initial = initial.copy(), has_initial.copy()
        initial[new], has_initial[new] = methods.distances(loop.labels[new]), True
    interpolated = _interpolate(loop.codes, loop.has_lv & ~state.is_outlier)
    start = np.where(state.is_outlier[:, None], interpolated, loop.codes)
    keeps_outline = np.where(state.is_outlier, 0, 1).astype(np.float32)
    distances, attributes, changed = np.zeros_like(state.distances), loop.attributes.copy(), np.zeros(len(start))
    distances[rows], labels = methods.move(*(x[rows] for x in (initial, keeps_outline, start, start + state.shift)))
    attributes[rows] = methods.measure(labels)
    heart = (loop.labels[rows] > 0).mean((1, 2))
    differs = (labels != loop.labels[rows]).mean((1, 2)) / np.maximum(heart, 1e-6)
    changed[rows] = np.where(state.is_outlier[rows], 0, differs)
    return state._replace(
        initial_distances=initial,
        has_initial_distances=has_initial,
        distances=distances,
        attributes=attributes,
        changed=changed,
    )


def _reject_outliers(state: State, rejected: np.ndarray, loop: Loop, config: TemporalConfig) -> State | None:
    """Makes frames outliers; None if there are no new ones, or if they would leave too few others."""
    rejected = rejected & ~state.is_outlier
    if not rejected.any() or _are_too_many(state.is_outlier | rejected, loop, config):
        return None
    return state._replace(
        is_outlier=state.is_outlier | rejected,
        is_moved=state.is_moved | rejected,
        shift=np.where(rejected[:, None], 0, state.shift),
    )


def _are_too_many(is_outlier: np.ndarray, loop: Loop, config: TemporalConfig) -> bool:
    return bool(is_outlier.sum() > config.max_outliers * loop.has_lv.sum())


def _reference_frame(result: Any, loop: Loop, is_outlier: np.ndarray) -> int:
    """The most consistent frame of those with the most attributes; the ends have no neighbour to compare with."""
    num_measured = np.asarray(result.is_measured).sum(1)
    num_measured[[0, -1]] = 0
    num_known = np.isfinite(loop.attributes).sum(1)
    is_excluded = ~loop.has_lv | is_outlier
    return int(np.lexsort((np.asarray(result.ratio).max(1), -num_known, -num_measured, is_excluded))[0])


def _invert_jacobian(frame: int, loop: Loop, methods: Methods, config: TemporalConfig) -> np.ndarray:
    """Pseudoinverse of the change of the attributes along the dimensions of the code, by central differences."""
    num, code = len(loop.absolute_thresholds), loop.codes[frame]
    steps = config.step * np.concatenate([np.eye(num, len(code)), -np.eye(num, len(code))]).astype(np.float32)
    start = np.tile(code, (2 * num, 1))
    distances = np.tile(methods.distances(loop.labels[frame][None]), (2 * num, 1, 1, 1))
    _, shapes = methods.move(distances, np.ones(2 * num, np.float32), start, start + steps)
    up, down = np.split(methods.measure(shapes), 2)
    jacobian = (up - down) / (2 * config.step * loop.absolute_thresholds)
    return np.linalg.pinv(np.nan_to_num(jacobian), rcond=_MIN_SINGULAR_VALUE)


def _update(state: State, wanted: np.ndarray, loop: Loop, config: TemporalConfig) -> State:
    """Changes the codes such that the attributes take the wanted values, to first order."""
    step = np.nan_to_num(wanted - state.attributes) * loop.has_lv[:, None]
    step *= (np.abs(step) / loop.absolute_thresholds).max(1, keepdims=True) > config.min_change
    shift = state.shift.copy()
    shift[:, : len(loop.absolute_thresholds)] += (step / loop.absolute_thresholds) @ state.inverse
    return state._replace(shift=shift, is_moved=state.is_moved | (step != 0).any(1))


def _running_median(series: np.ndarray, num_frames: int) -> np.ndarray:
    """Median over a window of frames; nan where the whole window is nan."""
    reach = num_frames // 2
    padded = np.pad(series, ((reach, reach), (0, 0)), mode="edge")
    windows = np.stack([padded[i : i + len(series)] for i in range(num_frames)])
    known = np.isfinite(windows).any(0)
    return np.where(known, np.nanmedian(np.where(known, windows, 0), 0), np.nan)


def _interpolate(series: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Interpolates linearly over time between the known frames."""
    frames, known_frames = np.arange(len(series)), np.flatnonzero(is_known)
    return np.stack([np.interp(frames, known_frames, line[known_frames]) for line in series.T], 1).astype(series.dtype)
