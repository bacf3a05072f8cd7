"""The view classifier: any size, one program, a distance that is fitted and not trained, and numbers for any image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import models

MODEL = models.ViewClassifier(models.ViewClassifierConfig(size=32, features=(4, 6), embedding=5))


@pytest.fixture(scope="module")
def variables(fill):
    return fill(jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 32, 32, 1))))


def test_eager_jitted_and_vmapped_agree(variables):
    images = jax.random.uniform(jax.random.key(1), (3, 40, 48, 1))
    eager = MODEL.apply(variables, images)
    for other in (jax.jit(MODEL.apply)(variables, images), jax.vmap(lambda x: MODEL.apply(variables, x))(images)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), eager, other)
    clips = MODEL.apply(variables, images[None])
    np.testing.assert_allclose(clips.logits[0], eager.logits, rtol=1e-4, atol=1e-5)
    assert [leaf.shape for leaf in eager] == [(3, 3), (3, 5), (3,)]


def test_left_and_right_are_distinct(variables):
    images = jax.random.uniform(jax.random.key(1), (1, 32, 32, 1))
    mirrored = MODEL.apply(variables, images[:, :, ::-1]).logits
    assert np.abs(mirrored - MODEL.apply(variables, images).logits).max() > 1e-3


def test_the_distance_is_to_the_nearest_mean_and_takes_no_gradient(variables):
    images = jax.random.uniform(jax.random.key(1), (2, 32, 32, 1))
    output = MODEL.apply(variables, images)
    params = variables["params"]
    offsets = (output.features[:, None] - params["means"]) @ params["whitening"]
    np.testing.assert_allclose(output.distance, np.linalg.norm(offsets, axis=-1).min(1), rtol=1e-5)
    grads = jax.grad(lambda p: MODEL.apply({"params": p}, images).distance.sum())(params)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    "image", [np.zeros((32, 32, 1)), np.ones((32, 32, 1)), np.ones((1, 1, 1)), np.eye(32)[..., None]]
)
def test_every_image_gives_finite_numbers(variables, image):
    output = MODEL.apply(variables, jnp.asarray(image, jnp.float32))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(output))
