"""Outlines that beat: the frames of a loop that move unlike a heart, changed as little as it takes."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from cardiojax import anatomy, labels, ops, temporal
from cardiojax.correction.anatomical import Box, CorrectAnatomy, Shapes, load_shapes
from cardiojax.measurement.motion import ATTRIBUTES, Motion, consistency_limits, name_frames
from cardiojax.runtime import aot

_TARGET = 0.6  # of the thresholds, which is aimed at: what is measured on pixels strays from what was asked for
_ENOUGH = (0.9, 0.8)  # of the thresholds, within which a loop is left alone and the rounds end: other grids differ
_GROSS, _WINDOW = 6.0, 9  # thresholds from the median of so many frames, beyond which an outline is given up
_LARGEST, _TORN = 3.0, 0.18  # thresholds, and share of the heart's pixels, beyond which it is given up as well
_MOST = 0.5  # of the frames, beyond which no more are given up: too little is left to hold on to
_PASSES = 3  # of the rounds and the guarantee after them, which may set a frame apart again
_IDLE = 0.05  # thresholds below which a frame is left as it is
_STEP = 0.5  # of an attribute dimension, to see what it does
_REACH = 16  # pixels of the grid, farther than an outline is moved
_USUAL_LENGTH = 80.0  # mm, of the cavity at its longest
_PADDED = 32  # frames, to multiples of which loops are filled up


class TemporalCorrection(NamedTuple):
    """A loop after it.

    Attributes:
        before: The masks that came, int32 ``[t, h, w]``.
        masks: What they became; frames that were not moved are the same to the bit.
        moved: Frames whose attributes were changed, ``[t]``.
        replaced: Those of them whose outlines were given up for a shape between their neighbours', ``[t]``.
        changed: Pixels changed, as a share of those of the heart, ``[t]``.
        rounds: Inconsistent frames at the start and after each round.
    """

    before: np.ndarray
    masks: np.ndarray
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
        The temporal_corrector.
    """
    return TemporalCorrector(load_shapes(name), **options)


def usual_spacing(masks: np.ndarray) -> tuple[float, float]:
    """The spacing in mm at which the heart would be of usual size, for a recording that does not tell its own.

    Args:
        masks: ``[t, h, w]``.

    Returns:
        The same number twice.
    """
    rows = (masks == labels.LV).any(2)
    heights = np.array([np.ptp(np.flatnonzero(row)) + 1 for row in rows if row.any()] or [1])
    spacing = _USUAL_LENGTH / float(np.quantile(heights, 0.9))
    return spacing, spacing


def temporal_correction_messages(
    temporal_correction: TemporalCorrection | None, before: Motion | None, after: Motion
) -> list[str]:
    """Sentences for the reader of a report.

    Args:
        temporal_correction: What became of a loop; no message if not given.
        before: Its numbers before.
        after: Its numbers after.

    Returns:
        None, one or two.
    """
    if temporal_correction is None or before is None:
        return []
    num, left = (int((~motion.is_consistent).sum()) for motion in (before, after))
    moved = f"The outlines of {num} of {len(temporal_correction.masks)} frames moved unlike a heart"
    if not temporal_correction.moved.any():
        return [f"{moved} and were left as they are: too few of the others agree."]
    sentence = (
        f"{moved}; the outlines of {int(temporal_correction.moved.sum())} were changed until {left or 'none'} did, "
        f"by at most {100 * temporal_correction.changed.max():.0f} % of its area "
        "(--no-temporal-correction leaves them)."
    )
    replaced = np.flatnonzero(temporal_correction.replaced)
    if not replaced.size:
        return [sentence]
    return [sentence, f"The outlines of {name_frames(replaced)} were mistakes and now lie between their neighbours'."]


