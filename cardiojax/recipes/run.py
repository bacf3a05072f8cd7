"""One training run of any task: configuration, resumption, evaluation and the best weights, in one folder."""

import dataclasses
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

import cardiojax
from cardiojax import ops, storage, train
from cardiojax.data.loader import LoaderConfig, make_loader
from cardiojax.validation import MAX_COUNT, MAX_SIZE, check_range, check_seed

#: Fields that may change when a run is resumed: where things lie and what they are called (the data are compared by
#: their checksum), how long it runs and how often it is evaluated, and what computes it.
_FREE_FIELDS = ("out", "data", "datasets", "loop", "mesh", "implementation")
_WEIGHTS = "weights.safetensors"
_CONFIG = "config.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every run has.

    Attributes:
        out: The run's folder; an earlier run there is resumed.
        seed: Seed of the parameters, of the order of the data and of the augmentation.
        ema_decay: Decay of the moving average of the parameters, which is what is scored and kept.
        loop: Length and intervals.
        mesh: Devices and processes; a run may be resumed on others.
    """

    out: Path
    seed: int = 0
    ema_decay: float = 0.998
    loop: train.LoopConfig = train.LoopConfig()
    mesh: train.MeshConfig = train.MeshConfig()

    def __post_init__(self):
        check_seed(self)
        check_range(self, "ema_decay", low=0, high=1)
        for name, high in (("batch_size", MAX_COUNT), ("size", MAX_SIZE), ("num_samples", MAX_COUNT)):
            if hasattr(self, name):
                check_range(self, name, low=1, high=high)


class RunResult(NamedTuple):
    """How a run ended.

    Attributes:
        params: Moving average of the parameters at the best evaluation; None if the run was interrupted.
        best_score: Its score.
        best_step: Its step.
        state: The last state.
        stopped_early: Whether the run ended for lack of improvement.
        interrupted: Whether it ended because ``should_stop`` asked for it; running it again resumes it.
    """

    params: PyTree
    best_score: float
    best_step: int
    state: train.TrainState
    stopped_early: bool
    interrupted: bool


def run(
    task: train.Task,
    batches: train.BatchIterator | Iterator[Any],
    *,
    config: RunConfig,
    optimizer: optax.GradientTransformation,
    save: Callable[[Path, PyTree], None] | None = None,
    data_checksum: int | None = None,
    compiler_options: dict[str, Any] | None = None,
    reporter: train.Reporter | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunResult:
    """Trains a task, resuming exactly if the folder holds a run of it.

    Writes ``config.json``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoints/`` and, at the end,
    ``weights.safetensors``. A run may be resumed with another length or other intervals (``config.loop``) and from
    another place; a folder whose run never reached a checkpoint may be started anew with any configuration.

    Args:
        task: The model, its loss and its score.
        batches: Training data without end, a `BatchIterator` (see `cardiojax.data.loader.make_loader`); the share of
            this process in a run of several.
        config: The run; a dataclass with more fields is kept and compared whole.
        optimizer: The optimizer; it is made anew at a resumption, with the schedule of ``config.loop.num_steps``.
        save: Writes the best parameters to a path; none are written if not given.
        data_checksum: Identifies the data, see `cardiojax.data.arrays.source_checksum`.
        compiler_options: Options of XLA for the training step.
        reporter: Receives the progress.
        should_stop: Asked after each step; once true, a checkpoint is written and the run ends.

    Returns:
        The best parameters and the last state.

    Raises:
        ValueError: If the folder holds a run of another configuration or of other data, or files of the same names that
            no run wrote.
        FolderInUseError: If another process trains in the folder.
        OutOfMemoryError: If a step does not fit into memory; the sentence says which batch size would.
        DivergedError: As `cardiojax.train.fit`; the weights of the best checkpoint before it are written all the same.
        Exception: What `cardiojax.train.fit` raises.

    Example:
        A Flax NNX module of one's own::

            graph, _ = nnx.split(Net(nnx.Rngs(0)))
            task = train.Task(
                init=lambda key: nnx.state(Net(nnx.Rngs(key))),
                loss=lambda key, params, batch, *, step: my_loss(nnx.merge(graph, params), batch),
                evaluate=lambda params: {"score": my_score(nnx.merge(graph, params))},
            )
            result = run(task, make_loader(source), config=RunConfig(out=Path("runs/mine")), optimizer=optax.adam(1e-3))
    """
    reporter = reporter if reporter is not None and train.is_writer() else train.Reporter()
    with train.lock_folder(config.out):
        _compare_config(config, data_checksum, reporter)
        state, batches, places = _start(task.init(jax.random.key(config.seed)), batches, optimizer, config.mesh)
        if train.is_writer():
            storage.write_json(config.out / _CONFIG, _describe(config, data_checksum))
        step = train.make_step(
            jax.random.key(config.seed),
            task.loss,
            optimizer=optimizer,
            ema_decay=config.ema_decay,
            compiler_options=compiler_options,
            places=places,
        )
        try:
            fitted = train.fit(
                state,
                batches,
                step=step,
                evaluate=lambda state: task.evaluate(train.local_copy(state.ema)),
                directory=config.out,
                config=config.loop,
                reporter=reporter,
                should_stop=should_stop,
                description={**_describe(config, data_checksum), "versions": _versions()},
            )
        except train.DivergedError as error:
            best = _save_best(config.out, state, save, reporter)
            if best is None or save is None:
                raise
            raise train.DivergedError(
                f"{error}; the weights of step {best.step} are in {config.out / _WEIGHTS}"
            ) from error
        except Exception as error:
            if not train.is_out_of_memory(error):
                raise
            multiple = 1 if places is None else jax.tree.leaves(places)[0].mesh.shape["data"]
            shortage = train.describe_shortage(step, state, next(batches), multiple=multiple)
            raise train.OutOfMemoryError(shortage) from error
        if fitted.interrupted:
            return RunResult(None, fitted.best_score, fitted.best_step, fitted.state, False, True)
        best = _save_best(config.out, fitted.state, save, reporter)
        assert best is not None  # the last step was evaluated
    score = fitted.best_score if best.score is None else best.score
    return RunResult(best.state.ema, score, best.step, fitted.state, fitted.stopped_early, False)


def _start(
    params: PyTree, batches: Any, optimizer: optax.GradientTransformation, config: train.MeshConfig
) -> tuple[train.TrainState, Any, Any]:
    """The state and the batches on the devices of a run, and where they are; None on a single device."""
    mesh = train.make_mesh(config)

    def init(params: PyTree) -> train.TrainState:
        return train.init_state(params, optimizer)

    if mesh is None:
        return jax.jit(init, compiler_options=ops.brief_compiler_options())(params), batches, None
    shapes = jax.eval_shape(init, params)
    places = train.shardings(shapes, mesh, fully_sharded="data" if config.fully_sharded else None)
    state = jax.jit(init, out_shardings=places)(train.place(params, places.params))  # of it, nothing is ever whole
    return state, train.MeshBatches(batches, mesh), places


def initializer(model: Any, shape: tuple[int, ...]) -> Callable[[jax.Array], PyTree]:
    """Makes the function that draws the parameters of a model.

    Compiled as a whole, it takes a sixth of the time that compiling one operation after the other takes.

    Args:
        model: A Flax module.
        shape: Of its input.

    Returns:
        A random key to parameters; it has compiler options, so that it cannot be called within another `jax.jit`.

    Example:
        >>> import flax.linen as nn
        >>> initializer(nn.Dense(2), (1, 3))(jax.random.key(0))["kernel"].shape
        (3, 2)
    """

    def init(key: jax.Array) -> PyTree:
        return model.init(key, jnp.zeros(shape))["params"]

    return jax.jit(init, compiler_options=ops.brief_compiler_options())


def training_batches(source: Any, config: Any) -> Any:
    """Batches of a run: in a run of several processes the share of this one.

    Args:
        source: Examples, see `cardiojax.data.loader.make_loader`.
        config: A `RunConfig` with ``batch_size``, that of all processes together.

    Returns:
        The iterator.

    Raises:
        ValueError: If a batch cannot be shared evenly, or there is none.
    """
    count = jax.process_count()
    if config.batch_size % count:
        raise ValueError(f"batch_size must be a multiple of the {count} processes, got {config.batch_size}")
    options = LoaderConfig(batch_size=config.batch_size // count, seed=config.seed)
    return make_loader(source, options, process_index=jax.process_index(), process_count=count)


def _save_best(
    out: Path, like: train.TrainState, save: Callable[[Path, PyTree], None] | None, reporter: train.Reporter
) -> train.Restored | None:
    """Writes the weights of the best checkpoint that can be read, if there is one."""
    best = train.CheckpointStore(out / "checkpoints").restore_best(like)
    if best is not None:
        for sentence in best.skipped:
            reporter.say(f"{sentence}; the best checkpoint that can be read is {best.step}")
        params = train.local_copy(best.state.ema)
        if save is not None and train.is_writer():
            save(out / _WEIGHTS, params)
    return best


def zoo_model(config: Any, presets: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Says how the zoo makes a model: the preset that is nearest to a configuration, and the fields that differ.

    Args:
        config: A model's configuration.
        presets: Configurations by the name of the model in the zoo.

    Returns:
        The name and the overrides, for `cardiojax.zoo.save`.
    """

    def overrides(preset: Any) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(config)]
        return {n: getattr(config, n) for n in names if getattr(config, n) != getattr(preset, n)}

    name = min(presets, key=lambda name: len(overrides(presets[name])))
    return name, overrides(presets[name])


