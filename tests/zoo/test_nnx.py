"""A user's NNX module in the zoo: registered, saved, loaded and applied as those of the package."""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cardiojax import models, zoo

IMAGES = np.random.default_rng(0).random((2, 8, 8, 1), np.float32)


class Output(NamedTuple):
    logits: Any


class Net(nnx.Module):
    def __init__(self, rngs, *, features=4, depth=2, norm=False):
        sizes = [1] + [features] * (depth - 1) + [3]
        self.convs = nnx.List([nnx.Conv(a, b, (1, 1), rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        if norm:
            self.norm = nnx.BatchNorm(3, rngs=rngs)

    def __call__(self, images):
        for conv in self.convs:
            images = conv(images)
        return Output(self.dropout(images))


def build(**fields):
    return models.NNXModel(functools.partial(Net, **fields))


@pytest.fixture
def _registered(monkeypatch):
    monkeypatch.setattr("cardiojax.zoo.registry._REGISTRY", dict(zoo.registry._REGISTRY))
    zoo.register("net", zoo.Entry(build=build, input_shape=(1, 8, 8, 1), description="mine"))


@pytest.mark.usefixtures("_registered")
def test_a_module_is_saved_and_loaded_as_others_are(tmp_path):
    model = build(depth=12)
    variables = model.init(jax.random.key(1), IMAGES)
    zoo.save(tmp_path / "w.safetensors", "net", variables["params"], depth=12)
    loaded, restored = zoo.load(tmp_path / "w.safetensors")
    jax.tree.map(np.testing.assert_array_equal, restored, variables)
    got = jax.jit(loaded.apply)(restored, IMAGES).logits
    module = Net(nnx.Rngs(jax.random.key(1)), depth=12)
    module.eval()
    np.testing.assert_allclose(got, module(IMAGES).logits, rtol=1e-5, atol=1e-6)
    assert zoo.card(tmp_path / "w.safetensors", count=False)["overrides"] == {"depth": 12}
    assert zoo.summary("net", depth=0)[""].total == 1 * 4 + 4 + 4 * 3 + 3
    assert isinstance(loaded, zoo.Model)


def test_dropout_follows_the_key_and_gradients_reach_each_parameter():
    model = build()
    variables = model.init({"params": jax.random.key(1)})

    @jax.jit
    def loss(params, key):
        return model.apply({"params": params}, IMAGES, train=True, rngs={"dropout": key}).logits.sum()

    one, same, other = (loss(variables["params"], jax.random.key(seed)) for seed in (1, 1, 2))
    assert one == same != other
    gradients = jax.grad(loss)(variables["params"], jax.random.key(1))
    assert all(jnp.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(gradients))
    with pytest.raises(ValueError, match="needs a key to train"):
        model.apply(variables, IMAGES, train=True)


def test_statistics_are_refused():
    with pytest.raises(ValueError, match="this module has 2 other variables"):
        build(norm=True).init(jax.random.key(0))
