"""CRISP: does the prediction agree with the true shapes that go with such an image?"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Integer

from cardiojax import latent
from cardiojax.labels import NUM_CLASSES
from cardiojax.ops import over_leading_axes
from cardiojax.uncertainty.result import Uncertainty, from_map


class ShapeBank(NamedTuple):
    """Shapes to compare with.

    Attributes:
        codes: Their codes in the space that images and shapes share, of length 1.
        masks: Their label maps, of the size of the predictions; bytes are enough.
    """

    codes: Float[Array, "n d"]
    masks: Integer[Array, "n h w"]


class RetrievedShapes(NamedTuple):
    """The shapes of a bank that go best with an image, best first.

    Attributes:
        indices: Their rows in the bank; -1 for an image's code that is not finite, and where the bank has too few
            codes that are.
        weights: Their weights, 1 for a code equal to the image's; nan for an image's code that is not finite, 0 where
            the bank has too few.
    """

    indices: Int[Array, "*b m"]
    weights: Float[Array, "*b m"]


def crisp(
    images: Float[Array, "*b h w c"],
    labels: Int[Array, "*b h w"],
    codes: Float[Array, "*b d"],
    bank: ShapeBank,
    *,
    num_samples: int = 50,
    num_classes: int = NUM_CLASSES,
    bandwidth: float | Float[Array, ""] | None = None,
    normalize: bool = True,
) -> Uncertainty:
    """Weighted share of the retrieved shapes that disagree with the prediction, pixel by pixel and class by class.

    One image at a time: beside the bank, memory is that of its ``num_samples`` masks.

    Args:
        images: Images in [0, 1].
        labels: The prediction.
        codes: Codes of the images, of length 1.
        bank: All shapes of the training data.
        num_samples: Shapes that are compared, those with the nearest codes.
        num_classes: Classes of the predictions, with the background, which is not compared.
        bandwidth: See `retrieve_shapes`.
        normalize: Whether each map is divided by its maximum, as published; else by the most that it could be, so that
            maps of different images can be compared.

    Returns:
        Map, score, and the prediction.

    Raises:
        ValueError: If the bank holds fewer than ``num_samples`` shapes.

    References:
        Judge et al., "CRISP - Reliable Uncertainty Estimation for Medical Image Segmentation", MICCAI 2022, eq. (3).

    Example:
        >>> import jax.numpy as jnp
        >>> labels = jnp.zeros((8, 8), int).at[2:6, 2:6].set(1)
        >>> bank = ShapeBank(codes=jnp.eye(4), masks=jnp.stack([labels, labels, jnp.roll(labels, 1, 0), labels]))
        >>> images = jnp.eye(8)[..., None]
        >>> crisp(images, labels, jnp.array([1.0, 0.0, 0.0, 0.0]), bank, num_samples=1).map.max().item()
        0.0
    """
    retrieved = retrieve_shapes(codes, bank, num_samples=num_samples, bandwidth=bandwidth)
    values = _disagreement(labels, *retrieved, bank.masks, num_classes=num_classes, normalize=normalize)
    return from_map(images, values, labels)


@over_leading_axes(2, 1, 1, None)
def _disagreement(
    labels: Int[Array, "*b h w"],
    indices: Int[Array, "*b m"],
    weights: Float[Array, "*b m"],
    masks: Integer[Array, "n h w"],
    *,
    num_classes: int,
    normalize: bool,
) -> Float[Array, "*b h w"]:
    *batch, h, w = labels.shape

    def one(args):
        labels, indices, weights = args
        shapes = masks[indices]
        weight = weights.mean()
        total = jnp.zeros((h, w))
        for k in range(1, num_classes):
            share = (weights[:, None, None] * (shapes == k)).mean(0)
            total += jnp.where(labels == k, weight - share, share)
        most = total.max() if normalize else 2 * weight
        return jnp.where(jnp.isfinite(weight), total / jnp.where(most > 0, most, 1.0), 1.0)

    flat = [x.reshape(-1, *x.shape[len(batch) :]) for x in (labels, indices, weights)]
    return lax.map(one, flat).reshape(labels.shape)


def retrieve_shapes(
    codes: Float[Array, "*b d"],
    bank: ShapeBank,
    *,
    num_samples: int = 50,
    bandwidth: float | Float[Array, ""] | None = None,
) -> RetrievedShapes:
    """Finds the shapes whose codes are nearest to that of an image, and weighs them.

    The weight is the kernel of a von Mises-Fisher density, ``exp((cos - 1) / bandwidth)``. A code that is not a number
    has weights that are none either, and `crisp` then trusts no pixel.

    Args:
        codes: Codes of images, of length 1.
        bank: Shapes.
        num_samples: Shapes wanted.
        bandwidth: Of the kernel; that of `kernel_bandwidth` if not given.

    Returns:
        Rows and weights.

    Raises:
        ValueError: If the bank holds fewer than ``num_samples`` shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> codes = jnp.eye(4)
        >>> bank = ShapeBank(codes=codes, masks=jnp.zeros((4, 8, 8), int))
        >>> shapes = retrieve_shapes(jnp.array([0.0, 0.0, 1.0, 0.0]), bank, num_samples=2)
        >>> shapes.indices.tolist()[0]
        2
    """
    bandwidth = kernel_bandwidth(bank.codes) if bandwidth is None else bandwidth
    neighbours = latent.nearest(codes, bank.codes, num_samples)
    # on the sphere, half of the squared distance is one minus the cosine
    weights = jnp.exp(-jnp.square(neighbours.distances) / 2 / bandwidth)
    is_code = jnp.isfinite(codes).all(-1, keepdims=True)
    return RetrievedShapes(neighbours.indices, jnp.where(is_code & (neighbours.indices < 0), 0.0, weights))


def kernel_bandwidth(codes: Float[Array, "n d"], *, released: bool = False) -> Float[Array, ""]:
    """Rule of thumb for the width of the kernel on the sphere.

    Args:
        codes: Codes of length 1.
        released: Whether the concentration is that of the authors' code, which leaves out a pair of parentheses:
            ``r (d - r^2) / 1 - r^2`` instead of ``r (d - r^2) / (1 - r^2)``.

    Returns:
        The bandwidth, at most 1.

    References:
        Banerjee et al., "Clustering on the Unit Hypersphere using von Mises-Fisher Distributions", JMLR 2005;
        García-Portugués, "Exact risk improvement of bandwidth selectors for kernel density estimation with directional
        data", Electronic Journal of Statistics 2013.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> codes = jax.random.normal(jax.random.key(0), (200, 8)) + 3
        >>> round(float(kernel_bandwidth(codes / jnp.linalg.norm(codes, axis=-1, keepdims=True))), 2)
        0.02
    """
    num, dim = codes.shape
    length = jnp.linalg.norm(codes.mean(0))
    square = jnp.minimum(length**2, 1 - 1e-6)  # all codes equal
    numerator = length * (dim - square)
    concentration = numerator - square if released else numerator / (1 - square)
    # without any concentration there is no scale: the kernel is as wide as the sphere
    width = concentration**-0.5 * (40 * jnp.sqrt(jnp.pi) * num) ** -0.2
    return jnp.where(concentration > 0, jnp.minimum(width, 1.0), 1.0)
