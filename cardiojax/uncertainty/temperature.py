"""Temperature scaling: probabilities that keep their promises, with the same predictions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from cardiojax.ops import jitted


class Temperature(NamedTuple):
    """A fitted temperature.

    Attributes:
        value: What logits are to be divided by.
        loss_before: Cross-entropy at temperature 1, in nats.
        loss: Cross-entropy at the fitted temperature.
        is_interior: Whether the minimum lies inside the range that was searched; not so where every pixel is right.
    """

    value: Float[Array, ""]
    loss_before: Float[Array, ""]
    loss: Float[Array, ""]
    is_interior: Bool[Array, ""]


@jitted(static=("bounds", "num_steps"))
def fit_temperature(
    logits: Float[Array, "*n k"],
    labels: Int[Array, "*n"],
    *,
    bounds: tuple[float, float] = (0.05, 20.0),
    num_steps: int = 30,
) -> Temperature:
    """Finds the temperature with the least cross-entropy, by Newton's method within a shrinking bracket.

    The cross-entropy is convex in the inverse temperature, and its two derivatives are the mean and the variance of the
    logits, so that each step reads the logits once.

    Args:
        logits: Class scores of pixels that were not trained on.
        labels: Their true classes.
        bounds: Smallest and largest temperature.
        num_steps: Steps at most.

    Returns:
        The temperature and the loss before and after.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> temperature = fit_temperature(logits, jnp.array([0, 0, 0, 1]))  # 75 % are right, 98 % were stated
        >>> round(float(temperature.value), 2)
        3.64
    """
    k = logits.shape[-1]
    logits, labels = logits.reshape(-1, k), labels.reshape(-1)
    logits = logits - logits.max(-1, keepdims=True)  # scaling then cannot overflow
    chosen = (jax.nn.one_hot(labels, k) * logits).sum(-1).mean()

    def loss(inverse):
        return jax.nn.logsumexp(inverse * logits, -1).mean() - inverse * chosen

    def derivatives(inverse):
        probs = jax.nn.softmax(inverse * logits)
        mean = (probs * logits).sum(-1)
        return mean.mean() - chosen, (probs * jnp.square(logits - mean[:, None])).sum(-1).mean()

    def is_open(state):
        step, _, _, inverse, change = state
        return (step < num_steps) & (jnp.abs(change) > 1e-6 * inverse)

    def narrow(state):
        step, low, high, inverse, _ = state
        slope, curvature = derivatives(inverse)
        low, high = jnp.where(slope < 0, inverse, low), jnp.where(slope > 0, inverse, high)
        newton = inverse - slope / jnp.maximum(curvature, 1e-12)
        following = jnp.where((newton > low) & (newton < high), newton, jnp.sqrt(low * high))
        return step + 1, low, high, following, following - inverse

    low, high = 1 / bounds[1], 1 / bounds[0]
    first = jnp.clip(1.0, low, high)
    start = (jnp.zeros((), jnp.int32), jnp.array(low), jnp.array(high), first, first)
    inverse = lax.while_loop(is_open, narrow, start)[3]
    is_interior = (derivatives(low)[0] < 0) & (derivatives(high)[0] > 0)
    return Temperature(1 / inverse, loss(1.0), loss(inverse), is_interior)
