"""Test-time augmentation: the same image seen in several ways."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Key

from cardiojax.ops import jitted, require_auto_axes
from cardiojax.uncertainty.entropy import softmax_entropy
from cardiojax.uncertainty.result import Uncertainty
from cardiojax.uncertainty.sampling import mean_over


class Augmentation(NamedTuple):
    """One deterministic change of an image.

    Attributes:
        rotation: Degrees about the centre.
        scale: Zoom; above 1 enlarges.
        gamma: Exponent of the grey values.
    """

    rotation: float = 0.0
    scale: float = 1.0
    gamma: float = 1.0


#: The image as it is, and three pairs of opposite changes, so that none has a preferred direction.
AUGMENTATIONS = (
    Augmentation(),
    Augmentation(rotation=-6.0, gamma=0.85),
    Augmentation(rotation=6.0, gamma=1.18),
    Augmentation(scale=0.93, gamma=1.18),
    Augmentation(scale=1.08, gamma=0.85),
    Augmentation(rotation=-3.0, scale=1.04),
    Augmentation(rotation=3.0, scale=0.96),
)


@jitted(
    static=("apply", "num_samples", "rotation", "scale", "shift", "gamma", "contrast", "flip", "batch_size"),
)
def tta(
    key: Key[Array, ""],
    images: Float[Array, "*b h w c"],
    apply: Callable[[Array], Array],
    *,
    num_samples: int = 8,
    rotation: float = 8.0,
    scale: float = 0.1,
    shift: float = 0.05,
    gamma: float = 0.3,
    contrast: float = 0.2,
    flip: bool = False,
    batch_size: int = 1,
) -> Uncertainty:
    """Entropy of the mean prediction over small changes of the image, each undone in its prediction.

    The image as it is takes part once. A pixel that a change moved out of the image is averaged over the others. Memory
    is that of ``batch_size`` predictions of all images.

    Args:
        key: Random key.
        images: Images in [0, 1].
        apply: Images to logits ``[*b, h, w, k]``; part of the compiled program, so give the same function in every
            call.
        num_samples: Changed copies of each image.
        rotation: Largest rotation about the centre, in degrees.
        scale: Largest relative zoom.
        shift: Largest displacement, as a share of the side.
        gamma: Largest logarithm of the exponent of the grey values.
        contrast: Largest relative change of the contrast.
        flip: Whether half of the copies are mirrored left to right, for a network that was trained so.
        batch_size: Copies at a time.

    Returns:
        Map, score, and the most likely classes of the mean.

    Raises:
        ValueError: If the images are split over a mesh with explicit axes.

    References:
        Wang et al., "Aleatoric uncertainty estimation with test-time augmentation for medical image segmentation",
        Neurocomputing 2019.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> images = jnp.zeros((1, 16, 16, 1)).at[:, 4:12, 4:12].set(1)
        >>> def apply(images):
        ...     return jnp.concatenate([1 - images, images], -1) * 20
        >>> uncertainty = tta(jax.random.key(0), images, apply, num_samples=4)
        >>> int(uncertainty.labels.sum())
        64
    """
    require_auto_axes(images)
    h, w, c = images.shape[-3:]
    flat = images.reshape(-1, h, w, c)
    grid, centre = _centred_grid(h, w)

    def draw(key):
        """The matrix and offset that take a pixel of the copy to the image, the exponent and the contrast."""
        u = jax.random.uniform(key, (7,), minval=-1.0, maxval=1.0)
        angle, zoom = jnp.deg2rad(rotation * u[0]), jnp.exp(scale * u[1])
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        mirror = jnp.where(flip & (u[6] > 0), -1.0, 1.0)
        matrix = zoom * jnp.array([[cos, -sin], [sin, cos]]) @ jnp.diag(jnp.stack([jnp.ones(()), mirror]))
        return matrix, shift * u[2:4] * jnp.array([h, w]), jnp.exp(gamma * u[4]), 1 + contrast * u[5]

    def change(image, drawn):
        matrix, offset, exponent, factor = drawn
        copy = _resample(image, grid @ matrix.T + offset + centre)
        lit = copy > 0  # what lies outside the sector stays black
        return jnp.clip(lit * ((jnp.where(lit, copy, 1.0) ** exponent - 0.5) * factor + 0.5), 0.0, 1.0)

    def undo(probs, drawn):
        matrix, offset, *_ = drawn
        return _resample(probs, (grid - offset) @ jnp.linalg.inv(matrix).T + centre)

    def sample(key):
        drawn = jax.vmap(draw)(jax.random.split(key, len(flat)))
        copies = jax.vmap(change)(flat, drawn)
        probs = jax.nn.softmax(apply(copies.reshape(images.shape)))
        return jax.vmap(undo)(probs.reshape(len(flat), h, w, -1), drawn).reshape(probs.shape)

    plain = jax.nn.softmax(apply(images))
    # what comes back is less than 1 in all where a copy did not see the pixel, hence the division
    total = plain / num_samples + mean_over(sample, jax.random.split(key, num_samples), batch_size=batch_size)
    return softmax_entropy(images, total / total.sum(-1, keepdims=True))


def average_over_augmentations(
    images: Float[Array, "n h w c"],
    apply: Callable[[Float[Array, "n h w c"]], Float[Array, "n h w k"]],
    *,
    augmentations: Sequence[Augmentation] = AUGMENTATIONS,
) -> Float[Array, "n h w k"]:
    """Mean probabilities over changed copies of each image, each change undone in its prediction.

    Unlike `tta`, it draws nothing at random. One copy is computed at a time.

    Args:
        images: Images in [0, 1].
        apply: Images to probabilities.
        augmentations: The changes.

    Returns:
        Probabilities; a pixel that a change moved out of the image is averaged over the others.

    Example:
        >>> images = jnp.full((1, 4, 4, 1), 0.25)
        >>> average_over_augmentations(images, lambda x: jnp.concatenate([x, 1 - x], -1))[0, 2, 2].round(2).tolist()
        [0.25, 0.75]
    """
    h, w = images.shape[1:3]
    grid, centre = _centred_grid(h, w)

    def add_copy(total, augmentation):
        degrees, scale, gamma = augmentation
        angle = jnp.deg2rad(degrees)
        rotation = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
        to_image = grid @ (rotation / scale).T + centre
        to_copy = grid @ (rotation.T * scale).T + centre
        copies = resample(images, to_image) ** gamma
        return total + resample(apply(copies), to_copy), None

    resample = jax.vmap(_resample, (0, None))
    shape = jax.eval_shape(apply, images).shape
    total = jax.lax.scan(add_copy, jnp.zeros(shape), jnp.array(augmentations))[0]
    return total / jnp.maximum(total.sum(-1, keepdims=True), 1e-6)


def _centred_grid(height: int, width: int) -> tuple[Float[Array, "h w 2"], Float[Array, "2"]]:
    """``(row, col)`` of each pixel from the centre of the image, and that centre."""
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    return jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1) - centre, centre


def _resample(image: Float[Array, "h w c"], points: Float[Array, "h w 2"]) -> Float[Array, "h w c"]:
    """Linear interpolation at points ``(row, col)``, zero outside."""
    coordinates = [points[..., 0], points[..., 1]]
    return jax.vmap(lambda x: map_coordinates(x, coordinates, order=1, mode="constant"), -1, -1)(image)
