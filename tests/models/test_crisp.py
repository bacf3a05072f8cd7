"""CRISP: codes of length 1, the published sizes, clips like frames, and a space that can be learned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cardiojax import losses, models

SHAPE = models.VAEConfig(size=32, features=(4, 8), bottleneck=4, latent_size=5)
CONFIG = models.CRISPConfig(shape=SHAPE, size=64, features=(4, 8), image_size=16)


@pytest.fixture(scope="module")
def small():
    model = models.CRISP(CONFIG)
    images = jax.random.uniform(jax.random.key(1), (3, 64, 64, 1))
    probs = jax.nn.one_hot(jax.random.randint(jax.random.key(2), (3, 32, 32), 0, 4), 4)
    return model, model.init(jax.random.key(0), images, probs), images, probs


def test_codes_have_length_1_and_the_parts_agree_with_the_whole(small):
    model, variables, images, probs = small
    output = model.apply(variables, images, probs)
    assert output.image_codes.shape == output.shapes.joint.shape == (3, 8)
    assert output.shapes.posterior.mean.shape == (3, 5)
    for codes in (output.image_codes, output.shapes.joint):
        np.testing.assert_allclose(jnp.linalg.norm(codes, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(model.apply(variables, images, method="encode_image"), output.image_codes, atol=1e-5)
    shapes = model.apply(variables, probs, method="encode_shape")
    np.testing.assert_allclose(shapes.joint, output.shapes.joint, atol=1e-5)
    np.testing.assert_allclose(model.apply(variables, shapes.posterior.mean, method="decode"), output.logits, atol=1e-4)


def test_a_clip_is_encoded_like_its_frames(small):
    model, variables, images, _ = small
    clip = model.apply(variables, images[None], method="encode_image")
    np.testing.assert_allclose(clip[0], model.apply(variables, images, method="encode_image"), atol=1e-5)


def test_paper_preset_has_the_published_joint_space():
    config = models.CRISP_PRESETS["crisp_paper"]
    model = models.CRISP(config)
    shapes = [jax.ShapeDtypeStruct((1, 256, 256, c), jnp.float32) for c in (1, 4)]
    params = jax.eval_shape(model.init, jax.random.key(0), *shapes)["params"]
    assert params["project_image"]["kernel"].shape == (64, 8)
    assert params["project_shape"]["kernel"].shape == (16, 8)
    count = sum(leaf.size for leaf in jax.tree.leaves(params["image"]))
    num_biases = 2 * sum(config.features) + config.bottleneck  # theirs have them before batch normalisation
    assert count + num_biases == 19_180_800


def test_refuses_images_of_another_size(small):
    model, variables, _, _ = small
    with pytest.raises(ValueError, match="64 x 64, got 32 x 64"):
        model.apply(variables, jnp.zeros((1, 32, 64, 1)), method="encode_image")


def test_a_few_steps_bring_pairs_together(small):
    model, variables, _, _ = small
    centres = jnp.arange(4, 28, 4)
    rows = jnp.arange(32)[None, :, None]
    masks = jnp.broadcast_to(jnp.abs(rows - centres[:, None, None]) < 4, (len(centres), 32, 32)).astype(jnp.int32)
    images, probs = masks[..., None].repeat(2, 1).repeat(2, 2).astype(jnp.float32), jax.nn.one_hot(masks, 4)
    optimizer = optax.adam(3e-3)

    def loss(params):
        output = model.apply({"params": params}, images, probs)
        return losses.contrastive_loss(output.image_codes, output.shapes.joint, output.log_scale).mean()

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, value

    params, state = variables["params"], optimizer.init(variables["params"])
    params, state, first = step(params, state)
    for _ in range(60):
        params, state, last = step(params, state)
    assert float(last) < 0.5 * float(first)
