"""Losses of a latent space: values worked out by hand, a closed form, and the authors' definition in a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import losses


def test_kl_against_an_integral():
    x = np.linspace(-12, 12, 20001)
    mean, log_var = 0.7, -0.9
    p = np.exp(-((x - mean) ** 2) / (2 * np.exp(log_var))) / np.sqrt(2 * np.pi * np.exp(log_var))
    q = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.trapezoid(np.where(p > 0, p * np.log(p / q), 0), x)
    loss = losses.kl_loss(jnp.array([mean, 0.0]), jnp.array([log_var, 0.0]))
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_free_bits_cost_nothing_and_pull_nothing():
    mean, log_var = jnp.array([[0.1, 3.0]]), jnp.zeros((1, 2))
    assert float(losses.kl_loss(mean, log_var, free_bits=0.5)[0]) == pytest.approx(0.5 + 4.5)
    gradient = jax.grad(lambda m: losses.kl_loss(m, log_var, free_bits=0.5).sum())(mean)
    np.testing.assert_allclose(gradient, [[0.0, 3.0]])


def test_attribute_loss_is_the_authors():
    rng = np.random.default_rng(0)
    codes, attributes = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    expected = 0.0
    for k in range(2):  # Pati and Lerch: mean absolute error of the two matrices of pairs
        for i in range(5):
            for j in range(5):
                order = np.sign(attributes[i, k] - attributes[j, k])
                expected += abs(np.tanh(3.0 * (codes[i, k] - codes[j, k])) - order) / 25
    loss = losses.attribute_loss(jnp.asarray(codes), jnp.asarray(attributes), delta=3.0)
    assert float(loss.mean()) == pytest.approx(expected, rel=1e-5)


def test_attribute_loss_of_an_ordered_batch_vanishes_and_of_a_reversed_one_is_two():
    codes = jnp.arange(4.0)[:, None] * 10
    assert float(losses.attribute_loss(codes, codes).mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(losses.attribute_loss(codes, -codes).mean()) == pytest.approx(2 * 12 / 16)


def test_an_attribute_that_could_not_be_measured_costs_nothing():
    codes = jnp.arange(3.0)[:, None]
    attributes = jnp.array([[jnp.nan], [1.0], [2.0]])
    value, gradient = jax.value_and_grad(lambda z: losses.attribute_loss(z, attributes).sum())(codes)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert float(gradient[0, 0]) == 0


def test_squared_error():
    np.testing.assert_allclose(losses.squared_error_loss(jnp.array([1.0, 0.0]), jnp.array([0.5, 2.0])), [0.25, 4.0])


def test_labels_as_probabilities_give_the_same_losses():
    rng = np.random.default_rng(1)
    logits = jnp.asarray(rng.normal(size=(2, 6, 5, 4)), jnp.float32)
    truth = jnp.asarray(rng.integers(0, 4, (2, 6, 5)))
    for loss in (losses.cross_entropy_loss, losses.dice_loss):
        np.testing.assert_allclose(loss(logits, truth), loss(logits, jax.nn.one_hot(truth, 4)), rtol=1e-6)
