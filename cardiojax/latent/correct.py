"""The guarantee: from an implausible shape to the closest plausible one on the way to a known one."""

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
    """Codes whose shapes are plausible.

    Attributes:
        codes: The corrected codes, ``[b, d]``; plausible ones as they came.
        masks: What they decode to.
        valid: Whether those masks pass, or the input was said to be plausible, ``[b]``; never where the code that came
            is not finite, since nothing says how far it had to move.
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


@jitted(static=("decode", "is_valid", "num_neighbours", "num_more", "num_halvings"))
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
    num_more: int = 0,
    num_halvings: int = 6,
) -> Correction:
    """Moves codes of implausible shapes to the closest plausible ones.

    The segment from a code to each of its nearest neighbours in the bank is halved again and again: an end that decodes
    to a plausible shape stays one, and moves towards the code. Of the neighbours' ends the closest is taken. A
    neighbour that does not pass on the grid of ``decode`` is passed over for the next, and so are at last the
    fall-backs. Whatever comes back as ``valid`` has been decoded and judged.

    One loop decodes and judges, so that a compiled program holds the verdict once; it ends as soon as nothing can move
    closer.

    The functions are part of the compiled program: give the same ones in every call, not a new lambda each time.

    Memory: three sets of masks. Work: at most ``1 + (num_neighbours + num_more + f) * (num_halvings + 1)`` decodes and
    verdicts a code.

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
        num_more: Farther ones, each tried only for codes that are still without a plausible shape.
        num_halvings: Steps of the dichotomy; the move is at most ``2 ** -num_halvings`` of the segment too long.

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
        >>> fixed.alpha.tolist(), fixed.masks[:, 0, 0].tolist()
        ([1.0, 0.0], [10, 50])
    """
    require_auto_axes(codes)
    targets = _targets(codes, bank, fallbacks, covariance, num_neighbours, num_more)
    first = None if plausible is None else _First(plausible, None)
    return _walk(codes, targets, decode, is_valid, first, num_halvings)[0]


class _Targets(NamedTuple):
    """Where to walk, nearest first: codes ``[m, b, d]``, rows ``[m, b]``, and how many of them are for every code."""

    codes: Float[Array, "m b d"]
    rows: Int[Array, "m b"]
    num_open: int


class _First(NamedTuple):
    """What is known before the first decode: a verdict on each input, or masks to be judged."""

    plausible: Bool[Array, " b"] | None
    masks: Int[Array, "b *shape"] | None
    judge_only: Bool[Array, ""] | bool = False


class _Walk(NamedTuple):
    """State of the loop: the settled inputs, the best ends, and the segment that is being halved."""

    step: Int[Array, ""]
    plausible: Bool[Array, " b"]
    best: Correction
    end: tuple[Float[Array, "b d"], Int[Array, "b *shape"], Float[Array, " b"]]
    low: Float[Array, " b"]
    passes: Bool[Array, " b"]


def _targets(codes, bank, fallbacks, covariance, num_neighbours, num_more) -> _Targets:
    num_open = min(num_neighbours, len(bank))
    rows = nearest(codes, bank, min(num_neighbours + num_more, len(bank)), covariance=covariance).indices
    targets = jnp.where(rows[..., None] >= 0, bank[rows], jnp.nan).astype(codes.dtype)
    if fallbacks is not None:
        last = jnp.broadcast_to(fallbacks.astype(codes.dtype), (len(codes), *fallbacks.shape))
        targets = jnp.concatenate([targets, last], 1)
        names = jnp.broadcast_to(len(bank) + jnp.arange(len(fallbacks), dtype=rows.dtype), last.shape[:2])
        rows = jnp.concatenate([rows, names], 1)
    return _Targets(jnp.swapaxes(targets, 0, 1), rows.T, num_open)


def _choose(mask: Bool[Array, " b"], ours: Any, theirs: Any) -> Any:
    """Ours where the mask is set, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b), ours, theirs)


