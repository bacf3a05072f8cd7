"""The networks of the adaptation, and their training on the source."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cardiojax import adaptation, models, recipes, zoo
from cardiojax.data.augment import AugmentConfig, warp
from experiments.rl4seg2024.domains import DomainConfig, Domains, Frames, coarse


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is adapted, and how long.

    Attributes:
        out: Folder for the domain's images, the source network, the table and the scores; what is there is used.
        domain: Source and target.
        features: Channels of the segmentation network.
        reward_features: Channels of the reward network and of the value.
        source_steps: Training steps of the source network.
        learning_rate: Of the adaptation.
        seeds: One run each, from the same source network.
        methods: Those to compare, all if none is named.
        adapt: The schedule of the reinforcement, and of the baselines' rounds and updates.
    """

    out: Path
    domain: DomainConfig = DomainConfig()
    features: tuple[int, ...] = (8, 16, 32, 64)
    reward_features: tuple[int, ...] = (8, 16, 32, 64)
    source_steps: int = 600
    learning_rate: float = 2e-3
    seeds: tuple[int, ...] = (0, 1, 2)
    methods: tuple[str, ...] = ()
    adapt: recipes.AdaptConfig = recipes.AdaptConfig(
        num_iterations=4,
        reward_steps=125,
        critic_steps=220,
        ppo_steps=10,  # few, so that the reward is learned anew before the policy exploits its errors
        entropy=0.02,  # so few steps do not recover from the entropy that the published weight brings
        shrink=1.0,
        perturb=0.0,
        weight_noise=(0.02, 0.04, 0.06, 0.08),  # kernels of so few channels are larger than those of the paper
        ppo=adaptation.PPOConfig(unroll=5),
    )


class Nets(NamedTuple):
    """The networks as functions of parameters and arrays."""

    policy: Callable[..., Any]
    features: Callable[..., Any]
    value: Callable[..., Any]
    reward: Callable[..., Any]


def make_nets(config: Config) -> tuple[Nets, Callable[[Any], tuple[Any, Any, Any]]]:
    """The three networks, and a function from a key to their initial parameters."""
    actor: Any = models.UNet(models.UNetConfig(features=config.features))
    reward: Any = models.UNet(models.UNetConfig(features=config.reward_features, num_classes=1))

    def see(images, labels):
        """The image and a channel a structure: the order of the labels means nothing."""
        return jnp.concatenate([images, jax.nn.one_hot(labels - 1, 3)], -1)

    nets = Nets(
        lambda p, x: actor.apply({"params": p}, x).logits,
        lambda p, x: actor.apply({"params": p}, x),
        lambda p, x: jax.nn.sigmoid(reward.apply({"params": p}, x).logits[..., 0]),
        lambda p, x, labels: reward.apply({"params": p}, see(x, labels)).logits[..., 0],
    )

    def init(key):
        keys = jax.random.split(key, 3)
        side = 2 ** (max(len(config.features), len(config.reward_features)) - 1)
        shapes = ((actor, 1), (reward, 1), (reward, 4))
        return tuple(
            net.init(k, jnp.zeros((1, side, side, c)))["params"] for k, (net, c) in zip(keys, shapes, strict=True)
        )

    return nets, init


def train_source(key, params: Any, source: Frames, nets: Nets, config: Config) -> Any:
    """Trains the segmentation network on the source: moved and turned images, untouched grey values."""
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, config.source_steps))
    move = AugmentConfig(rotation=10.0, scale=(0.9, 1.1), aspect=0.05, shift=0.05)

    @jax.jit
    def step(key, learner, batch):
        images, masks = jax.vmap(functools.partial(warp, config=move))(
            jax.random.split(key, len(batch.images)), batch.images[..., 0], batch.labels
        )
        moved = batch._replace(images=images[..., None], labels=masks)
        return adaptation.self_training_step(learner, moved, policy=nets.policy, optimizer=optimizer)

    learner = adaptation.init_optimizer(params, optimizer)
    data = labelled(source, np.arange(len(source.images)))
    for i, batch in enumerate(recipes.batches(key, data, num_steps=config.source_steps, batch_size=8)):
        learner, _ = step(jax.random.fold_in(key, i), learner, batch)
    return learner.params


def labelled(source: Frames, rows: np.ndarray) -> adaptation.Targets:
    """Frames of the source with their masks on the networks' grid."""
    images = source.images[rows]
    masks = coarse(source.labels[rows], images.shape[1])
    return adaptation.Targets(jnp.asarray(images), jnp.asarray(masks), jnp.ones(len(rows), bool))


def known_frames(source: Frames, num: int) -> adaptation.Targets:
    """A few frames of the source, the same in every run, for the reward network and for alignment."""
    return labelled(source, np.random.default_rng(0).choice(len(source.images), num))


def load_source(domains: Domains, nets: Nets, init: Callable, config: Config) -> Any:
    """Parameters of the source network, trained now or before."""
    key = jax.random.key(0)
    params, kept = init(key)[0], config.out / f"{config.domain.kind}_source.safetensors"
    if kept.exists():
        return zoo.load_weights(kept, params)
    params = train_source(key, params, domains.source, nets, config)
    zoo.save_weights(kept, params)
    return params
