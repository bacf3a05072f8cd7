"""Anatomical correction in the latent space: from an invalid shape to the closest valid one towards known codes."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax.latent.neighbours import nearest
from cardiojax.ops import jitted, require_auto_axes

Decode = Callable[[Float[Array, "b d"]], Int[Array, "b *shape"]]
IsValid = Callable[[Int[Array, "b *shape"]], Bool[Array, " b"]]


class Correction(NamedTuple):
    """Codes whose shapes are valid.

    Attributes:
        codes: The corrected codes, ``[b, d]``; those of valid shapes unchanged.
        masks: What they decode to.
        valid: Whether those masks are valid, or the input was given as valid, ``[b]``; never where the given code is
            not finite, since its distance is not defined.
        fraction: Part of the segment to the target that was needed, 0 where nothing moved, ``[b]``.
        distance: Length of the move in the latent space, ``[b]``.
        target: Row of the bank that is the target; its size and more for the fall-backs; -1 where nothing moved,
            ``[b]``.
    """

    codes: Float[Array, "b d"]
    masks: Int[Array, "b *shape"]
    valid: Bool[Array, " b"]
    fraction: Float[Array, " b"]
    distance: Float[Array, " b"]
    target: Int[Array, " b"]


@jitted(static=("decode", "is_valid", "num_neighbours", "num_extra_neighbours", "num_bisections"))
def correct(
    codes: Float[Array, "b d"],
    bank: Float[Array, "n d"],
    *,
    decode: Decode,
    is_valid: IsValid,
    was_valid: Bool[Array, " b"] | None = None,
    fallbacks: Float[Array, "f d"] | None = None,
    covariance: Float[Array, "d d"] | None = None,
    num_neighbours: int = 3,
    num_extra_neighbours: int = 0,
    num_bisections: int = 6,
) -> Correction:
    """Moves codes of invalid shapes to the closest valid ones.

    The segment from a code to each of its nearest neighbours in the bank is bisected: the end that decodes to a valid
    shape moves towards the code for as long as it stays valid. Of the ends on all segments the closest is taken. A
    neighbour that is not valid on the grid of ``decode`` is skipped. What is returned as ``valid`` has been decoded and
    checked.

    One loop decodes and checks, so that a compiled program holds the criteria once; it ends as soon as nothing can move
    closer.

    The functions are part of the compiled program: give the same ones in every call, not a new lambda each time.

    Memory: two sets of masks. Work: at most ``1 + m * (num_bisections + 1)`` decodes and checks a code, with m targets.

    Args:
        codes: Codes of the shapes.
        bank: Codes of valid shapes.
        decode: Codes to label maps. It is always called with one code an input, in their order, so that it may close
            over what belongs to each input, such as its position in the image.
        is_valid: Whether what ``decode`` returns is valid.
        was_valid: Inputs to be left as they are; if not given, those whose decoded shape is valid.
        fallbacks: Codes tried after the bank's, as a last resort.
        covariance: Of a Mahalanobis distance; Euclidean if not given.
        num_neighbours: Codes of the bank that are targets; 1 is the published method.
        num_extra_neighbours: Farther ones, each tried only for codes that are still without a valid shape.
        num_bisections: Bisections of a segment; the move is at most ``2 ** -num_bisections`` of the segment too long.

    Returns:
        Codes, masks and how far they moved.

    Raises:
        ValueError: If the codes are split over a mesh with explicit axes.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020.

    Example:
        >>> bank = jnp.array([[1.0], [8.0]])
        >>> above = lambda masks: masks[:, 0, 0] >= 10
        >>> as_mask = lambda codes: (codes * 10).astype(jnp.int32)[:, None]
        >>> fixed = correct(jnp.array([[0.0], [5.0]]), bank, decode=as_mask, is_valid=above, num_neighbours=1)
        >>> fixed.fraction.tolist(), fixed.masks[:, 0, 0].tolist()
        ([1.0, 0.0], [10, 50])
    """
    require_auto_axes(codes)
    targets = _targets(codes, bank, fallbacks, covariance, num_neighbours, num_extra_neighbours)
    search = _search(codes, targets, decode, is_valid, num_bisections=num_bisections, was_valid=was_valid)
    valid = jnp.isfinite(search.best.distance)
    return search.best._replace(valid=valid, distance=jnp.where(valid, search.best.distance, 0))


class _Targets(NamedTuple):
    """Ends of the segments, nearest first.

    Attributes:
        codes: ``[m, b, d]``.
        rows: Rows of the bank, ``[m, b]``.
        num_near: How many of them are for every code; the others are for those without a valid shape.
    """

    codes: Float[Array, "m b d"]
    rows: Int[Array, "m b"]
    num_near: int


def _targets(codes, bank, fallbacks, covariance, num_neighbours, num_extra_neighbours) -> _Targets:
    num_near = min(num_neighbours, len(bank))
    rows = nearest(codes, bank, min(num_neighbours + num_extra_neighbours, len(bank)), covariance=covariance).indices
    targets = jnp.where(rows[..., None] >= 0, bank[rows], jnp.nan).astype(codes.dtype)
    if fallbacks is not None:
        last = jnp.broadcast_to(fallbacks.astype(codes.dtype), (len(codes), *fallbacks.shape))
        targets = jnp.concatenate([targets, last], 1)
        names = jnp.broadcast_to(len(bank) + jnp.arange(len(fallbacks), dtype=rows.dtype), last.shape[:2])
        rows = jnp.concatenate([rows, names], 1)
    return _Targets(jnp.swapaxes(targets, 0, 1), rows.T, num_near)


class _Stage(enum.IntEnum):
    """What the next pass of the loop decodes and checks."""

    GIVEN = 0
    INPUT = 1
    TARGET = 2
    BISECTION = 3


class _Search(NamedTuple):
    """State of the loop.

    Attributes:
        stage: A `_Stage`.
        target: Index of the target.
        bisection: Bisections of the segment to it so far.
        was_valid: Inputs that are left as they are, ``[b]``.
        is_searching: For whom the target is valid and may be closer than what they have, ``[b]``.
        low: Fraction of the segment up to which shapes are invalid, ``[b]``.
        high: Smallest fraction of it that is known to be valid, ``[b]``.
        best: The closest valid shape of each, at an infinite distance where there is none yet.
    """

    stage: Int[Array, ""]
    target: Int[Array, ""]
    bisection: Int[Array, ""]
    was_valid: Bool[Array, " b"]
    is_searching: Bool[Array, " b"]
    low: Float[Array, " b"]
    high: Float[Array, " b"]
    best: Correction


class _Trial(NamedTuple):
    """What is decoded: codes ``[b, d]`` at a fraction of the segment ``[b]``."""

    codes: Float[Array, "b d"]
    fraction: Float[Array, " b"]


def _propose(search: _Search, codes: Float[Array, "b d"], targets: _Targets) -> _Trial:
    """The inputs themselves, the targets, or the middle of what is left of the segments."""
    target = targets.codes[search.target]
    middle = (search.low + search.high) / 2
    on_segment = codes + middle[:, None] * (target - codes)
    is_input, is_target = search.stage <= _Stage.INPUT, search.stage == _Stage.TARGET
    return _Trial(
        codes=jnp.where(is_input, codes, jnp.where(is_target, target, on_segment)),
        fraction=jnp.where(is_input, 0, jnp.where(is_target, 1, middle)),
    )


def _needs_target(search: _Search, targets: _Targets) -> Bool[Array, " b"]:
    """For whom the current target is of use: a near one for all that moved, any other for those with nothing valid."""
    distance = search.best.distance
    is_open = jnp.where(search.target < targets.num_near, distance > 0, jnp.isinf(distance))
    return ~search.was_valid & is_open & (search.target < len(targets.rows))


def _accept(
    search: _Search,
    trial: _Trial,
    masks: Int[Array, "b *shape"],
    is_valid: Bool[Array, " b"],
    codes: Float[Array, "b d"],
    targets: _Targets,
    num_bisections: int,
) -> _Search:
    """The state after a trial: the shorter segments, the closest valid shapes, and what comes next."""
    stage, best = search.stage, search.best
    is_given, is_input, is_target = stage == _Stage.GIVEN, stage == _Stage.INPUT, stage == _Stage.TARGET
    was_valid = jnp.where(is_given, is_valid, search.was_valid)
    is_kept = is_valid | was_valid
    itself = Correction(
        codes, masks, is_kept, 0 * best.fraction, jnp.where(is_kept, 0, jnp.inf).astype(codes.dtype), best.target
    )

    is_searching = jnp.where(is_target, is_valid & _needs_target(search, targets), search.is_searching)
    distance = jnp.linalg.norm(trial.codes - codes, axis=-1)
    closer = Correction(trial.codes, masks, is_valid, trial.fraction, distance, targets.rows[search.target])
    is_closer = (stage >= _Stage.TARGET) & is_searching & is_valid & (distance < best.distance)
    best = _where(is_closer, closer, _where(jnp.broadcast_to(stage <= _Stage.INPUT, is_valid.shape), itself, best))

    bisection = jnp.where(is_target, 0, search.bisection + 1)
    is_done = (bisection == num_bisections) | ~is_searching.any()
    next_stage = jnp.where(is_given, _Stage.INPUT, jnp.where(is_input | is_done, _Stage.TARGET, _Stage.BISECTION))
    return _Search(
        stage=next_stage.astype(jnp.int32),
        target=search.target + ((stage >= _Stage.TARGET) & is_done),
        bisection=bisection,
        was_valid=was_valid,
        is_searching=is_searching,
        low=jnp.where(is_target, 0, jnp.where(is_valid, search.low, trial.fraction)),
        high=jnp.where(is_target, 1, jnp.where(is_valid, trial.fraction, search.high)),
        best=best,
    )


def _where(mask: Bool[Array, " b"], ours: Any, theirs: Any) -> Any:
    """Ours where the mask is set, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b), ours, theirs)


