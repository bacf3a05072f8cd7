"""The training loop: steps, evaluation, checkpoints and resumption."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from cardiojax.train.checkpoints import CheckpointStore
from cardiojax.train.logs import MetricLog
from cardiojax.train.processes import any_process, is_writer, lock_folder
from cardiojax.train.state import TrainState
from cardiojax.validation import MAX_COUNT, check_range


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Length and intervals of a run.

    Attributes:
        num_steps: Length of the run.
        log_every: Steps between records of the training loss.
        eval_every: Steps between evaluations; a checkpoint is written after each.
        patience: Evaluations without a better score after which the run stops; 0 for never.
    """

    num_steps: int = 4000
    log_every: int = 20
    eval_every: int = 400
    patience: int = 0

    def __post_init__(self):
        check_range(self, "num_steps", "log_every", "eval_every", low=1, high=MAX_COUNT)
        check_range(self, "patience", low=0, high=MAX_COUNT)


@runtime_checkable
class BatchIterator(Protocol):
    """Batches whose position can be saved, as Grain's iterators."""

    def __iter__(self) -> Iterator[Any]: ...

    def __next__(self) -> Any: ...

    def get_state(self) -> Any:
        """The position, as JSON."""
        ...

    def set_state(self, state: Any) -> None:
        """Goes to a position."""
        ...


class Reporter:
    """Receives the progress of a run; this one does nothing with it."""

    def start(self, step: int, num_steps: int) -> None:
        """Is called once, before the first step."""

    def update(self, step: int, loss: float) -> None:
        """Is called at each record of the loss."""

    def say(self, message: str) -> None:
        """Is called with a sentence worth reading."""


class DivergedError(Exception):
    """The loss, the parameters or the score are no longer numbers."""


class FitResult(NamedTuple):
    """How a run ended.

    Attributes:
        state: The last state.
        best_score: Highest score, minus infinity if there was no evaluation.
        best_step: Step with that score.
        stopped_early: Whether the run ended for lack of improvement.
        interrupted: Whether it ended because ``should_stop`` asked for it; calling `fit` again resumes it.
    """

    state: TrainState
    best_score: float
    best_step: int
    stopped_early: bool
    interrupted: bool = False


class History(NamedTuple):
    """The best evaluation so far, kept in each checkpoint."""

    best_score: float = -math.inf
    best_step: int = 0
    evals_since_best: int = 0

    def updated(self, step: int, score: float) -> "History":
        """The history after one more evaluation."""
        if score > self.best_score:
            return History(score, step, 0)
        return self._replace(evals_since_best=self.evals_since_best + 1)


