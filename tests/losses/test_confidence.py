"""Losses of confidence and of contrast: limits that can be computed by hand, and PyTorch's cross-entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import losses

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def example():
    keys = jax.random.split(KEY, 3)
    return (
        2 * jax.random.normal(keys[0], (3, 8, 8, 4)),
        jax.random.normal(keys[1], (3, 8, 8)),
        jax.random.randint(keys[2], (3, 8, 8), 0, 4),
    )


def test_full_confidence_is_the_plain_loss_and_costs_nothing(example):
    logits, confidence, labels = example
    sure = jnp.full_like(confidence, 30.0)
    expected = 0.1 * losses.cross_entropy_loss(logits, labels) + losses.dice_loss(logits, labels)
    np.testing.assert_allclose(losses.learned_confidence_loss(KEY, logits, sure, labels), expected, atol=1e-4)


def test_no_confidence_buys_half_of_the_answers_at_the_full_penalty(example):
    logits, confidence, labels = example
    unsure = jnp.full_like(confidence, -10.0)
    plain = losses.cross_entropy_loss(logits, labels)
    bought = losses.learned_confidence_loss(KEY, logits, unsure, labels, penalty=0.0, cross_entropy=1.0)
    bought -= losses.learned_confidence_loss(KEY, logits, unsure, labels, penalty=0.0, cross_entropy=0.0)
    np.testing.assert_allclose(bought, plain / 2, rtol=0.35)
    paid = losses.learned_confidence_loss(KEY, logits, unsure, labels, penalty=1.0)
    free = losses.learned_confidence_loss(KEY, logits, unsure, labels, penalty=0.0)
    np.testing.assert_allclose(paid - free, 10.0, rtol=1e-3)


def test_penalty_of_hints_settles_where_the_budget_is_spent():
    """A network that spends exp(-10 penalty)."""
    penalty = jnp.asarray(0.5)
    for _ in range(400):
        penalty = losses.hint_penalty(penalty, jnp.exp(-10 * penalty))
    np.testing.assert_allclose(jnp.exp(-10 * penalty), 0.3, rtol=0.05)


def test_confidnet_learns_the_probability_of_the_true_class(example):
    logits, confidence, labels = example
    true_class = jnp.take_along_axis(jax.nn.softmax(logits), labels[..., None], -1)[..., 0]
    perfect = jnp.log(true_class) - jnp.log1p(-true_class)
    np.testing.assert_allclose(losses.confidnet_loss(perfect, logits, labels), 0, atol=1e-6)
    assert float(losses.confidnet_loss(confidence, logits, labels).min()) > 0.01
    frozen = jax.grad(lambda x: losses.confidnet_loss(confidence, x, labels).sum())(logits)
    np.testing.assert_array_equal(frozen, 0)


def test_without_noise_the_heteroscedastic_loss_is_the_plain_one(example):
    logits, _, labels = example
    plain = losses.cross_entropy_loss(logits, labels) + losses.dice_loss(logits, labels)
    quiet = losses.heteroscedastic_loss(KEY, logits, jnp.zeros_like(logits), labels, num_samples=3)
    np.testing.assert_allclose(quiet, plain, atol=1e-4)


def test_low_confidence_pays_where_the_network_is_wrong_and_costs_where_it_is_right(example):
    _, _, labels = example
    right = 6 * jax.nn.one_hot(labels, 4)
    wrong = 6 * jax.nn.one_hot((labels + 1) % 4, 4)

    def slope(logits):
        def loss(scale):
            return losses.heteroscedastic_loss(KEY, logits, jnp.full(logits.shape, scale), labels).mean()

        return jax.grad(loss)(2.0)

    assert float(slope(right)) > 0 > float(slope(wrong))


def test_contrastive_loss_without_knowledge_is_log_n_and_falls_with_it():
    codes = jax.random.normal(KEY, (6, 5))
    codes /= jnp.linalg.norm(codes, axis=-1, keepdims=True)
    same = jnp.broadcast_to(codes[0], codes.shape)
    np.testing.assert_allclose(losses.contrastive_loss(same, same, 2.0), jnp.log(6), atol=1e-5)
    assert float(losses.contrastive_loss(codes, codes, 4.0).mean()) < 0.1


def test_contrastive_loss_equals_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.normal(size=(2, 7, 5)).astype(np.float32))
    scores = np.exp(1.3) * torch.from_numpy(a @ b.T)
    target = torch.arange(7)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = (cross_entropy(scores, target) + cross_entropy(scores.T, target)) / 2
    np.testing.assert_allclose(losses.contrastive_loss(*map(jnp.asarray, (a, b)), 1.3).mean(), expected, atol=1e-5)
