"""One run of any task: a user's own NNX module resumes exactly; what a folder accepts and what it refuses."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from cardiojax import models, storage, train, zoo
from cardiojax.data.arrays import ArraySource, source_checksum
from cardiojax.data.loader import LoaderConfig, make_loader
from cardiojax.recipes import RunConfig, run
from cardiojax.recipes.run import zoo_model

SOURCE = ArraySource({"image": np.random.default_rng(0).random((8, 6, 6, 1), np.float32), "target": np.arange(8.0)})


class Net(nnx.Module):
    """A user's own network, with a module that draws random numbers."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 3, (3, 3), rngs=rngs)
        self.dropout = nnx.Dropout(0.3)
        self.head = nnx.Linear(3, 1, rngs=rngs)

    def __call__(self, images, rngs=None):
        features = nnx.relu(self.conv(images)).mean((-3, -2))
        return self.head(self.dropout(features, rngs=rngs, deterministic=rngs is None))[..., 0]


GRAPH = nnx.split(Net(nnx.Rngs(0)))[0]


def loss(key, params, batch, *, step):
    predicted = nnx.merge(GRAPH, params)(batch["image"], rngs=nnx.Rngs(key))
    return (predicted - batch["target"]) ** 2


def evaluate(params):
    images, target = (np.stack([SOURCE[i][name] for i in range(8)]) for name in ("image", "target"))
    return {"score": -float(jnp.abs(nnx.merge(GRAPH, params)(images) - target).mean())}


TASK = train.Task(init=lambda key: nnx.state(Net(nnx.Rngs(key))), loss=loss, evaluate=evaluate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RunConfig):
    data: Path = Path("here")
    rate: float = 0.01


def start(out, num_steps=6, *, task=TASK, checksum=source_checksum(SOURCE), **options):
    loop = train.LoopConfig(num_steps=num_steps, log_every=1, eval_every=2)
    fields = {f.name for f in dataclasses.fields(Config)} & set(options)
    config = Config(out=out, loop=loop, **{name: options.pop(name) for name in fields})
    batches = make_loader(SOURCE, LoaderConfig(batch_size=4))
    optimizer = optax.adam(config.rate)
    return run(task, batches, config=config, optimizer=optimizer, data_checksum=checksum, **options)


class Notes(train.Reporter):
    def __init__(self):
        self.messages = []

    def say(self, message):
        self.messages.append(message)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, start(folder)


def test_a_users_own_nnx_module_resumes_exactly(whole, tmp_path):
    asked = iter([False, False, True])
    stopped = start(tmp_path / "run", should_stop=lambda: next(asked))
    assert stopped.interrupted
    assert stopped.params is None
    resumed = start(tmp_path / "run")
    assert train.read_log(tmp_path / "run") == train.read_log(whole[0])
    for a, b in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole[1]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert evaluate(resumed.params)["score"] == pytest.approx(resumed.best_score)
    losses = [r["loss"] for r in train.read_log(tmp_path / "run") if "loss" in r]
    assert losses[-1] < losses[0]


def test_the_same_run_by_another_name_and_a_longer_one_resume(whole, tmp_path, monkeypatch):
    shutil.copytree(whole[0], tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    notes = Notes()
    again = start(Path("nowhere/../moved"), reporter=notes, data=Path("elsewhere"))
    assert any("resuming from step 6" in m for m in notes.messages)
    assert again.best_score == whole[1].best_score
    longer = start(Path("moved"), 8, reporter=notes)
    assert any("had 6 steps and gets 8" in m for m in notes.messages)
    assert int(longer.state.step) == 8
    assert json.loads(Path("moved/config.json").read_text())["loop"]["num_steps"] == 8


def test_another_configuration_or_other_data_are_refused(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    with pytest.raises(ValueError, match=r"another configuration: rate is 0.01 there and 0.02 here"):
        start(tmp_path / "run", rate=0.02)
    with pytest.raises(ValueError, match=r"other data \(those of .*here\)"):
        start(tmp_path / "run", checksum=7)
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read, though the folder holds checkpoints"):
        start(tmp_path / "run")
    with storage.lock_folder(tmp_path / "run"), pytest.raises(storage.FolderInUseError):
        start(tmp_path / "run")


@pytest.mark.parametrize("fault", ["initialisation", "first step", "no space for the configuration"])
def test_a_failed_start_does_not_lock_the_folder(whole, tmp_path, monkeypatch, fault):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    task = TASK
    if fault == "initialisation":
        task = dataclasses.replace(TASK, init=fail)
    elif fault == "first step":
        task = dataclasses.replace(TASK, loss=fail)
    else:
        monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises((RuntimeError, OSError), match=r"out of memory|No space left"):
        start(tmp_path / "run", task=task, rate=0.5)
    monkeypatch.undo()
    start(tmp_path / "run")
    assert train.read_log(tmp_path / "run") == train.read_log(whole[0])
    assert json.loads((tmp_path / "run" / "config.json").read_text())["rate"] == 0.01


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "metrics.jsonl"])
def test_files_that_no_run_wrote_are_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match=f"holds {name}, which no run of this package wrote"):
        start(tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "{}")]


