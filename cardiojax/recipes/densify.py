"""Fills a bank with codes of valid shapes: streaming, sharded, and resumed bit-identically."""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cardiojax import latent, train
from cardiojax.data.bank import BankError, BankProgress, BankWriter, LatentBank, read_bank
from cardiojax.validation import check_range, check_seed

#: Rounds without one valid shape after which the job gives up.
_MAX_EMPTY_ROUNDS = 50
#: Types in which codes can be kept.
_DTYPES = ("float16", "float32")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DensifyConfig:
    """Size and draws of a bank.

    Attributes:
        num_codes: Valid codes wanted.
        seed: Seed of the draws.
        widening: Factor c on the width of the density's kernels in the proposal: k is ``c^d``, and ``c^-d`` of the
            proposals are accepted.
        block_size: Codes decoded at a time on a device.
        blocks_per_round: Blocks a call, a multiple of the devices.
        chunk_size: Codes a file; what is lost at most when the job is killed.
        dtype: Precision of the codes: they are rounded before they are checked.
    """

    num_codes: int = 1_000_000
    seed: int = 0
    widening: float = 1.05
    block_size: int = 256
    blocks_per_round: int = 8
    chunk_size: int = 65_536
    dtype: str = "float16"

    def __post_init__(self):
        check_range(self, "num_codes", "block_size", "blocks_per_round", "chunk_size", low=1)
        check_range(self, "widening", low=1)
        check_seed(self)
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {self.dtype!r}")


def densify(
    folder: str | Path,
    density: latent.Parzen,
    *,
    decode: Callable[[jax.Array], Any],
    is_valid: Callable[[Any], jax.Array],
    config: DensifyConfig,
    metadata: dict[str, Any],
    mesh: Mesh | None = None,
    progress: Callable[[BankProgress], None] | None = None,
) -> LatentBank:
    """Draws codes by rejection sampling, decodes and checks them, and keeps the valid ones until there are enough.

    The proposal is the density with wider kernels. The metadata of the bank hold under ``"sampler"`` the scale k, the
    acceptance expected from it, and the share of codes and of the density's mass that exceed k times the proposal.

    The bank depends on nothing but the arguments: a job that was killed resumes where its last chunk ended and ends
    with the same bank, on any number of devices and processes. Of several processes the first writes the bank, and its
    density is that of all.

    Args:
        folder: The bank; one found there is resumed.
        density: What to draw from: P.
        decode: Codes ``[n, d]`` to shapes; jitted here.
        is_valid: Shapes to booleans ``[n]``; jitted here.
        config: Size and draws.
        metadata: What identifies the model and the criteria, as JSON.
        mesh: Devices that share the blocks; in a run of several processes those of all.
        progress: Called with the counts after every round, in the first process.

    Returns:
        The bank, read back.

    Raises:
        BankError: If the folder holds another bank, or no shape at all is valid.
        FolderInUseError: If another run fills the same bank.
        OtherProcessError: In the other processes, if the first cannot write the bank.

    References:
        Painchaud et al., "Cardiac Segmentation with Strong Anatomical Guarantees", IEEE TMI 2020.
    """
    folder = Path(folder)
    shared = train.from_writer(density)
    density = jax.tree.map(jnp.asarray, shared)
    proposal = density.widened(config.widening)
    pilot_key, key = jax.random.split(jax.random.key(config.seed))
    envelope = latent.measure_envelope(pilot_key, density, proposal, jnp.asarray(density.codes))
    envelope = train.from_writer(envelope)
    sampler = {
        "proposal": "the density with wider kernels",
        "scale": math.exp(float(envelope.log_scale)),
        "share_exceeded": float(envelope.share_exceeded),
        "mass_exceeded": float(envelope.mass_exceeded),
        "expected_acceptance": math.exp(float(envelope.log_acceptance)),
    }

    def draw(density: latent.Parzen, indices: jax.Array) -> latent.Candidates:
        return latent.draw_candidates(
            key,
            indices,
            density,
            density.widened(config.widening),
            jnp.asarray(envelope.log_scale),
            decode=decode,
            is_valid=is_valid,
            block_size=config.block_size,
            dtype=config.dtype,
            mesh=mesh,
        )

    with train.lock_folder(folder):
        writer = train.on_writer(
            lambda: BankWriter(
                folder,
                num_codes=config.num_codes,
                chunk_size=config.chunk_size,
                dtype=config.dtype,
                density=density,
                metadata={**metadata, "draws": dataclasses.asdict(config), "sampler": sampler},
            )
        )
        _fill(writer, folder, functools.partial(jax.jit(draw), shared), config, progress)
        return read_bank(folder)


def _fill(
    writer: BankWriter | None,
    folder: Path,
    draw: Callable[[np.ndarray], latent.Candidates],
    config: DensifyConfig,
    progress: Callable[[BankProgress], None] | None,
) -> None:
    """Draws from where the bank ends until it is full; the process with the writer writes."""
    round_size = config.block_size * config.blocks_per_round

    def draw_round(index: int) -> latent.Candidates:
        return draw(index * config.blocks_per_round + np.arange(config.blocks_per_round, dtype=np.int32))

    begun = BankProgress() if writer is None else writer.progress
    done = BankProgress(*map(int, train.from_writer(np.array(begun, np.int64))))
    if done.num_codes == config.num_codes:
        return
    written, skip, index = done.num_codes, done.skip, done.next_round
    valid_before, proposed_before, accepted_before = done.valid_before, done.proposed_before, done.accepted_before
    upcoming = draw_round(index)
    waiting = np.zeros((0, upcoming.codes.shape[1]), config.dtype)
    while written < config.num_codes:
        current, upcoming = upcoming, draw_round(index + 1)  # the devices work while the codes are written
        if np.asarray(current.num_drawn).min() < config.block_size:
            raise BankError(f"too few proposals are accepted to fill {folder}; choose a widening closer to 1")
        valid = np.asarray(current.codes)[np.asarray(current.valid)]
        waiting = np.concatenate([waiting, valid[skip:]])
        counts = BankProgress(
            num_codes=written,
            num_drawn=(index + 1) * round_size,
            num_valid=valid_before + len(valid),
            next_round=index,
            valid_before=valid_before,
            num_proposed=proposed_before + int(np.asarray(current.num_proposed, np.int64).sum()),
            num_accepted=accepted_before + int(np.asarray(current.num_accepted, np.int64).sum()),
            proposed_before=proposed_before,
            accepted_before=accepted_before,
        )
        while 0 < (size := min(config.chunk_size, config.num_codes - written)) <= len(waiting):
            chunk, waiting = waiting[:size], waiting[size:]
            written += size
            counts = counts._replace(num_codes=written, skip=len(valid) - len(waiting))
            train.on_writer(functools.partial(_write, writer, chunk, counts))
        skip, index = 0, index + 1
        valid_before, proposed_before, accepted_before = counts.num_valid, counts.num_proposed, counts.num_accepted
        if valid_before == 0 and index >= _MAX_EMPTY_ROUNDS:
            raise BankError(f"none of {counts.num_drawn} shapes drawn for {folder} is valid")
        if progress is not None and writer is not None:
            progress(counts._replace(num_codes=min(written + len(waiting), config.num_codes)))


def _write(writer: BankWriter | None, chunk: np.ndarray, counts: BankProgress) -> None:
    assert writer is not None  # called in the process that has it
    writer.write(chunk, counts)
