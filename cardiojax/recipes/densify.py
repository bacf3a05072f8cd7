"""Fills a bank with codes of valid shapes: streaming, sharded, and resumed bit-identically."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cardiojax import latent, storage
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
        block_size: Codes decoded at a time on a device.
        blocks_per_round: Blocks a call, a multiple of the devices.
        chunk_size: Codes a file; what is lost at most when the job is killed.
        dtype: Precision of the codes: they are rounded before they are checked.
    """

    num_codes: int = 1_000_000
    seed: int = 0
    block_size: int = 256
    blocks_per_round: int = 8
    chunk_size: int = 65_536
    dtype: str = "float16"

    def __post_init__(self):
        check_range(self, "num_codes", "block_size", "blocks_per_round", "chunk_size", low=1)
        check_seed(self)
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {self.dtype!r}")


def densify(
    folder: str | Path,
    density: latent.Density,
    *,
    decode: Callable[[jax.Array], Any],
    is_valid: Callable[[Any], jax.Array],
    config: DensifyConfig,
    metadata: dict[str, Any],
    mesh: Mesh | None = None,
    progress: Callable[[BankProgress], None] | None = None,
) -> LatentBank:
    """Draws codes, decodes and checks them, and keeps the valid ones until there are enough.

    The bank depends on nothing but the arguments: a job that was killed resumes where its last chunk ended and ends
    with the same bank, on any number of devices.

    Args:
        folder: The bank; one found there is resumed.
        density: What to draw from.
        decode: Codes ``[n, d]`` to shapes; jitted here.
        is_valid: Shapes to booleans ``[n]``; jitted here.
        config: Size and draws.
        metadata: What identifies the model and the criteria, as JSON.
        mesh: Devices that share the blocks.
        progress: Called with the counts after every round.

    Returns:
        The bank, read back.

    Raises:
        BankError: If the folder holds another bank, or no shape at all is valid.
        FolderInUseError: If another process fills the same bank.
    """
    folder = Path(folder)
    with storage.lock_folder(folder):
        writer = BankWriter(
            folder,
            num_codes=config.num_codes,
            chunk_size=config.chunk_size,
            dtype=config.dtype,
            density=density,
            metadata={**metadata, "draws": dataclasses.asdict(config)},
        )
        _fill(writer, folder, density, decode, is_valid, config, mesh, progress)
        return read_bank(folder)


def _fill(
    writer: BankWriter,
    folder: Path,
    density: latent.Density,
    decode: Callable[[jax.Array], Any],
    is_valid: Callable[[Any], jax.Array],
    config: DensifyConfig,
    mesh: Mesh | None,
    progress: Callable[[BankProgress], None] | None,
) -> None:
    """Draws from where the bank ends until it is full."""
    key = jax.random.key(config.seed)
    round_size = config.block_size * config.blocks_per_round

    @jax.jit
    def draw(density, round_index):
        return latent.draw_candidates(
            key,
            round_index * config.blocks_per_round + jnp.arange(config.blocks_per_round),
            sample=density.sample,
            decode=decode,
            is_valid=is_valid,
            block_size=config.block_size,
            dtype=config.dtype,
            mesh=mesh,
        )

    done = writer.progress
    if done.num_codes == config.num_codes:
        return
    written, skip, valid_before = done.num_codes, done.skip, done.valid_before
    upcoming = draw(density, done.next_round)
    waiting = np.zeros((0, upcoming.codes.shape[1]), config.dtype)
    index = done.next_round
    while written < config.num_codes:
        current, upcoming = upcoming, draw(density, index + 1)  # the devices work while the codes are written
        valid = np.asarray(current.codes)[np.asarray(current.valid)]
        waiting = np.concatenate([waiting, valid[skip:]])
        counts = BankProgress(written, (index + 1) * round_size, valid_before + len(valid), index, valid_before)
        while 0 < (size := min(config.chunk_size, config.num_codes - written)) <= len(waiting):
            chunk, waiting = waiting[:size], waiting[size:]
            written += size
            counts = counts._replace(num_codes=written, skip=len(valid) - len(waiting))
            writer.write(chunk, counts)
        skip, valid_before, index = 0, valid_before + len(valid), index + 1
        if valid_before == 0 and index >= _MAX_EMPTY_ROUNDS:
            raise BankError(f"none of {counts.num_drawn} shapes drawn for {folder} is valid")
        if progress is not None:
            progress(counts._replace(num_codes=min(written + len(waiting), config.num_codes)))
