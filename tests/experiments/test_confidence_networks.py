"""The trained baselines on a tiny network: what trains, what stays, and that their files give maps."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import models, zoo
from experiments.uncertainty import confidence_networks as networks

MODEL = models.UNet(models.UNetConfig(features=(4, 8)))
CONFIG = networks.Config(data=Path(), out=Path(), num_steps=2, head_steps=2, batch_size=2, num_members=2)


@pytest.fixture(scope="module")
def trained():
    """Each network before and after two steps on frames whose dark half is the ventricle."""
    rng = np.random.default_rng(0)
    frames = (
        rng.integers(0, 255, (4, 16, 16)).astype(np.uint8),
        np.tile(np.arange(16) // 8, (4, 16, 1)).astype(np.uint8),
    )
    params = MODEL.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]
    each, trained_networks = networks.make_losses(MODEL), {}
    for name in networks.network_names(2):
        before = networks.init(CONFIG, name, MODEL, params)
        trained_networks[name] = before, networks.fit(CONFIG, name, before, each[name.rstrip("01")], frames)
    return params, trained_networks


def same(tree, other):
    return jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), tree, other))


def test_confidnet_trains_its_head_alone_and_the_others_everything(trained):
    params, trained_networks = trained
    for name, (before, after) in trained_networks.items():
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(after))
        assert not same(before, after)
        if name == "confidnet":
            assert same(after["network"], params)
        elif "network" in after:
            assert not same(after["network"], params)


def test_members_share_the_encoder_they_start_from_and_differ_in_the_decoder(trained):
    params, trained_networks = trained
    (first, _), (second, _) = trained_networks["member0"], trained_networks["member1"]
    for part in params:
        is_fresh = part.startswith(("up", "head"))
        assert same(first[part], params[part]) == (not is_fresh)
    assert not same(first["up0"]["kernel"], second["up0"]["kernel"])


def test_files_give_maps_of_every_method(trained, tmp_path):
    params, trained_networks = trained
    for name, (_, after) in trained_networks.items():
        zoo.save_weights(tmp_path / f"{name}.safetensors", after)
    images = jnp.asarray(np.random.default_rng(1).random((2, 16, 16, 1)), jnp.float32)
    methods = networks.load_methods(tmp_path, MODEL, params, num_passes=4)
    assert len(methods) == 5
    for method in methods.values():
        result = jax.jit(method)(jax.random.key(0), images)
        assert result.map.shape == result.labels.shape == (2, 16, 16)
        assert ((result.map >= 0) & (result.map <= 1)).all()
    expected = MODEL.apply({"params": params}, images).logits.argmax(-1)
    confidnet = methods["ConfidNet"](jax.random.key(0), images)
    np.testing.assert_array_equal(confidnet.labels, expected)
