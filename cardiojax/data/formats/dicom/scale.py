"""Scale of DICOM images: ultrasound regions, how much a frame was reduced since they were written, and PixelSpacing."""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from cardiojax.data.formats.common import is_spacing
from cardiojax.data.formats.dicom import header
from cardiojax.data.formats.layout import Region

_CENTIMETRES = 3
#: Ratio of the two pixel spacings beyond which they are taken for a mistake.
_MAX_ANISOTROPY = 4.0
#: Pixels by which a region may extend beyond the frame: some scanners count its last pixel from one.
_SLACK = 1
#: Relative error of a factor that is measured in the image.
_TOLERANCE = 0.01
#: Frames (width, height) that scanners acquire. A frame that was reduced has the aspect ratio of one of them.
_ACQUIRED_SIZES = (
    (636, 434), (640, 480), (708, 524), (720, 480), (720, 576), (768, 576), (800, 600), (1016, 708), (1024, 768),
    (1152, 864), (1280, 720), (1280, 800), (1280, 960), (1280, 1024), (1400, 1050), (1440, 900), (1600, 1200),
    (1680, 1050), (1920, 1080), (1920, 1200), (1920, 1440),
)  # fmt: skip
#: Standard deviation over time, or distance from the background in a still, from which a pixel shows tissue; of white.
_MIN_CHANGE, _MIN_CONTRAST = 0.01, 0.06


class Scale(NamedTuple):
    """Spacing ``(dy, dx)`` in mm or None, where it comes from, sentences about what was wrong, and the regions."""

    spacing: tuple[float, float] | None
    source: str
    notes: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()


class _Stated(NamedTuple):
    """A region as stated: first and last column and row in pixels of the acquired frame, and cm per pixel."""

    columns: tuple[float, float]
    rows: tuple[float, float]
    data_type: int
    spatial_format: int
    delta: tuple[float, float] | None


def read_scale(dataset: Any, frames: np.ndarray, white: float) -> Scale:
    """Reads the regions and the spacing.

    The spacing is that of the largest region of tissue with usable deltas, else PixelSpacing, else
    NominalScannedPixelSpacing, else unknown.

    Args:
        dataset: The elements of the file.
        frames: ``[t, h, w]``, grey values; where they show tissue limits how much they can have been reduced.
        white: The value of white.

    Returns:
        The scale.
    """
    stated = [_read_region(item) for item in header.items(dataset, "SequenceOfUltrasoundRegions")]
    notes = []
    factor: float | None = 1.0
    if stated:
        factor = _reduction(stated, frames, white)
        if factor is None:
            notes.append(
                "The ultrasound regions lie outside the frame, which was reduced or cut since by an unknown amount: "
                "their scale is not used."
            )
    regions = tuple(_to_region(region, factor, frames.shape[1:]) for region in stated)
    usable = [region for region in regions if region.is_tissue and region.spacing is not None]
    if usable:
        largest = max(usable, key=lambda region: _area(region.box))
        reduced = f", frame reduced {factor:.4g} times" if factor != 1 else ""
        return Scale(largest.spacing, f"spacing from the ultrasound region{reduced}", tuple(notes), regions)
    if any(r.is_tissue for r in regions) and factor is not None:
        notes.append("No ultrasound region of tissue states a usable scale.")
    for name in ("PixelSpacing", "NominalScannedPixelSpacing"):
        spacing = header.numbers(dataset, name)
        if is_spacing(spacing):
            return Scale((spacing[0], spacing[1]), f"spacing from {name}", tuple(notes), regions)
        if header.value(dataset, name) is not None:
            notes.append(f"The file states a {name} that is no pixel spacing.")
    return Scale(None, "spacing unknown", tuple(notes), regions)


def _read_region(item: Any) -> _Stated:
    def limits(axis: str) -> tuple[float, float]:
        first, last = header.number(item, f"RegionLocationMin{axis}0"), header.number(item, f"RegionLocationMax{axis}1")
        is_box = first is not None and last is not None and 0 <= first < last < 2**16
        return (first, last) if is_box else (0.0, math.inf)  # type: ignore[return-value]

    delta = None
    if all(header.number(item, f"PhysicalUnits{axis}Direction") == _CENTIMETRES for axis in "XY"):
        dy, dx = (header.number(item, f"PhysicalDelta{axis}") or 0.0 for axis in "YX")
        is_length = min(dy, dx) > 0 and max(dy, dx) <= _MAX_ANISOTROPY * min(dy, dx)
        delta = (dy, dx) if is_length else None
    return _Stated(
        limits("X"),
        limits("Y"),
        int(header.number(item, "RegionDataType") or 0),
        int(header.number(item, "RegionSpatialFormat") or 0),
        delta,
    )


