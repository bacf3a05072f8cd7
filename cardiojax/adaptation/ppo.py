"""Proximal policy optimisation of a segmentation network: one decision and one reward a pixel, episodes of one step."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from cardiojax import losses
from cardiojax.adaptation.policy import log_prob, sample_labels
from cardiojax.optimizer import OptimizerState, gradient_step, init_optimizer

Number = float | Float[Array, ""]


class Networks(NamedTuple):
    """Policy and value as functions of parameters.

    Attributes:
        policy: Parameters and images to class scores ``[*b, h, w, k]``.
        value: Parameters and images to the reward that is expected of each pixel ``[*b, h, w]``.
    """

    policy: Callable[[PyTree, Array], Array]
    value: Callable[[PyTree, Array], Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Trust region and number of updates; the published values.

    Attributes:
        clip: Largest relative change of a probability that is rewarded.
        num_updates: Updates on one batch of sampled label maps.
        unroll: How many of them XLA sees at once. On CPU the gradient of a convolution inside a loop is ten times
            slower than outside: unroll all of them there.
    """

    clip: float = 0.2
    num_updates: int = 5
    unroll: int = 1


class Targets(NamedTuple):
    """Images without labels, and their pseudo-labels.

    Attributes:
        images: Of the target domain, ``[n, h, w, c]``.
        labels: Pseudo-labels, ``[n, h, w]``.
        trusted: Whether the pseudo-label is used as the truth, ``[n]``.
    """

    images: Float[Array, "n h w c"]
    labels: Int[Array, "n h w"]
    trusted: Bool[Array, " n"]


class PPOState(NamedTuple):
    """State of the optimisation.

    Attributes:
        step: Steps so far.
        actor: The policy that is trained.
        critic: The value that is trained.
        reference: Parameters of the supervised policy, which stay fixed.
    """

    step: Int[Array, ""]
    actor: OptimizerState
    critic: OptimizerState
    reference: PyTree


class Rollout(NamedTuple):
    """Actions of a policy and their reward.

    Attributes:
        images: Observations.
        labels: Actions.
        log_prob: Log-probability of each action.
        reference_log_prob: The same under the reference.
        reward: Of the actions, in [0, 1].
        trusted: Whether the labels are a trusted pseudo-label, whose reward is 1 everywhere.
    """

    images: Float[Array, "n h w c"]
    labels: Int[Array, "n h w"]
    log_prob: Float[Array, "n h w"]
    reference_log_prob: Float[Array, "n h w"]
    reward: Float[Array, "n h w"]
    trusted: Bool[Array, " n"]


class PPOMetrics(NamedTuple):
    """Means over the batch, before the update.

    Attributes:
        reward: Of the drawn maps.
        actor_loss: Of the policy.
        critic_loss: Of the value.
        entropy: Of the policy, in nats.
        divergence: Of the policy from the reference, estimated from its actions, in nats.
    """

    reward: Float[Array, ""]
    actor_loss: Float[Array, ""]
    critic_loss: Float[Array, ""]
    entropy: Float[Array, ""]
    divergence: Float[Array, ""]


def init_ppo(
    actor: PyTree,
    critic: PyTree,
    reference: PyTree,
    *,
    optimizer: optax.GradientTransformation,
) -> PPOState:
    """Makes the state before the first step.

    Args:
        actor: Parameters of the policy.
        critic: Parameters of the value.
        reference: Parameters of the supervised policy.
        optimizer: The optimizer of both networks.

    Returns:
        The state.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> actor = jnp.zeros(2)
        >>> state = init_ppo(actor, jnp.zeros(()), actor, optimizer=optax.adam(1e-3))
        >>> int(state.step)
        0
    """
    return PPOState(
        jnp.zeros((), jnp.int32), init_optimizer(actor, optimizer), init_optimizer(critic, optimizer), reference
    )


def rollout(
    key: Key[Array, ""],
    state: PPOState,
    batch: Targets,
    *,
    networks: Networks,
    reward: Callable[[Array, Array], Array],
) -> Rollout:
    """Samples label maps from the policy and computes their reward.

    Args:
        key: Random key.
        state: Policy and reference.
        batch: Images, and pseudo-labels that take the place of the drawn maps where they are trusted.
        networks: Policy and value.
        reward: Images and label maps to the reward of each pixel.

    Returns:
        Actions and rewards; the reward is that of the drawn maps everywhere.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from cardiojax.adaptation import Targets
        >>> networks = Networks(policy=lambda p, x: x * p, value=lambda p, x: x[..., 0] * p)
        >>> actor = jnp.array([0.0, 9.0])
        >>> state = init_ppo(actor, jnp.zeros(()), actor, optimizer=optax.adam(1e-3))
        >>> batch = Targets(jnp.ones((1, 4, 4, 1)), jnp.zeros((1, 4, 4), int), jnp.zeros(1, bool))
        >>> options = {"networks": networks, "reward": lambda images, labels: labels * 1.0}
        >>> taken = rollout(jax.random.key(0), state, batch, **options)
        >>> taken.reward.shape
        (1, 4, 4)
    """
    logits = networks.policy(state.actor.params, batch.images)
    drawn = sample_labels(key, logits)
    labels = jnp.where(batch.trusted[:, None, None], batch.labels.astype(jnp.int32), drawn)
    known = networks.policy(state.reference, batch.images)
    earned = reward(batch.images, drawn)
    return Rollout(batch.images, labels, log_prob(logits, labels), log_prob(known, labels), earned, batch.trusted)