def fit(
    state: TrainState,
    batches: BatchIterator | Iterator[Any],
    *,
    step: Callable[[TrainState, Any], tuple[TrainState, dict[str, Array]]],
    evaluate: Callable[[TrainState], Mapping[str, float]],
    directory: str | Path,
    config: LoopConfig = LoopConfig(),
    reporter: Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    description: Mapping[str, Any] | None = None,
) -> FitResult:
    """Trains until the last step, resuming from the folder's latest checkpoint if it has one.

    A resumed run repeats exactly what the uninterrupted one would have done: the state, the position in the data and
    the history come from the checkpoint, and random numbers depend on the step alone. A new run is evaluated before its
    first step, so that a fault of ``evaluate`` shows at once; that score is recorded and does not compete for the best.

    Args:
        state: State before step 0. It is copied: the caller's arrays stay valid though ``step`` donates its argument.
            A restored state has the shardings of this one.
        batches: Training data without end, a `BatchIterator`.
        step: A jitted training step, from a state and a batch to the next state and scalars by name, ``"loss"`` among
            them (see `make_step`).
        evaluate: A state to numbers by name; ``"score"`` among them (higher is better) chooses the best checkpoint.
        directory: The run's folder: ``checkpoints/``, ``metrics.jsonl``, ``tensorboard/``.
        config: Length and intervals.
        reporter: Receives the progress.
        should_stop: Asked after each step; once true, a checkpoint is written and the run ends.
        description: What each checkpoint says of the run, as JSON: its configuration, versions, data.

    Returns:
        The last state and the best score. The best checkpoint is in the folder.

    Raises:
        DivergedError: If the loss, the parameters or the score become NaN or infinite; no checkpoint holds such
            parameters, and the latest one is named.
        DamagedCheckpointError: If the folder has checkpoints but none can be read.
        CheckpointWriteError: If a checkpoint cannot be written.
        FolderInUseError: If another process trains in the folder.
        TypeError: If ``batches``, ``step`` or ``evaluate`` are not as described.
        ValueError: If the batches end before the run, or the folder holds a state of another structure.

    Example:
        >>> import grain
        >>> import tempfile
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from cardiojax.train import LoopConfig, init_state, make_step
        >>> def loss(key, params, batch, *, step):
        ...     return (batch - params) ** 2
        >>> optimizer = optax.sgd(0.25)
        >>> step = make_step(jax.random.key(0), loss, optimizer=optimizer)
        >>> state, config = init_state(jnp.array(0.0), optimizer), LoopConfig(num_steps=4)
        >>> def evaluate(state):
        ...     return {"score": -abs(float(state.params) - 2)}
        >>> batches = iter(grain.MapDataset.source([2.0]).repeat().batch(2).to_iter_dataset())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = fit(state, batches, step=step, evaluate=evaluate, directory=folder, config=config)
        >>> int(result.state.step)
        4
    """
    if not isinstance(batches, BatchIterator):
        raise TypeError(
            f"batches must be an iterator with get_state and set_state, as make_loader returns, got {type(batches)}"
        )
    directory = Path(directory)
    with lock_folder(directory / "checkpoints"):
        run = _Run(step, evaluate, CheckpointStore(directory / "checkpoints"), config, reporter or Reporter())
        run.description = description
        state, history = run.start(state, batches)
        current = int(state.step)
        run.log = MetricLog(directory if is_writer() else None, resume_step=current or -1)  # a new run has none yet
        run.reporter.start(current, config.num_steps)
        try:
            if current == 0:
                run.evaluate(state, 0)
            return run.advance(state, batches, history, should_stop)
        finally:
            run.log.close()


