"""The training loop: steps, evaluation, checkpoints, resumption, told in order."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Array

from cardiojax.train.checkpoints import CheckpointStore
from cardiojax.train.logs import MetricLog
from cardiojax.train.state import TrainState


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """When a run looks at itself.

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
    """Where a run tells a person how it goes; this one tells nobody."""

    def start(self, step: int, num_steps: int) -> None:
        """Is called once, before the first step."""

    def update(self, step: int, loss: float) -> None:
        """Is called at each record of the loss."""

    def say(self, message: str) -> None:
        """Is called with a sentence worth reading."""


class DivergedError(Exception):
    """The loss is no longer a number."""


class FitResult(NamedTuple):
    """How a run ended."""

    state: TrainState
    best_score: float
    best_step: int
    stopped_early: bool


def fit(
    state: TrainState,
    batches: BatchIterator,
    *,
    step: Callable[[TrainState, Any], tuple[TrainState, dict[str, Array]]],
    evaluate: Callable[[TrainState], dict[str, float]],
    directory: str | Path,
    config: LoopConfig = LoopConfig(),
    reporter: Reporter | None = None,
) -> FitResult:
    """Trains until the last step, resuming from the folder's latest checkpoint if it has one.

    A resumed run repeats exactly what the uninterrupted one would have done: the state, the position in the data and
    the history come from the checkpoint, and random numbers depend on the step alone.

    Args:
        state: State before step 0; its buffers are donated.
        batches: Training data.
        step: A jitted training step, from a state and a batch to the next state and its metrics.
        evaluate: Scores a state; ``"score"`` (higher is better) chooses the best checkpoint.
        directory: The run's folder: ``checkpoints/``, ``metrics.jsonl``, ``tensorboard/``.
        config: Length and intervals.
        reporter: Where progress is told.

    Returns:
        The last state and the best score. The best checkpoint is in the folder.

    Raises:
        DivergedError: If the loss becomes NaN or infinite; the checkpoints before it are kept.
        DamagedCheckpointError: If the folder has checkpoints but none can be read.
    """
    reporter = reporter or Reporter()
    directory = Path(directory)
    abstract = jax.eval_shape(lambda s: s, state)
    history: dict[str, Any] = {"best_score": -math.inf, "best_step": 0, "evals_since_best": 0}
    store = CheckpointStore(directory / "checkpoints")
    restored = store.restore(abstract)
    if restored is not None:
        for sentence in restored.skipped:
            reporter.say(f"{sentence}; falling back to step {restored.step}")
        state = jax.tree.map(jax.numpy.asarray, restored.state)
        batches.set_state(restored.metadata["data"])
        history = restored.metadata["history"]
        reporter.say(f"resuming from step {restored.step} of {directory}")
    current = int(state.step)
    log = MetricLog(directory, resume_step=current)
    reporter.start(current, config.num_steps)
    stopped_early = _is_exhausted(history, config)
    try:
        while current < config.num_steps and not stopped_early:
            state, metrics = step(state, next(batches))
            current += 1
            if current % config.log_every == 0 or current == config.num_steps:
                values = {name: float(value) for name, value in metrics.items()}
                _require_finite(values["loss"], current, directory)
                log.write(current, **values)
                reporter.update(current, values["loss"])
            if current % config.eval_every == 0 or current == config.num_steps:
                _require_finite(float(metrics["loss"]), current, directory)
                scores = evaluate(state)
                _require_finite(scores["score"], current, directory)
                log.write(current, **{f"eval/{name}": value for name, value in scores.items()})
                reporter.say(f"step {current}: " + ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
                is_better = scores["score"] > history["best_score"]
                history = {
                    "best_score": max(scores["score"], history["best_score"]),
                    "best_step": current if is_better else history["best_step"],
                    "evals_since_best": 0 if is_better else history["evals_since_best"] + 1,
                }
                metadata = {"data": batches.get_state(), "history": history}
                store.save(current, state, metadata=metadata, score=scores["score"])
                stopped_early = _is_exhausted(history, config)
    finally:
        log.close()
    return FitResult(state, history["best_score"], history["best_step"], stopped_early and current < config.num_steps)


def _is_exhausted(history: dict[str, Any], config: LoopConfig) -> bool:
    return 0 < config.patience <= history["evals_since_best"]


def _require_finite(value: float, step: int, directory: Path) -> None:
    if not math.isfinite(value):
        raise DivergedError(
            f"the loss is {value} at step {step}; the last good checkpoint is kept in {directory / 'checkpoints'}"
        )
