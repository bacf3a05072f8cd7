"""From a recording to outlines and numbers."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from scipy import ndimage

from cardiojax import clinical, labels, ops, zoo
from cardiojax.data import Recording
from cardiojax.pipeline import ahead, grids
from cardiojax.pipeline.crisp import Judgement
from cardiojax.pipeline.motion import Motion, compile_motion, measure_motion, min_beat, name_frames
from cardiojax.pipeline.plausible import Box, Corrected, Corrector
from cardiojax.pipeline.sector import Sector, crop, find_sector
from cardiojax.pipeline.steady import Steadied, tell, usual_spacing

#: Quality in percent below which the outlines of a frame should not be trusted.
POOR = 5

#: Grey images ``[n, s, s, 1]`` in [0, 1] to class probabilities ``[n, s, s, k]``.
Segment = Callable[[np.ndarray], np.ndarray]
#: Makes masks consistent over time, as `Steadier` does.
Steady = Callable[..., Steadied]


@runtime_checkable
class Correct(Protocol):
    """Makes masks plausible, as `Corrector` does."""

    def __call__(self, masks: np.ndarray, *, box: Box) -> Corrected:
        """Corrects ``[n, h, w]`` with the model's view in ``box``."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Says where outlines may be wrong, as `cardiojax.pipeline.crisp.Judge` does."""

    def __call__(self, images: np.ndarray, probs: np.ndarray) -> Judgement:
        """Judges what the model made of images ``[n, s, s, 1]``."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalyzeConfig:
    """How a recording is analysed.

    Attributes:
        model: Name of a segmentation model in the zoo.
        size: Side of the square grid on which the model works.
        batch_size: Frames a call of the model.
        largest_component: Whether only the largest region of each structure is kept.
    """

    model: str = "unet_camus"
    size: int = 224
    batch_size: int = 8
    largest_component: bool = True

    def __post_init__(self):
        for name in ("size", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class Measurements(NamedTuple):
    """What was measured, in the units of ``is_calibrated``: mm and ml, else pixels and pixels cubed / 1000.

    Attributes:
        lv_area: LV cavity in each frame, mm^2, ``[t]``.
        lv_length: Mid-base to apex in each frame, mm, ``[t]``.
        lv_volume: Single-plane volume by 20 disks in each frame, ml, ``[t]``.
        end_diastole: Its frame.
        end_systole: Its frame.
        has_phases: Whether the two could be told apart; a single frame has none.
        ejection_fraction: Single-plane, percent, each phase with its own length; nan where it cannot be measured.
        ejection_fraction_one_length: The same with the longer length for both phases, as the reference of CAMUS does.
        fractional_area_change: Percent.
        is_calibrated: Whether the pixel spacing is known.
    """

    lv_area: np.ndarray
    lv_length: np.ndarray
    lv_volume: np.ndarray
    end_diastole: int
    end_systole: int
    has_phases: bool
    ejection_fraction: float
    ejection_fraction_one_length: float
    fractional_area_change: float
    is_calibrated: bool


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
        steadied: What became of the frames that moved unlike a heart; None if all are as they were drawn.
        motion_before: The numbers of the loop before that.
    """

    recording: Recording
    sector: Sector
    labels: np.ndarray
    uncertainty: np.ndarray
    quality: np.ndarray | None
    correction: Corrected | None
    measurements: Measurements
    motion: Motion
    warnings: tuple[str, ...]
    steadied: Steadied | None = None
    motion_before: Motion | None = None


def make_segment(config: AnalyzeConfig, *, weights: str | Path | None = None) -> Segment:
    """Loads the model and begins to compile it for one batch shape.

    Args:
        config: Which model, and how it is used.
        weights: A weight file for it; the packaged one if not given.

    Returns:
        The segmentation of any number of frames.
    """
    model: Any
    model, variables = zoo.load(config.model, weights=weights)

    probs = ahead.Program(
        lambda variables, images: jax.nn.softmax(model.apply(variables, images).logits),
        compiler_options=ops.compiler_options(),
    )
    probs.compile(variables, jax.ShapeDtypeStruct((config.batch_size, config.size, config.size, 1), jnp.float32))

    def segment(images: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(images), config.batch_size):
            part = images[start : start + config.batch_size]
            parts.append(np.asarray(probs(variables, grids.pad(part, config.batch_size)))[: len(part)])
        return np.concatenate(parts)

    return segment


