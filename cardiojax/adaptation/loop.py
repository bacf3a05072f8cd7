"""The loop between reward and policy: predict, correct, learn the reward, reinforce, and again."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PyTree

from cardiojax.adaptation.learner import descend, init_learner
from cardiojax.adaptation.policy import sample_labels
from cardiojax.adaptation.ppo import Networks, PPOConfig, Targets, init_ppo, ppo_step
from cardiojax.adaptation.reward import Pairs, make_pairs, perturb_params, reward_step, sample_pairs, spoil


class Verdict(NamedTuple):
    """What a guarantee says of label maps.

    Attributes:
        masks: The maps made plausible, int32 ``[n, h, w]``.
        plausible: Whether they were so already and are trusted, ``[n]``.
        valid: Whether they are so now, ``[n]``.
    """

    masks: np.ndarray
    plausible: np.ndarray
    valid: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """The published schedule, its epochs counted in steps.

    Attributes:
        num_iterations: Rounds of predicting, learning the reward and reinforcing.
        reward_steps: Steps of the reward network in each round; it learns on, from all pairs so far.
        critic_steps: Steps of the value before the first round, on what the supervised policy earns: where nothing is
            expected yet, every choice seems a good one.
        ppo_steps: Batches of each round of reinforcement.
        reward_batch: Pairs a step.
        ppo_batch: Images a step.
        entropy: Worth of a nat of entropy in round i, times ``2 i``.
        divergence: Price of a nat of divergence in round i, times ``2 i``.
        shrink: Factor on the kernels of policy and value between rounds.
        perturb: Standard deviation of the noise that is then added.
        weight_noise: Standard deviations of the noise on parameters that spoils maps.
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
    """What came of the loop.

    Attributes:
        params: Of the policy before or after the round that left most maps of the images plausible.
        reward: Parameters of the reward network.
        pairs: What it learned from of the target.
        history: A dictionary of figures a round, and the share of plausible maps in the end.
    """

    params: PyTree
    reward: PyTree
    pairs: Pairs
    history: list[dict[str, float]]


def adapt(
    key: Key[Array, ""],
    params: PyTree,
    images: Float[Array, "n h w c"],
    *,
    networks: Networks,
    judge: Callable[[PyTree, Array, Array], Array],
    critic: PyTree,
    reward: PyTree,
    correct: Callable[[np.ndarray], Verdict],
    known: Targets | None = None,
    optimizer: optax.GradientTransformation,
    reward_optimizer: optax.GradientTransformation,
    config: AdaptConfig = AdaptConfig(),
) -> Adapted:
    """Adapts a segmentation network to images without labels.

    It compiles its steps itself, each once, and runs them from Python, since the guarantee need not be a JAX function.
    It stops early without labels: of the policies that a round left, and the supervised one, it returns the one with
    most maps that the guarantee trusts, the later one of equals.
    Memory: the images, and ten label maps an image and round.

    Args:
        key: Random key.
        params: Of the supervised policy.
        images: Of the target domain.
        networks: Policy and value.
        judge: Parameters of the reward network, images and label maps to log-odds that each pixel is right.
        critic: Initial parameters of the value.
        reward: Initial parameters of the reward network.
        correct: Brings label maps to plausible ones.
        known: Images of the source with their true masks. If given, half of what the reward network learns from are
            their sampled and spoilt maps, so that it is calibrated before anything is known of the target.
        optimizer: Of policy and value.
        reward_optimizer: Of the reward network, and of the value before the first round.
        config: The schedule.

    Returns:
        The adapted policy and its judge.

    References:
        Judge et al., "Domain Adaptation of Echocardiography Segmentation Via Reinforcement Learning", MICCAI 2024.
    """

    @jax.jit
    def predict(key, params, images):
        sample_key, spoil_key = jax.random.split(key)
        logits = networks.policy(params, images)
        labels = logits.argmax(-1).astype(jnp.int32)
        spoilt = spoil(spoil_key, params, images, labels, policy=networks.policy, weight_noise=config.weight_noise)
        return labels, sample_labels(sample_key, logits), spoilt

    @jax.jit
    def learn(learner, batch):
        return reward_step(learner, batch, apply=judge, optimizer=reward_optimizer)

    @jax.jit
    def expect(learner, reward, batch):
        images, labels = batch
        worth = jax.nn.sigmoid(judge(reward, images, labels))
        return descend(
            learner,
            lambda params: jnp.square(networks.value(params, images) - worth).mean(),
            optimizer=reward_optimizer,
        )

    @jax.jit
    def reinforce(key, state, batch, reward, weights):
        return ppo_step(
            key,
            state,
            batch,
            networks=networks,
            reward=lambda images, labels: jax.nn.sigmoid(judge(reward, images, labels)),
            optimizer=optimizer,
            entropy_weight=weights[0],
            divergence_weight=weights[1],
            config=config.ppo,
        )

    def look(key, actor, images, correct):
        return _look(key, actor, images, predict, correct, config.ppo_batch)

    draw = jax.jit(sample_pairs, static_argnums=2)
    actor, judged, pairs, history = params, init_learner(reward, reward_optimizer), None, []
    best, most, taught = params, -1.0, None
    if known is not None:
        certain = np.ones(len(known.images), bool)
        truth = Verdict(np.asarray(known.labels), certain, certain)
        taught = look(jax.random.fold_in(key, 0), params, known.images, lambda labels: truth)[0]
    for i in range(1, config.num_iterations + 2):
        predict_key, reward_key, ppo_key, shake_key = jax.random.split(jax.random.fold_in(key, i), 4)
        seen, found = look(predict_key, actor, images, correct)
        figures = {"trusted": float(np.mean(found.plausible)), "usable": float(np.mean(found.valid))}
        history.append(figures)
        if figures["trusted"] >= most:
            best, most = actor, figures["trusted"]
        if i > config.num_iterations:
            break
        pairs = seen if pairs is None else _join(pairs, seen)
        lesson, loss = pairs if taught is None else _join(_reweighted(taught, pairs.weights.sum()), pairs), jnp.nan
        for k in range(config.reward_steps):
            judged, loss = learn(judged, draw(jax.random.fold_in(reward_key, k), lesson, config.reward_batch))

        if i == 1:
            drawn = (images, seen.predictions[:, 0])
            learner = init_learner(critic, reward_optimizer)
            for batch in batches(shake_key, drawn, num_steps=config.critic_steps, batch_size=config.ppo_batch):
                learner, _ = expect(learner, judged.params, batch)
            critic = learner.params
        else:
            keys = jax.random.split(shake_key)
            actor, critic = (
                shrink_and_perturb(k, p, shrink=config.shrink, perturb=config.perturb)
                for k, p in zip(keys, (actor, critic), strict=True)
            )
        state, metrics = init_ppo(actor, critic, params, optimizer=optimizer), None
        believed = Targets(images, jnp.asarray(found.masks), jnp.asarray(found.plausible))
        weights = jnp.array([config.entropy, config.divergence]) / (2 * i)
        for batch in batches(ppo_key, believed, num_steps=config.ppo_steps, batch_size=config.ppo_batch):
            state, metrics = reinforce(ppo_key, state, batch, judged.params, weights)
        actor, critic = state.actor.params, state.critic.params
        figures |= {"reward_loss": float(loss)}
        figures |= {} if metrics is None else {k: float(v) for k, v in metrics._asdict().items()}
    assert pairs is not None
    return Adapted(best, judged.params, pairs, history)