def _to_region(stated: _Stated, factor: float | None, shape: tuple[int, ...]) -> Region:
    scale = factor or 1.0
    box = []
    for (first, last), size in ((stated.rows, shape[0]), (stated.columns, shape[1])):
        box += [min(int(first / scale), size - 1), min(math.ceil((min(last, size * scale) + 1) / scale), size)]
    spacing = None
    if stated.delta is not None and factor is not None:
        spacing = (stated.delta[0] * 10 * factor, stated.delta[1] * 10 * factor)
    return Region(
        (box[0], box[1], box[2], box[3]),
        stated.data_type,
        stated.spatial_format,
        spacing if spacing is not None and is_spacing(spacing) else None,
    )


def _area(box: tuple[int, int, int, int]) -> int:
    return (box[1] - box[0]) * (box[3] - box[2])


def _reduction(stated: list[_Stated], frames: np.ndarray, white: float) -> float | None:
    """How many times smaller the frame is than the one in whose pixels the regions are stated, None if undetermined.

    With the regions inside the frame it is 1. Else it is at least what brings them inside, and at most what leaves the
    visible tissue inside them; the reduced frame has the aspect ratio of the acquired one. One common size of acquired
    frames must meet all of this, unless the regions span the frame: then their extent is that of the acquired frame.
    """
    size = np.array(frames.shape[1:], float)
    located = [region for region in stated if math.isfinite(region.rows[1] + region.columns[1])]
    if not located:
        return 1.0
    first = np.min([(r.rows[0], r.columns[0]) for r in located], axis=0)
    extent = _extent(located)
    excess = extent / size
    if (extent <= size + _SLACK).all():
        return 1.0
    if (first <= _TOLERANCE * extent).all() and np.ptp(excess) <= _TOLERANCE * excess.max():
        return float(excess.mean())
    tissue = [region for region in located if region.spatial_format == 1]
    shown = _tissue_end(frames, white)
    least = float(((extent - _SLACK) / size).max())
    most = (1 + _TOLERANCE) * float((_extent(tissue) / shown).min()) if tissue and shown is not None else math.inf
    fitting = {
        width / float(size[1])
        for width, height in _ACQUIRED_SIZES
        if least <= width / size[1] <= most and abs(height * size[1] / width - size[0]) <= 1
    }
    if (extent <= size + _SLACK).any():  # the regions fit in one direction: the frame may have been cut in the other
        return None if fitting else 1.0
    return fitting.pop() if len(fitting) == 1 else None


def _extent(regions: list[_Stated]) -> np.ndarray:
    """Row and column after the last of some regions."""
    return np.max([(r.rows[1], r.columns[1]) for r in regions], axis=0) + 1.0


def _tissue_end(frames: np.ndarray, white: float) -> np.ndarray | None:
    """Row and column after the last of the largest connected area that changes, or that in a still is not background.

    The background of a still is the most frequent value of the edge of the frame.
    """
    chosen = frames[:: max(1, len(frames) // 30)]
    if len(chosen) >= 4:
        shown = chosen.std(0) > _MIN_CHANGE * white
    else:
        still = chosen.max(0) * (255 / white)
        edge = np.concatenate([still[0], still[-1], still[:, 0], still[:, -1]])
        levels, counts = np.unique(np.round(edge), return_counts=True)
        shown = np.abs(still - levels[counts.argmax()]) > _MIN_CONTRAST * 255
    shown = ndimage.binary_closing(ndimage.binary_opening(shown), iterations=3)
    areas, count = ndimage.label(shown)
    if not count:
        return None
    largest = np.bincount(areas.ravel())[1:].argmax() + 1
    rows, columns = ndimage.find_objects(areas)[largest - 1]
    return np.array([rows.stop, columns.stop], float)
