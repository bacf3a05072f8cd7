"""Rejection sampling in blocks, with a fixed buffer and a count."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from cardiojax.latent.blocks import map_indices
from cardiojax.latent.density import Density, is_known
from cardiojax.ops import jitted
from cardiojax.types import RandomKey

#: Draws of the target from which the acceptance is estimated.
_PILOT = 4096
#: Excess of log P over log (k Q) that rounding explains.
_ROUNDING = 1e-4


class Proposal(NamedTuple):
    """One draw of the proposal.

    Attributes:
        value: The point, ``[d]``.
        is_accepted: Whether ``u <= P(z)``.
    """

    value: Float[Array, "*b d"]
    is_accepted: Bool[Array, "*b"]


class Envelope(NamedTuple):
    """The k of the method, and what it misses.

    Attributes:
        log_scale: Logarithm of k.
        share_exceeded: Part of the codes where ``k Q < P``.
        mass_exceeded: Estimated part of the target's mass where ``k Q < P``; there the draws are too few, and elsewhere
            too many by as much.
        log_acceptance: Logarithm of the expected part of the proposals that is accepted.
    """

    log_scale: Float[Array, ""]
    share_exceeded: Float[Array, ""]
    mass_exceeded: Float[Array, ""]
    log_acceptance: Float[Array, ""]


class Buffer(NamedTuple):
    """State of the sampler.

    Attributes:
        values: Accepted draws first, zeros after, ``[n, d]``.
        num_accepted: Proposals accepted, those included for which the buffer had no room.
        num_rounds: Rounds of proposals.
    """

    values: Float[Array, "n d"]
    num_accepted: Int[Array, ""]
    num_rounds: Int[Array, ""]


class Samples(NamedTuple):
    """Accepted draws and their statistics.

    Attributes:
        values: Accepted draws first, zeros after, ``[n, d]``.
        valid: Which are draws, ``[n]``. None is where too many proposals were expected, and only some are where
            ``max_proposals`` came first.
        num_accepted: How many.
        num_proposed: Draws of the proposal.
        acceptance: Part of them that was accepted; nan if none was drawn.
        log_scale: Logarithm of the k of the method.
        share_exceeded: As in `Envelope`.
        mass_exceeded: As in `Envelope`.
        expected_proposals: Estimate, made before any is drawn, of the proposals needed. If it is larger than
            ``max_proposals``, nothing is drawn.
    """

    values: Float[Array, "n d"]
    valid: Bool[Array, " n"]
    num_accepted: Int[Array, ""]
    num_proposed: Int[Array, ""]
    acceptance: Float[Array, ""]
    log_scale: Float[Array, ""]
    share_exceeded: Float[Array, ""]
    mass_exceeded: Float[Array, ""]
    expected_proposals: Float[Array, ""]


def propose(key: RandomKey, target: Density, proposal: Density, log_scale: Float[Array, ""] | float) -> Proposal:
    """Draws once from Q and compares with P: ``z ~ Q``, ``u ~ U(0, k Q(z))``, accepted if ``u <= P(z)``.

    Args:
        key: Draws.
        target: P.
        proposal: Q.
        log_scale: Logarithm of k.

    Returns:
        The point and whether it is accepted.

    Example:
        >>> from cardiojax.latent import fit_parzen
        >>> window = fit_parzen(jnp.zeros((1, 2)), bandwidth=1.0)
        >>> keys = jax.random.split(jax.random.key(0), 100)
        >>> bool(jax.vmap(lambda key: propose(key, window, window, 0.0))(keys).is_accepted.all())
        True
    """
    point_key, height_key = jax.random.split(key)
    z = proposal.sample(point_key, 1)[0]
    log_u = jnp.log(jax.random.uniform(height_key)) + log_scale + proposal.log_prob(z)
    return Proposal(z, log_u <= target.log_prob(z))


def fill_buffer(
    key: RandomKey,
    target: Density,
    proposal: Density,
    log_scale: Float[Array, ""],
    *,
    num_samples: int,
    block_size: int,
    blocks_per_round: int,
    max_proposals: int | Int[Array, ""],
    mesh: Mesh | None = None,
) -> Buffer:
    """Proposes in rounds of blocks until enough draws are accepted. A block has its own key, derived from its index.

    Args:
        key: Draws.
        target: P.
        proposal: Q.
        log_scale: Logarithm of k.
        num_samples: Draws wanted.
        block_size: Proposals of a block.
        blocks_per_round: Blocks of a round, a multiple of the devices.
        max_proposals: No round begins after this many.
        mesh: Devices that share the blocks.
    """
    round_size = blocks_per_round * block_size

    def propose_block(index):
        keys = jax.random.split(jax.random.fold_in(key, index), block_size)
        return jax.vmap(lambda key: propose(key, target, proposal, log_scale))(keys)

    def is_short(buffer):
        return (buffer.num_accepted < num_samples) & (buffer.num_rounds * round_size < max_proposals)

    def fill(buffer):
        indices = buffer.num_rounds * blocks_per_round + jnp.arange(blocks_per_round)
        z, is_accepted = map_indices(propose_block, indices, mesh=mesh)
        is_accepted = is_accepted.reshape(-1)
        slots = jnp.where(is_accepted, buffer.num_accepted + jnp.cumsum(is_accepted) - 1, num_samples)
        values = buffer.values.at[slots].set(z.reshape(-1, z.shape[-1]), mode="drop")
        return Buffer(values, buffer.num_accepted + is_accepted.sum(dtype=jnp.int32), buffer.num_rounds + 1)

    point = jax.eval_shape(lambda key: proposal.sample(key, 1)[0], key)
    start = Buffer(jnp.zeros((num_samples, *point.shape), point.dtype), jnp.int32(0), jnp.int32(0))
    return lax.while_loop(is_short, fill, start)


def measure_envelope(
    key: RandomKey,
    target: Density,
    proposal: Density,
    codes: Float[Array, "m d"],
    scale: str | float | Float[Array, ""] = "max",
) -> Envelope:
    """Chooses k, and estimates from draws of the target what the method accepts and misses.

    The acceptance is ``E_P[min(Q / P, 1 / k)]``, which a few thousand draws of P give precisely even where it is one in
    a billion.

    Args:
        key: Draws of the target.
        target: P.
        proposal: Q.
        codes: Where k is chosen.
        scale: As in `rejection_sample`.

    Returns:
        k and the estimates.

    Example:
        >>> from cardiojax.latent import fit_parzen
        >>> codes = jnp.array([[-1.0, 0.0], [1.0, 0.0]])
        >>> window = fit_parzen(codes, bandwidth=0.5)
        >>> envelope = measure_envelope(jax.random.key(0), window, window.widened(2.0), codes)
        >>> round(float(jnp.exp(envelope.log_scale)), 2), round(float(jnp.exp(envelope.log_acceptance)), 2)
        (4.0, 0.25)
    """
    points = jnp.concatenate([codes, target.sample(key, _PILOT)])
    log_ratios, pilot_ratios = jnp.split(target.log_prob(points) - proposal.log_prob(points), [len(codes)])
    log_scale = _log_scale(log_ratios, scale, proposal)
    return Envelope(
        log_scale=log_scale,
        share_exceeded=(log_ratios > log_scale + _ROUNDING).mean(),
        mass_exceeded=(pilot_ratios > log_scale + _ROUNDING).mean(),
        log_acceptance=jax.nn.logsumexp(jnp.minimum(-pilot_ratios, -log_scale)) - math.log(_PILOT),
    )


def _log_scale(
    log_ratios: Float[Array, " m"], scale: str | float | Float[Array, ""], proposal: Density
) -> Float[Array, ""]:
    if not isinstance(scale, str):
        return jnp.log(jnp.asarray(scale, log_ratios.dtype))
    if scale == "max":
        return getattr(proposal, "log_bound", log_ratios.max())
    # The percentile of the ratios themselves, which may be too large for a float: relative to the largest.
    return jnp.log(jnp.percentile(jnp.exp(log_ratios - log_ratios.max()), 75)) + log_ratios.max()


def rejection_sample(
    key: RandomKey,
    target: Density,
    proposal: Density,
    num_samples: int,
    *,
    codes: Float[Array, "m d"] | None = None,
    scale: str | float | Float[Array, ""] = "max",
    max_proposals: int = 10**9,
    block_size: int = 1024,
    blocks_per_round: int = 32,
    mesh: Mesh | None = None,
) -> Samples:
    """Draws from a density P by proposals from another, Q: ``z ~ Q``, ``u ~ U(0, k Q(z))``, accepted if ``u <= P(z)``.

    Proposals are drawn in rounds of blocks until enough are accepted. A block has its own key and shape, so the draws
    do not depend on the devices. A setting of which `measure_envelope` expects more than ``max_proposals`` is refused
    before anything is proposed.

    With one normal proposal the acceptance collapses as the dimension grows. For a Parzen window, `Parzen.widened` is
    a proposal whose k is known, with an acceptance of ``c^-d``; the window itself accepts all.

    Memory beside the result: about 100 bytes a proposal of a round and 4 MiB for the densities.

    Args:
        key: Draws.
        target: P.
        proposal: Q.
        num_samples: Draws wanted.
        codes: Where k is chosen; the target's own if not given.
        scale: k: ``"max"``, the bound of a widened window, else the largest ``P / Q`` over the codes;
            ``"upper_quartile"``, their 75th percentile, which samples the smaller of ``P`` and ``k Q``; or a number.
        max_proposals: Proposals that are tolerated, at most 2e9.
        block_size: Proposals of a block.
        blocks_per_round: Blocks of a round, a multiple of the devices.
        mesh: Devices that share the blocks.

    Returns:
        Draws and counts. Under `jax.jit`, look at ``valid`` or ``num_accepted``.

    Raises:
        ValueError: If no samples are wanted, there is no such scale, no codes to choose it, or too many proposals for a
            count; outside `jax.jit` also if more than ``max_proposals`` are expected.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020; vitalab/vital,
        ``vital/utils/sampling/rejection_sampling.py`` (Apache-2.0).

    Example:
        >>> from cardiojax.latent import fit_parzen
        >>> window = fit_parzen(jnp.array([[-1.0, 0.0], [1.0, 0.0]]), bandwidth=0.5)
        >>> samples = rejection_sample(jax.random.key(0), window, window.widened(1.05), num_samples=1000)
        >>> bool(samples.valid.all()), round(float(samples.acceptance), 1)  # 1.05 ** -2
        (True, 0.9)
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    if not 0 < max_proposals <= 2 * 10**9:
        raise ValueError(f"max_proposals must lie between 1 and 2e9, got {max_proposals}")
    if isinstance(scale, str) and scale not in ("max", "upper_quartile"):
        raise ValueError(f"scale must be 'max', 'upper_quartile' or a number, got {scale!r}")
    codes = getattr(target, "codes", None) if codes is None else codes
    if codes is None:
        raise ValueError("the target has no codes: give those where k is to be chosen")
    rule, number = (scale, None) if isinstance(scale, str) else (None, scale)
    limits = {"max_proposals": max_proposals, "block_size": block_size, "blocks_per_round": blocks_per_round}
    samples = _sample(key, target, proposal, codes, number, num_samples=num_samples, rule=rule, mesh=mesh, **limits)
    if is_known(samples.num_proposed) and not samples.num_proposed:
        expected = float(samples.expected_proposals)
        raise ValueError(
            f"about one proposal in {expected / num_samples:.3g} would be accepted: {expected:.3g} proposals for "
            f"{num_samples} draws, more than max_proposals = {max_proposals}. Propose from the window itself, widened "
            "(target.widened(1.05)), or from a mixture (fit_mixture)"
        )
    return samples