def _search(
    codes: Float[Array, "b d"],
    targets: _Targets,
    decode: Decode,
    is_valid: IsValid,
    *,
    num_bisections: int,
    was_valid: Bool[Array, " b"] | None = None,
    given: Int[Array, "b *shape"] | None = None,
    check_only: Bool[Array, ""] | bool = False,
) -> _Search:
    """Proposes, decodes, checks and accepts until nothing can move closer.

    Args:
        codes: Codes of the inputs.
        targets: Ends of the segments.
        decode: As in `correct`.
        is_valid: As in `correct`.
        num_bisections: As in `correct`.
        was_valid: As in `correct`.
        given: Masks of the inputs, checked first: valid ones are left as they are.
        check_only: Whether to stop after that.
    """
    num = len(codes)
    shape = jax.eval_shape(decode, codes)
    blank = jnp.zeros(shape.shape, shape.dtype)
    given_masks = None if given is None else given.astype(shape.dtype)
    zero, none = jnp.zeros(num, codes.dtype), jnp.zeros(num, bool)

    def is_unfinished(search):
        is_input, is_given = search.stage == _Stage.INPUT, search.stage == _Stage.GIVEN
        needs_input = is_input & (jnp.bool_(given is None) | (~search.was_valid).any())
        is_bisecting = (search.stage == _Stage.BISECTION) & search.is_searching.any()
        needs_target = (search.stage == _Stage.TARGET) & _needs_target(search, targets).any()
        return is_given | ~jnp.bool_(check_only) & (needs_input | needs_target | is_bisecting)

    def advance(search):
        trial = _propose(search, codes, targets)
        is_given = search.stage == _Stage.GIVEN
        if given_masks is None:
            masks = decode(trial.codes)
        else:
            masks = lax.cond(is_given, lambda: given_masks, lambda: decode(trial.codes))
        valid = is_valid(masks) & (is_given | jnp.isfinite(trial.codes).all(-1))
        return _accept(search, trial, masks, valid, codes, targets, num_bisections)

    start = _Search(
        stage=jnp.int32(_Stage.INPUT if given is None else _Stage.GIVEN),
        target=jnp.int32(0),
        bisection=jnp.int32(0),
        was_valid=none if was_valid is None else was_valid,
        is_searching=none,
        low=zero,
        high=zero + 1,
        best=Correction(codes, blank, none, zero, zero + jnp.inf, jnp.full(num, -1, targets.rows.dtype)),
    )
    return lax.while_loop(is_unfinished, advance, start)


