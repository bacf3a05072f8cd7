"""Training of shape autoencoders: the shapes it draws, the terms of its loss, a short run and its resumption."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import anatomy, losses, models, train, zoo
from cardiojax.data.shapes import signed_distances, soft_labels
from cardiojax.recipes.vae import POSES, TrainVAEConfig, VAELossConfig, random_shape, train_vae, vae_loss

MODEL = models.VAEConfig(size=16, features=(4,), bottleneck=4, latent_size=8, regress_phase=True)


def heart(scale, size=64):
    rows, cols = (np.mgrid[:size, :size] + 0.5) / size
    mask = np.zeros((size, size), np.uint8)
    mask[((rows - 0.4) / 0.34) ** 2 + ((cols - 0.5) / 0.24) ** 2 < 1] = 2
    mask[((rows - 0.42) / (0.26 * scale)) ** 2 + ((cols - 0.5) / (0.15 * scale)) ** 2 < 1] = 1
    mask[((rows - 0.85) / 0.12) ** 2 + ((cols - 0.5) / 0.15) ** 2 < 1] = 3
    return mask


MAPS = jnp.asarray(signed_distances([heart(1.0), heart(0.7)], size=16))


def test_shapes_without_a_change_of_pose_lie_between_the_references():
    still = dataclasses.replace(POSES, probability=0.0)
    keys = jax.random.split(jax.random.key(0), 200)
    shapes, phase = jax.vmap(lambda key: random_shape(key, MAPS, config=still))(keys)
    np.testing.assert_allclose(np.mean(phase == 0), 0.25, atol=0.1)
    np.testing.assert_allclose(np.mean(phase == 1), 0.25, atol=0.1)
    for end in (0, 1):
        expected = soft_labels(MAPS[end].astype(jnp.float32))
        np.testing.assert_allclose(shapes[np.argmax(phase == end)], expected, atol=1e-4)
    between = (phase > 0) & (phase < 1)
    areas = shapes[..., 1].sum((1, 2))
    assert np.corrcoef(phase[between], areas[between])[0, 1] < -0.99


def test_a_moved_shape_is_still_made_of_shares():
    moved = dataclasses.replace(POSES, probability=1.0)
    keys = jax.random.split(jax.random.key(1), 20)
    shapes, _ = jax.vmap(lambda key: random_shape(key, MAPS, config=moved))(keys)
    np.testing.assert_allclose(shapes.sum(-1), 1, atol=1e-5)
    centres = (shapes[..., 1] * jnp.arange(16)).sum((1, 2)) / shapes[..., 1].sum((1, 2))
    assert float(centres.std()) > 0.2


def test_the_loss_is_the_weighted_sum_of_its_terms():
    key = jax.random.split(jax.random.key(2), 4)
    probs = soft_labels(MAPS.astype(jnp.float32))
    posterior = models.Posterior(jax.random.normal(key[0], (2, 8)), jax.random.normal(key[1], (2, 8)))
    codes = jax.random.normal(key[2], (2, 8))
    output = models.VAEOutput(jax.random.normal(key[3], (2, 16, 16, 4)), posterior, codes, jnp.array([0.5, 0.5]))
    config = VAELossConfig(kl=1e-2, kl_warmup=10, phase=0.3, attributes=0.1, delta=2.0)
    measured = jnp.stack(anatomy.attributes(probs.argmax(-1)), -1)
    expected = (
        0.1 * losses.cross_entropy_loss(output.logits, probs)
        + losses.dice_loss(output.logits, probs)
        + 0.5 * 1e-2 * losses.kl_loss(*posterior)
        + 0.3 * jnp.array([0.25, 0.25])
        + 0.1 * losses.attribute_loss(codes[:, :7], measured, delta=2.0)
    )
    loss = vae_loss(output, probs, jnp.array([0.0, 1.0]), step=5, config=config)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camus")
    rows = [(p, view, phase) for p in ("p1", "p2") for view in ("2CH", "4CH") for phase in ("ED", "ES")]
    masks = np.stack([heart({"ED": 1.0, "ES": 0.7}[phase] + 0.02 * i) for i, (_, _, phase) in enumerate(rows)])
    arrays = {"image": masks * 60, "label": masks, "spacing_rc_mm": np.ones((len(rows), 2), np.float32)}
    for name, column in zip(("patient", "view", "phase"), zip(*rows, strict=True), strict=True):
        arrays[name] = np.array(column)
    for split in ("train", "val"):
        np.savez(folder / f"camus224_{split}.npz", **arrays)
    return folder


def test_a_run_leaves_weights_and_scores_and_is_not_run_twice(data, tmp_path):
    loop = train.LoopConfig(num_steps=3, log_every=1, eval_every=3)
    config = TrainVAEConfig(data=data, out=tmp_path / "run", batch_size=2, model=MODEL, loop=loop)
    result = train_vae(config)
    records = train.read_log(tmp_path / "run")
    assert {"eval/score", "eval/lv", "eval/valid"} <= set(records[-1])
    assert len([r for r in records if "loss" in r]) == 3
    loaded, variables = zoo.load(tmp_path / "run" / "weights.safetensors")
    assert loaded.config == MODEL
    jax.tree.map(np.testing.assert_array_equal, variables["params"], result.params)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["regress_phase"]

    reporter = train.Reporter()
    reporter.say = lambda message: said.append(message)
    said = []
    again = train_vae(config, reporter=reporter)
    assert any("resuming from step 3" in message for message in said)
    jax.tree.map(np.testing.assert_array_equal, again.state.params, result.state.params)
    with pytest.raises(ValueError, match="another configuration"):
        train_vae(dataclasses.replace(config, seed=1))
