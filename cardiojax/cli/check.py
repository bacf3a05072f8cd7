"""``cardiojax check``: label maps in, a table of the anatomical criteria they fail."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Sequence
from os import cpu_count
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from cardiojax import anatomy, labels, ops
from cardiojax.data import UnreadableFileError, printable, read_labels
from cardiojax.data.formats.common import is_spacing
from cardiojax.report import check_output
from cardiojax.report.criteria_overlay import draw_violations
from cardiojax.report.output import staged_output
from cardiojax.runtime import aot, thread_pool

#: Heights and widths of the windows into which hearts are put: so many functions are compiled at most.
_WINDOWS = (128, 256, 512, 1024)
#: Pixels of an image above which it is reduced, which bounds the time for compilation.
_MAX_PIXELS = 2**20
#: Label maps in a call; what does not fill one is checked one by one.
_BATCH = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Against what label maps are checked.

    Attributes:
        view: Apical, of either kind or a known one, or short-axis (labels 1 right ventricle, 2 myocardium, 3 left
            ventricle).
        limits: The published limits, or those measured on the true label maps of CAMUS at 224 x 224.
        spacing: Height and width of a pixel in mm, for files that do not state it; only short-axis criteria need it.
        out: Folder for a picture of each failing label map with the violating pixels highlighted; apical views only.
            Pictures are numbered by the files in the order in which they were given, from 1.
        keep_names: Whether the pictures and their names hold the files' names too, which may identify the patient; the
            terminal always shows these.
    """

    view: Literal["apical", "2CH", "4CH", "short-axis"] = "apical"
    limits: Literal["published", "calibrated"] = "published"
    spacing: tuple[float, float] | None = None
    out: Path | None = None
    keep_names: bool = False

    def __post_init__(self):
        if self.spacing is not None and not is_spacing(self.spacing):
            raise ValueError(f"spacing must be two lengths of 0.001 to 20 mm, got {self.spacing}")
        if self.view == "short-axis" and self.out is not None:
            raise ValueError("pictures are made of apical views only: leave out --out")
        if self.view == "short-axis" and self.limits == "calibrated":
            raise ValueError("there are no calibrated limits for short-axis views")


class _File(NamedTuple):
    """Label maps of one file.

    Attributes:
        name: What the file is called, printable.
        masks: Label maps, ``[t, h, w]``, every ``stride``-th pixel of the file's.
        stride: How much they were reduced.
        spacing: ``(dy, dx)`` in mm, if known.
    """

    name: str
    masks: np.ndarray
    stride: int
    spacing: tuple[float, float] | None


class _Result(NamedTuple):
    """Criteria of the label maps of one file, ``[t, k]``, and of its failing ones the violating pixels, by frame."""

    values: np.ndarray
    passes: np.ndarray
    violations: dict[int, np.ndarray]


def check_command(
    masks: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    config: Annotated[CheckConfig, tyro.conf.arg(name="")] = CheckConfig(),
) -> None:
    """Checks label maps against the anatomical criteria.

    Args:
        masks: Label maps: NIfTI, MetaImage, PNG, NPY or NPZ.
        config: Against what they are checked.
    """
    print(check_files(masks, config=config))


def check_files(paths: Sequence[Path], *, config: CheckConfig = CheckConfig()) -> str:
    """Checks the label maps in files.

    Args:
        paths: NIfTI, MetaImage, PNG, NPY or NPZ with label maps, one or more in each.
        config: Against what.

    Returns:
        A table of which criteria fail in each label map, and how many are anatomically valid.

    Raises:
        UnreadableFileError: If a file holds no label map.
        ValueError: If there is no file.
        OutputFolderError: If the pictures cannot be written.
    """
    if not paths:
        raise ValueError("give at least one file of masks")
    if config.out is not None:
        check_output(config.out, inputs=paths)
    is_short_axis = config.view == "short-axis"
    files = [_read(path, config) for path in paths]
    results = _check_short_axis(files) if is_short_axis else _check_apical(files, config)
    if config.out is not None:
        _write_pictures(files, results, config.out, keep_names=config.keep_names)
    rows, num_masks, num_valid = [], 0, 0
    for file, result in zip(files, results, strict=True):
        num_masks, num_valid = num_masks + len(file.masks), num_valid + int(result.passes.all(-1).sum())
        faults = [_faults(result, t, is_short_axis) for t in range(len(file.masks))]
        rows += [
            (_name(file, t), "; ".join(faults[t]) or "none")
            for t in range(len(faults))
            if faults[t] or len(file.masks) == 1
        ]
    width = max([len("mask"), *(len(name) for name, _ in rows)])
    lines = [f"{name:<{width}}  {faults}" for name, faults in [("mask", "criteria that fail"), *rows]]
    lines.append(f"{num_valid} of {num_masks} masks pass all {len(_criteria(is_short_axis))} criteria")
    return "\n".join(lines)


