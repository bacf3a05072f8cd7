"""The loop on a linear model: exact resumption, damaged checkpoints, divergence, early stop."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cardiojax import train


class Batches:
    """Batches that depend on their position alone."""

    def __init__(self, poison_at=None):
        self.position = 0
        self.poison_at = poison_at

    def __iter__(self):
        return self

    def __next__(self):
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


@functools.partial(jax.jit, donate_argnums=0)
def step(state, batch):
    def loss(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean((-2, -1))

    return train.train_step(
        jax.random.key(3), state, batch, apply=apply, loss=loss, augment=jitter, optimizer=OPTIMIZER
    )


def new_state():
    return train.init_state({"w": jnp.zeros((1, 2)), "b": jnp.zeros(2)}, OPTIMIZER)


def evaluate(state):
    return {"score": float(state.params["w"][0, 1])}


def fit(directory, num_steps, batches=None, reporter=None, **options):
    config = train.LoopConfig(num_steps=num_steps, log_every=1, eval_every=4, **options)
    return train.fit(
        new_state(),
        batches or Batches(),
        step=step,
        evaluate=evaluate,
        directory=directory,
        config=config,
        reporter=reporter,
    )


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


def test_early_stop_keeps_the_best(tmp_path):
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.2])
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
