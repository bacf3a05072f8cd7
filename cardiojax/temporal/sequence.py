"""Temporally consistent label maps of a sequence: encoding, smoothing of the codes, decoding."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cardiojax.ops import jitted
from cardiojax.temporal.consistency import Consistency, consistency
from cardiojax.temporal.regularize import regularize


class ConsistentSequence(NamedTuple):
    """A sequence after post-processing.

    Attributes:
        labels: Label maps, ``[*b, t, h, w]``.
        codes: Smoothed codes, ``[*b, t, k]``; nan in a sequence without any outline.
        weight: Smoothing weight of each dimension, ``[*b, k]``.
        is_satisfied: Whether a dimension keeps to its threshold, ``[*b, k]``.
        before: Consistency of the attribute dimensions of the given outlines.
        after: Consistency of those of the smoothed codes.
        is_filled: Frames without outline that got one from their neighbours, ``[*b, t]``.
        is_changed: Frames whose label map differs from the given one, ``[*b, t]``.
    """

    labels: Int[Array, "*b t h w"]
    codes: Float[Array, "*b t k"]
    weight: Float[Array, "*b k"]
    is_satisfied: Bool[Array, "*b k"]
    before: Consistency
    after: Consistency
    is_filled: Bool[Array, "*b t"]
    is_changed: Bool[Array, "*b t"]


@jitted(static=("encode", "decode", "guarantee", "rule", "residual_weight"))
def consistent_sequence(
    labels: Int[Array, "*b t h w"],
    bounds: Float[Array, "a 2"],
    thresholds: Float[Array, "a"],
    *,
    encode: Callable[[Int[Array, "*b t h w"]], Float[Array, "*b t k"]],
    decode: Callable[[Float[Array, "*b t k"]], Int[Array, "*b t h w"]],
    guarantee: Callable[[Int[Array, "*b t h w"]], Int[Array, "*b t h w"]] | None = None,
    valid: Bool[Array, "*#b t"] | None = None,
    rule: Literal["original", "minimal"],
    periodic: bool | Bool[Array, "*#b"] = False,
    residual_weight: float = 50.0,
) -> ConsistentSequence:
    """Encodes each outline, smooths the trajectory of the codes and decodes it.

    The functions are part of the compiled program: give the same ones in every call, not a new lambda each time.

    Args:
        labels: Label maps over time. A frame without any structure is taken for missing and filled.
        bounds: Lowest and highest value of each attribute dimension of the codes.
        thresholds: Largest admissible indicator of each.
        encode: Label maps to codes, attribute dimensions first.
        decode: Codes to label maps.
        guarantee: Correction of the decoded label maps (their anatomy), applied last.
        valid: Frames that belong to the sequence; the others are returned as they are.
        rule: How weights are chosen, see `regularize`.
        periodic: Whether the sequence is a whole cycle.
        residual_weight: Weight of the dimensions that are no attributes.

    Returns:
        Outlines, codes and the consistency before and after. A sequence without any outline is returned as it is.

    References:
        Painchaud et al., "Echocardiography segmentation with enforced temporal consistency", IEEE TMI 2022.

    Example:
        >>> import jax.numpy as jnp
        >>> def encode(labels):
        ...     return labels.sum((-2, -1))[..., None] / 64.0
        >>> def decode(codes):
        ...     rows = jnp.arange(8)[:, None] < 8 * codes[..., None]
        ...     return jnp.broadcast_to(rows, (*codes.shape[:-1], 8, 8)).astype(int)
        >>> heights = jnp.array([4, 4, 7, 4, 4])
        >>> labels = decode(heights[:, None] / 8)
        >>> bounds, thresholds = jnp.array([[0.0, 1.0]]), jnp.array([0.1])
        >>> options = {"encode": encode, "decode": decode, "rule": "minimal"}
        >>> sequence = consistent_sequence(labels, bounds, thresholds, **options)
        >>> sequence.is_changed.tolist()
        [True, True, True, True, True]
    """
    shape = labels.shape[:-2]
    valid = jnp.broadcast_to(jnp.ones((), bool) if valid is None else valid, shape)
    is_drawn = valid & jnp.any(labels != 0, axis=(-2, -1))
    codes = jnp.where(is_drawn[..., None], encode(labels), jnp.nan)
    options = {"rule": rule, "periodic": periodic, "residual_weight": residual_weight}
    smoothed = regularize(codes, bounds, thresholds, valid=valid, **options)
    is_decoded = valid & is_drawn.any(-1, keepdims=True)
    decoded = decode(jnp.where(is_decoded[..., None], smoothed.series, 0.0))
    if guarantee is not None:
        decoded = guarantee(decoded)
    result = jnp.where(is_decoded[..., None, None], decoded, labels).astype(labels.dtype)
    num_attributes = len(thresholds)
    before, after = (
        consistency(c[..., :num_attributes], bounds, thresholds, valid=valid) for c in (codes, smoothed.series)
    )
    return ConsistentSequence(
        result,
        smoothed.series,
        smoothed.weight,
        smoothed.is_satisfied,
        before,
        after,
        is_decoded & ~is_drawn,
        jnp.any(result != labels, axis=(-2, -1)),
    )
