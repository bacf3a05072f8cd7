"""Losses that shape a latent space, one value per example."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def kl_loss(mean: Float[Array, "*b d"], log_var: Float[Array, "*b d"], *, free_bits: float = 0.0) -> Float[Array, "*b"]:
    """Divergence of independent normal distributions from the standard one, summed over the dimensions.

    Args:
        mean: Means.
        log_var: Logarithms of the variances.
        free_bits: Nats of each dimension that cost nothing; below it the gradient vanishes, so that no dimension is
            driven to carry no information.

    Returns:
        One value per code, in nats, at least ``d * free_bits``.

    References:
        Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B; Kingma et al., "Improved
        Variational Inference with Inverse Autoregressive Flow", NeurIPS 2016 (free bits).

    Example:
        >>> float(kl_loss(jnp.array([3.0, 4.0]), jnp.zeros(2)))
        12.5
    """
    divergence = (jnp.square(mean) + jnp.exp(log_var) - 1 - log_var) / 2
    return jnp.maximum(divergence, free_bits).sum(-1)


def attribute_loss(
    codes: Float[Array, "n d"], attributes: Float[Array, "n d"], *, delta: float = 1.0
) -> Float[Array, " n"]:
    """Makes each latent dimension order the examples of a batch as its attribute does.

    Args:
        codes: The regularised dimensions of the codes.
        attributes: One attribute per dimension, in any unit: only the order counts. A pair with a nan costs nothing.
        delta: How fast the difference of two codes saturates.

    Returns:
        One value per example, in [0, 2 d]: the mean over its pairs, itself included, summed over the dimensions.

    References:
        Pati and Lerch, "Attribute-based regularization of latent spaces for variational auto-encoders", Neural
        Computing and Applications 2021, eq. (2) and (3).

    Example:
        >>> import jax.numpy as jnp
        >>> areas = jnp.array([[1.0], [2.0], [3.0]])
        >>> same, opposite = attribute_loss(5 * areas, areas).mean(), attribute_loss(-5 * areas, areas).mean()
        >>> bool(same < opposite)
        True
    """
    distance = jnp.tanh(delta * (codes[:, None] - codes[None]))
    order = jnp.sign(attributes[:, None] - attributes[None])
    return jnp.where(jnp.isnan(order), 0.0, jnp.abs(distance - order)).mean(1).sum(-1)


def squared_error_loss(values: Float[Array, "*b"], targets: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Squared difference.

    Args:
        values: Regressed values.
        targets: True values.

    Returns:
        One value per example.

    Example:
        >>> import jax.numpy as jnp
        >>> squared_error_loss(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])).tolist()
        [0.0, 4.0]
    """
    return jnp.square(values - targets)
