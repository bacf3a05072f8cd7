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


@dataclasses.dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """Numbers of the iteration. A threshold is the largest consistent indicator of an attribute, see `temporal`.

    Those in thresholds were chosen on loops of CAMUS patients and phantoms such that few frames are changed.

    Attributes:
        num_rounds: Largest number of iterations.
        target: Thresholds at which the projection aims: attributes measured on pixels differ from the wanted ones.
        start_below: Thresholds within which a loop is left as it is; below 1, because the criteria of the report are
            evaluated on another grid.
        stop_below: Thresholds within which the iteration ends.
        outlier_median: Thresholds between an attribute and its running median from which a frame is an outlier.
        median_frames: Frames of that median: a fifth of a beat at 50 frames a second.
        outlier_change: Thresholds by which an attribute would have to change, from which a frame is an outlier.
        outlier_pixels: Fraction of the heart's pixels that would have to change, from which a frame is an outlier.
        max_outliers: Fraction of the frames beyond which no more become outliers: too few others are left.
        idle: Thresholds below which a change of attributes is not made.
        step: Change of a dimension of the code for finite differences; its standard deviation is 1.
    """

    num_rounds: int = 16
    target: float = 0.6
    start_below: float = 0.9
    stop_below: float = 0.8
    outlier_median: float = 6.0
    median_frames: int = 9
    outlier_change: float = 3.0
    outlier_pixels: float = 0.18
    max_outliers: float = 0.5
    idle: float = 0.05
    step: float = 0.5


class Methods(NamedTuple):
    """What the iteration calls, for any number ``n`` of frames.

    Attributes:
        encode: Codes ``[n, d]`` of label maps ``[n, s, s]``.
        measure: Attributes ``[n, a]`` of label maps.
        distances: Signed distances ``[n, s, s, k]`` of label maps.
        move: Signed distances and label maps of ``(distances, keep, start, end)``: the outlines changed as the shape of
            code ``start`` changes to that of ``end``, or, where ``keep`` is 0, that shape itself.
        consistency: Indicators over given thresholds of a series ``[t, a]``, and whether they are within them.
        project: The nearest series that is consistent, for given thresholds.
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
        is_drawn: Whether a frame shows a left ventricle, ``[t]``.
        thresholds: Of each attribute, ``[a]``, as a fraction of its range.
        unit: The same in the unit of the attributes, ``[a]``.
    """

    labels: np.ndarray
    attributes: np.ndarray
    codes: np.ndarray
    is_drawn: np.ndarray
    thresholds: np.ndarray
    unit: np.ndarray


class State(NamedTuple):
    """A loop during the iteration.

    Attributes:
        attributes: Attributes of the present shapes, ``[t, a]``.
        shift: Change of each code, ``[t, d]``.
        is_moved: Frames whose shape is changed, ``[t]``.
        is_outlier: Those of them that take a shape between those of their neighbours, ``[t]``.
        drawn: Signed distances of the label maps of moved frames, ``[t, s, s, k]``.
        is_ready: Whether those are computed, ``[t]``.
        distances: Signed distances of the present shapes of moved frames, ``[t, s, s, k]``.
        changed: Fraction of the heart's pixels that differ from the label map, ``[t]``; 0 for outliers.
        inverse: Change of the code for one threshold more of each attribute, ``[a, a]``; None before the first use.
        inconsistent: Inconsistent frames at the start and after each iteration.
    """

    attributes: np.ndarray
    shift: np.ndarray
    is_moved: np.ndarray
    is_outlier: np.ndarray
    drawn: np.ndarray
    is_ready: np.ndarray
    distances: np.ndarray
    changed: np.ndarray
    inverse: np.ndarray | None
    inconsistent: tuple[int, ...]


def iterate(loop: Loop, methods: Methods, config: TemporalConfig = TemporalConfig()) -> State:
    """Runs the iteration.

    Args:
        loop: The loop.
        methods: What is called.
        config: Its numbers.

    Returns:
        The state at the end; nothing is moved if most frames are outliers.
    """
    state = _start(loop, config)
    if not loop.is_drawn.any() or _are_too_many(state.is_outlier, loop, config):
        return state._replace(is_moved=state.is_moved & False, is_outlier=state.is_outlier & False)
    for is_last in [False] * config.num_rounds + [True]:
        state = _render(state, loop, methods)
        rejected = None if is_last else _reject_outliers(state, state.changed > config.outlier_pixels, loop, config)
        if rejected is not None:
            state = rejected
            continue
        limit = config.stop_below if state.inconsistent else config.start_below
        series = state.attributes if state.inconsistent else loop.attributes
        result = methods.consistency(series, limit * loop.thresholds)
        num_inconsistent = int((~np.asarray(result.is_frame_consistent)).sum())
        state = state._replace(inconsistent=(*state.inconsistent, num_inconsistent))
        if not num_inconsistent or is_last:
            break
        wanted = methods.project(state.attributes, config.target * loop.thresholds)
        is_far = (np.abs(wanted - loop.attributes) > config.outlier_change * loop.unit).any(1)
        rejected = _reject_outliers(state, loop.is_drawn & is_far, loop, config)
        if rejected is not None:
            state = rejected
            continue
        if state.inverse is None:
            ratio = np.where(loop.is_drawn & ~state.is_outlier, np.asarray(result.ratio).max(1), np.nan)
            state = state._replace(inverse=_invert_jacobian(int(np.nanargmin(ratio)), loop, methods, config))
        state = _update(state, wanted, loop, config)
    return state