class TemporalCorrector:
    """Brings the attributes of a loop within the limits of what a heart does.

    The nearest consistent attributes are found (`temporal.nearest_consistent`); the autoencoder, in whose latent space
    each attribute has a dimension of its own, tells how an outline changes when it takes them; and that change, a
    difference of two decoded shapes, is added to the outline as it was drawn. The attributes are measured again and the
    rest is done in further rounds. So the details of an outline do not pass through the autoencoder, and a frame that
    need not change does not. An outline so far off that it is a mistake gives way to a shape between its neighbours'.

    All of that happens on the square grid of the segmentation model, so that it compiles once for all recordings.

    Args:
        shapes: The autoencoder.
        anatomical_corrector: Applied to what was changed; none if not given.
        size: Side of the grid.
        batch_size: Frames a call.
        num_rounds: Largest number of rounds.
    """

    def __init__(
        self,
        shapes: Shapes,
        *,
        anatomical_corrector: CorrectAnatomy | None = None,
        size: int = 224,
        batch_size: int = 8,
        num_rounds: int = 16,
    ):
        self._anatomical_corrector, self._size, self._batch_size, self._num_rounds = (
            anatomical_corrector,
            size,
            batch_size,
            num_rounds,
        )
        self._variables, self._code_size = shapes.variables, shapes.model.config.latent_size

        def encode(variables, masks):
            return dataclasses.replace(shapes, variables=variables).encode(masks)

        def move(variables, distances, keep, start, end):
            """Adds to signed distances what a change of the code does to logits, or takes the new shape itself."""
            first, second = (
                shapes.model.apply(variables, codes, method="decode") / 2  # see `data.shapes.soft_labels`
                for codes in (start, end)
            )
            keep = keep[:, None, None, None]
            change = keep * _soften(second - first) + (1 - keep) * second
            distances = keep * distances + _resize(change, size, size) * (size / shapes.model.config.size)
            return distances, _part_at_the_hinges(distances.argmax(-1))

        self._encoding, self._moving = (aot.CompiledFunction(f) for f in (encode, move))
        self._encode = functools.partial(self._encoding, self._variables)
        self._move = functools.partial(self._moving, self._variables)

    def compile(self, num_frames: int, *, box: Box) -> None:
        """Begins to compile for a length of loops in the background, so that the first call need not wait as long.

        Args:
            num_frames: Frames of a loop.
            box: As it will be given with it.
        """

        def shape(*sizes: int, dtype: DTypeLike = jnp.float32) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(sizes, dtype)

        n, side, num = self._batch_size, self._size, len(ATTRIBUTES)
        masks, maps = shape(n, side, side, dtype=jnp.int32), shape(n, side, side, labels.NUM_CLASSES)
        limits, padded = (shape(num, 2), shape(num)), num_frames + -num_frames % _PADDED
        _MEASURE.compile(masks, shape(n, 2))
        self._encoding.compile(self._variables, masks)
        _CONSISTENCY.compile(shape(num_frames, num), *limits)
        _NEAREST.compile(shape(padded, num), *limits, shape(padded, dtype=bool))
        _DISTANCES.compile(masks)
        self._moving.compile(self._variables, maps, shape(n), *[shape(n, self._code_size)] * 2)
        _DRAW.compile(maps, height=box[1] - box[0], width=box[3] - box[2])

    def __call__(
        self, masks: np.ndarray, *, spacing: tuple[float, float], frame_time: float | None, box: Box | None = None
    ) -> TemporalCorrection:
        """Steadies a loop.

        Args:
            masks: Label maps over time, ``[t, h, w]``. Frames without a left ventricle stay as they are.
            spacing: ``(dy, dx)`` in mm.
            frame_time: Seconds from frame to frame, if known.
            box: Part of the image that the model sees as its square; the whole if not given.

        Returns:
            The loop, and what became of it.
        """
        masks = np.asarray(masks, np.int32)
        box = box or (0, masks.shape[1], 0, masks.shape[2])
        found = self._correct_rounds(masks, spacing=spacing, frame_time=frame_time, box=box)
        result, moved, replaced, rounds = found.masks.copy(), found.moved, found.replaced, found.rounds
        for tries_left in range(_PASSES - 1, -1, -1):
            rows = np.flatnonzero(found.moved)
            if self._anatomical_corrector is None or not len(rows):
                break
            corrected = self._anatomical_corrector(result[rows], box=box)
            result[rows] = corrected.masks
            if corrected.plausible.all() or not tries_left:
                break
            found = self._correct_rounds(result, spacing=spacing, frame_time=frame_time, box=box)
            result, moved, replaced = found.masks.copy(), moved | found.moved, replaced | found.replaced
            rounds += found.rounds
        either = np.maximum(((masks > 0) | (result > 0)).sum((1, 2)), 1)
        return TemporalCorrection(masks, result, moved, replaced, (masks != result).sum((1, 2)) / either, rounds)

    def _correct_rounds(
        self, masks: np.ndarray, *, spacing: tuple[float, float], frame_time: float | None, box: Box
    ) -> TemporalCorrection:
        """All rounds, without the guarantee."""
        num, (top, bottom, left, right) = len(masks), box
        nothing = TemporalCorrection(masks, masks.copy(), np.zeros(num, bool), np.zeros(num, bool), np.zeros(num), ())
        if not num:
            return nothing
        size, inside = self._size, masks[:, top:bottom, left:right]
        small = inside[:, _nearest_index(bottom - top, size)][:, :, _nearest_index(right - left, size)]
        pixel = np.array([spacing[0] * (bottom - top) / size, spacing[1] * (right - left) / size], np.float32)
        bounds, thresholds = map(np.asarray, consistency_limits(frame_time))
        span = thresholds * (bounds[:, 1] - bounds[:, 0])

        drawn = (small == labels.LV).any((1, 2))
        given = np.where(drawn[:, None], self._map(_MEASURE, small, np.tile(pixel, (num, 1))), np.nan)
        gross = drawn & (np.abs(given - _running_median(given)) > _GROSS * span).any(1)
        codes = self._map(self._encode, small)
        result, moved, rounds = masks.copy(), gross.copy(), []
        if not drawn.any() or gross.sum() > _MOST * drawn.sum():
            return nothing
        start, shift, now = codes, np.zeros_like(codes), given
        distances, latest = np.zeros((2, num, size, size, labels.NUM_CLASSES), np.float32)
        is_ready, response, heart = np.zeros(num, bool), None, (small > 0).mean((1, 2))
        for tries_left in range(self._num_rounds, -1, -1):
            rows = np.flatnonzero(moved)
            if len(rows):
                fresh = rows[~(is_ready | gross)[rows]]
                if len(fresh):
                    distances[fresh] = self._map(_DISTANCES, small[fresh])
                    is_ready[fresh] = True
                start = np.where(gross[:, None], _between(codes, drawn & ~gross), codes)
                keep = np.where(gross, 0, 1).astype(np.float32)
                now = given.copy()
                latest[rows], new = self._map(self._move, *(x[rows] for x in (distances, keep, start, start + shift)))
                now[rows] = self._map(_MEASURE, new, np.tile(pixel, (len(rows), 1)))
                share = np.where(keep[rows] > 0, (new != small[rows]).mean((1, 2)) / np.maximum(heart[rows], 1e-6), 0)
                torn = rows[share > _TORN]
                if tries_left and len(torn) and gross.sum() + len(torn) <= _MOST * drawn.sum():
                    gross[torn], shift[torn] = True, 0
                    continue
            enough = _ENOUGH[1 if rounds else 0] * thresholds
            found = _CONSISTENCY(np.asarray(now if rounds else given, np.float32), bounds, enough)
            rounds.append(int((~np.asarray(found.is_frame_consistent)).sum()))
            if not rounds[-1] or not tries_left:
                break
            wanted = self._aim(now, bounds, thresholds)
            lost = drawn & ~gross & (np.abs(wanted - given) > _LARGEST * span).any(1)
            if lost.any() and (gross | lost).sum() <= _MOST * drawn.sum():
                gross, moved, shift = gross | lost, moved | lost, np.where(lost[:, None], 0, shift)
                continue
            step = np.nan_to_num(wanted - now) * drawn[:, None]
            step *= (np.abs(step) / span).max(1, keepdims=True) > _IDLE
            if response is None:
                calm = int(np.nanargmin(np.where(drawn & ~gross, np.asarray(found.ratio).max(1), np.nan)))
                response = self._response(small[calm], codes[calm], pixel, span)
            shift[:, : len(span)] += (step / span) @ response
            moved |= (step != 0).any(1)
        rows = np.flatnonzero(moved)
        if len(rows):
            draw = functools.partial(_DRAW, height=bottom - top, width=right - left)
            result[rows, top:bottom, left:right] = self._map(draw, latest[rows])
        return TemporalCorrection(masks, result, moved, gross, np.zeros(num), tuple(rounds))

    def _aim(self, series: np.ndarray, bounds: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """The nearest consistent attributes; loops are filled up to so many frames, to compile seldom."""
        num = len(series)
        padded = np.pad(np.asarray(series, np.float32), ((0, -num % _PADDED), (0, 0)))
        return np.asarray(_NEAREST(padded, bounds, _TARGET * thresholds, np.arange(len(padded)) < num))[:num]

    def _response(self, mask: np.ndarray, code: np.ndarray, pixel: np.ndarray, span: np.ndarray) -> np.ndarray:
        """What to add to the attribute dimensions for one threshold more of each attribute, ``[a, a]``."""
        num = len(span)
        steps = _STEP * np.concatenate([np.eye(num, len(code)), -np.eye(num, len(code))]).astype(np.float32)
        start = np.tile(code, (2 * num, 1))
        distances = np.tile(self._map(_DISTANCES, mask[None]), (2 * num, 1, 1, 1))
        _, shapes = self._map(self._move, distances, np.ones(2 * num, np.float32), start, start + steps)
        up, down = np.split(self._map(_MEASURE, shapes, np.tile(pixel, (2 * num, 1))), 2)
        return np.linalg.pinv(np.nan_to_num((up - down) / (2 * _STEP * span)), rcond=0.02)

    def _map(self, function: Any, *arrays: np.ndarray) -> Any:
        """Applies a compiled function to all frames, always as many at a time."""
        parts = []
        for first in range(0, len(arrays[0]), self._batch_size):
            part = [a[first : first + self._batch_size] for a in arrays]
            block = [a[np.resize(np.arange(len(a)), self._batch_size)] for a in part]
            parts.append(jax.tree.map(lambda v, n=len(part[0]): np.asarray(v)[:n], function(*block)))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _attributes(masks: Int[Array, "n h w"], spacing: Float[Array, "n 2"]) -> Float[Array, "n a"]:
    return jnp.stack(anatomy.attributes(masks, spacing, batch_size=4), -1)


def _soften(maps: Float[Array, "n h w k"]) -> Float[Array, "n h w k"]:
    """A narrow Gaussian, without which a coarser grid shows as ripples of the outline."""
    for axis in (1, 2, 1, 2):
        size, padding = maps.shape[axis], [(0, 0)] * 4
        padding[axis] = (1, 1)
        before, here, after = (
            jax.lax.slice_in_dim(jnp.pad(maps, padding, mode="edge"), i, i + size, axis=axis) for i in range(3)
        )
        maps = (before + 2 * here + after) / 4
    return maps


def _signed_distances(masks: Int[Array, "n h w"]) -> Float[Array, "n h w k"]:
    """Distance in pixels to the border of each class, positive inside, up to `_REACH`; steps of pixels are rounded."""
    inside = masks[:, None] == jnp.arange(labels.NUM_CLASSES)[:, None, None]
    points = jnp.stack([~inside, inside])
    height, width = masks.shape[1:]
    rows = jnp.arange(height, dtype=jnp.int16)[:, None]  # small numbers are quick
    above = jax.lax.cummax(jnp.where(points, rows, -_REACH), axis=3)
    below = jax.lax.cummin(jnp.where(points, rows, height + _REACH), axis=3, reverse=True)
    column = jnp.square(jnp.minimum(jnp.minimum(rows - above, below - rows), _REACH))
    padded = jnp.pad(column, [(0, 0)] * 4 + [(_REACH, _REACH)], constant_values=_REACH**2)

    def look_aside(step, squared):
        left, right = (jax.lax.dynamic_slice_in_dim(padded, _REACH + s, width, axis=-1) for s in (-step, step))
        return jnp.minimum(squared, jnp.minimum(left, right) + jnp.square(step).astype(jnp.int16))

    to_outside, to_class = jnp.sqrt(jax.lax.fori_loop(1, _REACH, look_aside, column).astype(jnp.float32))
    return _soften(jnp.moveaxis(jnp.where(inside, to_outside - 0.5, 0.5 - to_class), 1, -1))


def _draw(distances: Float[Array, "n h w k"], height: int, width: int) -> Int[Array, "n height width"]:
    return _part_at_the_hinges(_resize(distances, height, width).argmax(-1))


def _part_at_the_hinges(masks: Int[Array, "n h w"]) -> Int[Array, "n h w"]:
    """Wall and atrium meet where the valve hangs, and no farther out: there a line of background parts them."""
    touching = ops.dilate(masks == labels.LEFT_ATRIUM) & ~ops.dilate(masks == labels.LV)
    return jnp.where((masks == labels.MYOCARDIUM) & touching, labels.BACKGROUND, masks)


def _resize(maps: Float[Array, "n h w k"], height: int, width: int) -> Float[Array, "n height width k"]:
    return jax.image.resize(maps, (len(maps), height, width, maps.shape[-1]), "linear")


def _aimed_at(series, bounds, thresholds, valid):
    return temporal.nearest_consistent(series, bounds, thresholds, valid=valid)


#: The parts that are the same for every autoencoder.
_MEASURE, _DISTANCES, _CONSISTENCY, _NEAREST = map(
    aot.CompiledFunction, (_attributes, _signed_distances, temporal.consistency, _aimed_at)
)
_DRAW = aot.CompiledFunction(_draw, static_argnames=("height", "width"))


def _nearest_index(length: int, size: int) -> np.ndarray:
    return ((np.arange(size) + 0.5) * length / size).astype(int)


def _running_median(series: np.ndarray) -> np.ndarray:
    """Over time; nan only where all of the window is."""
    reach = _WINDOW // 2
    padded = np.pad(series, ((reach, reach), (0, 0)), mode="edge")
    windows = np.stack([padded[i : i + len(series)] for i in range(_WINDOW)])
    known = np.isfinite(windows).any(0)
    return np.where(known, np.nanmedian(np.where(known, windows, 0), 0), np.nan)


def _between(series: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What lies on straight lines between the frames that are known."""
    frames, sound = np.arange(len(series)), np.flatnonzero(known)
    return np.stack([np.interp(frames, sound, line[sound]) for line in series.T], 1).astype(series.dtype)
