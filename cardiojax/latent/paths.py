"""Ways through the latent space."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def interpolate(
    start: Float[Array, "*b d"], end: Float[Array, "*b d"], num: int, *, spherical: bool = False
) -> Float[Array, "*b n d"]:
    """Codes on the way from one to another, both included.

    Args:
        start: First codes.
        end: Last codes.
        num: Codes on each way.
        spherical: Along the great circle between their directions, with the norm changing evenly: where the norm itself
            says how likely a code is, as under a normal prior in many dimensions. Else along the segment.

    Returns:
        The codes.

    References:
        Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH 1985 (spherical).

    Example:
        >>> interpolate(jnp.array([0.0, 0.0]), jnp.array([2.0, 4.0]), 3).tolist()
        [[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]
    """
    steps = jnp.linspace(0.0, 1.0, num)[:, None]
    first, last = start[..., None, :], end[..., None, :]
    if not spherical:
        return first * (1 - steps) + last * steps
    norms = [jnp.linalg.norm(v, axis=-1, keepdims=True) for v in (first, last)]
    units = [v / jnp.where(n > 0, n, 1) for v, n in zip((first, last), norms, strict=True)]
    angle = jnp.arccos(jnp.clip((units[0] * units[1]).sum(-1, keepdims=True), -1, 1))
    is_flat = jnp.sin(angle) < 1e-4  # one direction, or two opposite ones with no circle between them
    sine = jnp.where(is_flat, 1, jnp.sin(angle))
    weights = [jnp.where(is_flat, t, jnp.sin(t * angle) / sine) for t in (1 - steps, steps)]
    return (weights[0] * units[0] + weights[1] * units[1]) * (norms[0] * (1 - steps) + norms[1] * steps)


def traverse(codes: Float[Array, "*b d"], dim: int, values: Float[Array, " n"]) -> Float[Array, "*b n d"]:
    """Codes that differ in one dimension.

    Args:
        codes: Where to start.
        dim: The dimension that changes.
        values: What it becomes.

    Returns:
        The codes.

    Example:
        >>> traverse(jnp.array([1.0, 2.0]), 0, jnp.array([-3.0, 3.0])).tolist()
        [[-3.0, 2.0], [3.0, 2.0]]
    """
    repeated = jnp.broadcast_to(codes[..., None, :], (*codes.shape[:-1], len(values), codes.shape[-1]))
    return repeated.at[..., dim].set(values)
