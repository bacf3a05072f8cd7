"""The guarantee: from an implausible shape to the closest plausible one on the way to a known one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax.latent.neighbours import nearest

Decode = Callable[[Float[Array, "b d"]], Int[Array, "b *shape"]]
IsValid = Callable[[Int[Array, "b *shape"]], Bool[Array, " b"]]


class Correction(NamedTuple):
    """Codes whose shapes are plausible.

    Attributes:
        codes: The corrected codes, ``[b, d]``; plausible ones as they came.
        masks: What they decode to.
        valid: Whether those masks pass, or the input was said to be plausible, ``[b]``.
        alpha: Part of the way to the known code that was needed, 0 where nothing moved, ``[b]``.
        distance: Length of the move in the latent space, ``[b]``.
        target: Row of the bank walked towards; its size and more for the fall-backs; -1 where nothing moved, ``[b]``.
    """

    codes: Float[Array, "b d"]
    masks: Int[Array, "b *shape"]
    valid: Bool[Array, " b"]
    alpha: Float[Array, " b"]
    distance: Float[Array, " b"]
    target: Int[Array, " b"]


def correct(
    codes: Float[Array, "b d"],
    bank: Float[Array, "n d"],
    *,
    decode: Decode,
    is_valid: IsValid,
    plausible: Bool[Array, " b"] | None = None,
    fallbacks: Float[Array, "f d"] | None = None,
    covariance: Float[Array, "d d"] | None = None,
    num_neighbours: int = 3,
    num_halvings: int = 6,
) -> Correction:
    """Moves codes of implausible shapes to the closest plausible ones.

    The segment from a code to each of its nearest neighbours in the bank is halved again and again: an end that decodes
    to a plausible shape stays one, and moves towards the code. Of the neighbours' ends the closest is taken. A
    neighbour that does not pass on the grid of ``decode`` is passed over for the next, and so are at last the
    fall-backs. Whatever comes back as ``valid`` has been decoded and judged.

    Memory: three sets of masks. Work: ``1 + (num_neighbours + f) * (num_halvings + 1)`` decodes and verdicts a code.

    Args:
        codes: Codes of the shapes.
        bank: Codes of plausible shapes.
        decode: Codes to label maps. It is always called with one code an input, in their order, so that it may close
            over what belongs to each input, such as its position in the image.
        is_valid: Verdict on what ``decode`` returns.
        plausible: Inputs to be left as they are; if not given, those whose decoded shape passes.
        fallbacks: Codes tried after the bank's, as a last resort.
        covariance: Of a Mahalanobis distance; Euclidean if not given.
        num_neighbours: Codes of the bank to walk towards; 1 is the published method.
        num_halvings: Steps of the dichotomy; the move is at most ``2 ** -num_halvings`` of the segment too long.

    Returns:
        Codes, masks and how far they moved.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020.

    Example:
        >>> bank = jnp.array([[1.0], [8.0]])
        >>> above = lambda masks: masks[:, 0, 0] >= 10
        >>> as_mask = lambda codes: (codes * 10).astype(jnp.int32)[:, None]
        >>> fixed = correct(jnp.array([[0.0], [5.0]]), bank, decode=as_mask, is_valid=above, num_neighbours=1)
        >>> fixed.alpha.tolist(), fixed.masks[:, 0, 0].tolist()
        ([1.0, 0.0], [10, 50])
    """
    num_neighbours = min(num_neighbours, len(bank))
    rows = nearest(bank, codes, num_neighbours, covariance=covariance).indices
    targets = bank[rows].astype(codes.dtype)
    if fallbacks is not None:
        last = jnp.broadcast_to(fallbacks.astype(codes.dtype), (len(codes), *fallbacks.shape))
        targets = jnp.concatenate([targets, last], 1)
        names = jnp.broadcast_to(len(bank) + jnp.arange(len(fallbacks), dtype=rows.dtype), last.shape[:2])
        rows = jnp.concatenate([rows, names], 1)

    def choose(mask, ours, theirs):
        return tuple(jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(ours, theirs, strict=True))

    start = decode(codes)
    passes = is_valid(start)
    settled = passes if plausible is None else plausible
    zero = jnp.zeros(len(codes), codes.dtype)
    nowhere = jnp.full(len(codes), -1, rows.dtype)
    best = (codes, start, zero, jnp.where(passes | settled, zero, jnp.inf), nowhere)

    def walk(best, towards):
        target, row = towards
        masks = decode(target)
        ok = is_valid(masks)

        def halve(_, ends):
            low, high, code, masks = ends
            middle = (low + high) / 2
            trial = codes + middle[:, None] * (target - codes)
            decoded = decode(trial)
            inside = is_valid(decoded)
            high, code, masks = choose(inside, (middle, trial, decoded), (high, code, masks))
            return jnp.where(inside, low, middle), high, code, masks

        _, alpha, code, masks = lax.fori_loop(0, num_halvings, halve, (zero, zero + 1, target, masks))
        found = (code, masks, alpha, jnp.linalg.norm(code - codes, axis=-1), row)
        return choose(ok & (found[3] < best[3]), found, best), None

    (moved, masks, alpha, distance, target), _ = lax.scan(walk, best, (jnp.swapaxes(targets, 0, 1), rows.T))
    valid = jnp.isfinite(distance)
    return Correction(moved, masks, valid, alpha, jnp.where(valid, distance, 0), target)


class MaskCorrection(NamedTuple):
    """Plausible masks.

    Attributes:
        masks: The masks; plausible ones to the bit as they came, ``[b, h, w]``.
        plausible: Verdict on the input, ``[b]``.
        valid: Verdict on the result, ``[b]``.
        codes: Codes of the result; for plausible input, its own, ``[b, d]``.
        alpha: Part of the way to a known code that was needed, 0 where nothing moved, ``[b]``.
        distance: Length of the move in the latent space; infinite where the known mask was put in, ``[b]``.
    """

    masks: Int[Array, "b h w"]
    plausible: Bool[Array, " b"]
    valid: Bool[Array, " b"]
    codes: Float[Array, "b d"]
    alpha: Float[Array, " b"]
    distance: Float[Array, " b"]


def correct_masks(
    masks: Int[Array, "b h w"],
    bank: Float[Array, "n d"],
    *,
    encode: Callable[[Int[Array, "b h w"]], tuple[Float[Array, "b d"], Any]],
    decode: Callable[[Float[Array, "b d"], Any], Int[Array, "b h w"]],
    is_valid: Callable[[Int[Array, "b h w"]], Bool[Array, " b"]],
    known: Int[Array, "h w"],
    fallbacks: Float[Array, "f d"] | None = None,
    covariance: Float[Array, "d d"] | None = None,
    num_neighbours: int = 3,
    num_halvings: int = 6,
) -> MaskCorrection:
    """Returns masks that pass; those that already do are untouched.

    Args:
        masks: Label maps.
        bank: Codes of plausible shapes.
        encode: Label maps to codes and whatever brings a decoded shape back to its image: position, size, grid.
        decode: Codes and that, to label maps on the grid of the input, where they are judged.
        is_valid: Verdict on label maps.
        known: A mask that passes, put in where nothing else does: it makes the guarantee unconditional. Verify it once,
            where the bank is loaded.
        fallbacks: Codes tried after the bank's.
        covariance: Of a Mahalanobis distance; Euclidean if not given.
        num_neighbours: Codes of the bank to walk towards.
        num_halvings: Steps of the dichotomy.

    Returns:
        Masks, verdicts and how far they moved. ``valid`` is false only if ``known`` itself does not pass.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020.
    """
    plausible = is_valid(masks)
    codes, place = encode(masks)
    # A code that is not a number (an empty mask may give one) starts from the bank instead.
    codes = jnp.where(jnp.isfinite(codes).all(-1, keepdims=True), codes, bank[0].astype(codes.dtype))
    found = correct(
        codes,
        bank,
        decode=lambda z: decode(z, place),
        is_valid=is_valid,
        plausible=plausible,
        fallbacks=fallbacks,
        covariance=covariance,
        num_neighbours=num_neighbours,
        num_halvings=num_halvings,
    )
    result = jnp.where(found.valid[:, None, None], found.masks.astype(masks.dtype), known.astype(masks.dtype))
    result = jnp.where(plausible[:, None, None], masks, result)
    valid = found.valid | is_valid(known[None])[0]
    return MaskCorrection(
        result, plausible, valid, found.codes, found.alpha, jnp.where(found.valid, found.distance, jnp.inf)
    )
