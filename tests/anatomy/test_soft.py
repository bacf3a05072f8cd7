"""Attributes of probability maps: the hard ones where all is certain, and gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cardiojax import anatomy

soft = jax.jit(anatomy.soft_attributes)


@pytest.fixture(scope="session")
def blurred(heart):
    """What a network gives: soft edges, a little uncertainty everywhere, no two numbers alike."""

    def draw(tilt=5.0, seed=0):
        smooth = ndimage.gaussian_filter(np.eye(4)[heart(tilt)[::2, ::2]], (1, 1, 0))
        mixed = smooth + np.random.default_rng(seed).uniform(0, 1e-3, smooth.shape)
        return mixed / mixed.sum(-1, keepdims=True)

    return draw


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.7)])
def test_certain_maps_have_the_hard_attributes(heart, spacing):
    masks = jnp.asarray(np.stack([heart(t) for t in (-20.0, 0.0, 7.0)]))
    hard = anatomy.attributes(masks, jnp.array(spacing))
    for name, value in soft(jax.nn.one_hot(masks, 4), jnp.array(spacing))._asdict().items():
        np.testing.assert_allclose(value, getattr(hard, name), rtol=1e-4, atol=1e-4, err_msg=name)


def test_blurred_maps_are_near(blurred):
    probs = jnp.asarray(blurred(), jnp.float32)
    hard, soft_values = anatomy.attributes(jnp.argmax(probs, -1)), soft(probs)
    for name, value in soft_values._asdict().items():
        np.testing.assert_allclose(value, getattr(hard, name), rtol=0.15, atol=1.5, err_msg=name)


@pytest.mark.parametrize("name", anatomy.Attributes._fields)
def test_gradients_equal_finite_differences(blurred, name):
    """Along a direction in which the shape grows, in double precision."""
    with jax.enable_x64():
        probs = jnp.asarray(blurred())
        direction = jnp.asarray(blurred(-3.0, seed=1)) - probs
        value = jax.jit(lambda s: getattr(anatomy.soft_attributes(probs + s * direction, (0.5, 0.7)), name))
        slope, step = float(jax.grad(value)(0.2)), 1e-6
        difference = float(value(0.2 + step) - value(0.2 - step)) / (2 * step)
    assert slope != 0
    np.testing.assert_allclose(slope, difference, rtol=1e-3)


def test_a_loss_pulls_an_outline(blurred):
    """Descent on the logits reaches a wanted area and length."""
    logits = jnp.log(jnp.asarray(blurred(), jnp.float32))

    @jax.jit
    def loss(logits):
        soft_values = anatomy.soft_attributes(jax.nn.softmax(logits))
        return (soft_values.lv_area / 150 - 1) ** 2 + (soft_values.lv_length / 15 - 1) ** 2

    start = float(loss(logits))
    gradient = jax.jit(jax.grad(loss))
    for _ in range(60):
        slope = gradient(logits)
        logits = logits - 0.5 * slope / jnp.abs(slope).max()
    assert float(loss(logits)) < 0.1 * start


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_nothing_to_measure_gives_finite_values_and_gradients(empty):
    probs = jax.nn.one_hot(jnp.full((20, 20), empty), 4)
    values, gradients = jax.jit(jax.value_and_grad(lambda p: sum(anatomy.soft_attributes(p))))(probs)
    assert np.isfinite(float(values))
    assert np.isfinite(np.asarray(gradients)).all()


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    gradient = jax.jit(jax.grad(lambda p: anatomy.soft_attributes(p).lv_length.sum()))
    jax.export.export(gradient, platforms=[platform])(jax.ShapeDtypeStruct((2, 32, 32, 4), jnp.float32))
