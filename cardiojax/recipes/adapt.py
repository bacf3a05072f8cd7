"""Domain adaptation by reinforcement learning: predict, correct, learn the reward, optimise the policy, and repeat."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from cardiojax.adaptation import (
    CorrectedBatch,
    Networks,
    OptimizerState,
    Pairs,
    PPOConfig,
    PPOMetrics,
    PPOState,
    Targets,
    corrupt,
    gradient_step,
    init_optimizer,
    init_ppo,
    make_pairs,
    ppo_step,
    reward_step,
    sample_labels,
    sample_pairs,
    shrink_and_perturb,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """The published schedule, its epochs counted in steps.

    Attributes:
        num_iterations: Rounds of predicting, learning the reward and optimising the policy.
        reward_steps: Steps of the reward network in each round, on the pairs of all rounds so far.
        critic_steps: Steps of the value network before the first round, on the reward of the supervised policy: an
            untrained value makes every choice seem better than expected.
        ppo_steps: Batches of PPO in each round.
        reward_batch: Pairs a step of the reward network.
        ppo_batch: Images a step of PPO.
        entropy: Weight of the policy's entropy in round i, times ``2 i``.
        divergence: Weight of the KL penalty in round i, times ``2 i``.
        shrink: Factor on the kernels of policy and value between rounds.
        perturb: Standard deviation of the noise that is then added.
        weight_noise: Standard deviations of the noise on parameters that corrupts maps.
        ppo: Trust region and number of updates.
    """

    num_iterations: int = 4
    reward_steps: int = 400
    critic_steps: int = 100
    ppo_steps: int = 100
    reward_batch: int = 8
    ppo_batch: int = 8
    entropy: float = 0.3
    divergence: float = 0.1
    shrink: float = 0.5
    perturb: float = 0.01
    weight_noise: tuple[float, ...] = (0.005, 0.01, 0.015, 0.02)
    ppo: PPOConfig = PPOConfig()


class Adapted(NamedTuple):
    """Result of the adaptation.

    Attributes:
        params: Of the policy before or after the round that left most maps of the images valid.
        reward: Parameters of the reward network.
        pairs: Pairs of the target that it was trained on.
        history: Metrics of each round as a dictionary, and the share of trusted maps at the end.
    """

    params: PyTree
    reward: PyTree
    pairs: Pairs
    history: list[dict[str, float]]


class Steps(NamedTuple):
    """The jitted functions of the loop.

    Attributes:
        predict: Key, policy and images to the most likely maps, sampled maps and corrupted maps.
        learn: One step of the reward network on a batch of pairs.
        expect: One step of the value network towards the reward of given maps.
        reinforce: One step of PPO.
        draw: A batch of pairs.
    """

    predict: Callable[..., tuple[Array, Array, Array]]
    learn: Callable[..., tuple[OptimizerState, Array]]
    expect: Callable[..., tuple[OptimizerState, Array]]
    reinforce: Callable[..., tuple[PPOState, PPOMetrics]]
    draw: Callable[..., Any]


class Keys(NamedTuple):
    """Random keys of a round."""

    predict: Array
    reward: Array
    ppo: Array
    perturb: Array


def adapt(
    key: Key[Array, ""],
    params: PyTree,
    images: Float[Array, "n h w c"],
    *,
    networks: Networks,
    reward_function: Callable[[PyTree, Array, Array], Array],
    critic: PyTree,
    reward: PyTree,
    correct: Callable[[np.ndarray], CorrectedBatch],
    known: Targets | None = None,
    optimizer: optax.GradientTransformation,
    reward_optimizer: optax.GradientTransformation,
    config: AdaptConfig = AdaptConfig(),
) -> Adapted:
    """Adapts a segmentation network to images without labels.

    The steps are compiled once each and called from Python, since the correction need not be a JAX function. Of the
    policies before and after each round, the one with most trusted maps is returned, the later one of equals: early
    stopping without labels. Memory: the images, and ten label maps an image and round.

    Args:
        key: Random key.
        params: Of the supervised policy.
        images: Of the target domain.
        networks: Policy and value.
        reward_function: Parameters of the reward network, images and label maps to log-odds that each pixel is right.
        critic: Initial parameters of the value network.
        reward: Initial parameters of the reward network.
        correct: Corrects label maps to valid ones.
        known: Images of the source with their reference masks. If given, half of the pairs of the reward network are
            their sampled and corrupted maps, so that it is calibrated before it sees the target.
        optimizer: Of policy and value.
        reward_optimizer: Of the reward network, and of the value before the first round.
        config: The schedule.

    Returns:
        The adapted policy and its reward network.

    References:
        Judge et al., "Domain Adaptation of Echocardiography Segmentation Via Reinforcement Learning", MICCAI 2024.
    """
    steps = _compile(networks, reward_function, optimizer, reward_optimizer, config)
    source_pairs = None
    if known is not None:
        is_true = np.ones(len(known.images), bool)
        truth = CorrectedBatch(np.asarray(known.labels), is_true, is_true)
        source_pairs = _collect(jax.random.fold_in(key, 0), params, known.images, steps, lambda _: truth, config)[0]
    actor, reward_state, pairs, history = params, init_optimizer(reward, reward_optimizer), None, []
    best, best_share = params, -1.0
    for i in range(1, config.num_iterations + 2):
        keys = Keys(*jax.random.split(jax.random.fold_in(key, i), 4))
        new_pairs, corrected = _collect(keys.predict, actor, images, steps, correct, config)
        share = float(np.mean(corrected.trusted))
        history.append({"trusted": share, "usable": float(np.mean(corrected.valid))})
        if share >= best_share:
            best, best_share = actor, share
        if i > config.num_iterations:
            break
        pairs = new_pairs if pairs is None else _concatenate(pairs, new_pairs)
        reward_state, loss = _train_reward(keys.reward, reward_state, pairs, source_pairs, steps, config)
        if i == 1:
            maps = (images, new_pairs.predictions[:, 0])
            critic = _train_critic(keys.perturb, critic, reward_state.params, maps, steps, reward_optimizer, config)
        else:
            actor, critic = _perturb(keys.perturb, actor, critic, config)
        targets = Targets(images, jnp.asarray(corrected.masks), jnp.asarray(corrected.trusted))
        state, metrics = _reinforce(
            keys.ppo,
            init_ppo(actor, critic, params, optimizer=optimizer),
            targets,
            reward_state.params,
            i,
            steps,
            config,
        )
        actor, critic = state.actor.params, state.critic.params
        history[-1] |= {"reward_loss": float(loss)} | metrics
    assert pairs is not None
    return Adapted(best, reward_state.params, pairs, history)


def _compile(
    networks: Networks,
    reward_function: Callable[[PyTree, Array, Array], Array],
    optimizer: optax.GradientTransformation,
    reward_optimizer: optax.GradientTransformation,
    config: AdaptConfig,
) -> Steps:
    @jax.jit
    def predict(key, params, images):
        sample_key, corrupt_key = jax.random.split(key)
        logits = networks.policy(params, images)
        labels = logits.argmax(-1).astype(jnp.int32)
        corrupted = corrupt(
            corrupt_key, params, images, labels, policy=networks.policy, weight_noise=config.weight_noise
        )
        return labels, sample_labels(sample_key, logits), corrupted

    @jax.jit
    def learn(state, batch):
        return reward_step(state, batch, apply=reward_function, optimizer=reward_optimizer)

    @jax.jit
    def expect(state, reward, batch):
        images, labels = batch
        earned = jax.nn.sigmoid(reward_function(reward, images, labels))
        step = gradient_step(
            state,
            lambda params: jnp.square(networks.value(params, images) - earned).mean(),
            optimizer=reward_optimizer,
        )
        return step.state, step.value

    @jax.jit
    def reinforce(key, state, batch, reward, weights):
        return ppo_step(
            key,
            state,
            batch,
            networks=networks,
            reward=lambda images, labels: jax.nn.sigmoid(reward_function(reward, images, labels)),
            optimizer=optimizer,
            entropy_weight=weights[0],
            divergence_weight=weights[1],
            config=config.ppo,
        )

    return Steps(predict, learn, expect, reinforce, jax.jit(sample_pairs, static_argnums=2))


def _collect(
    key: Array, params: PyTree, images: Array, steps: Steps, correct: Callable[..., CorrectedBatch], config: AdaptConfig
) -> tuple[Pairs, CorrectedBatch]:
    """Pairs of good and bad maps of all images, and the corrected most likely maps."""
    parts, size = [], config.ppo_batch
    for start in range(0, len(images), size):
        rows = np.resize(np.arange(start, min(start + size, len(images))), size)  # one shape to compile
        num = min(size, len(images) - start)
        labels, sampled, corrupted = steps.predict(jax.random.fold_in(key, start), params, images[rows])
        parts.append((labels[:num], sampled[:num], jnp.swapaxes(corrupted, 0, 1)[:num]))
    labels, sampled, corrupted = (jnp.concatenate(group) for group in zip(*parts, strict=True))
    corrected = correct(np.asarray(labels))
    pairs = make_pairs(
        images,
        sampled,
        jnp.swapaxes(corrupted, 0, 1),
        jnp.asarray(corrected.masks),
        trusted=jnp.asarray(corrected.trusted),
        valid=jnp.asarray(corrected.valid),
    )
    return pairs, corrected


def _train_reward(
    key: Array, state: OptimizerState, pairs: Pairs, source: Pairs | None, steps: Steps, config: AdaptConfig
) -> tuple[OptimizerState, Array]:
    """Trains the reward network on the pairs of the target and, with equal total weight, of the source."""
    if source is not None:
        weights = source.weights * jnp.maximum(pairs.weights.sum(), 1) / source.weights.sum()
        pairs = _concatenate(source._replace(weights=weights), pairs)
    loss = jnp.asarray(jnp.nan)
    for k in range(config.reward_steps):
        state, loss = steps.learn(state, steps.draw(jax.random.fold_in(key, k), pairs, config.reward_batch))
    return state, loss


def _train_critic(
    key: Array,
    critic: PyTree,
    reward: PyTree,
    maps: tuple[Array, Array],
    steps: Steps,
    optimizer: optax.GradientTransformation,
    config: AdaptConfig,
) -> PyTree:
    """Trains the value network on the reward of the maps that the supervised policy draws."""
    state = init_optimizer(critic, optimizer)
    for batch in batches(key, maps, num_steps=config.critic_steps, batch_size=config.ppo_batch):
        state, _ = steps.expect(state, reward, batch)
    return state.params


def _perturb(key: Array, actor: PyTree, critic: PyTree, config: AdaptConfig) -> tuple[PyTree, PyTree]:
    actor_key, critic_key = jax.random.split(key)
    options = {"shrink": config.shrink, "perturb": config.perturb}
    return shrink_and_perturb(actor_key, actor, **options), shrink_and_perturb(critic_key, critic, **options)


def _reinforce(
    key: Array, state: PPOState, targets: Targets, reward: PyTree, round_number: int, steps: Steps, config: AdaptConfig
) -> tuple[PPOState, dict[str, float]]:
    """The steps of PPO of one round, and the metrics of the last."""
    weights = jnp.array([config.entropy, config.divergence]) / (2 * round_number)
    metrics = None
    for batch in batches(key, targets, num_steps=config.ppo_steps, batch_size=config.ppo_batch):
        state, metrics = steps.reinforce(key, state, batch, reward, weights)
    return state, {} if metrics is None else {name: float(value) for name, value in metrics._asdict().items()}


def batches(key: Key[Array, ""], data: PyTree, *, num_steps: int, batch_size: int) -> Iterator[Any]:
    """Draws batches without repeating an example within one.

    Args:
        key: Random key.
        data: Arrays with a common first axis.
        num_steps: Number of batches.
        batch_size: Examples a batch.

    Yields:
        The same tree, its leaves with ``batch_size`` rows.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> [batch.shape for batch in batches(jax.random.key(0), jnp.zeros((10, 4)), num_steps=2, batch_size=3)]
        [(3, 4), (3, 4)]
    """
    num = len(jax.tree.leaves(data)[0])
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    for _ in range(num_steps):
        rows = rng.choice(num, batch_size, replace=False)
        yield jax.tree.map(lambda leaf, rows=rows: leaf[rows], data)


def _concatenate(*groups: Pairs) -> Pairs:
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *groups)
