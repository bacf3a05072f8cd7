"""Analysis of a recording: label maps, measurements, and reasons not to rely on a measurement."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import PyTree

from cardiojax import ops, zoo
from cardiojax.analysis import pairs, segmentation, trust, warnings
from cardiojax.analysis.grid import Grid, make_grid
from cardiojax.analysis.outcome import (
    CorrectTemporally,
    Loop,
    Outcome,
    Predicted,
    correct_and_measure,
    measure_phases,
    measure_predicted,
)
from cardiojax.analysis.privacy import visible_part
from cardiojax.analysis.sector import Sector, find_sector, spacing_of_sector
from cardiojax.analysis.segmentation import (
    Devices,
    NetworkSegment,
    OtherStructures,
    Segment,
    Segmentation,
    UncertaintyEstimator,
    segment_loop,
)
from cardiojax.analysis.segmentation import keep_largest as keep_largest
from cardiojax.analysis.trust import Finding, Outlines
from cardiojax.correction.anatomical import AnatomicalCorrection, AnatomicalCorrector, CorrectAnatomy
from cardiojax.correction.temporal import TemporalCorrection, TemporalCorrector
from cardiojax.data import Recording
from cardiojax.labels import CAMUS, NUM_CLASSES, Structures
from cardiojax.measurement.chambers import compile_chambers
from cardiojax.measurement.motion import Motion, compile_motion
from cardiojax.measurement.volumes import Measurements, compile_measure
from cardiojax.models.preprocess import segmentation_logits


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalyzeConfig:
    """How a recording is analysed.

    Attributes:
        model: Name of a segmentation model in the zoo, or a weight file that says which model it is for.
        ensemble: Names or files of others whose probabilities are averaged with its own.
        pair_model: Name or file of the network that segments end-diastole and end-systole of each beat once more and
            sees both; ``"none"``; or ``"auto"``: ``unet_pair_camus`` beside ``unet_camus``, the model itself if it
            takes two frames, else none.
        test_time_augmentation: Whether the pair network's probabilities are averaged over seven rotations, scales and
            gammas of the frames.
        size: Side of the square grid on which the model works.
        batch_size: Frames a call of the model.
        largest_component: Whether only the largest region of each structure is kept.
        separate_atrium: Whether myocardium that touches the left atrium away from the cavity becomes background, if
            the contact is at most 0.37 of the myocardium's width, the largest value in outlines of experts.
        max_size: Height and width of the frames above which their sector is analysed on a coarser grid.
        grid_sizes: Heights and widths of the grid, of which the smallest that holds the sector is taken, so that
            programs are compiled once for many recordings; that of the frames if empty.
    """

    model: str = "unet_camus"
    ensemble: tuple[str, ...] = ()
    pair_model: str = "auto"
    test_time_augmentation: bool = False
    size: int = 224
    batch_size: int = 8
    largest_component: bool = True
    separate_atrium: bool = True
    max_size: int = 640
    grid_sizes: tuple[int, ...] = ()

    def __post_init__(self):
        if any(not 64 <= size <= 8192 for size in self.grid_sizes):
            raise ValueError(f"grid_sizes must be 64 to 8192, got {self.grid_sizes}")
        for name, least in (("size", 1), ("batch_size", 1), ("max_size", 64)):
            if not least <= getattr(self, name) <= 8192:
                raise ValueError(f"{name} must be {least} to 8192, got {getattr(self, name)}")


class Analysis(NamedTuple):
    """Everything that a report shows. Arrays ``[t, h, w]`` lie on the analysis grid.

    Attributes:
        recording: What was read; its spacing is that of the sector.
        grid: The analysis grid: that of the frames, or a coarser one if they are large.
        sector: The ultrasound sector, on the grid.
        predicted: Label maps as the networks predict them, and what is measured on them.
        labels: Label maps after all corrections, int32 ``[t, h, w]``.
        uncertainty: Of each pixel in [0, 1], float32 ``[t, h, w]``, see `Segmentation`.
        quality: Percentage of the validation images whose outlines were less certain, ``[t]``; None without an
            uncertainty estimator.
        correction: The anatomical correction; None if there was none.
        measurements: Areas, lengths and volumes of each frame, and ejection fractions of each beat.
        motion: Strain, heart rate and temporal consistency of the loop.
        findings: Reasons not to rely on a measurement, and which measurements are withdrawn.
        temporal_correction: The temporal correction; None if all frames were consistent or were left as they are.
        motion_before: The same as ``motion`` before the temporal correction.
        ejection_interval: Interval of the ejection fraction in percent; None without an estimator or phases.
        pair_frames: End-diastole and end-systole of each beat in turn, whose label maps are those of the pair network;
            None without one. The motion is that of the frames segmented one by one.
        others: Structures that the network draws beside those that are measured; None if it draws none.
    """

    recording: Recording
    grid: Grid
    sector: Sector
    predicted: Predicted
    labels: np.ndarray
    uncertainty: np.ndarray
    quality: np.ndarray | None
    correction: AnatomicalCorrection | None
    measurements: Measurements
    motion: Motion
    findings: tuple[Finding, ...]
    temporal_correction: TemporalCorrection | None = None
    motion_before: Motion | None = None
    ejection_interval: tuple[float, float] | None = None
    pair_frames: np.ndarray | None = None
    others: OtherStructures | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """The reasons of all findings, one sentence each."""
        return tuple(finding.reason for finding in self.findings)

    @property
    def withdrawn(self) -> dict[str, str]:
        """The quantities that cannot be trusted, and the first reason for each."""
        return trust.withdrawn(self.findings)

    @property
    def replaced(self) -> trust.ReplacedFrames:
        """The frames whose outlines a correction replaced."""
        return trust.replaced_frames(self.predicted.labels, self.labels, self.temporal_correction)

    def frames_of_sector(self) -> np.ndarray:
        """Frames on the grid, black where text may identify the patient, see `visible_part`."""
        frames = self.grid.reduce(self.recording.frames)
        return frames * visible_part(frames, self.sector, burned_in=self.recording.burned_in)

    def labels_of_frames(self) -> np.ndarray:
        """Label maps at the resolution of the frames, uint8; other structures follow those of CAMUS."""
        labels = self.labels
        if self.others is not None:
            labels = np.where((labels == 0) & (self.others.labels > 0), self.others.labels + NUM_CLASSES - 1, labels)
        return self.grid.enlarge(labels.astype(np.uint8))


def make_segment(config: AnalyzeConfig, *, devices: Devices | None = None) -> NetworkSegment:
    """Loads the model, or each of an ensemble, and begins to compile it for one batch shape.

    Args:
        config: Which model, and how it is used.
        devices: Devices that share each batch; one if not given.

    Returns:
        The segmentation of any number of frames.

    Raises:
        KeyError: If there is no such model.
        ValueError: If one is of another kind, does not fit the grid, the networks of an ensemble have different
            structures, or the devices cannot share a batch.
        WeightsError: If one has no weights, or they do not fit.
    """
    shape = (config.batch_size, config.size, config.size, 1)
    members, structures = [], []
    for name in (config.model, *config.ensemble):
        model, variables = zoo.load(name)
        structures.append(_structures(name, model, variables, config))
        probs = functools.partial(_probabilities, name, model, structures[-1], CAMUS.union(structures[0]))
        members.append(segmentation.compile_network(probs, variables, shape, devices=devices))
    _require_same(config, structures)

    def mean(images: np.ndarray) -> np.ndarray:
        return np.mean([probs(images) for probs in members], 0)

    segment = functools.partial(ops.map_batches, mean, batch_size=config.batch_size, is_fixed=True)
    return NetworkSegment(segment, CAMUS.union(structures[0]), structures[0].names)


def check_models(config: AnalyzeConfig) -> None:
    """Checks that the models of a configuration exist and segment, before work that takes long; nothing is compiled.

    Args:
        config: Which models, and on which grid.

    Raises:
        KeyError: If there is no such model.
        ValueError: If one is of another kind, or does not fit the grid.
        WeightsError: If one has no weights, or they do not fit.

    Example:
        >>> check_models(AnalyzeConfig(pair_model="unet_camus"))
        Traceback (most recent call last):
        ValueError: unet_camus sees 1 frame, expected a network of two such as unet_pair_camus
    """
    _require_same(config, [_structures(n, *zoo.load(n), config) for n in (config.model, *config.ensemble)])
    pair_model = pairs.choose_pair_model(config.model, config.pair_model)
    if pair_model is not None:
        pairs.load_pair_network(pair_model)


def _structures(name: str, model: Any, variables: PyTree, config: AnalyzeConfig) -> Structures:
    """What the classes of a network are; a ValueError if it is none of segmentation."""

    def logits(variables: PyTree, images: jax.Array) -> jax.Array:
        return segmentation_logits(model.apply(variables, images), images, name=name)

    images = jax.ShapeDtypeStruct((1, config.size, config.size, 1), jnp.float32)
    num_classes = jax.eval_shape(logits, variables, images).shape[-1]
    return segmentation.classes_of(name, num_classes, zoo.load_structures(name))


def _require_same(config: AnalyzeConfig, structures: Sequence[Structures]) -> None:
    for name, others in zip(config.ensemble, structures[1:], strict=True):
        if set(others.names) != set(structures[0].names):
            raise ValueError(f"{name} and {config.model} have different structures, expected the same in an ensemble")


def _probabilities(
    name: str, model: Any, structures: Structures, order: Structures, variables: PyTree, images: jax.Array
) -> jax.Array:
    logits = segmentation_logits(model.apply(variables, images), images, name=name)
    return segmentation.in_order(jax.nn.softmax(logits), structures, order)


def analyze(
    recording: Recording,
    segment: Segment,
    *,
    config: AnalyzeConfig = AnalyzeConfig(),
    pair_segment: Segment | None = None,
    anatomical_corrector: CorrectAnatomy | None = None,
    temporal_corrector: CorrectTemporally | None = None,
    uncertainty_estimator: UncertaintyEstimator | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Analysis:
    """Segments each frame, corrects the label maps, measures the left ventricle and lists what not to rely on.

    Args:
        recording: An apical two- or four-chamber view, still or loop.
        segment: The model, see `make_segment`.
        config: How the recording is analysed.
        pair_segment: Segments end-diastole and end-systole of each beat once more, together, see
            `cardiojax.analysis.pairs.make_pair_segment`. Volumes, areas and ejection fractions are those of its label
            maps.
        anatomical_corrector: Corrects the label maps of the frames that show a left ventricle; no correction if not
            given.
        temporal_corrector: Corrects the frames of a loop that are temporally inconsistent; no correction if not given.
            Where the spacing is unknown, a left ventricle of typical length is assumed.
        uncertainty_estimator: Estimates the uncertainty of the predicted outlines, before any correction; the entropy
            of the probabilities is taken if not given.
        on_progress: Called with the number of frames segmented so far.

    Returns:
        Label maps, uncertainty, measurements and findings.
    """
    sector = find_sector(recording.frames, regions=recording.regions)
    recording = recording._replace(spacing=spacing_of_sector(recording, sector))
    grid = make_grid(sector, recording.frames.shape[1:], max_size=config.max_size, sizes=config.grid_sizes)
    loop = _on_grid(recording, sector, grid)
    others = segment.structures.names[NUM_CLASSES:] if isinstance(segment, NetworkSegment) else ()
    _begin_compilation(loop, anatomical_corrector, temporal_corrector, config, num_others=len(others))
    segment_frames = functools.partial(
        segment_loop,
        sector=loop.sector,
        size=config.size,
        largest_component=config.largest_component,
        separate_atrium=config.separate_atrium,
        uncertainty_estimator=uncertainty_estimator,
    )
    predicted = segment_frames(loop.frames, segment=segment, batch_size=config.batch_size, on_progress=on_progress)
    frame_labels: np.ndarray | None = predicted.labels
    outcome = correct_and_measure(loop, frame_labels, anatomical_corrector, temporal_corrector)
    if (frame_labels == outcome.labels).all():
        frame_labels = None
    pair_frames = None
    if pair_segment is not None and outcome.measurements.has_phases:
        pair_frames = pairs.frames_of_beats(outcome.measurements)
        even_size = config.batch_size + config.batch_size % 2  # both frames of a pair are in one batch
        phases = segment_frames(loop.frames[pair_frames], segment=pair_segment, batch_size=even_size)
        phases = phases._replace(others=predicted.others[pair_frames])
        predicted = pairs.with_frames(predicted, pair_frames, phases)
        outcome = measure_phases(loop, outcome, pair_frames, phases.labels, anatomical_corrector)
    findings = _findings(recording, grid, loop, predicted, outcome, pair_frames)
    interval = None
    if uncertainty_estimator is not None and trust.EJECTION_FRACTION not in trust.withdrawn(findings):
        interval = _ejection_interval(loop, outcome.measurements, uncertainty_estimator, config)
    return Analysis(
        recording=recording,
        grid=grid,
        sector=loop.sector,
        predicted=measure_predicted(loop, predicted.labels, outcome, frame_labels=frame_labels),
        labels=outcome.labels,
        uncertainty=predicted.uncertainty,
        quality=predicted.quality,
        correction=outcome.anatomical,
        measurements=outcome.measurements,
        motion=outcome.motion,
        findings=findings,
        temporal_correction=outcome.temporal,
        motion_before=outcome.motion_before,
        ejection_interval=interval,
        pair_frames=pair_frames,
        others=OtherStructures(others, predicted.others) if others else None,
    )


def _on_grid(recording: Recording, sector: Sector, grid: Grid) -> Loop:
    return Loop(
        grid.reduce(recording.frames),
        grid.reduce_sector(sector),
        None if recording.spacing is None else grid.spacing(recording.spacing),
        recording.frame_time,
        recording.heart_rate,
    )


def _findings(
    recording: Recording,
    grid: Grid,
    loop: Loop,
    predicted: Segmentation,
    outcome: Outcome,
    pair_frames: np.ndarray | None,
) -> tuple[Finding, ...]:
    outlines = Outlines(predicted.labels, outcome.labels, loop.sector, loop.spacing)
    general = warnings.recording_findings(recording, loop.sector, grid)
    rotated = trust.orientation_findings(outlines)
    if rotated:  # the other checks assume an upright image
        return trust.unique(rotated, general)
    return trust.unique(
        trust.replacement_findings(outlines, outcome.measurements, outcome.temporal),
        trust.measurement_findings(outcome.measurements),
        trust.timing_findings(outcome.measurements, loop.frame_time),
        general,
        warnings.outline_findings(outlines, outcome.measurements),
        warnings.correction_findings(
            outcome.anatomical,
            outcome.temporal_of_frames,
            outcome.motion_before,
            outcome.motion,
            pair_frames=pair_frames,
        ),
        warnings.uncertainty_findings(outcome.labels, predicted.uncertainty, predicted.quality),
    )


def _ejection_interval(
    loop: Loop, measurements: Measurements, uncertainty_estimator: UncertaintyEstimator, config: AnalyzeConfig
) -> tuple[float, float] | None:
    if not np.isfinite(measurements.ejection_fraction):
        return None
    frames = loop.frames[[measurements.end_diastole, measurements.end_systole]]
    end_diastole, end_systole = (
        segmentation.to_model_grid(frame[None], loop.sector, size=config.size, batch_size=config.batch_size)[0]
        for frame in frames
    )
    return uncertainty_estimator.ejection_interval(end_diastole, end_systole, measurements.ejection_fraction)


def _begin_compilation(
    loop: Loop,
    anatomical_corrector: CorrectAnatomy | None,
    temporal_corrector: CorrectTemporally | None,
    config: AnalyzeConfig,
    *,
    num_others: int,
) -> None:
    """Begins to compile all functions in the background: first those that are needed first or compile longest."""
    num_frames, height, width = loop.frames.shape
    batch = config.batch_size

    def shape(*sizes: int, dtype: DTypeLike = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype)

    box, mask = shape(4, dtype=jnp.int32), shape(height, width, dtype=bool)
    segmentation.TO_MODEL.compile(shape(batch, height, width), mask, box, size=config.size)
    if isinstance(anatomical_corrector, AnatomicalCorrector):
        anatomical_corrector.compile(height, width)
    probs = shape(batch, config.size, config.size, NUM_CLASSES + num_others)
    segmentation.FROM_MODEL.compile(probs, box, height=height, width=width)
    if config.separate_atrium:
        segmentation.SEPARATE_ATRIUM.compile(shape(batch, height, width, dtype=jnp.int32))
    compile_measure(num_frames, height, width)
    compile_motion(num_frames, height, width)
    compile_chambers(height, width)
    if isinstance(temporal_corrector, TemporalCorrector):
        temporal_corrector.compile(num_frames, height, width)
