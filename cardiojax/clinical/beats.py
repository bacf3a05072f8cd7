"""Beats in a loop: end-diastoles as peaks of the cavity's area, the best whole cycle, the heart rate."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cardiojax import ops
from cardiojax.clinical.phases import smooth_curve

_MIN_HEIGHT, _MIN_PROMINENCE = 0.5, 0.15  # shares of the curve's range
_MAX_DISTANCE = 20  # frames


class Beats(NamedTuple):
    """What was found; frames and the period mean nothing where ``valid`` is false.

    Attributes:
        is_end_diastole: Frames of end-diastole, ``[*b, t]``.
        num_beats: Whole cycles between the first and the last of them, ``[*b]``.
        start: End-diastole with which the most regular cycle begins, ``[*b]``.
        end: End-diastole with which it ends; the cycle may be cut out with both frames, ``[*b]``.
        end_systole: Frame of the smallest cavity in between, ``[*b]``.
        period: Mean time between end-diastoles in frames, ``[*b]``.
        valid: Whether there is at least one whole cycle, ``[*b]``.
    """

    is_end_diastole: Bool[Array, "*b t"]
    num_beats: Int[Array, "*b"]
    start: Int[Array, "*b"]
    end: Int[Array, "*b"]
    end_systole: Int[Array, "*b"]
    period: Float[Array, "*b"]
    valid: Bool[Array, "*b"]


def detect_beats(area: Float[Array, "*b t"], *, min_distance: int | None = None) -> Beats:
    """Finds end-diastoles and the cycle whose two ends are most alike.

    Peaks of the smoothed curve count that reach half its range, stand out by 15 % of it and lie ``min_distance`` apart,
    the higher ones first. The curve is mirrored at its ends, a little lower, so that a loop may begin and end with
    end-diastole.

    Memory: ``t x t`` for each curve.

    Args:
        area: Area of the cavity in each frame, in any unit; nan or 0 where it is missing.
        min_distance: Frames between end-diastoles; the smaller of 20 and half the loop if not given, which at 50
            frames/s is a heart rate of 150. Give it for another frame rate.

    Returns:
        The beats.

    Raises:
        ValueError: If the distance is not positive.

    References:
        The cycle clipping of the CARDINAL sequences: Ling et al., FIMH 2023.

    Example:
        >>> time = jnp.arange(70)
        >>> beats = detect_beats(100 + 30 * jnp.cos(2 * jnp.pi * time / 30))
        >>> int(beats.num_beats), int(beats.end_systole - beats.start), float(beats.period)
        (2, 15, 30.0)
    """
    num_frames = area.shape[-1]
    distance = min(_MAX_DISTANCE, max(num_frames // 2, 1)) if min_distance is None else min_distance
    if distance < 1:
        raise ValueError(f"min_distance must be at least 1, got {distance}")
    present = area > 0
    curve = smooth_curve(ops.fill_missing(jnp.nan_to_num(area), present))
    find = jnp.vectorize(lambda x: _end_diastoles(x, distance), signature="(t)->(t)")
    peaks = find(curve)

    time = jnp.arange(num_frames)
    axis = peaks.ndim - 1
    num_peaks = peaks.sum(-1)
    following = jax.lax.cummin(jnp.where(peaks, time, num_frames), axis=axis, reverse=True)
    following = jnp.concatenate([following[..., 1:], jnp.full_like(following[..., :1], num_frames)], -1)
    is_start = peaks & (following < num_frames)
    after = jnp.take_along_axis(curve, jnp.minimum(following, num_frames - 1), axis=-1)
    start = jnp.argmin(jnp.where(is_start, jnp.abs(curve - after), jnp.inf), -1)
    end = jnp.minimum(jnp.take_along_axis(following, start[..., None], axis=-1)[..., 0], num_frames - 1)
    within = (time >= start[..., None]) & (time <= end[..., None])
    first = jnp.argmax(peaks, -1)
    last = num_frames - 1 - jnp.argmax(peaks[..., ::-1], -1)
    num_beats = jnp.maximum(num_peaks - 1, 0)
    return Beats(
        peaks,
        num_beats,
        start,
        end,
        jnp.argmin(jnp.where(within, curve, jnp.inf), -1),
        (last - first) / jnp.maximum(num_beats, 1),
        num_beats > 0,
    )


def heart_rate(beats: Beats, frame_time: float | Float[Array, "*#b"]) -> Float[Array, "*b"]:
    """Heart rate from the time between end-diastoles.

    Args:
        beats: What `detect_beats` found.
        frame_time: Seconds from frame to frame.

    Returns:
        Beats a minute, ``[*b]``; nan without a whole cycle.

    Example:
        >>> beats = detect_beats(100 + 30 * jnp.cos(2 * jnp.pi * jnp.arange(61) / 30))
        >>> round(float(heart_rate(beats, 1 / 30)))
        60
    """
    seconds = beats.period * frame_time
    positive = beats.valid & (seconds > 0)
    return jnp.where(positive, 60 / jnp.where(positive, seconds, 1.0), jnp.nan)


def _end_diastoles(curve: Float[Array, "t"], distance: int) -> Bool[Array, "t"]:
    """Peaks of one curve; none if it is flat or nan."""
    size = curve.shape[0]
    pad = min(distance, size - 1)
    low = jnp.min(curve)
    span = jnp.max(curve) - low
    padded = jnp.pad(curve, pad, mode="reflect")
    time = jnp.arange(size + 2 * pad)
    is_own = (time >= pad) & (time < size + pad)
    padded = jnp.where(is_own, padded, padded - 1e-3 * span)
    high_enough = padded >= low + _MIN_HEIGHT * span
    peaks = _keep_distant(_local_maxima(padded) & high_enough, padded, distance)
    peaks &= _prominence(padded) >= _MIN_PROMINENCE * span
    return (peaks & (span > 0))[pad : size + pad]


def _local_maxima(curve: Float[Array, "t"]) -> Bool[Array, "t"]:
    """The middle of each plateau that falls on both sides; the ends are no maxima."""
    size = curve.shape[0]
    time = jnp.arange(size)
    change = jnp.diff(curve)
    rises = jnp.concatenate([jnp.zeros(1, bool), change > 0])
    leaves = jnp.where(jnp.append(change != 0, False), time, size - 1)
    end = jax.lax.cummin(leaves, reverse=True)  # last frame of the plateau
    falls = jnp.append(change < 0, False)[end]
    return jnp.zeros(size, bool).at[(time + end) // 2].max(rises & falls)


def _keep_distant(peaks: Bool[Array, "t"], curve: Float[Array, "t"], distance: int) -> Bool[Array, "t"]:
    """Keeps the highest peak, drops those nearer to it than the distance, and so on."""
    size = curve.shape[0]
    time = jnp.arange(size)

    def keep_highest(_, state):
        kept, left = state
        best = jnp.argmax(jnp.where(left, curve, -jnp.inf))
        kept = kept.at[best].max(left[best])
        return kept, left & (jnp.abs(time - best) >= distance)

    return jax.lax.fori_loop(0, size // distance + 1, keep_highest, (jnp.zeros_like(peaks), peaks))[0]


def _prominence(curve: Float[Array, "t"]) -> Float[Array, "t"]:
    """Height above the higher of the two lowest points that part a frame from higher ground."""
    time = jnp.arange(curve.shape[0])

    def lowest(side):
        higher = (curve > curve[:, None]) & side
        is_left = time < time[:, None]
        barrier = jnp.where(higher & is_left, time, -1).max(-1, keepdims=True)
        wall = jnp.where(higher & ~is_left, time, curve.shape[0]).min(-1, keepdims=True)
        reachable = side & (time > barrier) & (time < wall)
        return jnp.min(jnp.where(reachable, curve, jnp.inf), axis=-1)

    left, right = lowest(time <= time[:, None]), lowest(time >= time[:, None])
    return curve - jnp.maximum(left, right)
