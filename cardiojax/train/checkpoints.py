"""Checkpoints of a run: the latest ones and the best, written whole or not at all. The only importer of Orbax."""

import contextlib
import shutil
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp

from cardiojax.train.processes import is_writer, to_host, wait_for_all

#: End of the names of folders that are being written or deleted; what a killed process leaves is removed at the start.
_TEMPORARY = ".orbax-checkpoint-tmp"


class DamagedCheckpointError(Exception):
    """No checkpoint of a folder can be read."""


class CheckpointWriteError(OSError):
    """A checkpoint could not be written; the earlier ones are as they were."""


class Restored(NamedTuple):
    """A checkpoint read back.

    Attributes:
        step: Step it belongs to.
        state: Arrays, placed as those of the state that was asked for; on the host where that names no sharding.
        metadata: What was saved beside them.
        score: Its score, None if it has none.
        skipped: A sentence for each damaged checkpoint that was passed over.
    """

    step: int
    state: PyTree
    metadata: dict[str, Any]
    score: float | None
    skipped: tuple[str, ...]


class CheckpointStore:
    """A folder of checkpoints, one subfolder per saved step.

    Args:
        directory: Where they are kept; made if absent.
        num_latest: How many of the latest are kept; the best one is kept beside them.
    """

    def __init__(self, directory: str | Path, *, num_latest: int = 2):
        self._directory = Path(directory).resolve()  # orbax refuses relative paths
        self._directory.mkdir(parents=True, exist_ok=True)
        self._num_latest = num_latest
        for leftover in self._directory.glob(f"*{_TEMPORARY}*") if is_writer() else ():
            shutil.rmtree(leftover)
        wait_for_all("checkpoints")

    @property
    def directory(self) -> Path:
        """Where the checkpoints are."""
        return self._directory

    @property
    def steps(self) -> list[int]:
        """Steps with a checkpoint, ascending."""
        return sorted(int(p.name) for p in self._directory.iterdir() if p.is_dir() and p.name.isdigit())

    @property
    def best_step(self) -> int | None:
        """The step with the highest score, None if none has a score."""
        scores = {step: self._score(step) for step in self.steps}
        return max((s for s in scores if scores[s] > -np.inf), key=scores.__getitem__, default=None)

    def save(self, step: int, state: PyTree, *, metadata: dict[str, Any], score: float | None = None) -> None:
        """Writes a checkpoint; an interrupted write leaves the earlier ones as they were.

        Args:
            step: The step it belongs to.
            state: A pytree of arrays.
            metadata: What must be known beside the arrays, as JSON: the position in the data, the history.
            score: Higher is better; decides which checkpoint is the best.

        Raises:
            CheckpointWriteError: If it cannot be written.
        """
        parts = jax.tree.map(_to_numbers, state)
        record = {
            "metadata": metadata,
            "score": None if score is None else float(score),
            "signature": _signature(parts),
            "checksum": _checksum(parts),
        }
        path = self._directory / str(step)
        size, free = sum(leaf.nbytes for leaf in jax.tree.leaves(parts)), shutil.disk_usage(self._directory).free
        try:
            if size > free:  # found by the storage itself, it fills the terminal with messages of abandoned writes
                raise OSError(f"it takes up to {size / 2**20:.1f} MiB, {free / 2**20:.1f} MiB are free")
            ocp.save(str(path), parts, custom_metadata=record, overwrite=True)
        except Exception as error:  # orbax and its storage raise many kinds for a full disk
            for leftover in self._directory.glob(f"{step}{_TEMPORARY}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            kept = f"the latest checkpoint is {self.steps[-1]}" if self.steps else "there is none before it"
            raise CheckpointWriteError(f"{path} could not be written ({_reason(error)}); {kept}") from error
        keep = {*self.steps[-self._num_latest :], self.best_step}
        wait_for_all("saved")  # no process lists folders that the first removes
        for old in set(self.steps) - keep if is_writer() else ():
            doomed = self._directory / f"{old}{_TEMPORARY}"  # half deleted, it would look damaged
            (self._directory / str(old)).rename(doomed)
            shutil.rmtree(doomed)

    def restore(self, like: PyTree, *, step: int | None = None) -> Restored | None:
        """Reads the latest checkpoint; a damaged one is set aside as ``<step>.damaged`` and the one before it is read.

        Args:
            like: A state of the same structure: arrays, or `jax.ShapeDtypeStruct` (see `jax.eval_shape`). Where a leaf
                has a sharding, the restored array gets it.
            step: Which one; the latest if not given.

        Returns:
            The checkpoint; None if the folder has none.

        Raises:
            DamagedCheckpointError: If there are checkpoints but none can be read.
            ValueError: If a readable checkpoint has another structure than ``like``.
        """
        return self._first_readable(like, self.steps[::-1] if step is None else [step])

    def restore_best(self, like: PyTree) -> Restored | None:
        """Reads the checkpoint with the highest score that can be read, else the latest without a score.

        Args:
            like: As for `restore`.

        Returns:
            The checkpoint; None if the folder has none.

        Raises:
            DamagedCheckpointError: If there are checkpoints but none can be read.
            ValueError: If a readable checkpoint has another structure than ``like``.
        """
        scores = {step: self._score(step, if_damaged=np.inf) for step in self.steps}  # tried first, and set aside
        return self._first_readable(like, sorted(scores, key=lambda step: (scores[step], step), reverse=True))

    def _first_readable(self, like: PyTree, candidates: Sequence[int]) -> Restored | None:
        template = jax.tree.map(_to_template, like)
        skipped: list[str] = []
        for step in candidates:
            path = self._directory / str(step)
            try:
                record = _read_record(path)
                matches = record["signature"] == _signature(template)
                state = ocp.load(str(path), template) if matches else None  # of what is split, each process's part
                if matches and _checksum(state) != record["checksum"]:
                    raise OSError("its arrays do not have the checksum they were written with")
            except Exception as error:  # orbax and its storage raise many kinds for a damaged file
                skipped.append(f"{path} is damaged ({_reason(error)})")
                aside = path.with_name(f"{step}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                with contextlib.suppress(FileNotFoundError):
                    path.rename(aside)
                continue
            if not matches:
                raise ValueError(
                    f"{path} holds a state of another structure: {_first_difference(record['signature'], template)}; "
                    "choose another folder, or the configuration it was started with"
                )
            leaves, state = jax.tree.leaves(state), None
            # one at a time is there twice
            placed = [jax.block_until_ready(_place(leaves.pop(0), leaf)) for leaf in jax.tree.leaves(like)]
            placed = jax.tree.unflatten(jax.tree.structure(like), placed)
            return Restored(step, placed, record["metadata"], record["score"], tuple(skipped))
        if skipped:
            raise DamagedCheckpointError(f"no checkpoint in {self._directory} can be read: " + "; ".join(skipped))
        if not candidates and any(self._directory.glob("*.damaged")):
            raise DamagedCheckpointError(f"{self._directory} holds damaged checkpoints only; delete it to start anew")
        return None

    def _score(self, step: int, *, if_damaged: float = -np.inf) -> float:
        try:
            score = _read_record(self._directory / str(step))["score"]
        except Exception:
            return if_damaged
        return -np.inf if score is None else score


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numbers(leaf: Any) -> Any:
    """Random keys are kept as the numbers they consist of; of arrays of several processes, each writes its part."""
    numbers = jax.random.key_data(leaf) if _is_key(leaf) else leaf
    is_whole = not isinstance(numbers, jax.Array) or numbers.is_fully_addressable
    return np.asarray(numbers) if is_whole else numbers


def _is_split(leaf: Any) -> bool:
    sharding = getattr(leaf, "sharding", None)
    return sharding is not None and not _is_key(leaf) and not sharding.is_fully_replicated


def _to_template(leaf: Any) -> Any:
    """Where a leaf is read to: what is split to its devices, all else to the host."""
    if _is_split(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    data = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return np.broadcast_to(np.zeros((), data.dtype), data.shape)


def _place(array: Any, like: Any) -> Any:
    sharding = getattr(like, "sharding", None)
    if sharding is None:
        return array
    if _is_split(like):
        return jax.device_put(jnp.copy(array), sharding)  # a copy, as below
    if _is_key(like):
        placed = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    else:
        if not sharding.is_fully_addressable:
            return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
        placed = jnp.array(array)  # a copy: the training step donates the state, which must not reach NumPy's memory
    return jax.device_put(placed, sharding) if getattr(like, "committed", True) else placed


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _read_record(path: Path) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notes between orbax's own layers
        record = ocp.metadata(str(path)).custom_metadata
    if not isinstance(record, dict) or not {"metadata", "score", "signature", "checksum"} <= set(record):
        raise OSError("its metadata is missing")
    return record


def _signature(state: PyTree) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _first_difference(signature: dict[str, str], template: PyTree) -> str:
    expected = _signature(template)
    name = next(n for n in sorted({*signature, *expected}) if signature.get(n) != expected.get(n))
    return f"{name} is {signature.get(name, 'absent')}, expected {expected.get(name, 'absent')}"


def _checksum(state: PyTree) -> int:
    value = 0
    for leaf in jax.tree.leaves(state):
        value = zlib.crc32(to_host(leaf).tobytes(), value)  # one leaf at a time is whole
    return value
