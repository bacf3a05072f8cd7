"""Checkpoints of a run: the latest ones and the best, written whole or not at all. The only door to Orbax."""

import shutil
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree
from orbax.checkpoint import v1 as ocp


class DamagedCheckpointError(Exception):
    """No checkpoint of a folder can be read."""


class Restored(NamedTuple):
    """A checkpoint read back, on the host."""

    step: int
    state: PyTree
    metadata: dict[str, Any]
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
        for leftover in self._directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(leftover)

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
        """
        host = jax.tree.map(np.asarray, state)
        record = {
            "metadata": metadata,
            "score": None if score is None else float(score),
            "signature": _signature(host),
            "checksum": _checksum(host),
        }
        ocp.save(str(self._directory / str(step)), host, custom_metadata=record, overwrite=True)
        keep = {*self.steps[-self._num_latest :], self.best_step}
        for old in set(self.steps) - keep:
            shutil.rmtree(self._directory / str(old))

    def restore(self, abstract_state: PyTree, *, step: int | None = None) -> Restored | None:
        """Reads a checkpoint; a damaged one is set aside as ``<step>.damaged`` and the one before it is read.

        Args:
            abstract_state: A pytree of arrays or of `jax.ShapeDtypeStruct` (see `jax.eval_shape`).
            step: Which one; the latest if not given.

        Returns:
            The checkpoint, with a sentence for each damaged one passed over; None if the folder has none.

        Raises:
            DamagedCheckpointError: If there are checkpoints but none can be read.
            ValueError: If a readable checkpoint has another structure than ``abstract_state``.
        """
        template = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), abstract_state)
        skipped: list[str] = []
        for candidate in self.steps[::-1] if step is None else [step]:
            path = self._directory / str(candidate)
            try:
                record = _read_record(path)
                matches = record["signature"] == _signature(template)
                state = ocp.load(str(path), template) if matches else None
                if matches and _checksum(state) != record["checksum"]:
                    raise OSError("its arrays do not have the checksum they were written with")
            except Exception as error:  # orbax and its storage raise many kinds for a damaged file
                reason = (str(error).strip().splitlines() or [""])[0]
                skipped.append(f"{path} is damaged ({type(error).__name__}: {reason[:120]})")
                aside = path.with_name(f"{candidate}.damaged")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)
                continue
            if not matches:
                raise ValueError(
                    f"{path} holds a state of another structure: {_first_difference(record['signature'], template)}; "
                    "choose another folder, or the configuration it was started with"
                )
            return Restored(candidate, state, record["metadata"], tuple(skipped))
        if skipped:
            raise DamagedCheckpointError(f"no checkpoint in {self._directory} can be read: " + "; ".join(skipped))
        return None

    def _score(self, step: int) -> float:
        try:
            score = _read_record(self._directory / str(step))["score"]
        except Exception:  # a damaged checkpoint is nobody's best
            return -np.inf
        return -np.inf if score is None else score


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
        value = zlib.crc32(np.asarray(leaf).tobytes(), value)
    return value
