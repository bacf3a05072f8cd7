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


WEIGHTS = (0.2, 1.0, 3.0, 0.5)


def log_softmax(logits):
    shifted = np.asarray(logits, np.float64) - np.max(logits, -1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@pytest.mark.parametrize("ignored", [None, 255, 2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_class_weights_and_an_ignored_label(example, weights, ignored):
    """A sum pixel by pixel. The ignored label is one that is no class, or one of the classes."""
    logits, labels = (np.asarray(a[0]) for a in example)
    if ignored == 255:
        labels = np.where(np.random.default_rng(0).uniform(size=labels.shape) < 0.3, 255, labels)
    options = {"class_weights": weights, "ignore_index": ignored}
    w = np.ones(4) if weights is None else np.array(weights)
    got = losses.cross_entropy_loss(jnp.asarray(logits), jnp.asarray(labels), **options)
    got_dice = losses.dice_loss(jnp.asarray(logits), jnp.asarray(labels), **options)
    for image in range(len(labels)):
        counts = labels[image] != ignored
        log_probs, true = log_softmax(logits[image])[counts], labels[image][counts]
        picked = w[true] * log_probs[np.arange(len(true)), true]
        assert float(got[image]) == pytest.approx(-picked.sum() / w[true].sum(), rel=1e-5)
        scores = []
        for k in range(1, 4):
            p, t = np.exp(log_probs[:, k]), true == k
            scores.append((2 * (p * t).sum() + 1e-5) / (p.sum() + t.sum() + 1e-5))
        assert float(got_dice[image]) == pytest.approx(1 - np.average(scores, weights=w[1:]), abs=1e-5)


def test_ignored_pixels_have_no_gradient_and_alone_no_loss(example):
    logits, labels = (a[0, 0] for a in example)
    labels = labels.at[:4].set(255)
    for loss in (losses.cross_entropy_loss, losses.dice_loss):
        slope = jax.grad(lambda x, loss=loss: loss(x, labels, ignore_index=255))(logits)
        assert not np.asarray(slope[:4]).any()
        assert np.asarray(slope[4:]).all()
        value, slope = jax.value_and_grad(lambda x, loss=loss: loss(x, 0 * labels + 255, ignore_index=255))(logits)
        assert float(value) == pytest.approx(0, abs=1e-6)
        assert not np.asarray(slope).any()


def test_equal_weights_change_nothing_and_probabilities_may_be_weighted(example):
    logits, labels = (a[0] for a in example)
    for loss in (losses.cross_entropy_loss, losses.dice_loss):
        plain = loss(logits, labels)
        np.testing.assert_allclose(loss(logits, labels, class_weights=(2.0,) * 4), plain, rtol=1e-5)
        soft = loss(logits, jax.nn.one_hot(labels, 4), class_weights=WEIGHTS)
        np.testing.assert_allclose(soft, loss(logits, labels, class_weights=WEIGHTS), rtol=1e-6)
        with pytest.raises(ValueError, match="one for each of the 4 classes"):
            loss(logits, labels, class_weights=(1.0, 2.0))
        with pytest.raises(ValueError, match="labels that are classes"):
            loss(logits, jax.nn.one_hot(labels, 4), ignore_index=0)