def _walk(codes, targets, decode, is_valid, first: _First | None, num_halvings) -> tuple[Correction, Bool[Array, " b"]]:
    """The walk, and the verdict on the inputs. Steps: the given masks, the codes, then a target and its halvings."""
    num = len(codes)
    shape = jax.eval_shape(decode, codes)
    masks = jnp.zeros(shape.shape, shape.dtype)
    zero, nobody = jnp.zeros(num, codes.dtype), jnp.zeros(num, bool)
    best = Correction(codes, masks, nobody, zero, zero + jnp.inf, jnp.full(num, -1, targets.rows.dtype))
    given = None if first is None else first.masks
    known = nobody if first is None or first.plausible is None else first.plausible
    start = _Walk(jnp.int32(0 if given is not None else 1), known, best, (codes, masks, zero), zero, nobody)
    num_steps = 2 + len(targets.rows) * (num_halvings + 1)

    def where(step):
        return jnp.maximum(step - 2, 0) // (num_halvings + 1), (step - 2) % (num_halvings + 1)

    def moves(walk):
        """Codes that may still come closer; the first ones to be judged are all."""
        is_open = (walk.step < 2) | (where(walk.step)[0] < targets.num_open)
        return ~walk.plausible & jnp.where(is_open, walk.best.distance > 0, jnp.isinf(walk.best.distance))

    def more(walk):
        walks = (walk.step == 0) | moves(walk).any() | ((walk.step == 1) & (given is None))
        return walks & (walk.step < num_steps) & ~((walk.step > 0) & (False if first is None else first.judge_only))

    def advance(walk):
        which, halving = where(walk.step)
        is_start, is_target = walk.step < 2, halving == 0
        target = targets.codes[which]
        alpha = jnp.where(is_start, 0, jnp.where(is_target, 1, (walk.low + walk.end[2]) / 2))
        trial = jnp.where(is_start, codes, jnp.where(is_target, target, codes + alpha[:, None] * (target - codes)))
        if given is None:
            masks = decode(trial)
        else:
            asked = given.astype(shape.dtype)
            masks = lax.cond(walk.step == 0, lambda: asked, lambda: decode(trial))
        verdict = is_valid(masks) & jnp.where(walk.step == 0, True, jnp.isfinite(trial).all(-1))
        plausible = jnp.where(walk.step == 0, verdict, walk.plausible)

        end = _choose(verdict | is_start | is_target, (trial, masks, alpha), walk.end)
        low = jnp.where(is_target | verdict, jnp.where(is_target, 0, walk.low), alpha)
        passes = jnp.where(is_target, verdict, walk.passes)
        distance = jnp.linalg.norm(end[0] - codes, axis=-1)
        found = Correction(end[0], end[1], passes, end[2], distance, targets.rows[which])
        is_last = ~is_start & (halving == num_halvings)
        best = _choose(is_last & moves(walk) & passes & (distance < walk.best.distance), found, walk.best)
        settled = verdict | plausible
        itself = Correction(codes, masks, settled, zero, jnp.where(settled, zero, jnp.inf), walk.best.target)
        best = _choose(jnp.broadcast_to(is_start, num), itself, best)
        # A target that passes for nobody who needs it is not walked to.
        is_vain = ~is_start & is_target & ~(verdict & moves(walk)).any()
        return _Walk(walk.step + jnp.where(is_vain, num_halvings + 1, 1), plausible, best, end, low, passes)

    walk = lax.while_loop(more, advance, start)
    valid = jnp.isfinite(walk.best.distance)
    return walk.best._replace(valid=valid, distance=jnp.where(valid, walk.best.distance, 0)), walk.plausible


class MaskCorrection(NamedTuple):
    """Plausible masks.

    Attributes:
        masks: The masks; plausible ones to the bit as they came, ``[b, h, w]``.
        plausible: Verdict on the input, ``[b]``.
        valid: Verdict on the result, ``[b]``.
        codes: Codes of the result; for plausible input, its own, ``[b, d]``.
        alpha: Part of the way to a known code that was needed, 0 where nothing moved, ``[b]``.
        distance: Length of the move in the latent space; infinite where nothing was found on the way, ``[b]``.
    """

    masks: Int[Array, "b h w"]
    plausible: Bool[Array, " b"]
    valid: Bool[Array, " b"]
    codes: Float[Array, "b d"]
    alpha: Float[Array, " b"]
    distance: Float[Array, " b"]


@jitted(static=("encode", "decode", "is_valid", "num_neighbours", "num_more", "num_halvings"))
def correct_masks(
    masks: Int[Array, "b h w"],
    bank: Float[Array, "n d"],
    *,
    encode: Callable[[Int[Array, "b h w"]], tuple[Float[Array, "b d"], Any]],
    decode: Callable[[Float[Array, "b d"], Any], Int[Array, "b h w"]],
    is_valid: Callable[[Int[Array, "b h w"]], Bool[Array, " b"]],
    known: Int[Array, "h w"] | None = None,
    judge_only: Bool[Array, ""] | bool = False,
    fallbacks: Float[Array, "f d"] | None = None,
    covariance: Float[Array, "d d"] | None = None,
    num_neighbours: int = 3,
    num_more: int = 0,
    num_halvings: int = 6,
) -> MaskCorrection:
    """Returns masks that pass; those that already do are untouched.

    The functions are part of the compiled program, as in `correct`.

    Args:
        masks: Label maps.
        bank: Codes of plausible shapes.
        encode: Label maps to codes and whatever brings a decoded shape back to its image: position, size, grid.
        decode: Codes and that, to label maps on the grid of the input, where they are judged.
        is_valid: Verdict on label maps.
        known: A mask that passes, put in where nothing else does: it makes the guarantee unconditional. Verify it once,
            where the bank is loaded. If not given, a mask for which nothing is found comes back as it came.
        judge_only: Whether the masks are judged and nothing is moved; one compiled program can do both.
        fallbacks: Codes tried after the bank's.
        covariance: Of a Mahalanobis distance; Euclidean if not given.
        num_neighbours: Codes of the bank to walk towards.
        num_more: Farther ones, each tried only for masks that are still without a plausible shape.
        num_halvings: Steps of the dichotomy.

    Returns:
        Masks, verdicts and how far they moved. ``valid`` is false only if ``known`` itself does not pass, or where
        nothing was found without it.

    Raises:
        ValueError: If the masks are split over a mesh with explicit axes.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020.
    """
    require_auto_axes(masks)
    codes, place = encode(masks)
    # A code that is not a number (an empty mask may give one) starts from the bank instead.
    first_finite = bank[jnp.argmax(jnp.isfinite(bank).all(-1))]
    codes = jnp.where(jnp.isfinite(codes).all(-1, keepdims=True), codes, first_finite.astype(codes.dtype))
    targets = _targets(codes, bank, fallbacks, covariance, num_neighbours, num_more)
    first = _First(None, masks, judge_only)
    found, plausible = _walk(codes, targets, lambda z: decode(z, place), is_valid, first, num_halvings)
    last = masks if known is None else known.astype(masks.dtype)
    moved = jnp.where(found.valid[:, None, None], found.masks.astype(masks.dtype), last)
    result = jnp.where(plausible[:, None, None], masks, moved)
    valid = found.valid if known is None else found.valid | is_valid(known[None])[0]
    distance = jnp.where(found.valid, found.distance, jnp.inf)
    return MaskCorrection(result, plausible, valid | plausible, found.codes, found.alpha, distance)