def _read(path: Path, config: CheckConfig) -> _File:
    masks, spacing = read_labels(path)
    spacing = spacing or config.spacing
    highest = labels.NUM_CLASSES - 1
    if masks.max() > highest:
        raise UnreadableFileError(path, f"has the label {masks.max()}, expected a mask of labels 0 to {highest}")
    if spacing is None and config.view == "short-axis":
        raise UnreadableFileError(path, "has no pixel spacing, expected one for criteria in mm: give --spacing")
    stride = _stride(masks)
    if spacing is not None:
        spacing = (spacing[0] * stride, spacing[1] * stride)
    top, left = (min(stride, length) // 2 for length in masks.shape[1:])  # a short side keeps a pixel
    reduced = np.ascontiguousarray(masks[:, top::stride, left::stride].astype(np.uint8))
    return _File(printable(path.name), reduced, stride, spacing)


def _stride(masks: np.ndarray) -> int:
    """1 for images and hearts of usual size; larger ones are reduced to a window that compiles sooner."""
    top, bottom, left, right = _extent(masks)
    largest = max(bottom - top, right - left)
    if masks[0].size <= _MAX_PIXELS and largest <= _WINDOWS[-1] - 2:
        return 1
    return max(math.ceil(math.sqrt(masks[0].size / _MAX_PIXELS)), math.ceil(largest / (_WINDOWS[-2] - 2)))


def _check_apical(files: Sequence[_File], config: CheckConfig) -> list[_Result]:
    """Cuts out the hearts of each file, and checks batches of them in windows of few sizes."""
    thresholds = anatomy.CAMUS
    if config.limits == "calibrated":
        thresholds = anatomy.CAMUS_CALIBRATED_BY_VIEW.get(config.view, anatomy.CAMUS_CALIBRATED)
    thresholds = jax.tree.map(np.float32, thresholds)
    windows = [_window(file.masks) for file in files]
    for batch in {(chunk.stop - chunk.start, *w.shape[1:]) for w, _ in windows for chunk in _chunks(len(w))}:
        shapes = jax.ShapeDtypeStruct(batch, jnp.int32), jax.ShapeDtypeStruct((4,), jnp.int32)
        _CHECK.compile(*shapes, thresholds)

    def check(masks: np.ndarray, image: np.ndarray) -> _Result:
        parts = [_CHECK(masks[chunk].astype(np.int32), image, thresholds) for chunk in _chunks(len(masks))]
        report = jax.tree.map(lambda *blocks: np.concatenate(blocks), *parts)
        failing = np.flatnonzero(~report.valid) if config.out is not None else ()
        violations = {}
        for t in failing:
            pixels = np.asarray(_PIXELS(masks[t][None].astype(np.int32), image))[0]
            violations[int(t)] = _uncut(pixels[~report.passes[t]].any(0), image)
        return _Result(report.values, report.passes, violations)

    with thread_pool(cpu_count()) as pool:  # a call keeps little more than one core busy
        return list(pool.map(check, *zip(*windows, strict=True)))


def _check_short_axis(files: Sequence[_File]) -> list[_Result]:
    results = []
    for file in files:
        spacing = np.asarray(file.spacing, np.float32)
        parts = [_CHECK_SHORT_AXIS(file.masks[c].astype(np.int32), spacing) for c in _chunks(len(file.masks))]
        report = jax.tree.map(lambda *blocks: np.concatenate(blocks), *parts)
        results.append(_Result(report.values, report.passes, {}))
    return results


def _chunks(num: int) -> Iterator[slice]:
    """Full batches, then single label maps: nothing is filled up, and two batch sizes are compiled."""
    start = 0
    while start < num:
        size = _BATCH if num - start >= _BATCH else 1
        yield slice(start, start + size)
        start += size


def _extent(masks: np.ndarray) -> tuple[int, int, int, int]:
    """First row, row after the last, first and after the last column of all hearts; one pixel if there are none."""
    shown = masks.any(0)
    rows, cols = np.flatnonzero(shown.any(-1)), np.flatnonzero(shown.any(0))
    if not rows.size:
        return 0, 1, 0, 1
    return int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1


def _window(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hearts of a file with a margin of one pixel in a square window, and where their image lies in it."""
    height, width = masks.shape[1:]
    top, bottom, left, right = _extent(masks)
    top, left = max(top - 1, 0), max(left - 1, 0)
    bottom, right = min(bottom + 1, height), min(right + 1, width)
    size = next(size for size in _WINDOWS if size >= max(bottom - top, right - left))
    window = np.zeros((len(masks), size, size), np.uint8)
    window[:, : bottom - top, : right - left] = masks[:, top:bottom, left:right]
    return window, np.array([-top, -left, height, width], np.int32)


def _uncut(window: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A window's pixels in their image."""
    top, left, height, width = image
    whole = np.zeros((height, width), bool)
    part = window[: height + top, : width + left]
    whole[-top : len(part) - top, -left : part.shape[1] - left] = part
    return whole


def _write_pictures(
    files: Sequence[_File], results: Sequence[_Result], folder: Path, *, keep_names: bool = False
) -> None:
    with staged_output(folder) as staging:
        for number, (file, result) in enumerate(zip(files, results, strict=True), 1):
            stem = "mask"
            if keep_names:
                stem = re.sub(r"\W+", "_", file.name.split(".")[0], flags=re.ASCII)[:80]
            else:
                file = file._replace(name=f"mask {number}")
            for frame, violations in result.violations.items():
                lines = [_name(file, frame), *_faults(result, frame)]
                picture = draw_violations(file.masks[frame], violations, lines)
                (staging / f"{number:03d}_{stem}_{frame:04d}.png").write_bytes(picture)


def _name(file: _File, frame: int) -> str:
    ordinal = {2: "2nd", 3: "3rd"}.get(file.stride, f"{file.stride}th")
    reduced = f", every {ordinal} pixel" if file.stride > 1 else ""
    return f"{file.name}{f', frame {frame}' if len(file.masks) > 1 else ''}{reduced}"


def _criteria(is_short_axis: bool) -> Sequence[anatomy.Criterion]:
    return anatomy.SHORT_AXIS_CRITERIA if is_short_axis else anatomy.CRITERIA


def _faults(result: _Result, frame: int, is_short_axis: bool = False) -> list[str]:
    rows = zip(_criteria(is_short_axis), result.values[frame].tolist(), result.passes[frame], strict=True)
    return [_fault(criterion, value) for criterion, value, passes in rows if not passes]


def _fault(criterion: anatomy.Criterion, value: float) -> str:
    if np.isnan(value):
        return f"{criterion.name} (structure missing)"
    number = f"{value:.0f} px" if criterion.unit == "px" else f"{value:.3g} {criterion.unit}".strip()
    return f"{criterion.name} {number}"


def _check(masks: jax.Array, image: jax.Array, thresholds: anatomy.Thresholds) -> anatomy.Report:
    return anatomy.check_window(masks, image, thresholds=thresholds)


def _quickly(function: Callable) -> aot.CompiledFunction:
    return aot.CompiledFunction(function, options=lambda: ops.brief_compiler_options(0))


_CHECK, _PIXELS, _CHECK_SHORT_AXIS = map(_quickly, (_check, anatomy.pixels_of_window, anatomy.check_short_axis))
