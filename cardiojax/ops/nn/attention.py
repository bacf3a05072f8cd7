"""Attention whose memory does not have to grow with the square of the number of tokens."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cardiojax.ops.transforms import jitted


@jitted(static=("chunk", "implementation"))
def attention(
    query: Float[Array, "*b n heads d"],
    key: Float[Array, "*b m heads d"],
    value: Float[Array, "*b m heads d"],
    *,
    chunk: int | None = None,
    implementation: str | None = None,
) -> Float[Array, "*b n heads d"]:
    """Scaled dot-product attention.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        chunk: Queries handled at a time, a divisor of their number; the scores of all if not given. The peak memory of
            the scores is ``heads * chunk * m`` an image, in the backward pass too, which recomputes them.
        implementation: ``"xla"``, ``"cudnn"`` (flash attention: NVIDIA, half precision), or None to let JAX choose.

    Returns:
        One vector per query and head, of the queries' type; scores and softmax are float32.

    Raises:
        ValueError: If ``chunk`` does not divide the number of queries.

    References:
        Rabe and Staats, "Self-attention Does Not Need O(n^2) Memory", 2021.

    Example:
        >>> import jax.numpy as jnp
        >>> query = key = jnp.zeros((3, 1, 2))
        >>> value = jnp.arange(6.0).reshape(3, 1, 2)
        >>> attention(query, key, value)[0, 0].tolist()  # equal scores give the mean of the values
        [2.0, 3.0]
    """
    batch, num_queries = query.shape[:-3], query.shape[-3]
    query, key, value = (a.reshape(math.prod(batch), *a.shape[-3:]) for a in (query, key, value))

    def attend(part: Array) -> Array:
        return jax.nn.dot_product_attention(part, key, value, implementation=implementation)  # type: ignore[arg-type]

    if chunk is None or chunk >= num_queries:
        out = attend(query)
    elif num_queries % chunk:
        raise ValueError(f"chunk must divide the {num_queries} queries, got {chunk}")
    else:
        parts = query.reshape(query.shape[0], num_queries // chunk, chunk, *query.shape[-2:])
        out = lax.map(jax.checkpoint(attend), jnp.moveaxis(parts, 1, 0))
        out = jnp.moveaxis(out, 0, 1).reshape(query.shape)
    return out.reshape(*batch, *out.shape[-3:])
