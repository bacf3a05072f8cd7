"""From a recording to outlines and numbers."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from scipy import ndimage

from cardiojax import labels, ops, zoo
from cardiojax.analysis import resampling, warnings
from cardiojax.analysis.crisp import UncertaintyEstimate
from cardiojax.analysis.sector import Sector, crop, find_sector
from cardiojax.correction.anatomical import AnatomicalCorrection, AnatomicalCorrector, Box, CorrectAnatomy
from cardiojax.correction.temporal import (
    TemporalCorrection,
    TemporalCorrector,
    temporal_correction_messages,
    usual_spacing,
)
from cardiojax.data import Recording
from cardiojax.measurement.motion import Motion, compile_motion, measure_motion
from cardiojax.measurement.volumes import Measurements, compile_measure, measure
from cardiojax.runtime import aot

#: Grey images ``[n, s, s, 1]`` in [0, 1] to class probabilities ``[n, s, s, k]``.
Segment = Callable[[np.ndarray], np.ndarray]
#: Makes masks consistent over time, as `TemporalCorrector` does.
CorrectTemporally = Callable[..., TemporalCorrection]


@runtime_checkable
class UncertaintyEstimator(Protocol):
    """Says where outlines may be wrong, as `cardiojax.analysis.crisp.CrispEstimator` does."""

    def __call__(self, images: np.ndarray, probs: np.ndarray) -> UncertaintyEstimate:
        """Judges what the model made of images ``[n, s, s, 1]``."""
        ...

    def ejection_interval(
        self, end_diastole: np.ndarray, end_systole: np.ndarray, fraction: float
    ) -> tuple[float, float]:
        """An interval for the ejection fraction, from images ``[s, s, 1]``."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalyzeConfig:
    """How a recording is analysed.

    Attributes:
        model: Name of a segmentation model in the zoo.
        ensemble: Names of others whose probabilities are averaged with its own.
        size: Side of the square grid on which the model works.
        batch_size: Frames a call of the model.
        largest_component: Whether only the largest region of each structure is kept.
    """

    model: str = "unet_camus"
    ensemble: tuple[str, ...] = ()
    size: int = 224
    batch_size: int = 8
    largest_component: bool = True

    def __post_init__(self):
        for name in ("size", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class Analysis(NamedTuple):
    """Everything the report shows.

    Attributes:
        recording: What was read.
        sector: Where the ultrasound is.
        labels: Masks at the recording's resolution, int32 ``[t, h, w]``.
        uncertainty: Of each pixel in [0, 1], float32 ``[t, h, w]``: by the shapes of other hearts that go with such an
            image if they were consulted, else the entropy of the model's probabilities.
        quality: Percentage of the validation images whose outlines were less certain, ``[t]``; None if no other shapes
            were consulted.
        correction: What became of the masks that were implausible; None if they were left as they are.
        measurements: The numbers of single frames.
        motion: The numbers of the loop.
        warnings: Sentences that say what not to trust.
        temporal_correction: What became of the frames that moved unlike a heart; None if all are as they were drawn.
        motion_before: The numbers of the loop before that.
        ejection_interval: Where the ejection fraction may lie, in percent; None without a judge or phases.
    """

    recording: Recording
    sector: Sector
    labels: np.ndarray
    uncertainty: np.ndarray
    quality: np.ndarray | None
    correction: AnatomicalCorrection | None
    measurements: Measurements
    motion: Motion
    warnings: tuple[str, ...]
    temporal_correction: TemporalCorrection | None = None
    motion_before: Motion | None = None
    ejection_interval: tuple[float, float] | None = None


def make_segment(config: AnalyzeConfig, *, weights: str | Path | None = None) -> Segment:
    """Loads the model, or each of an ensemble, and begins to compile it for one batch shape.

    Args:
        config: Which model, and how it is used.
        weights: A weight file for it; the packaged one if not given.

    Returns:
        The segmentation of any number of frames.
    """
    shape = (config.batch_size, config.size, config.size, 1)

    def load(name: str, weights: str | Path | None = None) -> Callable[[np.ndarray], Any]:
        model: Any
        model, variables = zoo.load(name, weights=weights)
        probs = aot.CompiledFunction(
            lambda variables, images: jax.nn.softmax(model.apply(variables, images).logits),
            options=ops.compiler_options,
        )
        probs.compile(variables, jax.ShapeDtypeStruct(shape, jnp.float32))
        return functools.partial(probs, variables)

    members = [load(config.model, weights), *map(load, config.ensemble)]

    def segment(images: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(images), config.batch_size):
            part = images[start : start + config.batch_size]
            padded = resampling.pad(part, config.batch_size)
            parts.append(np.mean([probs(padded) for probs in members], 0)[: len(part)])
        return np.concatenate(parts)

    return segment


def analyze(
    recording: Recording,
    segment: Segment,
    *,
    config: AnalyzeConfig = AnalyzeConfig(),
    anatomical_corrector: CorrectAnatomy | None = None,
    temporal_corrector: CorrectTemporally | None = None,
    uncertainty_estimator: UncertaintyEstimator | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Analysis:
    """Segments each frame at the recording's own resolution and measures the left ventricle.

    Probabilities, not masks, are brought back to the recording's grid, a few frames at a time.

    Args:
        recording: An apical two- or four-chamber view, still or loop.
        segment: The model, see `make_segment`.
        config: How it is analysed.
        anatomical_corrector: Corrects the masks of the frames that show a left ventricle; no correction if not given.
        temporal_corrector: Corrects the frames of a loop that are temporally inconsistent; no correction if not given.
            Where the spacing is unknown, a heart of usual size is assumed.
        uncertainty_estimator: Judges the outlines as the model drew them; its entropy is taken if not given.
        on_progress: Called with the number of frames segmented so far.

    Returns:
        Masks, uncertainty, numbers and warnings.
    """
    sector = find_sector(recording.frames)
    top, bottom, left, right = sector.box
    height, width = bottom - top, right - left
    num_frames = len(recording.frames)
    masks = np.zeros(recording.frames.shape, np.int32)
    uncertainty = np.zeros(recording.frames.shape, np.float32)
    quality = None if uncertainty_estimator is None else np.zeros(num_frames)
    _compile_ahead(recording, sector, anatomical_corrector, temporal_corrector, config)
    for start in range(0, num_frames, config.batch_size):
        chunk = slice(start, start + config.batch_size)
        inside = _normalise(crop(recording.frames[chunk], sector))
        small = resampling.resize(inside[..., None], config.batch_size, config.size, config.size)
        small_probs = segment(small)
        drawn, entropy = resampling.ENLARGE(resampling.pad(small_probs, config.batch_size), height=height, width=width)
        masks[chunk, top:bottom, left:right] = np.asarray(drawn)[: len(small)]
        if uncertainty_estimator is None or quality is None:
            uncertainty[chunk, top:bottom, left:right] = np.asarray(entropy)[: len(small)]
        else:
            found = uncertainty_estimator(small, small_probs)
            quality[chunk] = found.quality
            maps = resampling.resize(found.map[..., None], config.batch_size, height, width)
            uncertainty[chunk, top:bottom, left:right] = maps[..., 0]
        if config.largest_component:
            masks[chunk] = [keep_largest(mask) for mask in masks[chunk]]
        masks[chunk][inside.max((1, 2)) == 0] = labels.BACKGROUND  # nothing is seen in a lost frame
        on_progress(min(start + config.batch_size, num_frames))
    correction = None if anatomical_corrector is None else _correct(masks, anatomical_corrector, sector.box)
    if correction is not None:
        masks = correction.masks
    spacing = recording.spacing or usual_spacing(masks)
    measurements, motion = _measured(masks, recording, spacing)
    temporal_correction = before = None
    if temporal_corrector is not None and not motion.is_consistent.all():
        temporal_correction, before = (
            temporal_corrector(masks, spacing=spacing, frame_time=recording.frame_time, box=sector.box),
            motion,
        )
        masks = temporal_correction.masks
        measurements, motion = _measured(masks, recording, spacing)
    sentences = warnings.measurement_messages(recording, sector, masks, measurements)
    sentences += [
        *warnings.anatomical_correction_messages(correction),
        *temporal_correction_messages(temporal_correction, before, motion),
        *warnings.uncertainty_messages(masks, uncertainty, quality),
    ]
    interval = None
    if uncertainty_estimator is not None and np.isfinite(measurements.ejection_fraction):
        rows = [measurements.end_diastole, measurements.end_systole]
        inside = _normalise(crop(recording.frames[rows], sector))[..., None]
        small = resampling.resize(inside, config.batch_size, config.size, config.size)
        interval = uncertainty_estimator.ejection_interval(small[0], small[1], measurements.ejection_fraction)
    found = (quality, correction, measurements, motion, tuple(sentences), temporal_correction, before, interval)
    return Analysis(recording, sector, masks, uncertainty, *found)


def _measured(masks: np.ndarray, recording: Recording, spacing: tuple[float, float]) -> tuple[Measurements, Motion]:
    found = measure(masks, recording.spacing, frame_time=recording.frame_time)
    phases = (found.end_diastole, found.end_systole) if found.has_phases else None
    return found, measure_motion(masks, phases, spacing=spacing, frame_time=recording.frame_time)


def _compile_ahead(
    recording: Recording,
    sector: Sector,
    anatomical_corrector: CorrectAnatomy | None,
    temporal_corrector: CorrectTemporally | None,
    config: AnalyzeConfig,
) -> None:
    """Begins to compile everything, in the order in which it is needed or takes long."""
    num_frames, height, width = recording.frames.shape
    top, bottom, left, right = sector.box
    inside = {"height": bottom - top, "width": right - left}

    def shape(*sizes: int, dtype: DTypeLike = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype)

    small = {"height": config.size, "width": config.size}
    resampling.RESIZE.compile(shape(config.batch_size, *inside.values(), 1), **small)
    if isinstance(anatomical_corrector, AnatomicalCorrector):
        anatomical_corrector.compile(height, width, box=sector.box)
    resampling.ENLARGE.compile(shape(config.batch_size, *small.values(), labels.NUM_CLASSES), **inside)
    compile_measure(num_frames, height, width, frame_time=recording.frame_time)
    compile_motion(num_frames, height, width, frame_time=recording.frame_time)
    if isinstance(temporal_corrector, TemporalCorrector):
        temporal_corrector.compile(num_frames, box=sector.box)


def _correct(masks: np.ndarray, anatomical_corrector: CorrectAnatomy, box: Box) -> AnatomicalCorrection:
    """Corrects the frames in which a heart was found: where there is none, none is invented."""
    has_heart = (masks == labels.LV).any((1, 2)) & (masks == labels.MYOCARDIUM).any((1, 2))
    num = len(masks)
    whole = AnatomicalCorrection(masks, masks.copy(), has_heart.copy(), has_heart.copy(), np.zeros(num), np.zeros(num))
    if has_heart.any():
        found = anatomical_corrector(masks[has_heart], box=box)
        for array, values in zip(whole[1:], found[1:], strict=True):
            array[has_heart] = values
    return whole


def _normalise(frames: np.ndarray) -> np.ndarray:
    """Stretches each frame to [0, 1], as the training images are."""
    low, high = frames.min((1, 2), keepdims=True), frames.max((1, 2), keepdims=True)
    return (frames - low) / np.maximum(high - low, 1e-6)


def keep_largest(mask: np.ndarray) -> np.ndarray:
    """Keeps the largest 4-connected region of each structure.

    Args:
        mask: Label map, ``[h, w]``.

    Returns:
        The label map; other regions become background.
    """
    kept = np.zeros_like(mask)
    for label in (labels.LV, labels.MYOCARDIUM, labels.LEFT_ATRIUM):
        numbered, count = ndimage.label(mask == label)
        if count:
            kept[numbered == 1 + np.bincount(numbered.ravel())[1:].argmax()] = label
    return kept
