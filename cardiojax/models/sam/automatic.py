"""Everything in an image, without prompts: a grid of points, and the best of what they find."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree

from cardiojax.models.sam.model import SAM
from cardiojax.models.sam.predictor import Embedded, embed_image, predict_masks
from cardiojax.models.sam.processing import mask_box
from cardiojax.models.sam.prompt_encoder import Prompts


class FoundMasks(NamedTuple):
    """Masks by falling quality.

    Attributes:
        masks: Of which the first ``valid`` ones count.
        boxes: ``(top, left, bottom, right)`` in pixels.
        points: The point ``(row, column)`` that found each.
        quality: Predicted intersection over union.
        stability: Intersection over union of the masks at a higher and at a lower threshold.
        valid: Which entries hold a mask.
        is_full: Whether more masks may have been found than there is room for.
    """

    masks: Bool[Array, "m h w"]
    boxes: Float[Array, "m 4"]
    points: Float[Array, "m 2"]
    quality: Float[Array, " m"]
    stability: Float[Array, " m"]
    valid: Bool[Array, " m"]
    is_full: Bool[Array, ""]


def find_masks(
    model: SAM,
    variables: PyTree,
    image: Float[Array, "h w c"],
    *,
    points_per_side: int = 32,
    min_quality: float = 0.88,
    min_stability: float = 0.95,
    stability_offset: float = 1.0,
    max_overlap: float = 0.7,
    capacity: int = 64,
    batch_size: int = 16,
) -> FoundMasks:
    """Segments everything in an image.

    Each point of a grid proposes three masks. Those of low quality or stability fall out, and of two whose boxes
    overlap the better remains. Proposals are kept as boxes and scores only, and the masks of the chosen are computed
    again: the peak memory is that of ``batch_size`` points and of the result.

    Args:
        model: A SAM.
        variables: Its variables.
        image: Grey or RGB in [0, 1].
        points_per_side: Points along a side of the grid.
        min_quality: A mask's predicted quality is above it.
        min_stability: A mask's stability is at least this.
        stability_offset: Distance of the two thresholds from 0, in logits.
        max_overlap: Largest intersection over union of two boxes.
        capacity: Masks there is room for.
        batch_size: Points handled at a time.

    Returns:
        The masks.

    References:
        Kirillov et al., "Segment Anything", ICCV 2023, appendix B; one layer of crops.
    """
    size = (image.shape[0], image.shape[1])
    embedded = embed_image(model, variables, image)
    cells = (np.arange(points_per_side) + 0.5) / points_per_side
    points = jnp.asarray(np.stack(np.meshgrid(cells, cells, indexing="ij"), -1).reshape(-1, 2) * size, jnp.float32)

    def propose(point: Array) -> tuple[Array, Array, Array]:
        logits, quality = _predict(model, variables, embedded, point, size)
        inner, outer = ((logits > offset).sum((-2, -1)) for offset in (stability_offset, -stability_offset))
        return quality, inner / outer, jax.vmap(mask_box)(logits > 0)

    quality, stability, boxes = lax.map(propose, points, batch_size=batch_size)
    quality, stability, boxes = quality.ravel(), stability.ravel(), boxes.reshape(-1, 4)
    scores = jnp.where((quality > min_quality) & (stability >= min_stability), quality, -jnp.inf)
    chosen, valid, is_full = suppress(boxes, scores, max_overlap=max_overlap, capacity=capacity)

    def again(index: Array) -> Array:
        return _predict(model, variables, embedded, points[index // 3], size)[0][index % 3] > 0

    masks = lax.map(again, chosen, batch_size=batch_size) & valid[:, None, None]
    return FoundMasks(masks, boxes[chosen], points[chosen // 3], quality[chosen], stability[chosen], valid, is_full)


def _predict(
    model: SAM, variables: PyTree, embedded: Embedded, point: Array, size: tuple[int, int]
) -> tuple[Array, Array]:
    prompts = Prompts(points=point[None, None], labels=jnp.ones((1, 1), jnp.int32))
    out = predict_masks(model, variables, embedded, prompts, size=size, batch_size=1)
    return jnp.moveaxis(out.logits[0, ..., 1:], -1, 0), out.quality[0, 1:]


def suppress(
    boxes: Float[Array, "n 4"], scores: Float[Array, " n"], *, max_overlap: float, capacity: int
) -> tuple[Int[Array, " m"], Bool[Array, " m"], Bool[Array, ""]]:
    """Chooses boxes by falling score, and drops those that overlap a chosen one.

    Args:
        boxes: ``(top, left, bottom, right)``.
        scores: Negative infinity for a box that must not be chosen.
        max_overlap: Largest intersection over union.
        capacity: Largest number of boxes chosen.

    Returns:
        Which were chosen, which of these entries count, and whether any was left over.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])

    def choose(scores: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        best = jnp.argmax(scores)
        low, high = jnp.maximum(boxes[:, :2], boxes[best, :2]), jnp.minimum(boxes[:, 2:], boxes[best, 2:])
        common = jnp.maximum(high - low, 0).prod(-1)
        is_same = common > max_overlap * (area + area[best] - common)
        left = jnp.where(is_same, -jnp.inf, scores).at[best].set(-jnp.inf)
        return left, (best.astype(jnp.int32), scores[best] > -jnp.inf)

    left, (chosen, valid) = lax.scan(choose, scores, length=capacity)
    return chosen, valid, left.max() > -jnp.inf
