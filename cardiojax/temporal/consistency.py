"""Temporal consistency of a sequence of outlines: the indicator of Painchaud et al. and its thresholds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

#: Attribute: lower bound, upper bound and threshold of the published method, in pixels (degrees for the orientation) of
#: the grid of 0.154 x 0.308 mm on which it measures. Thresholds are shares of the range between the bounds.
PAINCHAUD: dict[str, tuple[float, float, float]] = {
    "lv_area": (19632.0, 112404.0, 1.60e-2),
    "lv_base_width": (53.75872022286245, 172.8843544106869, 9.69e-2),
    "lv_length": (301.42494919963076, 612.8623418027902, 2.62e-2),
    "lv_orientation": (-7.035926925125878, 15.260000077617264, 2.29e-2),
    "myo_area": (23228.0, 64134.0, 3.21e-2),
    "epi_center_x": (183.36958708083102, 479.3726391015824, 4.56e-3),
    "epi_center_y": (285.85869497540625, 609.2086387810838, 1.10e-2),
}
_PAINCHAUD_SPACING = (0.154, 0.308)


class Limits(NamedTuple):
    """Limits of temporal consistency.

    Attributes:
        bounds: Lowest and highest value of each attribute, ``[k, 2]``.
        thresholds: Largest admissible indicator of each attribute, a share of the range between its bounds, ``[k]``.
    """

    bounds: Float[Array, "k 2"]
    thresholds: Float[Array, "k"]


class Consistency(NamedTuple):
    """The indicator, and whether it is within its threshold.

    Attributes:
        indicator: Normalised second difference over two, ``[*b, t, k]``; zero at the ends and where not measured.
        ratio: Magnitude of the indicator over its threshold, ``[*b, t, k]``.
        is_measured: Whether a frame and both its neighbours (if it is no end) have the attribute, ``[*b, t, k]``.
        is_consistent: Whether the indicator is within its threshold, ``[*b, t, k]``.
        is_frame_consistent: Whether all attributes are, ``[*b, t]``.
        is_sequence_consistent: Whether all frames are, ``[*b]``.
        num_missing: Frames of the sequence that lack an attribute, ``[*b]``; they count in no other field.
    """

    indicator: Float[Array, "*b t k"]
    ratio: Float[Array, "*b t k"]
    is_measured: Bool[Array, "*b t k"]
    is_consistent: Bool[Array, "*b t k"]
    is_frame_consistent: Bool[Array, "*b t"]
    is_sequence_consistent: Bool[Array, "*b"]
    num_missing: Int[Array, "*b"]


class ConsistencySummary(NamedTuple):
    """Temporal consistency of a set of sequences; shares are in [0, 1], nan where they are not defined.

    Attributes:
        inconsistent_sequences: Share of sequences with an inconsistent frame.
        inconsistent_frames: Share of inconsistent frames over all sequences.
        inconsistent_by_attribute: Share of frames inconsistent for each attribute, ``[k]``.
        frames_in_inconsistent: Share of inconsistent frames in those sequences that have one, averaged over them.
        error_to_threshold: Mean ratio of indicator and threshold over attributes and frames (ends included) of each
            sequence, averaged over sequences.
        missing_frames: Share of frames that lack an attribute.
    """

    inconsistent_sequences: Float[Array, ""]
    inconsistent_frames: Float[Array, ""]
    inconsistent_by_attribute: Float[Array, "k"]
    frames_in_inconsistent: Float[Array, ""]
    error_to_threshold: Float[Array, ""]
    missing_frames: Float[Array, ""]


def painchaud_limits(*, spacing: tuple[float, float] | None = None) -> Limits:
    """The published limits of the seven attributes, in the order of `PAINCHAUD`.

    They were learnt from 98 annotated apical four-chamber loops of about 46 frames a cycle.

    Args:
        spacing: ``(dy, dx)`` in mm of the grid in whose pixels the attributes are measured; mm, mm² and the true angle
            in degrees if not given.

    Returns:
        The limits.

    References:
        Painchaud et al., "Echocardiography segmentation with enforced temporal consistency", IEEE TMI 2022, eq. 3.

    Example:
        >>> [round(float(x)) for x in painchaud_limits().bounds[0]]
        [931, 5332]
    """
    dy, dx = (ours / theirs for ours, theirs in zip(_PAINCHAUD_SPACING, spacing or (1.0, 1.0), strict=True))
    factors = {"lv_area": dy * dx, "myo_area": dy * dx, "lv_base_width": dx, "lv_length": dy}
    factors |= {"epi_center_x": dx, "epi_center_y": dy}
    bounds = jnp.array([[low * factors.get(n, 1), high * factors.get(n, 1)] for n, (low, high, _) in PAINCHAUD.items()])
    slope = jnp.tan(jnp.deg2rad(jnp.array(PAINCHAUD["lv_orientation"][:2]))) * dx / dy
    bounds = bounds.at[list(PAINCHAUD).index("lv_orientation")].set(jnp.rad2deg(jnp.arctan(slope)))
    return Limits(bounds, jnp.array([threshold for *_, threshold in PAINCHAUD.values()]))


def scale_to_frame_time(limits: Limits, ratio: float | Float[Array, ""]) -> Limits:
    """Adapts thresholds to another frame rate: a second difference grows with the square of the time step.

    That holds for the motion, not for the noise of the outlines, which does not depend on the frame rate.

    Args:
        limits: Limits learnt at some frame time.
        ratio: The new frame time over that one.

    Returns:
        The limits with thresholds times the square of the ratio.

    Example:
        >>> import jax.numpy as jnp
        >>> limits = Limits(bounds=jnp.array([[0.0, 1.0]]), thresholds=jnp.array([0.1]))
        >>> round(float(scale_to_frame_time(limits, 2.0).thresholds[0]), 2)
        0.4
    """
    return limits._replace(thresholds=limits.thresholds * ratio**2)


def calibrate_limits(
    attributes: Float[Array, "*b t k"], *, valid: Bool[Array, "*#b t"] | None = None, quantile: float = 1.0
) -> Limits:
    """Learns limits from annotated sequences.

    Args:
        attributes: Attributes of the reference outlines; nan where missing.
        valid: Frames that belong to the sequences; the others are padding.
        quantile: Share of the reference frames that are within the thresholds, in (0, 1].

    Returns:
        Extremes of each attribute, and the quantile of its indicator's magnitude over interior frames.

    Raises:
        ValueError: If the quantile is out of range, or no sequence can have a frame between two others.

    Example:
        >>> import jax.numpy as jnp
        >>> attributes = jnp.array([[0.0], [1.0], [3.0], [4.0]])
        >>> learnt = calibrate_limits(attributes)
        >>> learnt.bounds.tolist(), learnt.thresholds.tolist()
        ([[0.0, 4.0]], [0.125])
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must lie in (0, 1], got {quantile}")
    num_frames, num_attributes = attributes.shape[-2:]
    if num_frames < 3:
        raise ValueError(f"limits are learnt from sequences of at least 3 frames, got {num_frames}")
    if valid is not None:
        attributes = jnp.where(jnp.broadcast_to(valid, attributes.shape[:-1])[..., None], attributes, jnp.nan)
    flat = attributes.reshape(-1, num_attributes)
    bounds = jnp.stack([jnp.nanmin(flat, 0), jnp.nanmax(flat, 0)], -1)
    result = consistency(attributes, bounds, jnp.ones(num_attributes), valid=valid)
    inner = jnp.isfinite(attributes[..., 1:-1, :]) & result.is_measured[..., 1:-1, :]
    size = jnp.where(inner, jnp.abs(result.indicator[..., 1:-1, :]), jnp.nan).reshape(-1, num_attributes)
    return Limits(bounds, jnp.nanquantile(size, quantile, axis=0))


