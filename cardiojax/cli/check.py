"""``cardiojax check``: masks in, a table of the anatomical criteria they fail."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from cardiojax import anatomy, labels
from cardiojax.data import UnreadableFileError, read_labels
from cardiojax.report.criteria_overlay import marked

_BLOCK = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Against what masks are checked.

    Attributes:
        view: Apical, of either kind or a known one, or short-axis (labels 1 right ventricle, 2 myocardium, 3 left
            ventricle).
        limits: The published limits, or those measured on the true masks of CAMUS at 224 x 224.
        spacing: Height and width of a pixel in mm, for files that do not tell; only short-axis criteria need it.
        out: Folder for a picture of each failing mask with the offending pixels marked; apical views only.
    """

    view: Literal["apical", "2CH", "4CH", "short-axis"] = "apical"
    limits: Literal["published", "calibrated"] = "published"
    spacing: tuple[float, float] | None = None
    out: Path | None = None


def check_command(
    masks: tyro.conf.Positional[tuple[Path, ...]],
    /,
    *,
    config: Annotated[CheckConfig, tyro.conf.arg(name="")] = CheckConfig(),
) -> None:
    """Tells which masks could be a heart, and which criteria the others fail.

    Args:
        masks: Label maps: NIfTI, MetaImage, PNG, NPY or NPZ.
        config: Against what they are checked.
    """
    print(check_files(masks, config=config))


def check_files(paths: Sequence[Path], *, config: CheckConfig = CheckConfig()) -> str:
    """Checks masks in files.

    Args:
        paths: NIfTI, MetaImage, PNG, NPY or NPZ with label maps, one or more in each.
        config: Against what.

    Returns:
        A table of which criteria fail in each mask, and how many masks are plausible.

    Raises:
        UnreadableFileError: If a file is no mask.
        ValueError: If there is no file, or the options do not go together.
        OSError: If the pictures cannot be written.
    """
    if not paths:
        raise ValueError("give at least one file of masks")
    is_short_axis = config.view == "short-axis"
    if is_short_axis and config.out is not None:
        raise ValueError("pictures are made of apical views only: leave out --out")
    if is_short_axis and config.limits == "calibrated":
        raise ValueError("there are no calibrated limits for short-axis views")
    if config.out is not None and config.out.exists() and not config.out.is_dir():
        raise ValueError(f"{config.out} is a file, expected a folder for the pictures")
    files = [(path, *_read(path, config)) for path in paths]
    criteria = anatomy.SHORT_AXIS_CRITERIA if is_short_axis else anatomy.CRITERIA
    if config.out is not None:
        config.out.mkdir(parents=True, exist_ok=True)
    rows, num_masks, num_valid = [], 0, 0
    for number, (path, masks, spacing) in enumerate(files):
        report = _report(masks, spacing, config)
        num_masks, num_valid = num_masks + len(masks), num_valid + int(report.valid.sum())
        for frame, passes in enumerate(report.passes):
            values = report.values[frame].tolist()
            faults = [_fault(c, v) for c, v, ok in zip(criteria, values, passes, strict=True) if not ok]
            name = f"{path.name}, frame {frame}" if len(masks) > 1 else path.name
            if faults or len(masks) == 1:
                rows.append((name, "; ".join(faults) or "none"))
            if faults and config.out is not None:
                picture = config.out / f"{number:03d}_{path.name.split('.')[0]}_{frame:04d}.png"
                offending = np.asarray(_marks(config)(jnp.asarray(masks[frame])).any(0))
                picture.write_bytes(marked(masks[frame], offending, [name, *faults]))
    width = max([len("mask"), *(len(name) for name, _ in rows)])
    lines = [f"{name:<{width}}  {faults}" for name, faults in [("mask", "criteria that fail"), *rows]]
    return "\n".join([*lines, f"{num_valid} of {num_masks} masks pass all {len(criteria)} criteria"])


def _read(path: Path, config: CheckConfig) -> tuple[np.ndarray, tuple[float, float] | None]:
    masks, spacing = read_labels(path)
    spacing = spacing or config.spacing
    highest = labels.NUM_CLASSES - 1
    if masks.max() > highest:
        raise UnreadableFileError(path, f"has the label {masks.max()}, expected a mask of labels 0 to {highest}")
    if config.view == "short-axis" and spacing is None:
        raise UnreadableFileError(path, "has no pixel spacing, expected one for criteria in mm: give --spacing")
    return masks, spacing


def _report(masks: np.ndarray, spacing: tuple[float, float] | None, config: CheckConfig) -> anatomy.Report:
    block = min(len(masks), _BLOCK)
    if config.view != "short-axis":
        blocks = (masks[i : i + block] for i in range(0, len(masks), block))
        parts = list(anatomy.check_stream(blocks, thresholds=_thresholds(config), batch_size=block))
    else:
        check = jax.jit(anatomy.check_short_axis)
        parts = [check(jnp.asarray(masks), jnp.asarray(spacing, jnp.float32))]
    return jax.tree.map(lambda *blocks: np.concatenate(blocks), *parts)


def _thresholds(config: CheckConfig) -> anatomy.Thresholds:
    if config.limits == "published":
        return anatomy.CAMUS
    return anatomy.CAMUS_CALIBRATED_BY_VIEW.get(config.view, anatomy.CAMUS_CALIBRATED)


@functools.cache
def _marks(config: CheckConfig):
    return jax.jit(functools.partial(anatomy.offending_pixels, thresholds=_thresholds(config)))


def _fault(criterion: anatomy.Criterion, value: float) -> str:
    if np.isnan(value):
        return f"{criterion.name} (structure missing)"
    number = f"{value:.0f} px" if criterion.unit == "px" else f"{value:.3g} {criterion.unit}".strip()
    return f"{criterion.name} {number}"