def _describe(config: Any, data_checksum: int | None) -> dict[str, Any]:
    """A configuration as JSON writes it; paths are absolute, so that another spelling is the same."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(each) for key, each in value.items()}
        return str(value.resolve()) if isinstance(value, Path) else value

    described = {**plain(dataclasses.asdict(config)), "data_checksum": data_checksum}
    return json.loads(storage.to_json(described))


def _versions() -> dict[str, str]:
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
    return {"cardiojax": cardiojax.__version__, **{name: importlib.metadata.version(name) for name in packages}}


def _compare_config(config: RunConfig, data_checksum: int | None, reporter: train.Reporter) -> None:
    if not any(p.name.removesuffix(".damaged").isdigit() for p in (config.out / "checkpoints").glob("*")):
        _require_own_files(config.out)  # no step was kept that another configuration would continue
        return
    path = config.out / _CONFIG
    try:
        kept = json.loads(path.read_text("utf-8"))
        before, now = _flatten(kept), _flatten(_describe(config, data_checksum))
    except (OSError, ValueError, AttributeError):
        raise ValueError(f"{path} cannot be read, though the folder holds checkpoints; choose another folder") from None
    changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    for name in changed:
        if name.split(".")[0] in _FREE_FIELDS:
            continue
        if name == "data_checksum":
            raise ValueError(
                f"{config.out} holds a run on other data (those of {kept.get('data')}); choose another folder"
            )
        raise ValueError(
            f"{config.out} holds a run of another configuration: {name} is {before.get(name, 'absent')} there and "
            f"{now.get(name, 'absent')} here; choose another folder"
        )
    if "loop.num_steps" in changed:
        reporter.say(
            f"the run had {before['loop.num_steps']} steps and gets {now['loop.num_steps']}: "
            "the learning rate follows the schedule of the new length from here on"
        )


def _require_own_files(out: Path) -> None:
    """Refuses a folder whose files a new run would replace, though no run wrote them: a run's first is its config."""
    try:
        is_own = "data_checksum" in json.loads((out / _CONFIG).read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        is_own = False
    foreign = [name for name in (_CONFIG, _WEIGHTS, "metrics.jsonl") if (out / name).exists()]
    if foreign and not is_own:
        raise ValueError(f"{out} holds {foreign[0]}, which no run of this package wrote there; choose another folder")


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, each in value.items():
        flat |= _flatten(each, f"{prefix}{name}.") if isinstance(each, dict) else {f"{prefix}{name}": each}
    return flat