def second_difference(series: Float[Array, "*b t"], inside: Bool[Array, "*#b t"]) -> Float[Array, "*b t"]:
    """Value less the mean of its two neighbours; zero at the ends and wherever one of the three is not inside.

    Args:
        series: Values over time.
        inside: Frames that count.

    Returns:
        Half the negative Laplacian.

    Example:
        >>> import jax.numpy as jnp
        >>> second_difference(jnp.array([0.0, 1.0, 4.0, 9.0]), jnp.ones(4, bool)).tolist()
        [0.0, -1.0, -1.0, 0.0]
    """
    series = jnp.where(inside, series, 0.0)
    curve = series[..., 1:-1] - (series[..., :-2] + series[..., 2:]) / 2
    whole = inside[..., 1:-1] & inside[..., :-2] & inside[..., 2:]
    pad = [(0, 0)] * (series.ndim - 1) + [(1, 1)]
    return jnp.pad(jnp.where(whole, curve, 0.0), pad)[..., : series.shape[-1]]


def consistency(
    attributes: Float[Array, "*b t k"],
    bounds: Float[Array, "k 2"],
    thresholds: Float[Array, "k"],
    *,
    valid: Bool[Array, "*#b t"] | None = None,
) -> Consistency:
    """Compares the attributes of each frame with the mean of those of its neighbours.

    With the attribute scaled to [0, 1] by its bounds, the indicator of frame ``t`` is
    ``c_t = a_t - (a_{t-1} + a_{t+1}) / 2`` and the frame is inconsistent where ``|c_t|`` exceeds the threshold. The
    first and the last frame are consistent by definition.

    Args:
        attributes: Attributes over time, nan where an outline has none.
        bounds: Lowest and highest value of each attribute.
        thresholds: Largest admissible indicator of each attribute.
        valid: Frames that belong to the sequence, for sequences of different length in one batch; all if not given.

    Returns:
        The indicator and its comparison. What is not measured counts as consistent; ``is_measured`` and
        ``num_missing`` state it. An attribute whose bounds are equal is consistent only while it does not change.

    References:
        Painchaud et al., "Echocardiography segmentation with enforced temporal consistency", IEEE TMI 2022, eq. 3.

    Example:
        >>> area = jnp.array([50.0, 49.0, 48.0, 60.0, 46.0, 45.0])[:, None]
        >>> result = consistency(area, jnp.array([[0.0, 100.0]]), jnp.array([0.1]))
        >>> result.is_frame_consistent.tolist()
        [True, True, True, False, True, True]
    """
    shape = attributes.shape[:-1]
    valid = jnp.broadcast_to(jnp.ones((), bool) if valid is None else valid, shape)
    known = jnp.moveaxis(jnp.isfinite(attributes) & valid[..., None], -1, -2)
    series = jnp.moveaxis(attributes, -1, -2)
    difference = second_difference(series, known)
    width = (bounds[:, 1] - bounds[:, 0])[:, None]
    moves = difference != 0
    indicator = jnp.where(moves, difference / jnp.where(moves, width, 1.0), 0.0)
    limit = thresholds[:, None]
    is_consistent = jnp.abs(indicator) <= limit
    ratio = jnp.where(moves, jnp.abs(indicator) / jnp.where(moves, limit, 1.0), 0.0)

    padded = jnp.pad(known, [(0, 0)] * (known.ndim - 1) + [(1, 1)])
    both = padded[..., :-2] & padded[..., 2:]
    measured = known & (both | _is_end(valid)[..., None, :])
    is_consistent, measured, indicator, ratio = (
        jnp.moveaxis(x, -2, -1) for x in (is_consistent, measured, indicator, ratio)
    )
    frames = is_consistent.all(-1)
    missing = valid & ~jnp.moveaxis(known, -2, -1).all(-1)
    return Consistency(indicator, ratio, measured, is_consistent, frames, frames.all(-1), missing.sum(-1))


