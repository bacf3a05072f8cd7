"""Dense prediction on images of any size with a network made for patches."""

import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cardiojax.ops.transforms import jitted


def sliding_window(
    function: Callable[[Array], Array],
    image: Float[Array, "..."],
    *,
    patch_size: Sequence[int],
    step: float = 0.5,
    batch_size: int = 1,
) -> Float[Array, "..."]:
    """Applies a network to overlapping patches and averages, with weights that fall off from a patch's centre.

    Besides the image and the result it holds ``batch_size`` patches at a time, however large the image is. An image
    smaller than a patch is padded with zeros.

    Args:
        function: Patches ``[n, *patch_size, c]`` to scores ``[n, *patch_size, k]``; part of the compiled program, so
            give the same function in every call.
        image: One image or volume ``[*size, c]``.
        patch_size: Voxels of a patch.
        step: Largest distance between patches, a share of their size.
        batch_size: Patches a call of the function.

    Returns:
        Scores ``[*size, k]``, float32.

    Example:
        >>> image = jnp.arange(35.0).reshape(5, 7, 1)
        >>> bool(jnp.allclose(sliding_window(lambda x: 2 * x, image, patch_size=(4, 4)), 2 * image))
        True

    References:
        Isensee et al., "nnU-Net", Nature Methods 2021.
    """
    return _sliding_window(function, image, patch_size=tuple(patch_size), step=step, batch_size=batch_size)


@jitted(static=("function", "patch_size", "step", "batch_size"))
def _sliding_window(
    function: Callable[[Array], Array],
    image: Float[Array, "..."],
    *,
    patch_size: tuple[int, ...],
    step: float,
    batch_size: int,
) -> Float[Array, "..."]:
    size = image.shape[:-1]
    missing = [max(p - n, 0) for n, p in zip(size, patch_size, strict=True)]
    image = jnp.pad(image, [*((m // 2, m - m // 2) for m in missing), (0, 0)])
    corners = patch_corners(image.shape[:-1], patch_size, step=step)
    repeats = -len(corners) % batch_size
    valid = np.arange(len(corners) + repeats) < len(corners)
    corners = np.concatenate([corners, corners[:1].repeat(repeats, 0)]).reshape(-1, batch_size, len(patch_size))
    weights = gaussian_weights(patch_size)[..., None]

    def cut(corner: Array) -> Array:
        return lax.dynamic_slice(image, (*corner, jnp.int32(0)), (*patch_size, image.shape[-1]))

    def add(carry: tuple[Array, Array], batch: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        total, weight = carry
        corners, valid = batch
        scores = function(jnp.stack([cut(corners[i]) for i in range(batch_size)])).astype(jnp.float32)
        for i in range(batch_size):
            start, share = (*corners[i], jnp.int32(0)), weights * valid[i]
            for_total = lax.dynamic_slice(total, start, scores.shape[1:]) + share * scores[i]
            for_weight = lax.dynamic_slice(weight, start, weights.shape) + share
            total = lax.dynamic_update_slice(total, for_total, start)
            weight = lax.dynamic_update_slice(weight, for_weight, start)
        return (total, weight), None

    num_scores = _num_scores(function, patch_size, image)
    start = (jnp.zeros((*image.shape[:-1], num_scores), jnp.float32), jnp.zeros((*image.shape[:-1], 1), jnp.float32))
    batches = (jnp.asarray(corners), jnp.asarray(valid.reshape(-1, batch_size), jnp.float32))
    (total, weight), _ = lax.scan(add, start, batches)
    result = total / weight
    return result[tuple(slice(m // 2, m // 2 + n) for m, n in zip(missing, size, strict=True))]


def mirrored(function: Callable[[Array], Array], axes: Sequence[int]) -> Callable[[Array], Array]:
    """Makes a network average its scores over all mirrored copies of its input.

    Args:
        function: Images to scores of the same size.
        axes: Axes that may be mirrored, negative; an apical view has none that keeps the anatomy.

    Returns:
        The averaged function, which calls the network ``2 ** len(axes)`` times, one after another.

    Example:
        >>> double = mirrored(lambda x: 2 * x, axes=(-2,))
        >>> double(jnp.arange(3.0)[:, None])[:, 0]
        Array([0., 2., 4.], dtype=float32)
    """
    subsets = [s for n in range(len(axes) + 1) for s in itertools.combinations(axes, n)]

    def average(images: Array) -> Array:
        return sum((jnp.flip(function(jnp.flip(images, s)), s) for s in subsets), jnp.zeros(())) / len(subsets)

    return average


def patch_corners(size: Sequence[int], patch_size: Sequence[int], *, step: float = 0.5) -> np.ndarray:
    """Places patches evenly so that they cover an image and touch its borders.

    Args:
        size: Voxels of the image, at least those of a patch.
        patch_size: Voxels of a patch.
        step: Largest distance between patches, a share of their size.

    Returns:
        First voxel of each patch, int ``[n, axes]``.

    Raises:
        ValueError: If ``step`` is not in (0, 1].

    Example:
        >>> patch_corners((10,), (4,)).ravel().tolist()
        [0, 2, 4, 6]
    """
    if not 0 < step <= 1:
        raise ValueError(f"step must be in (0, 1], got {step}")
    axes = []
    for n, p in zip(size, patch_size, strict=True):
        count = math.ceil((n - p) / (p * step)) + 1
        axes.append([round(i * (n - p) / max(count - 1, 1)) for i in range(count)])
    return np.array(list(itertools.product(*axes)), np.int32)


def gaussian_weights(patch_size: Sequence[int], *, sigma: float = 1 / 8) -> Float[Array, "..."]:
    """Weights of the voxels of a patch, 1 at the centre.

    Args:
        patch_size: Voxels of a patch.
        sigma: Standard deviation, a share of the patch.

    Returns:
        Weights of the patch's shape, all positive.

    Example:
        >>> gaussian_weights((3, 3)).shape
        (3, 3)
    """
    weights = np.ones(())
    for n in patch_size:
        weights = weights[..., None] * np.exp(-0.5 * ((np.arange(n) - n // 2) / (n * sigma)) ** 2)
    return jnp.asarray(weights, jnp.float32)


def _num_scores(function: Callable[[Array], Array], patch_size: tuple[int, ...], image: Array) -> int:
    return jax.eval_shape(function, jax.ShapeDtypeStruct((1, *patch_size, image.shape[-1]), image.dtype)).shape[-1]
