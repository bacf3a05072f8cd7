"""Which apical view a recording shows, with the right to say: none."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import ops, zoo
from cardiojax.analysis.grid import make_grid
from cardiojax.analysis.recording import AnalyzeConfig
from cardiojax.analysis.sector import Sector, colour_reason, find_sector
from cardiojax.analysis.segmentation import to_model_grid
from cardiojax.data import Recording
from cardiojax.labels import MEASURED_VIEWS, VIEW_NAMES, VIEWS
from cardiojax.runtime import aot

TWO_CHAMBER, FOUR_CHAMBER, OTHER = VIEWS
#: Frames of a loop that vote.
_NUM_FRAMES = 8
#: Mean probability below which a view is not certain enough.
_MIN_PROBABILITY = 0.6
#: Median distance of the features above which the images are unlike all that are known, see `models.ViewClassifier`.
_MAX_DISTANCE = 1.0
#: How an image may be turned by its display, and how to undo it.
_DISPLAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored from left to right": lambda images: images[:, :, ::-1],
    "upside down": lambda images: images[:, ::-1],
    "turned by half": lambda images: images[:, ::-1, ::-1],
    "turned by a quarter to the left": lambda images: np.rot90(images, -1, (1, 2)),
    "turned by a quarter to the right": lambda images: np.rot90(images, 1, (1, 2)),
}


class ViewEstimate(NamedTuple):
    """The view of a recording.

    Attributes:
        view: One of `VIEWS`.
        probs: Mean probabilities of `VIEWS` over the frames that vote, ``[3]``. A recording whose images are in colour,
            or unlike all known ones, is ``"other"`` whatever they are.
        reason: Why nothing should be measured, one sentence; None for an apical two- or four-chamber view.
    """

    view: str
    probs: np.ndarray
    reason: str | None = None


#: Estimates the view of a recording.
ClassifyView = Callable[[Recording], ViewEstimate]
#: Estimates the view of images ``[n, s, s, 1]`` of one recording, at most a batch of them.
ClassifyImages = Callable[[np.ndarray], ViewEstimate]


class _Votes(NamedTuple):
    """Mean probabilities of the frames, ``[3]``, and their median distance."""

    probs: np.ndarray
    distance: float

    @property
    def view(self) -> str:
        return VIEWS[int(self.probs.argmax())]

    @property
    def is_apical(self) -> bool:
        is_certain = float(self.probs.max()) >= _MIN_PROBABILITY
        return self.view != OTHER and is_certain and self.distance <= _MAX_DISTANCE


def make_view_classifier(name: str = "view_camus", *, config: AnalyzeConfig = AnalyzeConfig()) -> ClassifyView:
    """Loads a view classifier and begins to compile it.

    Args:
        name: Name of a view classifier in the zoo, or a weight file that says which model it is for.
        config: The grid and the batches of the segmentation, whose images it takes; their size is always the one on
            which the classifier was trained.

    Returns:
        A function of a recording. Up to eight frames, evenly spaced over the loop, vote.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If it has no weights, or they do not fit.

    Example:
        >>> from cardiojax import data
        >>> make_view_classifier()(data.read(data.example_path())).view
        '4CH'
    """
    config = dataclasses.replace(config, size=AnalyzeConfig().size)
    classify_images = make_image_classifier(name, config=config)

    def classify(recording: Recording) -> ViewEstimate:
        sector = find_sector(recording.frames, regions=recording.regions)
        estimate = classify_images(_images_that_vote(recording, sector, config))
        reason = colour_reason(recording.coloured, sector)
        return estimate if reason is None else ViewEstimate(OTHER, estimate.probs, reason)

    return classify


def make_image_classifier(name: str = "view_camus", *, config: AnalyzeConfig = AnalyzeConfig()) -> ClassifyImages:
    """Loads a view classifier for images that are cropped to the sector already.

    Args:
        name: As of `make_view_classifier`.
        config: The grid and the batches.

    Returns:
        A function of the images of one recording. Those of one grey level do not vote.

    Raises:
        KeyError: If there is no such model.
        WeightsError: If it has no weights, or they do not fit.
    """
    model: Any
    model, variables = zoo.load(name)
    shape = (config.batch_size, config.size, config.size, 1)

    def outputs(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        output = model.apply(variables, images)
        return jax.nn.softmax(output.logits), output.distance

    compiled = aot.CompiledFunction(outputs, options=dict)
    compiled.compile(variables, jax.ShapeDtypeStruct(shape, jnp.float32))

    def vote(images: np.ndarray) -> _Votes:
        probs, distance = compiled(variables, ops.pad_batch(images, config.batch_size))
        num = len(images)
        return _Votes(np.asarray(probs)[:num].mean(0), float(np.median(np.asarray(distance)[:num])))

    def classify(images: np.ndarray) -> ViewEstimate:
        images = images[np.ptp(images, (1, 2, 3)) > 0]
        if not len(images):
            return ViewEstimate(OTHER, np.array([0, 0, 1], np.float32), "The frames show no image.")
        votes = vote(images)
        reason = _refusal(votes, images, vote)
        return ViewEstimate(votes.view if reason is None else OTHER, votes.probs, reason)

    return classify


def _images_that_vote(recording: Recording, sector: Sector, config: AnalyzeConfig) -> np.ndarray:
    """Images ``[n, s, s, 1]`` of frames that are evenly spaced, as the segmentation network gets them."""
    num = min(_NUM_FRAMES, config.batch_size, len(recording.frames))
    chosen = np.unique(np.linspace(0, len(recording.frames) - 1, num).round().astype(int))
    grid = make_grid(sector, recording.frames.shape[1:], max_size=config.max_size, sizes=config.grid_sizes)
    frames = grid.reduce(recording.frames[chosen])
    return to_model_grid(frames, grid.reduce_sector(sector), size=config.size, batch_size=config.batch_size)


def _refusal(votes: _Votes, images: np.ndarray, vote: Callable[[np.ndarray], _Votes]) -> str | None:
    if votes.is_apical:
        return None
    for display, undo in _DISPLAYS.items():
        undone = vote(undo(images))
        if undone.is_apical:
            return f"The images may be an apical {VIEW_NAMES[undone.view]} view that is {display}."
    if votes.view == OTHER:
        return "The images do not look like an apical two- or four-chamber view."
    if votes.distance > _MAX_DISTANCE:
        return f"The images are unlike those of apical views, though most like a {VIEW_NAMES[votes.view]} view."
    shares = ", ".join(
        f"{VIEW_NAMES[view]} {100 * p:.0f} %" for view, p in zip(MEASURED_VIEWS, votes.probs, strict=False)
    )
    return f"The view is uncertain ({shares})."
