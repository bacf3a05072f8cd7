"""Training of CRISP: the terms of its loss, a short run and its resumption, and its bank."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import losses, models, train, zoo
from cardiojax.data.shapes import resize_masks
from cardiojax.recipes.crisp import CRISPLossConfig, TrainCRISPConfig, crisp_loss, prepare, train_crisp

SHAPE = models.VAEConfig(size=16, features=(4,), bottleneck=4, latent_size=5)
MODEL = models.CRISPConfig(shape=SHAPE, size=16, features=(4,), bottleneck=4, image_size=8)


def heart(height, size=32):
    rows, cols = np.mgrid[:size, :size]
    mask = np.zeros((size, size), np.uint8)
    mask[np.hypot(rows - 12, cols - 16) < height + 3] = 2
    mask[np.hypot(rows - 12, cols - 16) < height] = 1
    mask[np.hypot(rows - 26, cols - 16) < 4] = 3
    return mask


MASKS = np.stack([heart(3 + 0.5 * i) for i in range(8)])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camus")
    names = {name: np.array([f"{name}{i}" for i in range(8)]) for name in ("patient", "view")}
    names["phase"] = np.array(["ED", "ES"] * 4)
    arrays = {"image": MASKS * 60, "label": MASKS, "spacing_rc_mm": np.ones((8, 2), np.float32), **names}
    for split in ("train", "val"):
        np.savez(folder / f"camus224_{split}.npz", **arrays)
    return folder


def test_the_loss_is_the_weighted_sum_of_its_terms():
    frames = prepare(jnp.asarray(MASKS[:3] * 60), jnp.asarray(MASKS[:3]), size=16)
    probs = resize_masks(frames.masks, 16)
    model = models.CRISP(MODEL)
    output = model.apply(model.init(jax.random.key(0), frames.images, probs), frames.images, probs)
    config = CRISPLossConfig(contrast=2.0, cross_entropy=0.3, dice=0.5, kl=0.1)
    expected = (
        2.0 * losses.contrastive_loss(output.image_codes, output.shapes.joint, output.log_scale)
        + 0.3 * losses.cross_entropy_loss(output.logits, probs)
        + 0.5 * losses.dice_loss(output.logits, probs)
        + 0.1 * losses.kl_loss(*output.shapes.posterior)
    )
    np.testing.assert_allclose(crisp_loss(output, probs, config=config), expected, rtol=1e-5)


def test_a_run_that_was_stopped_ends_as_one_that_was_not(data, tmp_path):
    def config(folder):
        return TrainCRISPConfig(
            data=data, out=tmp_path / folder, batch_size=4, num_samples=3, model=MODEL,
            loop=train.LoopConfig(num_steps=4, log_every=1, eval_every=2),
        )  # fmt: skip

    class Interrupt(train.Reporter):
        def update(self, step, loss):
            if step == 3:
                raise KeyboardInterrupt

    whole = train_crisp(config("whole"))
    with pytest.raises(KeyboardInterrupt):
        train_crisp(config("halves"), reporter=Interrupt())
    resumed = train_crisp(config("halves"))
    jax.tree.map(np.testing.assert_array_equal, whole.state.params, resumed.state.params)

    records = train.read_log(tmp_path / "whole")
    assert {"eval/score", "eval/lv", "eval/reconstructed_lv"} <= set(records[-1])
    model, variables = zoo.load(tmp_path / "whole" / "weights.safetensors")
    assert model.config == MODEL
    jax.tree.map(np.testing.assert_array_equal, variables["params"], whole.params)
    known = zoo.load_bank(tmp_path / "whole" / "bank.safetensors")
    masks = prepare(jnp.asarray(MASKS * 60), jnp.asarray(MASKS), size=16).masks
    expected = model.apply(variables, resize_masks(masks, 16), method="encode_shape")
    np.testing.assert_allclose(known, expected.posterior.mean, atol=2e-3)
    joint = model.apply(variables, jnp.asarray(known, jnp.float32), method="project")
    np.testing.assert_allclose(joint, expected.joint, atol=2e-2)
