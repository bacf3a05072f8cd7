"""The policy, the surrogate and PPO: known answers, plain NumPy, and bandits whose reward must rise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cardiojax import adaptation, losses
from cardiojax.adaptation import Networks, PPOConfig, Targets

NETWORKS = Networks(
    lambda p, x: jnp.broadcast_to(p, (*x.shape[:-1], 3)), lambda p, x: jnp.broadcast_to(p, x.shape[:-1])
)


def likes(images, labels):
    """Class 2 is right on the left half, class 0 on the right."""
    left = jnp.arange(labels.shape[-1]) < labels.shape[-1] // 2
    return (labels == jnp.where(left, 2, 0)).astype(jnp.float32)


@pytest.fixture
def batch():
    return Targets(jnp.zeros((2, 4, 6, 1)), jnp.ones((2, 4, 6), jnp.int32), jnp.array([False, False]))


def test_the_surrogate_at_ratio_1_is_minus_the_advantage_and_so_is_its_gradient():
    rng = np.random.default_rng(0)
    now, advantage = (jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32) for _ in range(2))
    np.testing.assert_allclose(losses.clipped_surrogate_loss(now, now, advantage), -advantage.mean((1, 2)), rtol=1e-5)
    grad = jax.grad(lambda x: losses.clipped_surrogate_loss(x, now, advantage).sum())(now)
    np.testing.assert_allclose(grad, -advantage / 12, rtol=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "value"),
    [(1.5, 1.0, -1.2), (0.5, 1.0, -0.5), (1.5, -1.0, 1.5), (0.5, -1.0, 0.8), (1.1, 2.0, -2.2)],
)
def test_clipped_cases_by_hand(ratio, advantage, value):
    pixel = jnp.ones((1, 1))
    loss = losses.clipped_surrogate_loss(jnp.log(ratio) * pixel, 0 * pixel, advantage * pixel)
    np.testing.assert_allclose(loss, value, rtol=1e-6)


def test_policy_equals_plain_numpy_and_torch_formulas():
    rng = np.random.default_rng(1)
    logits, other = rng.normal(size=(2, 2, 3, 4, 5))
    labels = rng.integers(0, 5, (2, 3, 4))
    probs, known = (np.exp(z) / np.exp(z).sum(-1, keepdims=True) for z in (logits, other))
    expected = np.log(np.take_along_axis(probs, labels[..., None], -1)[..., 0])
    np.testing.assert_allclose(adaptation.log_prob(jnp.asarray(logits), jnp.asarray(labels)), expected, rtol=1e-5)
    np.testing.assert_allclose(
        losses.entropy_loss(jnp.asarray(logits)), -(probs * np.log(probs)).sum(-1).mean((1, 2)), rtol=1e-5
    )
    kl = (probs * np.log(probs / known)).sum(-1)
    np.testing.assert_allclose(adaptation.divergence(jnp.asarray(logits), jnp.asarray(other)), kl, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(adaptation.divergence(jnp.asarray(logits), jnp.asarray(logits)), 0, atol=1e-6)
    odds, answers = logits[..., 0], labels > 2
    p = 1 / (1 + np.exp(-odds))
    bce = -(answers * np.log(p) + ~answers * np.log(1 - p)).mean((1, 2))
    np.testing.assert_allclose(
        losses.binary_cross_entropy_loss(jnp.asarray(odds), jnp.asarray(answers)), bce, rtol=1e-5
    )


def test_labels_are_drawn_with_the_probabilities_of_the_policy():
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.2, 0.5, 0.3])), (100, 100, 3))
    drawn = adaptation.sample_labels(jax.random.key(0), logits)
    np.testing.assert_allclose(np.bincount(drawn.ravel()) / drawn.size, [0.2, 0.5, 0.3], atol=0.02)


def test_one_update_equals_the_formulas_written_out(batch):
    """A policy of one logit vector and a constant value, plain gradient descent."""
    sgd = optax.sgd(0.1)
    actor, known = jnp.array([0.3, -0.2, 0.1]), jnp.array([0.0, 0.1, 0.4])
    state = adaptation.init_ppo(actor, jnp.array(0.4), known, optimizer=sgd)
    batch = batch._replace(trusted=jnp.array([True, False]))
    taken = adaptation.rollout(jax.random.key(3), state, batch, networks=NETWORKS, reward=likes)
    assert (taken.labels[0] == 1).all()
    moved, metrics = adaptation.ppo_update(
        state, taken, networks=NETWORKS, optimizer=sgd, entropy_weight=0.05, divergence_weight=0.35
    )

    probs, ref = (np.exp(z) / np.exp(z).sum() for z in (np.asarray(actor), np.asarray(known)))
    labels, reward = np.asarray(taken.labels), np.asarray(taken.reward)
    shaped = reward - 0.35 * np.log(probs / ref)[labels]
    shaped[0] = 1.0
    advantage = shaped - 0.4
    # at ratio 1 the gradient is that of -advantage * log p(label); that of the entropy is -p (log p + entropy)
    entropy = -(probs * np.log(probs)).sum()
    surrogate = -(advantage[..., None] * (np.eye(3)[labels] - probs)).mean((0, 1, 2))
    gradient = surrogate + 0.05 * probs * (np.log(probs) + entropy)
    np.testing.assert_allclose(moved.actor.params, actor - 0.1 * gradient, rtol=1e-4)
    np.testing.assert_allclose(moved.critic.params, 0.4 - 0.1 * 2 * (0.4 - reward).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics.actor_loss, -advantage.mean() - 0.05 * entropy, rtol=1e-4)
    np.testing.assert_allclose(metrics.critic_loss, np.square(0.4 - reward).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics.divergence, np.log(probs / ref)[labels].mean(), rtol=1e-4)


@pytest.fixture(scope="module")
def bandit():
    """A policy with logits of its own for every pixel, trained by PPO; unrolled or not, it is the same."""
    networks = Networks(
        lambda p, x: jnp.broadcast_to(p, (len(x), *p.shape)), lambda p, x: jnp.broadcast_to(p, (len(x), *p.shape))
    )
    start, adam = jnp.zeros((4, 6, 3)), optax.adam(0.05)
    batch = Targets(jnp.zeros((16, 4, 6, 1)), jnp.zeros((16, 4, 6), jnp.int32), jnp.zeros(16, bool))

    @functools.cache
    def make_step(unroll: int):
        return jax.jit(
            lambda state, weight: adaptation.ppo_step(
                jax.random.key(0), state, batch, networks=networks, reward=likes, optimizer=adam,
                entropy_weight=0.0, divergence_weight=weight, config=PPOConfig(unroll=unroll),
            )
        )  # fmt: skip

    @functools.cache
    def run(divergence_weight: float, unroll: int = 1):
        state, rewards = adaptation.init_ppo(start, jnp.full((4, 6), 0.5), start, optimizer=adam), []
        for _ in range(30):
            state, metrics = make_step(unroll)(state, divergence_weight)
            rewards.append(float(metrics.reward))
        return state, rewards

    return run


def test_reinforcement_finds_the_rewarded_class_of_every_pixel(bandit):
    state, rewards = bandit(0.0)
    assert np.isclose(rewards[0], 1 / 3, atol=0.08)
    assert np.mean(rewards[-5:]) > 0.9
    best = np.asarray(state.actor.params).argmax(-1)
    assert (best[:, :3] == 2).all()
    assert (best[:, 3:] == 0).all()
    assert int(state.step) == 30


def test_a_divergence_weight_keeps_the_policy_near_its_reference(bandit):
    free, dear = (np.asarray(bandit(weight)[0].actor.params) for weight in (0.0, 5.0))
    assert np.abs(dear).max() < 0.3 * np.abs(free).max()


def test_unrolled_updates_are_the_same(bandit):
    once, unrolled = (bandit(0.0, unroll)[0].actor.params for unroll in (1, 5))
    np.testing.assert_allclose(once, unrolled, atol=1e-4)


def test_a_step_of_many_runs_at_once_equals_each_alone(batch):
    sgd = optax.sgd(0.1)
    actors = jnp.array([[0.3, -0.2, 0.1], [0.0, 0.0, 1.0]])

    def step(key, actor):
        state = adaptation.init_ppo(actor, jnp.array(0.4), jnp.zeros(3), optimizer=sgd)
        return adaptation.ppo_step(key, state, batch, networks=NETWORKS, reward=likes, optimizer=sgd)[0].actor.params

    keys = jax.random.split(jax.random.key(0), 2)
    together = jax.jit(jax.vmap(step))(keys, actors)
    alone = jnp.stack([step(key, actor) for key, actor in zip(keys, actors, strict=True)])
    np.testing.assert_allclose(together, alone, rtol=1e-5)
