"""Shapes of arguments that belong together."""

import jax.numpy as jnp
from jaxtyping import Array


def require_same_shape(**arrays: Array) -> None:
    """Refuses arrays that would broadcast against each other in silence; a scalar goes with any shape.

    Args:
        **arrays: Arguments by their names.

    Raises:
        ValueError: If the shapes differ.
    """
    shapes = {name: jnp.shape(array) for name, array in arrays.items()}
    if len({shape for shape in shapes.values() if shape}) > 1:
        given = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ValueError(f"expected arrays of one shape, got {given}")
