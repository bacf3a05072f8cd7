"""Losses against hand-computed values and Optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cardiojax import losses


@pytest.fixture
def example():
    logits = jax.random.normal(jax.random.key(0), (2, 3, 8, 8, 4))
    labels = jax.random.randint(jax.random.key(1), (2, 3, 8, 8), 0, 4)
    return logits, labels


def test_cross_entropy_equals_optax(example):
    logits, labels = example
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean((-2, -1))
    np.testing.assert_allclose(losses.cross_entropy_loss(logits, labels), expected, rtol=1e-5)


@pytest.mark.parametrize("include_background", [False, True])
def test_dice_equals_the_formula(example, include_background):
    logits, labels = example
    probs, labels_np = np.asarray(jax.nn.softmax(logits)), np.asarray(labels)
    for index in np.ndindex(2, 3):
        scores = []
        for k in range(0 if include_background else 1, 4):
            p, t = probs[index][..., k], labels_np[index] == k
            scores.append((2 * (p * t).sum() + 1e-5) / (p.sum() + t.sum() + 1e-5))
        got = losses.dice_loss(logits, labels, include_background=include_background)[index]
        assert float(got) == pytest.approx(1 - np.mean(scores), abs=1e-5)


def test_gradients_are_those_of_the_plain_forms(example):
    logits, labels = (a[0] for a in example)

    def plain_cross_entropy(x):
        return optax.softmax_cross_entropy_with_integer_labels(x, labels).mean((-2, -1))

    def plain_dice(x):
        probs, truth = jax.nn.softmax(x), jax.nn.one_hot(labels, 4, dtype=x.dtype)
        scores = (2 * (probs * truth).sum((-3, -2)) + 1e-5) / ((probs + truth).sum((-3, -2)) + 1e-5)
        return 1 - scores[..., 1:].mean(-1)

    pairs = ((losses.cross_entropy_loss, plain_cross_entropy), (losses.dice_loss, plain_dice))
    for loss, plain in pairs:
        got = np.asarray(jax.jit(jax.grad(lambda x, loss=loss: loss(x, labels).sum()))(logits))
        with jax.enable_x64(True):
            double = jnp.asarray(np.asarray(logits), jnp.float64)
            expected = np.asarray(jax.jit(jax.grad(lambda x, plain=plain: plain(x).sum()))(double))
        assert np.linalg.norm(got - expected) < 1e-5 * np.linalg.norm(expected)


def test_perfect_prediction_costs_nothing(example):
    _, labels = example
    logits = 50 * jax.nn.one_hot(labels, 4)
    np.testing.assert_allclose(losses.cross_entropy_loss(logits, labels), 0, atol=1e-6)
    np.testing.assert_allclose(losses.dice_loss(logits, labels), 0, atol=1e-6)


def test_absent_class_is_no_error():
    labels = jnp.zeros((1, 4, 4), jnp.int32)
    logits = 50 * jax.nn.one_hot(labels, 4)
    value, grads = jax.value_and_grad(lambda x: losses.dice_loss(x, labels).sum())(logits)
    assert float(value) == pytest.approx(0, abs=1e-5)
    assert bool(jnp.isfinite(grads).all())