def summarize(result: Consistency, *, valid: Bool[Array, "*#b t"] | None = None) -> ConsistencySummary:
    """Aggregates consistency over sequences as the authors do.

    Args:
        result: Consistency of any number of sequences.
        valid: The same frames as were given to `consistency`.

    Returns:
        Shares and ratios.

    Example:
        >>> import jax.numpy as jnp
        >>> series, bounds = jnp.array([[0.0], [0.1], [0.9], [0.1], [0.0]]), jnp.array([[0.0, 1.0]])
        >>> summary = summarize(consistency(series, bounds, jnp.array([0.1])))
        >>> float(summary.inconsistent_sequences)
        1.0
    """
    shape = result.is_frame_consistent.shape
    valid = jnp.broadcast_to(jnp.ones((), bool) if valid is None else valid, shape)
    wrong = valid & ~result.is_frame_consistent
    share = _mean(wrong, valid, axis=-1)
    bad = ~result.is_sequence_consistent
    measured = result.is_measured & valid[..., None]
    ratio = _mean(result.ratio, measured, axis=(-2, -1))
    return ConsistencySummary(
        jnp.mean(bad.astype(jnp.float32)),
        _mean(wrong, valid),
        _mean(~result.is_consistent, measured, axis=tuple(range(len(shape)))),
        _mean(share, bad),
        _mean(ratio, measured.any((-2, -1))),
        result.num_missing.sum() / valid.sum(),
    )


def _is_end(valid: Bool[Array, "*b t"]) -> Bool[Array, "*b t"]:
    """The first and the last valid frame."""
    counted = jax.lax.cumsum(valid.astype(jnp.int32), axis=valid.ndim - 1)
    return valid & ((counted == 1) | (counted == counted[..., -1:]))


def _mean(values: Array, where: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """Mean over a part, nan if there is none."""
    count = where.sum(axis)
    total = jnp.where(where, values, 0.0).sum(axis)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)
