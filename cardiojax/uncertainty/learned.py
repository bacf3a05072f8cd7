"""Networks that say themselves how sure they are."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cardiojax.uncertainty.entropy import softmax_entropy
from cardiojax.uncertainty.result import Uncertainty, from_map


def learned_confidence(
    images: Float[Array, "*b h w c"], labels: Int[Array, "*b h w"], confidence: Float[Array, "*b h w"]
) -> Uncertainty:
    """One minus a confidence that was learned, by ConfidNet or with hints.

    Args:
        images: Images in [0, 1].
        labels: The prediction.
        confidence: In [0, 1], see `cardiojax.losses.confidnet_loss` and `cardiojax.losses.learned_confidence_loss`.

    Returns:
        Map, score, and the prediction.

    References:
        Corbière et al., "Addressing Failure Prediction by Learning Model Confidence", NeurIPS 2019; DeVries and Taylor,
        "Learning Confidence for Out-of-Distribution Detection in Neural Networks", 2018.

    Example:
        >>> import jax.numpy as jnp
        >>> images, labels = jnp.eye(4)[..., None], jnp.ones((4, 4), int)
        >>> float(learned_confidence(images, labels, jnp.full((4, 4), 0.75)).map[0, 0])
        0.25
    """
    return from_map(images, 1 - confidence, labels)


def heteroscedastic(
    images: Float[Array, "*b h w c"], logits: Float[Array, "*b h w k"], scale: Float[Array, "*b h w k"]
) -> Uncertainty:
    """Entropy of the mean softmax of normally distributed logits.

    The mean is not sampled: each class's distance from the most likely one is shrunk by the noise of both, as for the
    mean of a sigmoid, which is exact to .02 for two classes.

    Args:
        images: Images in [0, 1].
        logits: Means of the class scores.
        scale: Their standard deviations, see `cardiojax.losses.heteroscedastic_loss`.

    Returns:
        Map, score, and the class with the largest mean.

    References:
        Kendall and Gal, "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", NeurIPS 2017;
        MacKay, "The Evidence Framework Applied to Classification Networks", Neural Computation 1992, the mean.

    Example:
        >>> import jax.numpy as jnp
        >>> images, logits = jnp.eye(4)[..., None], jnp.tile(jnp.array([0.0, 3.0]), (4, 4, 1))
        >>> quiet, noisy = (heteroscedastic(images, logits, jnp.full((4, 4, 2), scale)) for scale in (0.0, 10.0))
        >>> bool(quiet.map.mean() < noisy.map.mean())
        True
    """
    winner = logits.argmax(-1, keepdims=True)
    best, spread = (jnp.take_along_axis(x, winner, -1) for x in (logits, scale))
    distance = (logits - best) / jnp.sqrt(1 + jnp.pi / 8 * (jnp.square(scale) + jnp.square(spread)))
    return softmax_entropy(images, jax.nn.softmax(distance))