class _Run:
    """What stays the same during `fit`."""

    log: MetricLog
    description: Mapping[str, Any] | None = None

    def __init__(self, step: Any, evaluate: Any, store: CheckpointStore, config: LoopConfig, reporter: Reporter):
        self.step, self._evaluate, self.store, self.config, self.reporter = step, evaluate, store, config, reporter

    def start(self, state: TrainState, batches: BatchIterator) -> tuple[TrainState, History]:
        """The latest checkpoint, or a copy of the first state."""
        restored = self.store.restore(state)
        if restored is None:
            return jax.tree.map(jnp.copy, state), History()
        for sentence in restored.skipped:
            self.reporter.say(f"{sentence}; falling back to step {restored.step}")
        batches.set_state(restored.metadata["data"])
        self.reporter.say(f"resuming from step {restored.step} of {self.store.directory.parent}")
        history = History(**restored.metadata["history"])
        return restored.state, history if history.best_step else History()

    def advance(
        self, state: TrainState, batches: BatchIterator, history: History, should_stop: Callable[[], bool]
    ) -> FitResult:
        """All steps that are left."""
        config, current = self.config, int(state.step)
        interrupted, is_first = False, True
        while current < config.num_steps and not self._is_exhausted(history) and not interrupted:
            batch = _next(batches, current, config.num_steps)
            shapes = _shapes(state) if is_first else None
            if is_first:
                _check_batch(batch)
            output = self.step(state, batch)
            if shapes is not None:
                _check_step(output, shapes)
            (state, metrics), is_first = output, False
            current += 1
            is_last = current == config.num_steps
            is_evaluated = is_last or current % config.eval_every == 0
            is_asked = should_stop()
            if is_evaluated or current % config.log_every == 0 or jax.process_count() == 1:
                interrupted = any_process(is_asked) and not is_last  # all processes stop at one step
            if is_last or current % config.log_every == 0:
                values = {name: float(value) for name, value in metrics.items()}
                self._require_finite(values["loss"], state, current)
                self.log.write(current, **values)
                self.reporter.update(current, values["loss"])
            if is_evaluated or interrupted:
                self._require_finite(float(metrics["loss"]), state, current)
                score = self.evaluate(state, current) if is_evaluated else None
                history = history if score is None else history.updated(current, score)
                metadata = {**_metadata(batches, history), "run": self.description}
                self.store.save(current, state, metadata=metadata, score=score)
        stopped_early = current < config.num_steps and not interrupted
        return FitResult(state, history.best_score, history.best_step, stopped_early, interrupted)

    def evaluate(self, state: TrainState, current: int) -> float:
        """Scores a state and records the numbers."""
        scores = self._evaluate(state)
        if not isinstance(scores, Mapping) or "score" not in scores:
            names = f"a mapping with {sorted(scores)}" if isinstance(scores, Mapping) else f"a {type(scores).__name__}"
            raise TypeError(f"evaluate must return numbers by name with 'score' among them, got {names}")
        values = {name: float(value) for name, value in scores.items()}
        if not math.isfinite(values["score"]):
            raise DivergedError(f"the score is {values['score']} at step {current}; {self._latest_checkpoint()}")
        self.log.write(current, **{f"eval/{name}": value for name, value in values.items()})
        self.reporter.say(f"step {current}: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
        return values["score"]

    def _is_exhausted(self, history: History) -> bool:
        return 0 < self.config.patience <= history.evals_since_best

    def _require_finite(self, loss: float, state: TrainState, current: int) -> None:
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss} at step {current}; {self._latest_checkpoint()}")
        if not _is_finite((state.params, state.ema)):
            raise DivergedError(
                f"parameters are not finite after step {current}, though its loss is {loss:.4g}; "
                f"{self._latest_checkpoint()}"
            )

    def _latest_checkpoint(self) -> str:
        steps = self.store.steps
        return (
            f"the latest checkpoint is {self.store.directory / str(steps[-1])}" if steps else "there is no checkpoint"
        )


def _metadata(batches: BatchIterator, history: History) -> dict[str, Any]:
    known: dict[str, Any] = history._asdict()
    if not math.isfinite(history.best_score):  # JSON has no infinity
        known["best_score"] = None
    return {"data": batches.get_state(), "history": known}


def _next(batches: BatchIterator, current: int, num_steps: int) -> Any:
    try:
        batch = next(batches)
    except StopIteration:
        raise ValueError(
            f"the batches ended after step {current} of {num_steps}; repeat them (num_epochs=None)"
        ) from None
    return batch


@jax.jit
def _is_finite(tree: PyTree) -> Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all() if leaves else jnp.array(True)


def _shapes(state: TrainState) -> Any:
    """The structure of a state, which is known when the step has donated its arrays."""
    leaves, treedef = jax.tree.flatten(state)
    return treedef, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _check_batch(batch: Any) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        kind = getattr(dtype, "kind", "V")
        if kind in "OSUMm":
            name = jax.tree_util.keystr(path) or "itself"
            raise TypeError(f"batches must hold arrays of numbers; {name} is {dtype}: leave it out")


def _check_step(output: Any, shapes: Any) -> None:
    if not isinstance(output, tuple) or len(output) != 2 or not isinstance(output[1], Mapping):
        raise TypeError(f"step must return a state and scalars by name, got {type(output).__name__}")
    state, metrics = output
    if "loss" not in metrics or any(jnp.shape(value) for value in metrics.values()):
        given = ", ".join(f"{name} {list(jnp.shape(value))}" for name, value in metrics.items())
        raise TypeError(f"step must return scalars by name with 'loss' among them, got {given or 'none'}")
    if _shapes(state) != shapes:
        raise TypeError("step must return a state of the structure, shapes and types of the one it was given")
