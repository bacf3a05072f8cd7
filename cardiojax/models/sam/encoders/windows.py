"""Windows of feature maps, within which attention looks."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float


def split_windows(x: Float[Array, "... c"], window: int, num_axes: int) -> Float[Array, "... c"]:
    """Cuts feature maps into windows, padded with zeros which take part in the attention, as in the originals.

    Args:
        x: Feature maps ``[*b, *size, c]``.
        window: Side of a window.
        num_axes: Axes of ``size``.

    Returns:
        ``[*b, n, *(window,) * num_axes, c]``.
    """
    batch, size = x.shape[: -1 - num_axes], x.shape[-1 - num_axes : -1]
    x = jnp.pad(x, [(0, 0)] * len(batch) + [(0, -n % window) for n in size] + [(0, 0)])
    counts = [-(-n // window) for n in size]
    x = x.reshape(*batch, *(edge for count in counts for edge in (count, window)), x.shape[-1])
    first, last = len(batch), len(batch) + 2 * num_axes
    x = x.transpose(*range(first), *range(first, last, 2), *range(first + 1, last, 2), last)
    return x.reshape(*batch, math.prod(counts), *(window,) * num_axes, x.shape[-1])


def merge_windows(windows: Float[Array, "... c"], shape: tuple[int, ...], num_axes: int) -> Float[Array, "... c"]:
    """Puts windows together and cuts the padding off.

    Args:
        windows: What `split_windows` returned, possibly with other values.
        shape: That of the feature maps before they were split.
        num_axes: As there.

    Returns:
        Feature maps of this shape.
    """
    batch, size, window = shape[: -1 - num_axes], shape[-1 - num_axes : -1], windows.shape[-2]
    counts = [-(-n // window) for n in size]
    x = windows.reshape(*batch, *counts, *(window,) * num_axes, shape[-1])
    first = len(batch)
    pairs = [axis for i in range(num_axes) for axis in (first + i, first + num_axes + i)]
    x = x.transpose(*range(first), *pairs, first + 2 * num_axes)
    x = x.reshape(*batch, *(count * window for count in counts), shape[-1])
    return x[(..., *(slice(n) for n in size), slice(None))]