def shaped_reward(rollout: Rollout, log_prob: Float[Array, "n h w"], *, weight: Number) -> Float[Array, "n h w"]:
    """Computes the reward minus the penalty for diverging from the reference; 1 where a pseudo-label is trusted.

    Args:
        rollout: Actions and rewards.
        log_prob: Log-probability of the actions under the current policy.
        weight: Penalty for a nat of divergence.

    Returns:
        The shaped reward; no gradient flows through it.
    """
    penalty = weight * (log_prob - rollout.reference_log_prob)
    return lax.stop_gradient(jnp.where(rollout.trusted[:, None, None], 1.0, rollout.reward - penalty))


def ppo_update(
    state: PPOState,
    taken: Rollout,
    *,
    networks: Networks,
    optimizer: optax.GradientTransformation,
    entropy_weight: Number = 0.05,
    divergence_weight: Number = 0.35,
    clip: float = 0.2,
) -> tuple[PPOState, PPOMetrics]:
    """Updates the policy by the clipped surrogate of the advantage, and the value by regression to the reward.

    Args:
        state: State before the update.
        taken: Actions and rewards of a policy.
        networks: Policy and value.
        optimizer: The optimizer of both networks.
        entropy_weight: Bonus for a nat of entropy.
        divergence_weight: Penalty for a nat of divergence from the reference.
        clip: Largest relative change of a probability that is rewarded.

    Returns:
        The next state, and the metrics before the update.

    References:
        Judge et al., "Domain Adaptation of Echocardiography Segmentation Via Reinforcement Learning", MICCAI 2024.
    """

    def critic_loss(params: PyTree) -> tuple[Array, Array]:
        value = networks.value(params, taken.images)
        return jnp.square(value - taken.reward).mean(), value

    critic, (critic_value, baseline), _ = gradient_step(state.critic, critic_loss, optimizer=optimizer, has_aux=True)

    def actor_loss(params: PyTree) -> tuple[Array, tuple[Array, Array]]:
        logits = networks.policy(params, taken.images)
        now = log_prob(logits, taken.labels)
        advantage = shaped_reward(taken, now, weight=divergence_weight) - baseline
        surrogate = losses.clipped_surrogate_loss(now, taken.log_prob, advantage, clip=clip)
        entropy = losses.entropy_loss(logits)
        return (surrogate - entropy_weight * entropy).mean(), (entropy.mean(), (now - taken.reference_log_prob).mean())

    actor, (actor_value, (entropy, divergence)), _ = gradient_step(
        state.actor, actor_loss, optimizer=optimizer, has_aux=True
    )
    metrics = PPOMetrics(taken.reward.mean(), actor_value, critic_value, entropy, divergence)
    return state._replace(actor=actor, critic=critic), metrics


def ppo_step(
    key: Key[Array, ""],
    state: PPOState,
    batch: Targets,
    *,
    networks: Networks,
    reward: Callable[[Array, Array], Array],
    optimizer: optax.GradientTransformation,
    entropy_weight: Number = 0.05,
    divergence_weight: Number = 0.35,
    config: PPOConfig = PPOConfig(),
) -> tuple[PPOState, PPOMetrics]:
    """Samples label maps for a batch and updates policy and value on them several times.

    Args:
        key: The run's random key; the step is folded in.
        state: State before the step.
        batch: Images of the target domain.
        networks: Policy and value.
        reward: Images and label maps to the reward of each pixel.
        optimizer: The optimizer of both networks.
        entropy_weight: Bonus for a nat of entropy.
        divergence_weight: Penalty for a nat of divergence from the reference.
        config: Trust region and number of updates.

    Returns:
        The next state, and the metrics before the last update.

    References:
        Schulman et al., "Proximal Policy Optimization Algorithms", 2017; Judge et al., MICCAI 2024.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from cardiojax.adaptation import Networks, Targets, init_ppo
        >>> networks = Networks(policy=lambda p, x: x * p, value=lambda p, x: x[..., 0] * p)
        >>> actor, optimizer = jnp.zeros(2), optax.sgd(1.0)
        >>> state = init_ppo(actor, jnp.zeros(()), actor, optimizer=optimizer)
        >>> batch = Targets(jnp.ones((1, 8, 8, 1)), jnp.zeros((1, 8, 8), int), jnp.zeros(1, bool))
        >>> def reward(images, labels):
        ...     return (labels == 1).astype(float)
        >>> options = {"networks": networks, "reward": reward, "optimizer": optimizer}
        >>> state, _ = ppo_step(jax.random.key(0), state, batch, **options)
        >>> bool(state.actor.params[1] > state.actor.params[0])  # the rewarded class becomes more likely
        True
    """
    taken = rollout(jax.random.fold_in(key, state.step), state, batch, networks=networks, reward=reward)

    def update(state: PPOState, _: None) -> tuple[PPOState, PPOMetrics]:
        return ppo_update(
            state,
            taken,
            networks=networks,
            optimizer=optimizer,
            entropy_weight=entropy_weight,
            divergence_weight=divergence_weight,
            clip=config.clip,
        )

    state, metrics = lax.scan(update, state, None, length=config.num_updates, unroll=config.unroll)
    return state._replace(step=state.step + 1), jax.tree.map(lambda values: values[-1], metrics)
