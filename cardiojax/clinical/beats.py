"""Beats of a loop from the area of the cavity: end-diastole and end-systole of each, and the heart rate."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cardiojax import ops
from cardiojax.clinical._shapes import require_same_shape
from cardiojax.clinical.limits import HEART_RATE_RANGE
from cardiojax.clinical.phases import smooth_curve

#: Share of the curve's range that an extreme must reach, and by which it must stand out. Below a prominence of a
#: quarter, noise of a tenth of the range makes end-diastoles of the plateau in mid-diastole.
_MIN_HEIGHT, _MIN_PROMINENCE = 0.5, 0.25
#: Share of the range that an extreme must reach if the loop ends before the curve has turned: there the true extreme
#: may lie outside the loop, at most a tenth of the range away.
_MIN_HEIGHT_AT_END = 0.9
#: Seconds between end-diastoles: a fifth less than at the highest heart rate, because beats differ in length. Frames
#: between them if the frame time is unknown.
_MIN_BEAT = 0.8 * 60 / HEART_RATE_RANGE[1]
_MIN_BEAT_FRAMES = 20


class Beats(NamedTuple):
    """Beats in the order of time; each begins with an end-diastole. Frames are 0 where they are not valid.

    Attributes:
        end_diastole: Frame of end-diastole, ``[*b, k]``.
        end_systole: Frame of the end-systole that follows in the same beat, ``[*b, k]``.
        next_end_diastole: Frame of the end-diastole with which the next beat begins, ``[*b, k]``, if ``is_whole``.
        valid: Whether the loop holds the end-diastole and the end-systole of this beat, ``[*b, k]``.
        is_whole: Whether it also holds the next end-diastole, ``[*b, k]``.
        num_beats: Valid beats, ``[*b]``.
        period: Mean time between interior end-systoles, or end-diastoles where there are fewer than two of the former,
            in frames, ``[*b]``; nan where there are fewer than two of either.
    """

    end_diastole: Int[Array, "*b k"]
    end_systole: Int[Array, "*b k"]
    next_end_diastole: Int[Array, "*b k"]
    valid: Bool[Array, "*b k"]
    is_whole: Bool[Array, "*b k"]
    num_beats: Int[Array, "*b"]
    period: Float[Array, "*b"]


class BeatSummary(NamedTuple):
    """One number measured on every beat of a loop; nan where no beat has it.

    Attributes:
        median: Over the beats, ``[*b]``.
        low: Smallest, ``[*b]``.
        high: Largest, ``[*b]``.
        nearest: The beat whose value is nearest to the median, the first among equals, ``[*b]``; the first valid beat
            where none has a value.
        num_measured: Valid beats with a finite value, ``[*b]``.
    """

    median: Float[Array, "*b"]
    low: Float[Array, "*b"]
    high: Float[Array, "*b"]
    nearest: Int[Array, "*b"]
    num_measured: Int[Array, "*b"]


class _Extremes(NamedTuple):
    is_kept: Bool[Array, " t"]
    is_interior: Bool[Array, " t"]  # the curve rises to it and falls from it within the loop


def detect_beats(area: Float[Array, "*b t"], *, min_distance: int | Int[Array, ""] | None = None) -> Beats:
    """Finds end-diastoles, and the end-systole between each and the next.

    Extremes are those of the smoothed curve. A maximum is an end-diastole if it reaches half of the curve's range and
    stands out by a quarter of it on both sides. Where the loop begins or ends before the curve has turned, the
    outermost maximum counts only above 90 % of the range: a loop that begins in mid-systole does not begin with
    end-diastole. Of maxima nearer to each other than ``min_distance`` the higher is kept. End-systole is the smallest
    cavity up to the next end-diastole; in the last beat it has to be a minimum by the same rules.

    There is room for ``k = (t + 1) // 2`` beats, as many as a loop can have. Memory: about ``4 t^2`` bytes a curve.

    Args:
        area: Area of the cavity in each frame, in any unit; nan or 0 where it is missing.
        min_distance: Frames between end-diastoles, at least 1; those of `min_beat_distance` without a frame time if not
            given. An array shares one trace among frame rates; below 1 it counts as 1.

    Returns:
        The beats.

    Raises:
        ValueError: If the distance is not positive.

    References:
        Peaks and their limits follow the cycle clipping of the CARDINAL sequences: Ling et al., FIMH 2023.

    Example:
        >>> time = jnp.arange(70)
        >>> beats = detect_beats(100 + 30 * jnp.cos(2 * jnp.pi * time / 30))
        >>> beats.end_diastole[:2].tolist(), beats.end_systole[:2].tolist(), round(float(beats.period), 3)
        ([0, 30], [15, 45], 30.0)
    """
    num_frames = area.shape[-1]
    distance = min_beat_distance(num_frames) if min_distance is None else min_distance
    if isinstance(distance, int) and distance < 1:
        raise ValueError(f"min_distance must be at least 1, got {distance}")
    return _detect(area, jnp.maximum(distance, 1))


def min_beat_distance(num_frames: int, *, frame_time: float | None = None) -> int:
    """Fewest frames between two end-diastoles.

    Args:
        num_frames: Length of the loop.
        frame_time: Seconds from frame to frame, if known.

    Returns:
        Frames in 0.27 s, or without a frame time the smaller of 20 and half the loop.

    Example:
        >>> min_beat_distance(90, frame_time=1 / 30), min_beat_distance(30)
        (8, 15)
    """
    if frame_time:
        return max(1, round(_MIN_BEAT / frame_time))
    return min(_MIN_BEAT_FRAMES, max(num_frames // 2, 1))


def heart_rate(beats: Beats, frame_time: float | Float[Array, "*#b"]) -> Float[Array, "*b"]:
    """Heart rate from the period of the beats.

    Args:
        beats: The result of `detect_beats`.
        frame_time: Seconds from frame to frame.

    Returns:
        Beats a minute, ``[*b]``; nan without a period.

    Example:
        >>> beats = detect_beats(100 + 30 * jnp.cos(2 * jnp.pi * jnp.arange(61) / 30))
        >>> round(float(heart_rate(beats, 1 / 30)))
        60
    """
    seconds = beats.period * frame_time
    positive = seconds > 0
    return jnp.where(positive, 60 / jnp.where(positive, seconds, 1.0), jnp.nan)


def summarize_beats(values: Float[Array, "*b k"], beats: Beats) -> BeatSummary:
    """Median and range of a number over the beats of a loop, and the beat that represents them.

    Args:
        values: The number of each beat; nan where it cannot be measured.
        beats: The beats.

    Returns:
        The summary.

    Raises:
        ValueError: If there is not one value for each beat.

    Example:
        >>> beats = detect_beats(100 + 30 * jnp.cos(2 * jnp.pi * jnp.arange(100) / 30))
        >>> values = jnp.zeros(50).at[:3].set(jnp.array([55.0, 61.0, 58.0]))
        >>> summary = summarize_beats(values, beats)
        >>> float(summary.median), float(summary.low), float(summary.high), int(summary.nearest)
        (58.0, 55.0, 61.0, 2)
    """
    require_same_shape(values=values, beats=beats.valid)
    is_measured = beats.valid & jnp.isfinite(values)
    num = is_measured.sum(-1)
    ordered = jnp.sort(jnp.where(is_measured, values, jnp.inf), axis=-1)

    def at(rank):
        value = jnp.take_along_axis(ordered, jnp.maximum(rank, 0)[..., None], axis=-1)[..., 0]
        return jnp.where(num > 0, value, jnp.nan)

    median = (at((num - 1) // 2) + at(num // 2)) / 2
    away = jnp.where(is_measured, jnp.abs(values - median[..., None]), jnp.inf)
    nearest = jnp.where(num > 0, jnp.argmin(away, axis=-1), jnp.argmax(beats.valid, axis=-1))
    return BeatSummary(median, at(jnp.zeros_like(num)), at(num - 1), nearest, num)


@ops.jitted()
@ops.on_each_device(1, None)
def _detect(area: Float[Array, "*b t"], distance: Int[Array, ""]) -> Beats:
    present = area > 0
    curve = smooth_curve(ops.fill_missing(jnp.nan_to_num(area), present))
    find = jnp.vectorize(lambda c, p: tuple(_beats(c, p, distance)), signature="(t),(t)->(k),(k),(k),(k),(k),(),()")
    return Beats(*find(curve, present))


def _beats(curve: Float[Array, " t"], present: Bool[Array, " t"], distance: Int[Array, ""]) -> Beats:
    """The beats of one loop."""
    size = curve.shape[0]
    time = jnp.arange(size)
    both = jnp.stack([curve, -curve])
    extremes = jax.vmap(lambda c: _extremes(c, distance))(both)
    is_end_diastole, is_end_systole = extremes.is_kept
    start = jnp.sort(jnp.where(is_end_diastole, time, size))[: (size + 1) // 2]
    following = jnp.append(start[1:], size)
    within = (time >= start[:, None]) & (time < following[:, None])
    is_whole = following < size
    valid = is_whole | (within & is_end_systole).any(-1)
    # a frame without a cavity cannot be measured: its nearest neighbour stands for it
    end_diastole = jnp.argmin(jnp.abs(time - start[:, None]) + size * ~present, axis=-1)
    end_systole = jnp.argmin(jnp.where(within & present, curve, jnp.inf), axis=-1)
    next_end_diastole = jnp.append(end_diastole[1:], 0)

    by_diastole, by_systole = jax.vmap(_period)(both, extremes.is_interior)
    return Beats(
        jnp.where(valid, end_diastole, 0),
        jnp.where(valid, end_systole, 0),
        jnp.where(is_whole, next_end_diastole, 0),
        valid,
        is_whole,
        valid.sum(),
        jnp.where(jnp.isnan(by_systole), by_diastole, by_systole),
    )


def _period(curve: Float[Array, " t"], is_maximum: Bool[Array, " t"]) -> Float[Array, ""]:
    """Mean distance between maxima, each the vertex of the parabola through it and its neighbours."""
    before, after = jnp.append(curve[:1], curve[:-1]), jnp.append(curve[1:], curve[-1:])
    bend = before - 2 * curve + after
    shift = jnp.where(bend < 0, (before - after) / (2 * jnp.where(bend < 0, bend, 1.0)), 0.0)
    place = jnp.arange(curve.shape[0]) + jnp.clip(shift, -0.5, 0.5)
    first = jnp.min(jnp.where(is_maximum, place, jnp.inf))
    last = jnp.max(jnp.where(is_maximum, place, -jnp.inf))
    num_periods = is_maximum.sum() - 1
    return jnp.where(num_periods > 0, (last - first) / jnp.maximum(num_periods, 1), jnp.nan)


def _extremes(curve: Float[Array, " t"], distance: Int[Array, ""]) -> _Extremes:
    """Maxima of one curve; none if it is flat or nan."""
    low = jnp.min(curve)
    span = jnp.max(curve) - low
    is_maximum = _local_maxima(jnp.pad(curve, 1, constant_values=-jnp.inf))[1:-1]  # the ends may be maxima too
    left, right = _rises(curve)
    least = _MIN_PROMINENCE * span
    is_interior = is_maximum & (curve >= low + _MIN_HEIGHT * span) & (left.rise >= least) & (right.rise >= least)
    # no rise is required on the side of an end of the loop, beyond which nothing is known
    is_outermost = (left.is_highest & (right.rise >= least)) | (right.is_highest & (left.rise >= least))
    is_at_end = is_maximum & (curve >= low + _MIN_HEIGHT_AT_END * span) & is_outermost
    kept = _keep_distant((is_interior | is_at_end) & (span > 0), curve, distance)
    return _Extremes(kept, kept & is_interior)


def _local_maxima(curve: Float[Array, " t"]) -> Bool[Array, " t"]:
    """The middle of each plateau that falls on both sides; the ends are no maxima."""
    size = curve.shape[0]
    time = jnp.arange(size)
    change = jnp.diff(curve)
    rises = jnp.concatenate([jnp.zeros(1, bool), change > 0])
    leaves = jnp.where(jnp.append(change != 0, False), time, size - 1)
    end = jax.lax.cummin(leaves, reverse=True)  # last frame of the plateau
    falls = jnp.append(change < 0, False)[end]
    return jnp.zeros(size, bool).at[(time + end) // 2].max(rises & falls)


def _keep_distant(peaks: Bool[Array, " t"], curve: Float[Array, " t"], distance: Int[Array, ""]) -> Bool[Array, " t"]:
    """Keeps the highest peak, drops those nearer to it than the distance, and so on."""
    time = jnp.arange(curve.shape[0])

    def is_left(state):
        return state[1].any()

    def keep_highest(state):
        kept, left = state
        best = jnp.argmax(jnp.where(left, curve, -jnp.inf))
        return kept.at[best].set(True), left & (jnp.abs(time - best) >= distance)

    return jax.lax.while_loop(is_left, keep_highest, (jnp.zeros_like(peaks), peaks))[0]


class _Rise(NamedTuple):
    rise: Float[Array, " t"]  # from the lowest value between this frame and the nearest higher one
    is_highest: Bool[Array, " t"]  # whether no frame on this side is higher


def _rises(curve: Float[Array, " t"]) -> tuple[_Rise, _Rise]:
    """How far the curve rises to each frame on the left and on the right: its topographic prominence on each side."""
    size = curve.shape[0]
    time = jnp.arange(size)
    is_higher = curve > curve[:, None]
    is_left = time < time[:, None]
    previous_higher = jnp.where(is_higher & is_left, time, -1).max(-1)
    next_higher = jnp.where(is_higher & (time > time[:, None]), time, size).min(-1)

    def lowest(reachable):
        return jnp.min(jnp.where(reachable, curve, jnp.inf), axis=-1)

    on_left = (time <= time[:, None]) & (time > previous_higher[:, None])
    on_right = ~is_left & (time < next_higher[:, None])
    return _Rise(curve - lowest(on_left), previous_higher < 0), _Rise(curve - lowest(on_right), next_higher == size)