def _start(loop: Loop, config: TemporalConfig) -> State:
    """Marks the frames that are far from the median of their neighbours as outliers."""
    num, size = loop.labels.shape[:2]
    away = np.abs(loop.attributes - _running_median(loop.attributes, config.median_frames))
    is_outlier = loop.is_drawn & (away > config.outlier_median * loop.unit).any(1)
    drawn, distances = np.zeros((2, num, size, size, NUM_CLASSES), np.float32)
    return State(
        attributes=loop.attributes,
        shift=np.zeros_like(loop.codes),
        is_moved=is_outlier.copy(),
        is_outlier=is_outlier,
        drawn=drawn,
        is_ready=np.zeros(num, bool),
        distances=distances,
        changed=np.zeros(num),
        inverse=None,
        inconsistent=(),
    )


def _render(state: State, loop: Loop, methods: Methods) -> State:
    """Draws the moved frames with their shifted codes and measures their attributes."""
    rows = np.flatnonzero(state.is_moved)
    if not len(rows):
        return state
    drawn, is_ready = state.drawn, state.is_ready
    fresh = rows[~(is_ready | state.is_outlier)[rows]]
    if len(fresh):
        drawn, is_ready = drawn.copy(), is_ready.copy()
        drawn[fresh], is_ready[fresh] = methods.distances(loop.labels[fresh]), True
    between = _interpolate(loop.codes, loop.is_drawn & ~state.is_outlier)
    start = np.where(state.is_outlier[:, None], between, loop.codes)
    keep = np.where(state.is_outlier, 0, 1).astype(np.float32)
    distances, attributes, changed = np.zeros_like(state.distances), loop.attributes.copy(), np.zeros(len(keep))
    distances[rows], labels = methods.move(*(x[rows] for x in (drawn, keep, start, start + state.shift)))
    attributes[rows] = methods.measure(labels)
    heart = (loop.labels[rows] > 0).mean((1, 2))
    differs = (labels != loop.labels[rows]).mean((1, 2)) / np.maximum(heart, 1e-6)
    changed[rows] = np.where(keep[rows] > 0, differs, 0)
    return state._replace(drawn=drawn, is_ready=is_ready, distances=distances, attributes=attributes, changed=changed)


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
    return bool(is_outlier.sum() > config.max_outliers * loop.is_drawn.sum())


def _invert_jacobian(frame: int, loop: Loop, methods: Methods, config: TemporalConfig) -> np.ndarray:
    """Pseudoinverse of the change of the attributes along the dimensions of the code, by central differences."""
    num, code = len(loop.unit), loop.codes[frame]
    steps = config.step * np.concatenate([np.eye(num, len(code)), -np.eye(num, len(code))]).astype(np.float32)
    start = np.tile(code, (2 * num, 1))
    distances = np.tile(methods.distances(loop.labels[frame][None]), (2 * num, 1, 1, 1))
    _, shapes = methods.move(distances, np.ones(2 * num, np.float32), start, start + steps)
    up, down = np.split(methods.measure(shapes), 2)
    return np.linalg.pinv(np.nan_to_num((up - down) / (2 * config.step * loop.unit)), rcond=0.02)


def _update(state: State, wanted: np.ndarray, loop: Loop, config: TemporalConfig) -> State:
    """Changes the codes by what brings the attributes to the wanted ones, to first order."""
    step = np.nan_to_num(wanted - state.attributes) * loop.is_drawn[:, None]
    step *= (np.abs(step) / loop.unit).max(1, keepdims=True) > config.idle
    shift = state.shift.copy()
    shift[:, : len(loop.unit)] += (step / loop.unit) @ state.inverse
    return state._replace(shift=shift, is_moved=state.is_moved | (step != 0).any(1))


def _running_median(series: np.ndarray, num_frames: int) -> np.ndarray:
    """Over time; nan only where all of the window is."""
    reach = num_frames // 2
    padded = np.pad(series, ((reach, reach), (0, 0)), mode="edge")
    windows = np.stack([padded[i : i + len(series)] for i in range(num_frames)])
    known = np.isfinite(windows).any(0)
    return np.where(known, np.nanmedian(np.where(known, windows, 0), 0), np.nan)


def _interpolate(series: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What lies on straight lines between the frames that are known."""
    frames, sound = np.arange(len(series)), np.flatnonzero(known)
    return np.stack([np.interp(frames, sound, line[sound]) for line in series.T], 1).astype(series.dtype)
