"""The reward: a network that predicts for each pixel of a label map whether it is right, trained on corrupted maps.

Its map doubles as an uncertainty: ``uncertainty.learned_confidence(images, labels, sigmoid(logits / temperature))``,
with the temperature of ``uncertainty.fit_temperature`` on ``stack([0 * logits, logits], -1)``.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from cardiojax import losses
from cardiojax.optimizer import OptimizerState, gradient_step


class Pairs(NamedTuple):
    """Label maps of images, and what they should have been.

    Attributes:
        images: ``[n, h, w, c]``.
        predictions: Maps of varying quality, m an image, ``[n, m, h, w]``.
        targets: The best that is known of each image, ``[n, h, w]``.
        weights: 1 for pairs to learn from, 0 for others, ``[n, m]``.
    """

    images: Float[Array, "n h w c"]
    predictions: Int[Array, "n m h w"]
    targets: Int[Array, "n h w"]
    weights: Float[Array, "n m"]


class CorrectedBatch(NamedTuple):
    """Label maps after a correction.

    Attributes:
        masks: The corrected maps, int32 ``[n, h, w]``.
        trusted: Whether a map was valid and accurate as it was, ``[n]``.
        valid: Whether the corrected map is valid, ``[n]``.
    """

    masks: np.ndarray
    trusted: np.ndarray
    valid: np.ndarray


class PairBatch(NamedTuple):
    """One label map an image, and what it should have been."""

    images: Float[Array, "n h w c"]
    predictions: Int[Array, "n h w"]
    targets: Int[Array, "n h w"]


def perturb_params(key: Key[Array, ""], params: PyTree, scale: float | Float[Array, ""]) -> PyTree:
    """Adds normal noise to every parameter.

    Args:
        key: Random key.
        params: Parameters.
        scale: Standard deviation.

    Returns:
        Other parameters.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> perturb_params(jax.random.key(0), {"w": jnp.zeros(3)}, 0.1)["w"].shape
        (3,)
    """
    flat, unravel = ravel_pytree(params)  # one draw for all: a draw a leaf compiles for minutes
    return unravel(flat + scale * jax.random.normal(key, flat.shape, flat.dtype))


def shrink_and_perturb(key: Key[Array, ""], params: PyTree, *, shrink: float = 0.5, perturb: float = 0.01) -> PyTree:
    """Scales kernels down and adds noise to them, so that a network learns the next task as a fresh one would.

    Args:
        key: Random key.
        params: Parameters; those with one axis, biases and scales, stay as they are.
        shrink: Factor.
        perturb: Standard deviation of the noise.

    Returns:
        Other parameters.

    References:
        Ash and Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
        >>> shrunk = shrink_and_perturb(jax.random.key(0), params, perturb=0.0)
        >>> shrunk["kernel"].tolist(), shrunk["bias"].tolist()
        ([[0.5, 0.5], [0.5, 0.5]], [1.0, 1.0])
    """
    noisy = perturb_params(key, jax.tree.map(lambda p: shrink * p, params), perturb)
    return jax.tree.map(lambda old, new: new if old.ndim > 1 else old, params, noisy)


def corrupt(
    key: Key[Array, ""],
    params: PyTree,
    images: Float[Array, "n h w c"],
    labels: Int[Array, "n h w"],
    *,
    policy: Callable[[PyTree, Array], Array],
    weight_noise: Sequence[float] = (0.005, 0.01, 0.015, 0.02),
    contrasts: Sequence[float] = (0.7, 0.8),
    image_noise: Sequence[float] = (0.05, 0.1),
) -> Int[Array, "m n h w"]:
    """Computes corrupted maps of images: another image's, those of a perturbed network, those of altered images.

    Memory is that of one prediction, besides the maps.

    Args:
        key: Random key.
        params: Parameters of the policy.
        images: Images in [0, 1].
        labels: Their maps.
        policy: Parameters and images to class scores.
        weight_noise: Standard deviations of the noise on all parameters.
        contrasts: Factors on the images.
        image_noise: Standard deviations of the noise on the images, which are then divided by their largest value.

    Returns:
        Maps in this order, ``1 + len(weight_noise) + len(contrasts) + len(image_noise)`` an image.

    References:
        Judge et al., "Domain Adaptation of Echocardiography Segmentation Via Reinforcement Learning", MICCAI 2024.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 1))
        >>> def policy(params, images):
        ...     return images * params["w"]
        >>> params = {"w": jnp.array([1.0, 2.0])}
        >>> labels = policy(params, images).argmax(-1)
        >>> corrupt(jax.random.key(1), params, images, labels, policy=policy).shape
        (9, 2, 8, 8)
    """
    swap_key, change_key = jax.random.split(key)
    num = len(weight_noise) + len(contrasts) + len(image_noise)
    weight_scales = jnp.zeros(num).at[: len(weight_noise)].set(jnp.asarray(weight_noise))
    factors = jnp.ones(num).at[len(weight_noise) : num - len(image_noise)].set(jnp.asarray(contrasts))
    noises = jnp.zeros(num).at[num - len(image_noise) :].set(jnp.asarray(image_noise))

    def predict(change: tuple[Array, ...]) -> Array:
        key, weight_scale, factor, noise = change
        params_key, image_key = jax.random.split(key)
        changed = factor * images + noise * jax.random.normal(image_key, images.shape)
        changed = changed / jnp.where(noise > 0, changed.max((-3, -2, -1), keepdims=True), 1.0)
        return policy(perturb_params(params_key, params, weight_scale), changed).argmax(-1).astype(jnp.int32)

    swapped = jnp.roll(labels, jax.random.randint(swap_key, (), 1, max(len(labels), 2)), 0)
    maps = lax.map(predict, (jax.random.split(change_key, num), weight_scales, factors, noises))
    return jnp.concatenate([swapped[None], maps])


def make_pairs(
    images: Float[Array, "n h w c"],
    sampled: Int[Array, "n h w"],
    corrupted: Int[Array, "m n h w"],
    corrected: Int[Array, "n h w"],
    *,
    trusted: Bool[Array, " n"],
    valid: Bool[Array, " n"],
) -> Pairs:
    """Pairs good and bad maps of the same images.

    Where the network's own map is trusted it is the target, and the corrupted and sampled maps are predictions. Where
    it was corrected, the corrected map is the target of the sampled one. Empty corrupted maps are left out, and so is
    an image whose corrected map is not valid.

    Args:
        images: Images in [0, 1].
        sampled: Maps drawn from the policy.
        corrupted: Result of `corrupt`.
        corrected: The most likely maps, corrected; unchanged where they are trusted.
        trusted: Whether the most likely map is valid as it is.
        valid: Whether the corrected map is.

    Returns:
        ``m + 1`` pairs an image, the sampled map first.

    Example:
        >>> import jax.numpy as jnp
        >>> images, labels, yes = jnp.ones((3, 8, 8, 1)), jnp.ones((3, 8, 8), int), jnp.ones(3, bool)
        >>> pairs = make_pairs(images, labels, labels[None], labels, trusted=yes, valid=yes)
        >>> pairs.weights.shape
        (3, 2)
    """
    shows_heart = (corrupted > 0).any((-2, -1))
    weights = jnp.concatenate([(trusted | valid)[None], trusted & shows_heart]).astype(jnp.float32)
    predictions = jnp.concatenate([sampled[None], corrupted])
    return Pairs(images, jnp.swapaxes(predictions, 0, 1), corrected, weights.T)


def sample_pairs(key: Key[Array, ""], pairs: Pairs, batch_size: int) -> PairBatch:
    """Draws pairs, each as likely as its weight.

    Args:
        key: Random key.
        pairs: Pairs, of which at least one has a weight.
        batch_size: How many.

    Returns:
        A batch.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> images, labels, yes = jnp.ones((3, 8, 8, 1)), jnp.ones((3, 8, 8), int), jnp.ones(3, bool)
        >>> pairs = make_pairs(images, labels, labels[None], labels, trusted=yes, valid=yes)
        >>> sample_pairs(jax.random.key(0), pairs, 4).images.shape
        (4, 8, 8, 1)
    """
    flat = pairs.weights.ravel()
    row, column = jnp.divmod(
        jax.random.choice(key, flat.size, (batch_size,), p=flat / flat.sum()), pairs.weights.shape[1]
    )
    return PairBatch(pairs.images[row], pairs.predictions[row, column], pairs.targets[row])


def reward_step(
    state: OptimizerState,
    batch: PairBatch,
    *,
    apply: Callable[[PyTree, Array, Array], Array],
    optimizer: optax.GradientTransformation,
) -> tuple[OptimizerState, Float[Array, ""]]:
    """Computes one training step of the reward network: which pixels of a map are right.

    Args:
        state: The network.
        batch: Maps and targets; the label of a pixel is whether both agree.
        apply: Parameters, images and label maps to log-odds ``[n, h, w]``.
        optimizer: The state's optimizer.

    Returns:
        The state after one step, and its loss before.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from cardiojax.adaptation import init_optimizer
        >>> images, labels = jnp.ones((2, 4, 4, 1)), jnp.ones((2, 4, 4), int)
        >>> batch = PairBatch(images, labels, labels)  # every pixel is right
        >>> def apply(params, images, labels):
        ...     return images[..., 0] * params
        >>> optimizer = optax.sgd(0.1)
        >>> state = init_optimizer(jnp.array(0.0), optimizer)
        >>> state, before = reward_step(state, batch, apply=apply, optimizer=optimizer)
        >>> _, after = reward_step(state, batch, apply=apply, optimizer=optimizer)
        >>> bool(after < before)
        True
    """

    def loss(params: PyTree) -> Array:
        logits = apply(params, batch.images, batch.predictions)
        return losses.binary_cross_entropy_loss(logits, batch.predictions == batch.targets).mean()

    step = gradient_step(state, loss, optimizer=optimizer)
    return step.state, step.value