@jitted(static=("num_samples", "rule", "max_proposals", "block_size", "blocks_per_round", "mesh"))
def _sample(
    key: RandomKey,
    target: Density,
    proposal: Density,
    codes: Float[Array, "m d"],
    number: float | Array | None,
    *,
    num_samples: int,
    rule: str | None,
    max_proposals: int,
    block_size: int,
    blocks_per_round: int,
    mesh: Mesh | None,
) -> Samples:
    pilot_key, main_key = jax.random.split(key)
    scale = rule if number is None else number
    assert scale is not None
    envelope = measure_envelope(pilot_key, target, proposal, codes, scale)
    expected = num_samples * jnp.exp(-envelope.log_acceptance)
    buffer = fill_buffer(
        main_key,
        target,
        proposal,
        envelope.log_scale,
        num_samples=num_samples,
        block_size=block_size,
        blocks_per_round=blocks_per_round,
        max_proposals=jnp.where(expected <= max_proposals, max_proposals, 0),
        mesh=mesh,
    )
    num_proposed = buffer.num_rounds * (blocks_per_round * block_size)
    return Samples(
        values=buffer.values,
        valid=jnp.arange(num_samples) < buffer.num_accepted,
        num_accepted=jnp.minimum(buffer.num_accepted, num_samples),
        num_proposed=num_proposed,
        acceptance=buffer.num_accepted / num_proposed,
        log_scale=envelope.log_scale,
        share_exceeded=envelope.share_exceeded,
        mass_exceeded=envelope.mass_exceeded,
        expected_proposals=expected,
    )
