"""Label maps of the frames of a loop on the analysis grid, a batch at a time."""

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree
from scipy import ndimage

from cardiojax import anatomy, models, ops, uncertainty
from cardiojax.analysis.crisp import UncertaintyEstimate
from cardiojax.analysis.sector import Sector
from cardiojax.labels import BACKGROUND, CAMUS, NUM_CLASSES, Structures
from cardiojax.runtime import aot, thread_pool
from cardiojax.types import Box

#: Grey images ``[n, s, s, 1]`` in [0, 1] to probabilities ``[n, s, s, k]`` of the classes of `cardiojax.labels.CAMUS`
#: and, after them, of other structures, if any.
Segment = Callable[[np.ndarray], np.ndarray]


class NetworkSegment(NamedTuple):
    """A `Segment` that knows what its classes are.

    Attributes:
        segment: The segmentation.
        structures: Its classes: those of `cardiojax.labels.CAMUS`, then others.
        known: The structures that the network draws; the probabilities of the others are 0.
    """

    segment: Segment
    structures: Structures
    known: tuple[str, ...]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Segments images."""
        return self.segment(images)


class Devices(NamedTuple):
    """Devices that share the work of a network.

    Attributes:
        mesh: A mesh with the axis ``"data"``, over which batches are split.
        place: Puts the variables of a network on it.
    """

    mesh: Mesh
    place: Callable[[PyTree], PyTree]


class OtherStructures(NamedTuple):
    """Structures that a network draws beside those that are measured.

    Attributes:
        names: What they are.
        labels: Label maps, int32 ``[t, h, w]``: 0 for none of them, 1 for the first.
    """

    names: tuple[str, ...]
    labels: np.ndarray


def compile_network(
    function: Callable[[PyTree, jax.Array], jax.Array],
    variables: PyTree,
    shape: tuple[int, ...],
    *,
    devices: Devices | None = None,
) -> Callable[[np.ndarray], jax.Array]:
    """Binds a network to its variables and begins to compile it for one batch shape.

    Args:
        function: Variables and images to probabilities.
        variables: Of the network.
        shape: Of the images.
        devices: Devices that share a batch, of which each process holds the whole; the default one if not given.

    Returns:
        Images of that shape to probabilities, whole in every process.

    Raises:
        ValueError: If the devices cannot share a batch evenly.
    """
    if devices is None:
        compiled = aot.CompiledFunction(function, options=dict)
        compiled.compile(variables, jax.ShapeDtypeStruct(shape, jnp.float32))
        return functools.partial(compiled, variables)
    num = devices.mesh.shape["data"]
    if shape[0] % num:
        raise ValueError(f"a batch of {shape[0]} cannot be split over {num} devices: choose a multiple")
    whole, split = (NamedSharding(devices.mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    jitted = jax.jit(function, out_shardings=whole)
    placed = devices.place(variables)
    return lambda images: jitted(placed, jax.make_array_from_callback(shape, split, lambda part: images[part]))


def classes_of(name: str, num_classes: int, stated: Structures | None) -> Structures:
    """What the classes of a network are: those that its file states, else those of CAMUS.

    Args:
        name: What the network is called.
        num_classes: How many classes it has.
        stated: What its file states.

    Returns:
        A name for each class.

    Raises:
        ValueError: If it has another number of classes.
    """
    structures = stated or CAMUS
    if len(structures) != num_classes:
        source = f"as the {len(structures)} that its file names" if stated else f"{len(CAMUS)} or names in its file"
        raise ValueError(f"{name} has {num_classes} classes, expected {source}")
    return structures


def in_order(probs: jax.Array, structures: Structures, order: Structures) -> jax.Array:
    """Orders class probabilities; a structure that the network lacks has none.

    Args:
        probs: Probabilities of a network, ``[*b, k]``.
        structures: What its classes are.
        order: The classes of the result, such as ``CAMUS.union(structures)`` for a `Segment`; the same for all members
            of an ensemble.

    Returns:
        ``[*b, n]``.

    Example:
        >>> structures = Structures(("background", "right_ventricle", "lv"))
        >>> in_order(jnp.array([0.5, 0.2, 0.3]), structures, CAMUS.union(structures)).tolist()
        [0.5, 0.3..., 0.0, 0.0, 0.2...]
    """
    if order == structures:
        return probs
    zero, names = jnp.zeros_like(probs[..., 0]), structures.names
    return jnp.stack([probs[..., names.index(n)] if n in names else zero for n in order.names], -1)


@runtime_checkable
class UncertaintyEstimator(Protocol):
    """Estimates where outlines may be wrong, as `cardiojax.analysis.crisp.CrispEstimator` does."""

    def __call__(self, images: np.ndarray, probs: np.ndarray) -> UncertaintyEstimate:
        """Estimates the uncertainty of predicted probabilities ``[n, s, s, k]`` for images ``[n, s, s, 1]``."""
        ...

    def ejection_interval(
        self, end_diastole: np.ndarray, end_systole: np.ndarray, fraction: float
    ) -> tuple[float, float]:
        """Estimates an interval for the ejection fraction, from images ``[s, s, 1]``."""
        ...


class Segmentation(NamedTuple):
    """Label maps of a loop and their uncertainty, on the grid of its frames.

    Attributes:
        labels: Label maps, int32 ``[t, h, w]``.
        uncertainty: Of each pixel in [0, 1], float32 ``[t, h, w]``: that of the estimator, else the entropy of the
            probabilities.
        quality: Percentage of the validation images whose outlines were less certain, ``[t]``; None without an
            estimator.
        others: Label maps of the structures after those of CAMUS, int32 ``[t, h, w]``, 1 for the first of them.
    """

    labels: np.ndarray
    uncertainty: np.ndarray
    quality: np.ndarray | None
    others: np.ndarray


def segment_loop(
    frames: np.ndarray,
    sector: Sector,
    segment: Segment,
    *,
    size: int,
    batch_size: int,
    largest_component: bool = True,
    separate_atrium: bool = True,
    uncertainty_estimator: UncertaintyEstimator | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Segmentation:
    """Segments every frame inside the sector.

    Probabilities are resampled to the grid of the frames before the most probable class is taken, so that outlines are
    smooth.

    Args:
        frames: Grey values, ``[t, h, w]``.
        sector: The ultrasound sector of these frames.
        segment: The model.
        size: Height and width of the model's grid.
        batch_size: Frames a call of the model.
        largest_component: Whether only the largest region of each structure is kept.
        separate_atrium: Whether myocardium is separated from the atrium, see `anatomy.separate_atrium`.
        uncertainty_estimator: Estimates the uncertainty; the entropy is taken if not given.
        on_progress: Called with the number of frames segmented so far.

    Returns:
        Label maps and uncertainty. Frames that are black inside the sector are background.
    """
    num_frames, height, width = frames.shape
    top, bottom, left, right = sector.box
    labels = np.zeros(frames.shape, np.int32)
    maps = np.zeros(frames.shape, np.float32)
    quality = None if uncertainty_estimator is None else np.zeros(num_frames)
    edges = as_array(sector.box)
    options = {"separate_atrium": separate_atrium, "largest_component": largest_component}

    def prepare(start: int) -> np.ndarray:
        return to_model_grid(frames[start : start + batch_size], sector, size=size, batch_size=batch_size)

    def read_out(start: int, probs: np.ndarray, estimated: np.ndarray | None) -> None:
        chunk = slice(start, start + batch_size)
        num = len(labels[chunk])
        predicted, entropy = FROM_MODEL(probs, edges, height=height, width=width)
        labels[chunk] = clean_labels(np.asarray(predicted)[:num], batch_size=batch_size, **options)
        if estimated is None:
            maps[chunk] = np.asarray(entropy)[:num]
        else:
            maps[chunk] = np.asarray(TO_FRAMES(estimated, edges, height=height, width=width))[:num, ..., 0]
        is_black = ~(frames[chunk, top:bottom, left:right] * sector.mask).any((1, 2))
        labels[chunk][is_black] = BACKGROUND

    with thread_pool(2) as pool:  # while the model works, the next batch is prepared and the last one read out
        coming, written = pool.submit(prepare, 0), None
        for start in range(0, num_frames, batch_size):
            images = coming.result()
            if start + batch_size < num_frames:
                coming = pool.submit(prepare, start + batch_size)
            probs, estimated = segment(images), None
            require_probabilities(probs, images, segment)
            if uncertainty_estimator is not None and quality is not None:
                estimate = uncertainty_estimator(images, _with_others_as_background(probs))
                quality[start : start + batch_size] = estimate.quality
                estimated = ops.pad_batch(estimate.map[..., None], batch_size)
            if written is not None:
                written.result()
            # filled up and copied: the model may use its buffer for the next batch
            written = pool.submit(read_out, start, ops.pad_batch(probs, batch_size), estimated)
            on_progress(min(start + batch_size, num_frames))
        if written is not None:
            written.result()
    is_other = labels >= NUM_CLASSES
    others = np.where(is_other, labels - NUM_CLASSES + 1, 0)
    return Segmentation(np.where(is_other, BACKGROUND, labels), maps, quality, others)


def require_probabilities(probs: np.ndarray, images: np.ndarray, segment: Segment) -> None:
    """Refuses what is not one map of probabilities for each image.

    Args:
        probs: What the model returned.
        images: What it was given, ``[n, s, s, 1]``.
        segment: The model.

    Raises:
        ValueError: If the shape is another one, or the number of classes not that of the model's structures.
    """
    num_classes = len(segment.structures) if isinstance(segment, NetworkSegment) else NUM_CLASSES
    expected = (*images.shape[:3], num_classes)
    if np.shape(probs) != expected:
        raise ValueError(f"the model returned probabilities {list(np.shape(probs))}, expected {list(expected)}")


def _with_others_as_background(probs: np.ndarray) -> np.ndarray:
    measured = probs[..., :NUM_CLASSES].copy()
    measured[..., BACKGROUND] += probs[..., NUM_CLASSES:].sum(-1)
    return measured


def to_model_grid(frames: np.ndarray, sector: Sector, *, size: int, batch_size: int) -> np.ndarray:
    """Images ``[n, size, size, 1]`` of at most ``batch_size`` frames, as the model gets them."""
    top, bottom, left, right = sector.box
    mask = np.zeros(frames.shape[1:], bool)
    mask[top:bottom, left:right] = sector.mask
    images = TO_MODEL(ops.pad_batch(frames, batch_size), mask, as_array(sector.box), size=size)
    return np.asarray(images)[: len(frames)]


def clean_labels(
    labels: np.ndarray, *, batch_size: int, separate_atrium: bool = True, largest_component: bool = True
) -> np.ndarray:
    """Label maps as they are measured and scored.

    Args:
        labels: Most probable classes, ``[n, h, w]``, n at least 1.
        batch_size: Label maps a call of the compiled function.
        separate_atrium: Whether myocardium is separated from the atrium, see `anatomy.separate_atrium`.
        largest_component: Whether only the largest region of each structure is kept.

    Returns:
        The label maps.
    """
    if separate_atrium:  # it may leave parts of the myocardium alone
        labels = ops.map_batches(SEPARATE_ATRIUM, labels, batch_size=batch_size, is_fixed=True)
    return np.stack([keep_largest(label_map) for label_map in labels]) if largest_component else labels


def keep_largest(labels: np.ndarray) -> np.ndarray:
    """Keeps the largest 4-connected region of each structure.

    Args:
        labels: Label map, ``[h, w]``.

    Returns:
        The label map; other regions become background.
    """
    kept = np.zeros_like(labels)
    for label in range(1, int(labels.max()) + 1):
        numbered, count = ndimage.label(labels == label)
        if count:
            kept[numbered == 1 + np.bincount(numbered.ravel())[1:].argmax()] = label
    return kept


def as_array(box: Box) -> np.ndarray:
    """A box as an argument of a compiled function: one program serves all boxes."""
    return np.asarray(box, np.int32)


def _to_model(frames: jax.Array, mask: jax.Array, box: jax.Array, size: int) -> jax.Array:
    return models.preprocess(frames, size=size, box=box, mask=mask)


def _from_model(probs: jax.Array, box: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    entropy = uncertainty.entropy(ops.resample_to_box(probs, box, height=height, width=width))
    labels = models.postprocess(probs, height=height, width=width, box=box)
    return labels, jnp.where(ops.inside_box(box, height=height, width=width), entropy, 0)


def _to_frames(maps: jax.Array, box: jax.Array, height: int, width: int) -> jax.Array:
    inside = ops.inside_box(box, height=height, width=width)[..., None]
    return jnp.where(inside, ops.resample_to_box(maps, box, height=height, width=width), 0)


#: Frames, the pixels of their sector and its box to the model's grid.
TO_MODEL = aot.CompiledFunction(_to_model, static_argnames="size")
#: Probabilities to label maps and entropy on the grid of the frames, background and zero outside the box of the sector.
FROM_MODEL = aot.CompiledFunction(_from_model, static_argnames=("height", "width"))
#: Label maps to those without contact of myocardium and atrium, where it is no longer than in outlines of experts.
SEPARATE_ATRIUM = aot.CompiledFunction(
    functools.partial(anatomy.separate_atrium, max_contact=anatomy.MAX_EXPERT_CONTACT)
)
#: Maps ``[n, s, s, c]`` on the grid of the frames.
TO_FRAMES = aot.CompiledFunction(_to_frames, static_argnames=("height", "width"))
