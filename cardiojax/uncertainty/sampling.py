"""Several predictions of one image: dropout left on, or several networks."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key, PyTree

from cardiojax.ops import jitted
from cardiojax.uncertainty.entropy import softmax_entropy
from cardiojax.uncertainty.result import Uncertainty


@jitted(static=("apply", "num_passes", "batch_size"))
def mc_dropout(
    key: Key[Array, ""],
    images: Float[Array, "*b h w c"],
    apply: Callable[[Array, Array], Array],
    *,
    num_passes: int = 10,
    batch_size: int = 2,
) -> Uncertainty:
    """Entropy of the mean of several passes with dropout left on.

    Memory is that of ``batch_size`` passes, whatever their number.

    Args:
        key: Random key.
        images: Images in [0, 1].
        apply: Key and images to logits ``[*b, h, w, k]``, with dropout active; part of the compiled program, so give
            the same function in every call.
        num_passes: Passes.
        batch_size: Passes at a time, at most.

    Returns:
        Map, score, and the most likely classes of the mean.

    References:
        Gal and Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.

    Example:
        >>> images = jnp.eye(4)[..., None]
        >>> def apply(key, images):
        ...     return jnp.concatenate([images, 9 * jax.random.normal(key, images.shape)], -1)
        >>> mc_dropout(jax.random.key(0), images, apply, num_passes=50).map.shape
        (4, 4)
    """

    def sample(key):
        return jax.nn.softmax(apply(key, images))

    return softmax_entropy(images, mean_over(sample, jax.random.split(key, num_passes), batch_size=batch_size))


@jitted(static=("apply", "batch_size"))
def deep_ensemble(
    images: Float[Array, "*b h w c"],
    apply: Callable[[PyTree, Array], Array],
    members: PyTree,
    *,
    batch_size: int = 1,
) -> Uncertainty:
    """Entropy of the mean of several networks.

    Args:
        images: Images in [0, 1].
        apply: Variables of one network and images to logits ``[*b, h, w, k]``; part of the compiled program.
        members: The variables of all, see `stack_members`.
        batch_size: Networks at a time, at most; memory grows with it. On CPU a convolution of several kernels at once
            is five times slower than one after the other.

    Returns:
        Map, score, and the most likely classes of the mean.

    References:
        Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS
        2017.

    Example:
        >>> import jax.numpy as jnp
        >>> images, members = jnp.eye(4)[None, ..., None], jnp.array([[-9.0, 9.0], [9.0, 9.0]])
        >>> def apply(variables, images):
        ...     return images * variables
        >>> deep_ensemble(images, apply, members).map.shape
        (1, 4, 4)
    """

    def sample(variables):
        return jax.nn.softmax(apply(variables, images))

    return softmax_entropy(images, mean_over(sample, members, batch_size=batch_size))


def stack_members(members: Sequence[PyTree]) -> PyTree:
    """Puts the variables of networks of one architecture into one tree.

    Args:
        members: A tree per network.

    Returns:
        The same tree, its leaves with a first axis over the networks.

    Example:
        >>> import jax.numpy as jnp
        >>> stack_members([{"w": jnp.zeros(3)}, {"w": jnp.ones(3)}])["w"].shape
        (2, 3)
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def mean_over(sample: Callable[[PyTree], PyTree], items: PyTree, *, batch_size: int) -> PyTree:
    """Mean of a function over the first axis of a tree, a few items at a time.

    Args:
        sample: One item to arrays.
        items: Arrays with a common first axis.
        batch_size: Items at a time, at most: the largest divisor of their number is taken.

    Returns:
        Arrays as ``sample`` returns them.
    """
    num = jax.tree.leaves(items)[0].shape[0]
    size = max(d for d in range(1, min(batch_size, num) + 1) if num % d == 0)
    chunks = jax.tree.map(lambda x: x.reshape(num // size, size, *x.shape[1:]), items)

    def step(total, chunk):
        return jax.tree.map(lambda t, x: t + x.sum(0) / num, total, jax.vmap(sample)(chunk)), None

    shapes = jax.eval_shape(sample, jax.tree.map(lambda x: x[0], items))
    return lax.scan(step, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), chunks)[0]