def analyze(
    recording: Recording,
    segment: Segment,
    *,
    config: AnalyzeConfig = AnalyzeConfig(),
    correct: Correct | None = None,
    steady: Steady | None = None,
    judge: Judge | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Analysis:
    """Segments each frame at the recording's own resolution and measures the left ventricle.

    Probabilities, not masks, are brought back to the recording's grid, a few frames at a time.

    Args:
        recording: An apical two- or four-chamber view, still or loop.
        segment: The model, see `make_segment`.
        config: How it is analysed.
        correct: Corrects the masks of the frames that show a left ventricle; they are left as they are if not given.
        steady: Changes the frames of a loop that move unlike a heart; they are left as they are if not given. Where the
            spacing is unknown, the heart is taken to be of usual size for it.
        judge: Judges the outlines as the model drew them; its entropy is taken if not given.
        on_progress: Called with the number of frames segmented so far.

    Returns:
        Masks, uncertainty, numbers and warnings.
    """
    sector = find_sector(recording.frames)
    top, bottom, left, right = sector.box
    height, width = bottom - top, right - left
    num_frames = len(recording.frames)
    masks = np.zeros(recording.frames.shape, np.int32)
    doubt = np.zeros(recording.frames.shape, np.float32)
    quality = None if judge is None else np.zeros(num_frames)
    _compile_ahead(recording, sector, correct, config)
    for start in range(0, num_frames, config.batch_size):
        chunk = slice(start, start + config.batch_size)
        inside = _normalise(crop(recording.frames[chunk], sector))
        small = grids.resize(inside[..., None], config.batch_size, config.size, config.size)
        small_probs = segment(small)
        drawn, entropy = grids.ENLARGE(grids.pad(small_probs, config.batch_size), height=height, width=width)
        masks[chunk, top:bottom, left:right] = np.asarray(drawn)[: len(small)]
        if judge is None or quality is None:
            doubt[chunk, top:bottom, left:right] = np.asarray(entropy)[: len(small)]
        else:
            found = judge(small, small_probs)
            quality[chunk] = found.quality
            maps = grids.resize(found.map[..., None], config.batch_size, height, width)
            doubt[chunk, top:bottom, left:right] = maps[..., 0]
        if config.largest_component:
            masks[chunk] = [keep_largest(mask) for mask in masks[chunk]]
        on_progress(min(start + config.batch_size, num_frames))
    correction = None if correct is None else _correct(masks, correct, sector.box)
    if correction is not None:
        masks = correction.masks
    ruler = recording.spacing or usual_spacing(masks)
    measurements, motion = _measured(masks, recording, ruler)
    steadied = before = None
    if steady is not None and not motion.is_consistent.all():
        steadied, before = steady(masks, spacing=ruler, frame_time=recording.frame_time, box=sector.box), motion
        masks = steadied.masks
        measurements, motion = _measured(masks, recording, ruler)
    sentences = _warnings(recording, sector, masks, measurements)
    sentences += [*_told(correction), *tell(steadied, before, motion), *_distrusted(masks, doubt, quality)]
    found = (quality, correction, measurements, motion, tuple(sentences), steadied, before)
    return Analysis(recording, sector, masks, doubt, *found)


def _measured(masks: np.ndarray, recording: Recording, ruler: tuple[float, float]) -> tuple[Measurements, Motion]:
    found = measure(masks, recording.spacing, frame_time=recording.frame_time)
    phases = (found.end_diastole, found.end_systole) if found.has_phases else None
    return found, measure_motion(masks, phases, spacing=ruler, frame_time=recording.frame_time)


def _compile_ahead(recording: Recording, sector: Sector, correct: Correct | None, config: AnalyzeConfig) -> None:
    """Begins to compile everything, in the order in which it is needed or takes long."""
    num_frames, height, width = recording.frames.shape
    top, bottom, left, right = sector.box
    inside = {"height": bottom - top, "width": right - left}

    def shape(*sizes: int, dtype: DTypeLike = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype)

    small = {"height": config.size, "width": config.size}
    grids.RESIZE.compile(shape(config.batch_size, *inside.values(), 1), **small)
    if isinstance(correct, Corrector):
        correct.compile(height, width, box=sector.box)
    grids.ENLARGE.compile(shape(config.batch_size, *small.values(), labels.NUM_CLASSES), **inside)
    compile_motion(num_frames, height, width, frame_time=recording.frame_time)
    masks = shape(num_frames, height, width, dtype=jnp.int32)
    _CURVES.compile(masks, shape(2), min_distance=min_beat(recording.frame_time))


def _correct(masks: np.ndarray, correct: Correct, box: Box) -> Corrected:
    """Corrects the frames in which a heart was found: where there is none, none is invented."""
    has_heart = (masks == labels.LV).any((1, 2)) & (masks == labels.MYOCARDIUM).any((1, 2))
    num = len(masks)
    whole = Corrected(masks, masks.copy(), has_heart.copy(), has_heart.copy(), np.zeros(num), np.zeros(num))
    if has_heart.any():
        found = correct(masks[has_heart], box=box)
        for array, values in zip(whole[1:], found[1:], strict=True):
            array[has_heart] = values
    return whole


def _told(correction: Corrected | None) -> list[str]:
    if correction is None or not (correction.changed > 0).any():
        return []
    rows = np.flatnonzero(correction.changed > 0)
    largest = int(rows[correction.changed[rows].argmax()])
    sentence = (
        f"The outlines of {len(rows)} of {len(correction.masks)} frames could not be those of a heart and were "
        f"replaced by the nearest that could; the largest change, in frame {largest}, is "
        f"{100 * correction.changed[largest]:.0f} % of the heart's area."
    )
    return [sentence]


def _distrusted(masks: np.ndarray, doubt: np.ndarray, quality: np.ndarray | None) -> list[str]:
    """Which frames not to trust, if they were judged, else whether the model is unsure of them all."""
    if quality is None:
        inside = (masks == labels.LV) | (masks == labels.MYOCARDIUM)
        mean = float(doubt[inside].mean()) if inside.any() else 1.0
        sentence = f"The model is unsure of this recording (mean entropy {mean:.2f}): check the view and the outlines."
        return [sentence] if mean > 0.25 else []
    poor = np.flatnonzero(quality < POOR)
    if not poor.size:
        return []
    return [
        f"The outlines of {name_frames(poor)} should not be trusted: they agree less with the "
        f"hearts that go with such images than those of {100 - POOR} % of the validation images."
    ]


def measure(masks: np.ndarray, spacing: tuple[float, float] | None, *, frame_time: float | None = None) -> Measurements:
    """Measures the left ventricle over a loop, one frame at a time.

    End-diastole and end-systole are those of the most regular beat, or the extremes of a loop without a whole one.

    Args:
        masks: ``[t, h, w]``.
        spacing: ``(dy, dx)`` in mm; pixels are the unit if it is unknown.
        frame_time: Seconds from frame to frame, if known.

    Returns:
        The numbers.
    """
    found, ends, has_phases, changes = jax.tree.map(
        np.asarray, _CURVES(masks, np.asarray(spacing or (1.0, 1.0), np.float32), min_distance=min_beat(frame_time))
    )
    (area, length, volume), (end_diastole, end_systole) = found, map(int, ends)
    by_phase, one_length, area_change = map(float, changes)
    return Measurements(
        area,
        length,
        volume,
        end_diastole,
        end_systole,
        bool(has_phases),
        by_phase,
        one_length,
        area_change,
        spacing is not None,
    )


def _curves(masks, spacing, min_distance):
    cut = jax.lax.map(lambda mask: clinical.disks(mask, spacing), masks)
    area, volume = clinical.lv_area(masks, spacing), clinical.single_plane_volume(cut)
    phases, beats = clinical.detect_phases(area), clinical.detect_beats(area, min_distance=min_distance)
    end_diastole = jnp.where(beats.valid, beats.start, phases.end_diastole)
    end_systole = jnp.where(beats.valid, beats.end_systole, phases.end_systole)
    ends = [clinical.Disks(cut.diameters[frame], cut.length[frame]) for frame in (end_diastole, end_systole)]
    changes = (
        clinical.single_plane_ejection(*ends).fraction,
        clinical.single_plane_ejection(*ends, rule="camus").fraction,
        clinical.fractional_area_change(area[end_diastole], area[end_systole]),
    )
    changes = [jnp.where(phases.valid, change, jnp.nan) for change in changes]
    return (area, cut.length, volume), (end_diastole, end_systole), phases.valid, changes


def _normalise(frames: np.ndarray) -> np.ndarray:
    """Stretches each frame to [0, 1], as the training images are."""
    low, high = frames.min((1, 2), keepdims=True), frames.max((1, 2), keepdims=True)
    return (frames - low) / np.maximum(high - low, 1e-6)


_CURVES = ahead.Program(_curves, static_argnames="min_distance")


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


def _warnings(recording: Recording, sector: Sector, masks: np.ndarray, found: Measurements) -> list[str]:
    sentences = []
    num_frames = len(masks)
    if recording.spacing is None:
        sentences.append("The pixel spacing is unknown: lengths and volumes are in pixels, only ratios are meaningful.")
    if num_frames == 1:
        sentences.append("A single frame: no ejection fraction can be measured.")
    missing = [t for t in range(num_frames) if not (masks[t] == labels.LV).any()]
    if missing:
        sentences.append(f"No left ventricle was found in {len(missing)} of {num_frames} frames.")
    no_axis = int(np.isnan(found.lv_length).sum()) - len(missing)
    if no_axis > 0:
        sentences.append(f"The mitral plane was not found in {no_axis} of {num_frames} frames.")
    no_atrium = num_frames - int((masks == labels.LEFT_ATRIUM).any((1, 2)).sum())
    if no_atrium > num_frames / 2:
        sentences.append(
            f"No left atrium was found in {no_atrium} of {num_frames} frames: is it an apical view of the heart?"
        )
    top, bottom, left, right = sector.box
    edge = sector.mask & ~ndimage.binary_erosion(sector.mask)
    cut_off = int((masks[:, top:bottom, left:right][:, edge] == labels.LV).any(1).sum())
    if cut_off:
        sentences.append(f"The left ventricle reaches the edge of the sector in {cut_off} of {num_frames} frames.")
    jumps = _count_jumps(found.lv_volume)
    if jumps:
        sentences.append(
            f"The volume jumps in {jumps} of {num_frames} frames: the outlines are unsteady, or the view is not an "
            "apical two- or four-chamber view."
        )
    apart = abs(found.end_diastole - found.end_systole) * (recording.frame_time or 0.0)
    if found.has_phases and apart > 1.0:
        sentences.append(
            f"End-diastole and end-systole lie {apart:.1f} s apart: they may belong to different beats, or the frame "
            "rate is wrong."
        )
    duration = (recording.frame_time or np.nan) * num_frames
    if num_frames > 1 and duration < 0.6:
        sentences.append(f"The loop lasts {duration:.1f} s, which may be less than a cardiac cycle.")
    return sentences


def _count_jumps(volume: np.ndarray) -> int:
    """Frames whose volume is more than a quarter off the median of the five around them."""
    if len(volume) < 5 or not np.isfinite(volume).all():
        return 0
    steady = ndimage.median_filter(volume, 5, mode="nearest")
    return int((np.abs(volume - steady) > 0.25 * steady).sum())
