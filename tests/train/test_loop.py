"""The loop on a linear model: exact resumption, damaged checkpoints, divergence, early stop."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint import v1 as ocp

from cardiojax import storage, train


class Batches:
    """Batches that depend on their position alone."""

    def __init__(self, poison_at=None, end=None, text=False):
        self.position = 0
        self.poison_at, self.end, self.text = poison_at, end, text

    def __iter__(self):
        return self

    def __next__(self):
        if self.text:
            return {"patient": np.array(["a"])}
        if self.position == self.end:
            raise StopIteration
        rng = np.random.default_rng(self.position)
        images = rng.random((4, 8, 8), np.float32)
        if self.position == self.poison_at:
            images = np.full_like(images, np.nan)
        self.position += 1
        return train.Batch(images, (images > 0.5).astype(np.int32))

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


class Notes(train.Reporter):
    def __init__(self):
        self.messages = []

    def say(self, message):
        self.messages.append(message)


def apply(params, images, *, key):
    return images * params["w"] + params["b"]


def jitter(key, image, labels):
    return image + 0.1 * jax.random.normal(key, image.shape), labels


OPTIMIZER = optax.adam(0.05)


def pixel_loss(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean((-2, -1))


def loss_fn(key, params, batch, *, step):
    return train.augmented_loss(key, params, batch, apply=apply, loss=pixel_loss, augment=jitter)


step = train.make_step(jax.random.key(3), loss_fn, optimizer=OPTIMIZER)


def new_params():
    return {"w": jnp.zeros((1, 2)), "b": jnp.zeros(2)}


def new_state():
    return train.init_state(new_params(), OPTIMIZER)


def evaluate(state):
    return {"score": float(state.params["w"][0, 1])}


def fit(directory, num_steps, batches=None, **options):
    config = train.LoopConfig(num_steps=num_steps, log_every=1, eval_every=4)
    options = {"step": step, "evaluate": evaluate, "config": config} | options
    return train.fit(options.pop("state", new_state()), batches or Batches(), directory=directory, **options)


def losses(directory):
    return [(r["step"], r["loss"]) for r in train.read_log(directory) if "loss" in r]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    result = fit(directory, 12)
    return directory, result


def test_training_lowers_the_loss_and_writes_every_step(whole_run):
    directory, result = whole_run
    curve = losses(directory)
    assert [s for s, _ in curve] == list(range(1, 13))
    assert curve[-1][1] < curve[0][1]
    assert result.best_step == 12
    assert int(result.state.step) == 12
    assert list((directory / "tensorboard").glob("events*"))


def test_a_killed_run_resumes_with_the_same_losses(whole_run, tmp_path):
    class Killed(Exception):
        pass

    class KilledBatches(Batches):
        def __next__(self):
            if self.position == 10:
                raise Killed
            return super().__next__()

    with pytest.raises(Killed):
        fit(tmp_path, 12, KilledBatches())
    assert len(losses(tmp_path)) == 10
    notes = Notes()
    result = fit(tmp_path, 12, reporter=notes)
    assert any("resuming from step 8" in m for m in notes.messages)
    assert losses(tmp_path) == losses(whole_run[0])
    for ours, theirs in zip(jax.tree.leaves(result.state), jax.tree.leaves(whole_run[1].state), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# orbax abandons its other reads when one fails
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["truncate", "flip", "flip_one", "delete", "metadata"])
def test_a_damaged_latest_checkpoint_falls_back_and_says_so(whole_run, tmp_path, damage):
    shutil.copytree(whole_run[0], tmp_path / "run")
    latest = tmp_path / "run" / "checkpoints" / "12"
    if damage == "metadata":
        files = list(latest.rglob("_CHECKPOINT_METADATA"))
    else:
        files = [f for f in latest.rglob("*") if f.is_file() and f.parent.name == "d"]
    assert files
    for file in files:
        content = file.read_bytes()
        if damage == "truncate":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "flip_one":
            file.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
        elif damage == "flip":
            file.write_bytes(bytes(b ^ 0xFF for b in content))
        elif damage == "delete":
            file.unlink()
        else:
            file.write_bytes(b"")
    notes = Notes()
    result = fit(tmp_path / "run", 12, reporter=notes)
    assert any("12 is damaged" in m and "falling back to step 8" in m for m in notes.messages)
    assert (tmp_path / "run" / "checkpoints" / "12.damaged").is_dir()
    assert losses(tmp_path / "run") == losses(whole_run[0])
    np.testing.assert_array_equal(result.state.params["w"], whole_run[1].state.params["w"])


def test_all_checkpoints_damaged_is_an_error(whole_run, tmp_path):
    shutil.copytree(whole_run[0], tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(train.DamagedCheckpointError, match="can be read"):
        fit(tmp_path / "run", 12)
    with pytest.raises(train.DamagedCheckpointError, match="damaged checkpoints only; delete it"):
        fit(tmp_path / "run", 12)


def test_a_checkpoint_of_another_model_is_refused_and_kept(whole_run, tmp_path):
    shutil.copytree(whole_run[0], tmp_path / "run")
    other = train.init_state({"w": jnp.zeros((1, 3)), "b": jnp.zeros(3)}, OPTIMIZER)
    with pytest.raises(ValueError, match=r"ema.*float32\[2\], expected float32\[3\]"):
        train.fit(other, Batches(), step=step, evaluate=evaluate, directory=tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "12").is_dir()


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(train.DivergedError, match="step 7"):
        fit(tmp_path, 12, Batches(poison_at=6))
    store = train.CheckpointStore(tmp_path / "checkpoints")
    assert store.steps == [4]
    restored = store.restore(jax.eval_shape(new_state))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(restored.state))


@pytest.mark.parametrize("broken", ["learning_rate", "ema_decay"])
def test_parameters_that_are_not_finite_are_never_a_checkpoint(whole_run, tmp_path, broken):
    rate = optax.join_schedules([optax.constant_schedule(0.05), optax.constant_schedule(np.nan)], [5])
    optimizer = optax.adam(rate if broken == "learning_rate" else 0.05)
    decay = np.nan if broken == "ema_decay" else 0.998
    bad = train.make_step(jax.random.key(3), loss_fn, optimizer=optimizer, ema_decay=decay)
    state = train.init_state(new_params(), optimizer)
    expected = "after step 6, .*checkpoints/4$" if broken == "learning_rate" else "after step 1, .*no checkpoint$"
    with pytest.raises(train.DivergedError, match=expected):
        fit(tmp_path, 12, step=bad, state=state)
    good = train.make_step(jax.random.key(3), loss_fn, optimizer=optax.adam(optax.constant_schedule(0.05)))
    again = train.init_state(new_params(), optax.adam(optax.constant_schedule(0.05)))
    result = fit(tmp_path, 12, step=good, state=again)
    np.testing.assert_array_equal(result.state.params["w"], whole_run[1].state.params["w"])


def test_a_stop_that_was_asked_for_leaves_a_checkpoint_and_no_trace(whole_run, tmp_path):
    asked = iter([False] * 5 + [True])
    stopped = fit(tmp_path, 12, should_stop=lambda: next(asked))
    assert stopped.interrupted
    assert (stopped.best_step, int(stopped.state.step)) == (4, 6)
    asked = iter([True])  # before any evaluation
    first = fit(tmp_path / "early", 12, should_stop=lambda: next(asked))
    assert (first.best_score, int(first.state.step)) == (-np.inf, 1)
    for directory in (tmp_path, tmp_path / "early"):
        result = fit(directory, 12)
        assert not result.interrupted
        assert train.read_log(directory) == train.read_log(whole_run[0])
        jax.tree.map(np.testing.assert_array_equal, result.state, whole_run[1].state)


def test_the_callers_arrays_stay_and_their_shardings_are_restored(tmp_path):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    params = {"w": jnp.zeros((1, 2), device=split), "b": jnp.zeros(2)}
    for _ in range(2):  # the second restores
        result = fit(tmp_path, 4, state=train.init_state(params, OPTIMIZER))
    assert not params["w"].is_deleted()
    assert result.state.params["w"].sharding == split
    assert not result.state.params["b"].committed


def test_random_keys_are_restored(tmp_path):
    store = train.CheckpointStore(tmp_path)
    state = {"key": jax.random.key(7), "keys": jax.random.split(jax.random.key(0), 3), "x": jnp.ones(2)}
    store.save(1, state, metadata={})
    restored = store.restore(state)
    assert restored is not None
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), restored.state, state))


def test_one_run_a_folder(tmp_path):
    with storage.lock_folder(tmp_path / "checkpoints"), pytest.raises(storage.FolderInUseError, match="in use"):
        fit(tmp_path, 4)


def test_a_checkpoint_that_cannot_be_written_ends_the_run(whole_run, tmp_path, monkeypatch):
    def no_space(path, state, **_):
        if path.endswith("8"):
            (tmp_path / "checkpoints" / "8.orbax-checkpoint-tmp").mkdir()
            raise ValueError("RESOURCE_EXHAUSTED: No space left on device")
        return save(path, state, **_)

    save = ocp.save
    monkeypatch.setattr(ocp, "save", no_space)
    with pytest.raises(train.CheckpointWriteError, match=r"checkpoints/8 .*No space left.*latest checkpoint is 4"):
        fit(tmp_path, 12)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["4"]
    monkeypatch.undo()
    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(tmp_path)._replace(free=3)
        patch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(train.CheckpointWriteError, match=r"8 could not be written .*0\.0 MiB are free"):
            fit(tmp_path, 12)
    result = fit(tmp_path, 12)
    np.testing.assert_array_equal(result.state.params["w"], whole_run[1].state.params["w"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("part", ["arrays", "metadata"])
def test_a_damaged_best_checkpoint_gives_way_to_the_best_readable(tmp_path, part):
    store = train.CheckpointStore(tmp_path, num_latest=3)
    assert store.restore_best({"x": jnp.zeros(3)}) is None
    for number, score in ((1, 0.3), (2, 0.9), (3, 0.5), (4, None)):
        store.save(number, {"x": jnp.full(3, number)}, metadata={}, score=score)
    for file in (tmp_path / "2").rglob("_CHECKPOINT_METADATA" if part == "metadata" else "*/d/*"):
        file.write_bytes(b"")
    restored = store.restore_best({"x": jnp.zeros(3, jnp.int32)})
    assert restored is not None
    assert (restored.step, restored.score) == (3, 0.5)
    assert "2 is damaged" in restored.skipped[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluate": lambda _: {"dice": 0.5}}, r"'score' among them, got a mapping with \['dice'\]"),
        ({"evaluate": lambda _: 0.5}, "'score' among them, got a float"),
        ({"batches": iter([1])}, "get_state and set_state"),
        ({"batches": Batches(text=True)}, r"hold arrays of numbers; \['patient'\] is <U1"),
        ({"step": lambda state, batch: state}, "must return a state and scalars"),
        ({"step": lambda state, batch: (state, {"cost": 1.0})}, "'loss' among them, got cost"),
        ({"step": lambda state, batch: (state._replace(ema={}), {"loss": 1.0})}, "structure, shapes and types"),
    ],
)
def test_what_does_not_fit_the_loop_is_a_sentence_before_any_work_is_lost(tmp_path, options, message):
    with pytest.raises(TypeError, match=message):
        fit(tmp_path, 4, **options)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"loss": lambda logits, labels: pixel_loss(logits, labels).mean()}, r"per example \[4\], got shape \[\]"),
        ({"augment": lambda key, image, labels: (image[:4], labels)}, r"one shape, got \[4, 4, 8\] and \[4, 8, 8\]"),
        ({"batch": {"image": np.zeros((4, 8, 8))}}, "must have images and labels"),
        ({"batch": train.Batch(np.zeros((4, 8, 8)), np.zeros((4, 9, 9), int))}, r"must both be \[n, h, w\]"),
    ],
)
def test_what_does_not_fit_the_loss_is_a_sentence(replaced, message):
    options = {"batch": next(Batches()), "apply": apply, "loss": pixel_loss, "augment": jitter} | replaced
    with pytest.raises(TypeError, match=message):
        train.augmented_loss(jax.random.key(0), new_params(), options.pop("batch"), **options)


def test_batches_that_end_are_named(tmp_path):
    with pytest.raises(ValueError, match="ended after step 5 of 12"):
        fit(tmp_path, 12, Batches(end=5))


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (train.LoopConfig, "log_every", 0),
        (train.LoopConfig, "num_steps", -1),
        (train.LoopConfig, "num_steps", 10**20),
        (train.OptimizerConfig, "learning_rate", np.nan),
        (train.OptimizerConfig, "learning_rate", -1.0),
        (train.OptimizerConfig, "clip_norm", np.inf),
        (train.OptimizerConfig, "decay_share", 1.5),
        (train.NNUNetOptimizerConfig, "learning_rate", np.inf),
        (train.NNUNetOptimizerConfig, "steps_per_epoch", 0),
    ],
)
def test_absurd_options_are_refused(config, field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*, got {value}"):
        config(**{field: value})


def test_early_stop_keeps_the_best(tmp_path):
    scores = iter([0.9, 0.1, 0.5, 0.4, 0.3, 0.2])  # the first is from before the first step and does not count
    config = train.LoopConfig(num_steps=40, log_every=1, eval_every=2, patience=2)
    result = train.fit(
        new_state(), Batches(), step=step, evaluate=lambda _: {"score": next(scores)}, directory=tmp_path, config=config
    )
    assert result.stopped_early
    assert (result.best_step, result.best_score) == (4, 0.5)
    assert int(result.state.step) == 8
    store = train.CheckpointStore(tmp_path / "checkpoints")
    assert store.best_step == 4
    assert 4 in store.steps


def test_optimizer_schedule_and_decay_mask():
    optimizer = train.make_optimizer(train.OptimizerConfig(warmup_steps=2, weight_decay=0.5, clip_norm=1e9), 10)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    state = optimizer.init(params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, state = optimizer.update(zeros, state, params)
    assert float(jnp.abs(updates["kernel"]).max()) == 0.0  # the rate starts at zero
    updates, state = optimizer.update(zeros, state, params)
    assert float(updates["kernel"][0, 0]) == pytest.approx(-0.5 * 1e-3)
    assert float(updates["bias"][0]) == 0.0


def test_log_survives_a_line_cut_short(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 2.0}) + '\n{"step": 2, "lo')
    assert train.read_log(tmp_path) == [{"step": 1, "loss": 2.0}]
