"""The methods that are compared: each a function of the task, a key and the source network's parameters."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cardiojax import adaptation, anatomy, metrics, recipes
from cardiojax.analysis.recording import keep_largest
from cardiojax.analysis.sector import find_sector
from cardiojax.correction.anatomical import make_anatomical_corrector
from experiments.rl4seg2024.domains import FINE, LIMITS, Domains, coarse, resize
from experiments.rl4seg2024.networks import Config, Nets, known_frames


def make_guarantee(images: np.ndarray, agreement: float = 0.9) -> Callable[[np.ndarray], adaptation.CorrectedBatch]:
    """Keeps the largest components, then trusts a map that is within `LIMITS` and that the shape autoencoder can draw.

    Others are corrected by it. It sees as its square what is lit in some image, as it learned from hearts in sectors
    that fill the frame: on the whole of frames which are deeper it can draw not even half of the true masks.
    """
    size = images.shape[1]
    sector = find_sector(images[..., 0]).box
    top, bottom, left, right = box = tuple(round(edge * FINE / size) for edge in sector)
    corrector = make_anatomical_corrector(batch_size=16)

    @jax.jit
    def redraw(masks):
        inside = masks[:, top:bottom, left:right]
        drawn = corrector.shapes.decode(corrector.shapes.encode(inside), *inside.shape[1:])
        return jnp.pad(drawn, ((0, 0), (top, FINE - bottom), (left, FINE - right)))

    @jax.jit
    def is_sound(masks):
        return anatomy.is_valid(masks, thresholds=LIMITS)

    def correct(masks: np.ndarray) -> adaptation.CorrectedBatch:
        fine = resize(np.eye(4, dtype=np.float32)[masks], FINE).argmax(-1)
        corrected = corrector(np.stack([keep_largest(mask) for mask in fine]), box=box)
        drawn = np.concatenate([redraw(corrected.before[i : i + 1]) for i in range(len(fine))])
        same = np.stack([metrics.dice(drawn == k, corrected.before == k) for k in (1, 2, 3)]).min(0)
        sound = np.concatenate([is_sound(corrected.before[i : i + 1]) for i in range(len(fine))])
        trusted = sound & (same > agreement)
        masks = np.where(trusted[:, None, None], corrected.before, corrected.labels)
        return adaptation.CorrectedBatch(coarse(masks, size), trusted, trusted | corrected.valid)

    return correct


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Of every network that is adapted."""
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(config.learning_rate))


def reinforce(
    key,
    params: Any,
    images: jax.Array,
    known: adaptation.Targets | None,
    nets: Nets,
    init: Callable,
    correct: Callable,
    config: Config,
) -> recipes.Adapted:
    """Adapts the source network with fresh networks for value and reward."""
    _, critic, reward = init(jax.random.fold_in(key, 1))
    return recipes.adapt(
        key,
        params,
        images,
        networks=adaptation.Networks(nets.policy, nets.value),
        reward_function=nets.reward,
        critic=critic,
        reward=reward,
        correct=correct,
        known=known,
        optimizer=make_optimizer(config),
        reward_optimizer=optax.adam(3e-3),
        config=config.adapt,
    )


class Task(NamedTuple):
    """What every method is given.

    Attributes:
        nets: The networks.
        init: Key to the initial parameters of the networks.
        correct: Label maps to corrected ones.
        config: The schedule.
        images: Images of the target.
        true_labels: Their true label maps, for the upper bound alone.
        known: Labelled frames of the source.
    """

    nets: Nets
    init: Callable[[Any], tuple[Any, Any, Any]]
    correct: Callable[[np.ndarray], adaptation.CorrectedBatch]
    config: Config
    images: jax.Array
    true_labels: np.ndarray
    known: adaptation.Targets

    @property
    def unlabelled(self) -> adaptation.Targets:
        """The target's images, without label maps."""
        zeros = jnp.zeros(self.images.shape[:-1], jnp.int32)
        return adaptation.Targets(self.images, zeros, jnp.zeros(len(self.images), bool))


class Outcome(NamedTuple):
    """Result of a method.

    Attributes:
        params: Parameters of the segmentation network.
        history: Figures of each round.
        adapted: The result of `recipes.adapt`, with the reward network; None for the other methods.
    """

    params: Any
    history: list[dict[str, float]]
    adapted: recipes.Adapted | None = None


def make_task(nets: Nets, init: Callable, domains: Domains, correct: Callable, config: Config) -> Task:
    """What every method is given, of two domains."""
    images = jnp.asarray(domains.target.images)
    known = known_frames(domains.source, len(images))
    return Task(nets, init, correct, config, images, domains.target.labels, known)