def shrink_and_perturb(key: Key[Array, ""], params: PyTree, *, shrink: float = 0.5, perturb: float = 0.01) -> PyTree:
    """Shrinks kernels and adds noise to them, so that a network learns the next task as a fresh one would.

    Args:
        key: Random key.
        params: Parameters; those with one axis, biases and scales, stay as they are.
        shrink: Factor.
        perturb: Standard deviation of the noise.

    Returns:
        Other parameters.

    References:
        Ash and Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020.
    """
    noisy = perturb_params(key, jax.tree.map(lambda p: shrink * p, params), perturb)
    return jax.tree.map(lambda old, new: new if old.ndim > 1 else old, params, noisy)


def batches(key: Key[Array, ""], data: PyTree, *, num_steps: int, batch_size: int) -> Iterator[Any]:
    """Draws batches without repeating an example within one.

    Args:
        key: Random key.
        data: Arrays with a common first axis.
        num_steps: How many batches.
        batch_size: Examples a batch.

    Yields:
        The same tree, its leaves with ``batch_size`` rows.
    """
    num = len(jax.tree.leaves(data)[0])
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    for _ in range(num_steps):
        rows = rng.choice(num, batch_size, replace=False)
        yield jax.tree.map(lambda leaf, rows=rows: leaf[rows], data)


def _join(*groups: Pairs) -> Pairs:
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *groups)


def _reweighted(pairs: Pairs, total: Array) -> Pairs:
    return pairs._replace(weights=pairs.weights * jnp.maximum(total, 1) / pairs.weights.sum())


def _look(key, params, images, predict, correct, batch_size: int) -> tuple[Pairs, Verdict]:
    """Label maps of all images, good and bad, and the verdict on the most likely ones."""
    parts = []
    for start in range(0, len(images), batch_size):
        rows = np.resize(np.arange(start, min(start + batch_size, len(images))), batch_size)  # one shape to compile
        num = min(batch_size, len(images) - start)
        labels, sampled, spoilt = predict(jax.random.fold_in(key, start), params, images[rows])
        parts.append((labels[:num], sampled[:num], jnp.swapaxes(spoilt, 0, 1)[:num]))
    labels, sampled, spoilt = (jnp.concatenate(group) for group in zip(*parts, strict=True))
    found = correct(np.asarray(labels))
    pairs = make_pairs(
        images,
        sampled,
        jnp.swapaxes(spoilt, 0, 1),
        jnp.asarray(found.masks),
        trusted=jnp.asarray(found.plausible),
        valid=jnp.asarray(found.valid),
    )
    return pairs, found
