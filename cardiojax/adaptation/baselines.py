"""Baselines of the adaptation by reinforcement learning: steps that take and return one optimizer state."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from cardiojax import losses
from cardiojax.adaptation.ppo import Targets
from cardiojax.optimizer import OptimizerState, gradient_step


def self_training_step(
    state: OptimizerState,
    batch: Targets,
    *,
    policy: Callable[[PyTree, Array], Array],
    optimizer: optax.GradientTransformation,
) -> tuple[OptimizerState, Float[Array, ""]]:
    """Learns pseudo-labels as if they were true.

    Args:
        state: The segmentation network.
        batch: Images and their pseudo-labels, all of which count.
        policy: Parameters and images to class scores.
        optimizer: The state's optimizer.

    Returns:
        The state after one step, and its loss before.

    References:
        Lee, "Pseudo-Label", ICML workshop 2013.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from cardiojax.adaptation import Targets, init_optimizer
        >>> images, labels = jnp.ones((1, 4, 4, 1)), jnp.ones((1, 4, 4), int)
        >>> batch = Targets(images, labels, jnp.ones(1, bool))
        >>> def policy(params, images):
        ...     return images * params
        >>> optimizer = optax.sgd(0.1)
        >>> state = init_optimizer(jnp.zeros(2), optimizer)
        >>> state, before = self_training_step(state, batch, policy=policy, optimizer=optimizer)
        >>> _, after = self_training_step(state, batch, policy=policy, optimizer=optimizer)
        >>> bool(after < before)
        True
    """

    def loss(params: PyTree) -> Array:
        logits = policy(params, batch.images)
        return (losses.cross_entropy_loss(logits, batch.labels) + losses.dice_loss(logits, batch.labels)).mean()

    step = gradient_step(state, loss, optimizer=optimizer)
    return step.state, step.value


def is_affine(path: str) -> bool:
    """Whether a parameter's path names the scale or offset of a normalisation.

    Args:
        path: Such as ``"['down0_conv0']['InstanceNorm_0']['scale']"``.

    Returns:
        True for such parameters.

    Example:
        >>> is_affine("['down0_conv0']['InstanceNorm_0']['scale']"), is_affine("['down0_conv0']['Conv_0']['kernel']")
        (True, False)
    """
    return "Norm" in path


def tent_step(
    state: OptimizerState,
    batch: Targets,
    *,
    policy: Callable[[PyTree, Array], Array],
    optimizer: optax.GradientTransformation,
    trainable: Callable[[str], bool] = is_affine,
) -> tuple[OptimizerState, Float[Array, ""]]:
    """Makes the network surer of itself by moving nothing but the scales and offsets of its normalisations.

    The published method also replaces the statistics of batch normalisation by those of the batch; instance
    normalisation always uses those of the image.

    Args:
        state: The segmentation network.
        batch: Images; labels are not used.
        policy: Parameters and images to class scores.
        optimizer: The state's optimizer.
        trainable: Says of a parameter's path whether it moves.

    Returns:
        The state after one step, and the mean entropy before.

    References:
        Wang et al., "Tent: Fully Test-Time Adaptation by Entropy Minimization", ICLR 2021.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from cardiojax.adaptation import Targets, init_optimizer
        >>> batch = Targets(jnp.ones((1, 4, 4, 1)), jnp.zeros((1, 4, 4), int), jnp.ones(1, bool))
        >>> def policy(params, images):
        ...     return images * params["InstanceNorm_0"]["scale"] * jnp.array([1.0, 2.0])
        >>> optimizer = optax.sgd(0.1)
        >>> state = init_optimizer({"InstanceNorm_0": {"scale": jnp.array(1.0)}}, optimizer)
        >>> state, before = tent_step(state, batch, policy=policy, optimizer=optimizer)
        >>> _, after = tent_step(state, batch, policy=policy, optimizer=optimizer)
        >>> bool(after < before)
        True
    """

    def loss(params: PyTree) -> Array:
        return losses.entropy_loss(policy(params, batch.images)).mean()

    step = gradient_step(state, loss, optimizer=optimizer, trainable=trainable)
    return step.state, step.value


@jax.custom_vjp
def reverse_gradient(x: Array) -> Array:
    """The identity, whose gradient changes its sign.

    Args:
        x: Any array.

    Returns:
        The same array.

    References:
        Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015.

    Example:
        >>> import jax
        >>> float(jax.grad(reverse_gradient)(2.0))
        -1.0
    """
    return x


reverse_gradient.defvjp(lambda x: (x, None), lambda _, g: (-g,))


def alignment_step(
    state: OptimizerState,
    batch: Targets,
    source_images: Float[Array, "m h w c"],
    source_labels: Int[Array, "m h w"],
    *,
    policy: Callable[[PyTree, Array], tuple[Array, Array]],
    discriminate: Callable[[PyTree, Array], Array],
    optimizer: optax.GradientTransformation,
    weight: float = 0.1,
) -> tuple[OptimizerState, Float[Array, ""]]:
    """Learns the source while its features hide from which domain an image comes.

    Args:
        state: Of the parameters ``(network, discriminator)``.
        batch: Images of the target; labels are not used.
        source_images: Images of the source.
        source_labels: Their true masks.
        policy: Parameters and images to class scores and features.
        discriminate: Parameters and features to log-odds of the target, ``[n, r, s]`` for positions of the features.
        optimizer: The state's optimizer.
        weight: Weight of the discriminator.

    Returns:
        The state after one step, and its loss before.

    References:
        Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from cardiojax.adaptation import Targets, init_optimizer
        >>> images, labels = jnp.ones((2, 4, 4, 1)), jnp.ones((2, 4, 4), int)
        >>> batch = Targets(images, labels, jnp.ones(2, bool))
        >>> def policy(params, images):
        ...     return images * params, images * params  # class scores and features
        >>> def discriminate(params, features):
        ...     return features @ params
        >>> optimizer = optax.sgd(0.1)
        >>> state = init_optimizer((jnp.zeros(2), jnp.zeros(2)), optimizer)
        >>> options = {"policy": policy, "discriminate": discriminate, "optimizer": optimizer}
        >>> state, before = alignment_step(state, batch, images, labels, **options)
        >>> _, after = alignment_step(state, batch, images, labels, **options)
        >>> bool(after < before)
        True
    """
    num = len(source_images)

    def loss(params: PyTree) -> Array:
        network, discriminator = params
        logits, features = policy(network, jnp.concatenate([source_images, batch.images]))
        known = logits[:num]
        task = losses.cross_entropy_loss(known, source_labels) + losses.dice_loss(known, source_labels)
        odds = discriminate(discriminator, reverse_gradient(features))
        is_target = jnp.broadcast_to((jnp.arange(len(odds)) >= num)[:, None, None], odds.shape)
        return task.mean() + weight * losses.binary_cross_entropy_loss(odds, is_target).mean()

    step = gradient_step(state, loss, optimizer=optimizer)
    return step.state, step.value