def in_rounds(task: Task, key, state: Any, step: Callable, *, data: Any = None, network=lambda state: state) -> Outcome:
    """As many updates as the reinforcement makes, and its early stopping.

    Args:
        task: What every method is given.
        key: Random key.
        state: Initial parameters.
        step: Optimizer state and a batch to the next state and its loss.
        data: What batches are drawn from; the valid corrected outlines of each round if not given.
        network: State to the parameters of the segmentation network.
    """
    config, predict = task.config.adapt, jax.jit(lambda p, x: task.nets.policy(p, x).argmax(-1))
    step, best, most, history = jax.jit(step), state, -1.0, []
    for i in range(config.num_iterations + 1):
        masks = [predict(network(state), task.images[j : j + 8]) for j in range(0, len(task.images), 8)]
        corrected = task.correct(np.concatenate(masks))
        history.append({"trusted": float(np.mean(corrected.trusted))})
        if history[-1]["trusted"] >= most:
            best, most = state, history[-1]["trusted"]
        if i == config.num_iterations:
            break
        pseudo_labels = adaptation.Targets(task.images, jnp.asarray(corrected.masks), jnp.asarray(corrected.valid))
        batches = recipes.batches(
            jax.random.fold_in(key, i),
            jax.tree.map(lambda leaf, rows=corrected.valid: leaf[rows], pseudo_labels) if data is None else data,
            num_steps=config.ppo_steps * config.ppo.num_updates,
            batch_size=config.ppo_batch,
        )
        learner = adaptation.init_optimizer(state, make_optimizer(task.config))
        for batch in batches:
            learner, _ = step(learner, batch)
        state = learner.params
    return Outcome(network(best), history)


def source_only(task: Task, key, params: Any) -> Outcome:
    """The source network as it is."""
    return Outcome(params, [])


def reinforcement(task: Task, key, params: Any) -> Outcome:
    """`recipes.adapt`."""
    adapted = reinforce(key, params, task.images, task.known, task.nets, task.init, task.correct, task.config)
    return Outcome(adapted.params, adapted.history, adapted)


def reinforcement_by_true_reward(task: Task, key, params: Any) -> Outcome:
    """What the same steps reach with a reward that never errs: the true masks are a second channel of the images."""
    nets = task.nets
    truth = coarse(task.true_labels, task.images.shape[1])[..., None] / 3
    known_reward = nets._replace(
        policy=lambda p, x: nets.policy(p, x[..., :1]),
        value=lambda p, x: nets.value(p, x[..., :1]),
        reward=lambda p, x, labels: 20.0 * (labels == jnp.rint(3 * x[..., 1])) - 10.0,
    )
    seen = jnp.concatenate([task.images, truth], -1)
    adapted = reinforce(key, params, seen, None, known_reward, task.init, task.correct, task.config)
    return Outcome(adapted.params, adapted.history)


def self_training(task: Task, key, params: Any) -> Outcome:
    """Training on corrected pseudo-labels."""
    optimizer = make_optimizer(task.config)
    step = functools.partial(adaptation.self_training_step, policy=task.nets.policy, optimizer=optimizer)
    return in_rounds(task, key, params, step)


def entropy_minimisation(task: Task, key, params: Any) -> Outcome:
    """Tent, on the scales and offsets of instance normalisation."""
    optimizer = make_optimizer(task.config)
    step = functools.partial(adaptation.tent_step, policy=task.nets.policy, optimizer=optimizer)
    return in_rounds(task, key, params, step, data=task.unlabelled)


def alignment(task: Task, key, params: Any) -> Outcome:
    """Adversarial alignment of the deepest features with those of the source."""
    optimizer = make_optimizer(task.config)

    def policy(params, images):
        out = task.nets.features(params, images)
        return out.logits, out.bottleneck

    def step(learner, batch):
        target, source = batch
        return adaptation.alignment_step(
            learner,
            target,
            source.images,
            source.labels,
            policy=policy,
            discriminate=discriminate,
            optimizer=optimizer,
        )

    state = (params, init_discriminator(key, task.config.features[-1]))
    return in_rounds(task, key, state, step, data=(task.unlabelled, task.known), network=lambda state: state[0])


def init_discriminator(key, width: int) -> dict[str, jax.Array]:
    """Parameters of a perceptron with one hidden layer, on features of a given width."""
    first, second = jax.random.split(key)
    return {
        "first": jax.random.normal(first, (width, 64)) / width**0.5,
        "bias": jnp.zeros(64),
        "second": jax.random.normal(second, (64, 1)) / 8,
    }


def discriminate(params: dict[str, jax.Array], features: jax.Array) -> jax.Array:
    """Logits that features are of the source."""
    hidden = jax.nn.relu(features @ params["first"] + params["bias"])
    return (hidden @ params["second"])[..., 0]


METHODS: dict[str, Callable[[Task, Any, Any], Outcome]] = {
    "source only": source_only,
    "reinforcement": reinforcement,
    "reinforcement, true reward": reinforcement_by_true_reward,
    "self-training": self_training,
    "entropy minimisation": entropy_minimisation,
    "adversarial alignment": alignment,
}
