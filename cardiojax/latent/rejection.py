"""Rejection sampling in blocks, with a fixed buffer and a count."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from cardiojax.latent.blocks import map_indices
from cardiojax.latent.density import Density
from cardiojax.types import RandomKey

#: Draws of the target that foretell the acceptance.
_PILOT = 4096


class Samples(NamedTuple):
    """What rejection sampling kept, and what it cost.

    Attributes:
        values: Kept draws first, zeros after, ``[n, d]``.
        valid: Which are draws, ``[n]``.
        num_accepted: How many.
        num_proposed: Draws of the proposal.
        acceptance: Part of them that was accepted; nan if none was drawn.
        log_scale: Logarithm of the k of the method.
        share_exceeded: Part of the codes where ``k Q < P``.
        mass_exceeded: Estimated part of the target's mass where ``k Q < P``; there the draws are too few, and elsewhere
            too many by as much.
        expected_proposals: Estimate made beforehand of the draws needed. If it is larger than ``max_proposals``,
            nothing was drawn.
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


def rejection_sample(
    key: RandomKey,
    target: Density,
    proposal: Density,
    num_samples: int,
    *,
    codes: Float[Array, "m d"] | None = None,
    scale: str | float = "max",
    max_proposals: int = 10**9,
    block_size: int = 4096,
    blocks_per_round: int = 8,
    mesh: Mesh | None = None,
) -> Samples:
    """Draws from a density P by proposals from another, Q: ``z ~ Q``, ``u ~ U(0, k Q(z))``, kept if ``u <= P(z)``.

    Proposals are drawn in rounds of blocks until enough are kept. A block has its own key and shape, so the kept draws
    do not depend on the devices. Before anything is proposed, a few thousand exact draws of the target foretell the
    acceptance, ``E_P[min(Q / P, 1 / k)]``, precisely even where it is one in a billion; a hopeless setting is refused.

    With one normal proposal the acceptance collapses as the dimension grows. A mixture keeps it practical, and the
    target as its own proposal makes it one: the distribution is the same.

    Memory beside the result: about 100 bytes a proposal of a round and 40 MiB for the densities.

    Args:
        key: Draws.
        target: P.
        proposal: Q.
        num_samples: Draws wanted.
        codes: Where k is chosen; the target's own if not given.
        scale: k: ``"max"``, the largest ``P / Q`` over the codes; ``"upper_quartile"``, their 75th percentile, which
            samples the smaller of ``P`` and ``k Q``; or a number.
        max_proposals: Proposals that are tolerated, below 2e9.
        block_size: Proposals of a block.
        blocks_per_round: Blocks of a round, a multiple of the devices.
        mesh: Devices that share the blocks.

    Returns:
        Draws and counts.

    Raises:
        ValueError: If there is no such scale, no codes to choose it, or too many proposals for a count.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020; vitalab/vital,
        ``vital/utils/sampling/rejection_sampling.py`` (Apache-2.0).
    """
    if not 0 < max_proposals <= 2 * 10**9:
        raise ValueError(f"max_proposals must lie between 1 and 2e9, got {max_proposals}")
    codes = getattr(target, "codes", None) if codes is None else codes
    if codes is None:
        raise ValueError("the target has no codes: give those where k is to be chosen")
    pilot_key, main_key = jax.random.split(key)
    points = jnp.concatenate([codes, target.sample(pilot_key, _PILOT)])
    log_ratios, pilot_ratios = jnp.split(target.log_prob(points) - proposal.log_prob(points), [len(codes)])
    log_scale = _log_scale(log_ratios, scale)
    log_acceptance = jax.nn.logsumexp(jnp.minimum(-pilot_ratios, -log_scale)) - math.log(_PILOT)
    expected = num_samples * jnp.exp(-log_acceptance)
    dim = codes.shape[1]

    def draw(index):
        where, height = jax.random.split(jax.random.fold_in(main_key, index))
        values = proposal.sample(where, block_size)
        log_height = jnp.log(jax.random.uniform(height, (block_size,))) + log_scale + proposal.log_prob(values)
        return values, log_height <= target.log_prob(values)

    def is_short(carry):
        _, num_accepted, round_index = carry
        num_proposed = round_index * (blocks_per_round * block_size)
        return (expected <= max_proposals) & (num_accepted < num_samples) & (num_proposed < max_proposals)

    def add(carry):
        buffer, num_accepted, round_index = carry
        indices = round_index * blocks_per_round + jnp.arange(blocks_per_round)
        values, keep = map_indices(draw, indices, mesh=mesh)
        keep = keep.reshape(-1)
        slots = jnp.where(keep, num_accepted + jnp.cumsum(keep) - 1, num_samples)
        buffer = buffer.at[slots].set(values.reshape(-1, dim), mode="drop")
        return buffer, num_accepted + keep.sum(), round_index + 1

    start = jnp.zeros((num_samples, dim), codes.dtype), jnp.int32(0), jnp.int32(0)
    buffer, num_accepted, num_rounds = lax.while_loop(is_short, add, start)
    num_proposed = num_rounds * (blocks_per_round * block_size)
    return Samples(
        values=buffer,
        valid=jnp.arange(num_samples) < num_accepted,
        num_accepted=jnp.minimum(num_accepted, num_samples),
        num_proposed=num_proposed,
        acceptance=num_accepted / num_proposed,
        log_scale=log_scale,
        share_exceeded=(log_ratios > log_scale).mean(),
        mass_exceeded=(pilot_ratios > log_scale).mean(),
        expected_proposals=expected,
    )


def _log_scale(log_ratios: Float[Array, " m"], scale: str | float) -> Float[Array, ""]:
    if isinstance(scale, str):
        if scale == "max":
            return log_ratios.max()
        if scale != "upper_quartile":
            raise ValueError(f"scale must be 'max', 'upper_quartile' or a number, got {scale!r}")
        # The percentile of the ratios themselves, which may be too large for a float: relative to the largest.
        return jnp.log(jnp.percentile(jnp.exp(log_ratios - log_ratios.max()), 75)) + log_ratios.max()
    return jnp.log(jnp.asarray(scale, log_ratios.dtype))