class MaskCorrection(NamedTuple):
    """Valid masks.

    Attributes:
        masks: The masks; valid ones bit-identical to the input, ``[b, h, w]``.
        was_valid: Whether the input is valid, ``[b]``.
        valid: Whether the result is, ``[b]``.
        codes: Codes of the result; for valid input, its own, ``[b, d]``.
        fraction: Part of the segment to the target that was needed, 0 where nothing moved, ``[b]``.
        distance: Length of the move in the latent space; infinite where no target is valid, ``[b]``.
    """

    masks: Int[Array, "b h w"]
    was_valid: Bool[Array, " b"]
    valid: Bool[Array, " b"]
    codes: Float[Array, "b d"]
    fraction: Float[Array, " b"]
    distance: Float[Array, " b"]


@jitted(static=("encode", "decode", "is_valid", "num_neighbours", "num_extra_neighbours", "num_bisections"))
def correct_masks(
    masks: Int[Array, "b h w"],
    bank: Float[Array, "n d"],
    *,
    encode: Callable[[Int[Array, "b h w"]], tuple[Float[Array, "b d"], Any]],
    decode: Callable[[Float[Array, "b d"], Any], Int[Array, "b h w"]],
    is_valid: Callable[[Int[Array, "b h w"]], Bool[Array, " b"]],
    fallback_mask: Int[Array, "h w"] | None = None,
    check_only: Bool[Array, ""] | bool = False,
    fallbacks: Float[Array, "f d"] | None = None,
    covariance: Float[Array, "d d"] | None = None,
    num_neighbours: int = 3,
    num_extra_neighbours: int = 0,
    num_bisections: int = 6,
) -> MaskCorrection:
    """Moves invalid masks to the closest valid ones; valid masks are unchanged.

    The functions are part of the compiled program, as in `correct`.

    Args:
        masks: Label maps.
        bank: Codes of valid shapes.
        encode: Label maps to codes and whatever brings a decoded shape back to its image: position, size, grid.
        decode: Codes and that, to label maps on the grid of the input, where they are checked.
        is_valid: Whether label maps are valid.
        fallback_mask: A valid mask, returned where no target is valid: it makes the guarantee unconditional. Verify it
            once, where the bank is loaded. If not given, such a mask is returned as it was given.
        check_only: Whether the masks are checked and nothing is moved; one compiled program can do both.
        fallbacks: Codes tried after the bank's.
        covariance: Of a Mahalanobis distance; Euclidean if not given.
        num_neighbours: Codes of the bank that are targets.
        num_extra_neighbours: Farther ones, each tried only for masks that are still without a valid shape.
        num_bisections: Bisections of a segment.

    Returns:
        Masks, their validity and how far they moved. ``valid`` is false only if ``fallback_mask`` itself is not valid,
        or where no target is valid and there is no such mask.

    Raises:
        ValueError: If the masks are split over a mesh with explicit axes.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020.

    Example:
        >>> bank = jnp.array([[1.0], [8.0]])
        >>> encode = lambda masks: (masks[:, 0] / 10, None)
        >>> decode = lambda codes, place: (codes * 10).astype(jnp.int32)[:, None]
        >>> above = lambda masks: masks[:, 0, 0] >= 10
        >>> fixed = correct_masks(
        ...     jnp.array([[[0]], [[50]]]), bank, encode=encode, decode=decode, is_valid=above, num_neighbours=1
        ... )
        >>> fixed.masks[:, 0, 0].tolist(), fixed.was_valid.tolist()
        ([10, 50], [False, True])
    """
    require_auto_axes(masks)
    codes, place = encode(masks)
    # A code that is not a number (an empty mask may give one) starts from the bank instead.
    first_finite = bank[jnp.argmax(jnp.isfinite(bank).all(-1))]
    codes = jnp.where(jnp.isfinite(codes).all(-1, keepdims=True), codes, first_finite.astype(codes.dtype))
    targets = _targets(codes, bank, fallbacks, covariance, num_neighbours, num_extra_neighbours)
    search = _search(
        codes,
        targets,
        lambda z: decode(z, place),
        is_valid,
        num_bisections=num_bisections,
        given=masks,
        check_only=check_only,
    )
    best, was_valid = search.best, search.was_valid
    has_valid = jnp.isfinite(best.distance)
    last = masks if fallback_mask is None else fallback_mask.astype(masks.dtype)
    moved = jnp.where(has_valid[:, None, None], best.masks.astype(masks.dtype), last)
    valid = has_valid if fallback_mask is None else has_valid | is_valid(fallback_mask[None])[0]
    return MaskCorrection(
        masks=jnp.where(was_valid[:, None, None], masks, moved),
        was_valid=was_valid,
        valid=valid | was_valid,
        codes=best.codes,
        fraction=best.fraction,
        distance=jnp.where(was_valid, 0, best.distance),
    )