# orbax abandons its other reads when one fails
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_weights_are_those_of_the_best_checkpoint_that_can_be_read(tmp_path):
    scores = iter(
        [0.0, 0.9, 0.5, 0.4]
    )  # before the first step and at steps 2, 4, 6; checkpoints 4 and 6 and the best stay
    task = dataclasses.replace(TASK, evaluate=lambda _: {"score": next(scores)})
    assert start(tmp_path / "run", task=task).best_step == 2
    for file in (tmp_path / "run" / "checkpoints" / "2").rglob("*/d/*"):
        file.write_bytes(b"")
    saved, notes = [], Notes()
    result = start(tmp_path / "run", task=task, save=lambda *saving: saved.append(saving), reporter=notes)
    assert (result.best_step, result.best_score) == (4, 0.5)
    assert any("2 is damaged" in m and "that can be read is 4" in m for m in notes.messages)
    ((path, params),) = saved
    assert path == tmp_path / "run" / "weights.safetensors"
    jax.tree.map(np.testing.assert_array_equal, params, result.params)


def test_a_run_that_diverges_leaves_the_weights_of_its_best_checkpoint(tmp_path):
    def diverging(key, params, batch, *, step):
        return loss(key, params, batch, step=step) * jnp.where(step == 4, jnp.nan, 1.0)

    saved = []
    task = dataclasses.replace(TASK, loss=diverging)
    with pytest.raises(
        train.DivergedError, match=r"nan at step 5; .*checkpoints/4; the weights of step \d are in .*run"
    ):
        start(tmp_path / "run", task=task, save=lambda *saving: saved.append(saving))
    ((path, params),) = saved
    assert path == tmp_path / "run" / "weights.safetensors"
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_the_nearest_preset_names_a_model():
    config = dataclasses.replace(models.UNET_PRESETS["unet_lecture"], features=(2, 4))
    assert zoo_model(config, models.UNET_PRESETS) == ("unet_lecture", {"features": (2, 4)})
    assert zoo_model(models.CRISPConfig(), models.CRISP_PRESETS) == ("crisp", {})
    shape = dataclasses.replace(models.CRISPConfig().shape, latent_size=3)
    name, overrides = zoo_model(models.CRISPConfig(shape=shape), models.CRISP_PRESETS)
    assert name == "crisp"
    assert overrides == {"shape": shape}


@pytest.mark.parametrize(("name", "value"), [("seed", -1), ("seed", 10**20), ("ema_decay", np.nan), ("ema_decay", 1.5)])
def test_absurd_options_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be from 0 to"):
        RunConfig(out=Path("run"), **{name: value})


def test_a_network_of_one_frame_with_the_sizes_of_that_of_two_is_saved(tmp_path, fill):
    """Its nearest preset takes two frames, and is stored with the number of its own."""
    config = models.UNetConfig(features=(32, 64, 128, 256), patch=2)
    name, overrides = zoo_model(config, models.UNET_PRESETS)
    assert (name, overrides) == ("unet_pair", {"frames": 1})
    image = jnp.zeros((1, 32, 32, 1))
    params = fill(jax.eval_shape(models.UNet(config).init, jax.random.key(0), image))["params"]
    zoo.save(tmp_path / "w.safetensors", name, params, **overrides)
    model, variables = zoo.load(tmp_path / "w.safetensors")
    assert model.config == config
    assert model.apply(variables, image).logits.shape == (1, 32, 32, 4)
