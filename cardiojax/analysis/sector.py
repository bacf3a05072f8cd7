"""The ultrasound sector of the frames: what lies around it is cropped or set to black, as in the training images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from cardiojax.data import Recording, Region, spacing_of_box
from cardiojax.types import Box

#: Grey difference from the background, or over time, that exceeds coding noise: 5 of 255 levels.
CONTRAST = 0.02
#: Fraction of the pixels of the frame's border from which on a grey level belongs to the background.
_MIN_BACKGROUND = 0.2
#: Fraction of the frame below which a region is text, a scale or an ECG.
_MIN_AREA = 0.02
#: Fraction of a region's pixels that change over time in an ultrasound image. Real loops: 0.97 and more.
_MIN_MOVING = 0.5
#: Area of another ultrasound image, as a fraction of that of the chosen one, from which on it is reported.
_MIN_SECOND = 0.3
#: Fraction of a sector outside the regions that a file states, beyond which the regions do not fit the frames.
_MAX_OUTSIDE = 0.25
#: Fraction of a sector above or to the left of those regions, beyond which the frames must have been reduced after the
#: regions were stated. Real loops: 0.
_MAX_OVERHANG = 0.005
#: Fraction of the frame covered by the sector, beyond which it includes the screen around it. A fan covers up to 0.75.
_MAX_COVER = 0.9
#: Fraction of the sector in colour beyond which it is colour Doppler. Real grey loops, with coloured marks: 0.
_MAX_COLOURED = 0.015


class Sector(NamedTuple):
    """The ultrasound part of a loop.

    Attributes:
        box: First row, row after the last, first column, column after the last.
        mask: Pixels of the box inside the sector, bool ``[h, w]``.
        notes: Sentences for the reader of a report: a choice among several images, or no sector at all.
        fits_regions: Whether the regions that the file states, if any, hold the sector.
        is_found: Whether a sector was found; if not, the box is that of the whole frame.
    """

    box: Box
    mask: np.ndarray
    notes: tuple[str, ...] = ()
    fits_regions: bool = True
    is_found: bool = True


class _Candidate(NamedTuple):
    """A connected region, its pixels, and the fraction of them that change over time."""

    region: Bool[np.ndarray, "h w"]
    area: int
    moving: float


def find_sector(frames: Float[np.ndarray, "t h w"], *, regions: Sequence[Region] = ()) -> Sector:
    """Finds the sector: a large connected region that differs from the background and, in a loop, changes over time.

    The background has the grey levels of the frame's border. Text, scales and panels do not change; an ECG is small. Of
    several ultrasound images the larger and more central one is taken.

    Args:
        frames: Grey values in [0, 1].
        regions: Ultrasound regions that the file states. They separate images that touch; regions that do not fit the
            frames are ignored, and a note says so.

    Returns:
        The sector; the whole frame if there is none.

    Example:
        >>> frames = np.zeros((2, 40, 50), np.float32)
        >>> frames[0, 5:35, 10:30] = 0.5
        >>> find_sector(frames).box
        (5, 35, 10, 30)
    """
    low, high = frames.min(0), frames.max(0)
    background = _background_levels(low, high)
    lit = np.all([np.maximum(np.abs(low - grey), np.abs(high - grey)) > CONTRAST for grey in background], 0)
    moving = high - low > CONTRAST
    whole = _candidates(lit, moving)
    boxes = [region.box for region in regions if region.is_tissue]
    candidates = [c for box in boxes for c in _candidates(lit & _inside(box, lit.shape), moving)]
    fits_regions = not _are_regions_misplaced(whole, boxes)
    if not candidates or not fits_regions:
        candidates = whole
    is_loop = len(frames) > 1 and any(c.moving >= _MIN_MOVING for c in candidates)
    candidates = [c for c in candidates if c.moving >= _MIN_MOVING or not is_loop]
    candidates.sort(key=_rank, reverse=True)
    if not candidates or candidates[0].region.mean() > _MAX_COVER:
        return _whole_frame(lit, fits_regions=fits_regions)
    region = candidates[0].region
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    box = (int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1)
    mask = ndimage.binary_fill_holes(region[box[0] : box[1], box[2] : box[3]])
    notes = (*_choice_note(candidates), *_regions_note(fits_regions))
    return Sector(box, np.asarray(mask), notes, fits_regions)


def spacing_of_sector(recording: Recording, sector: Sector) -> tuple[float, float] | None:
    """The spacing of the recording; if its regions state several, that of the region which holds the sector.

    Regions that do not hold the image were stated for frames of another size and so of another spacing.

    Args:
        recording: The recording.
        sector: Its sector.

    Returns:
        ``(dy, dx)`` in mm; None if unknown or ambiguous.
    """
    known = [region.spacing for region in recording.regions if region.is_tissue and region.spacing is not None]
    if known and not sector.fits_regions:
        return None
    is_ambiguous = any(not np.allclose(spacing, known[0], rtol=0.01) for spacing in known)
    return spacing_of_box(recording.regions, sector.box) if is_ambiguous else recording.spacing


def crop(frames: Float[np.ndarray, "t h w"], sector: Sector) -> Float[np.ndarray, "t a b"]:
    """Cuts a loop to its sector and blackens the rest of the box.

    Args:
        frames: Grey values.
        sector: The sector of these frames.

    Returns:
        The loop inside the box.
    """
    top, bottom, left, right = sector.box
    return frames[:, top:bottom, left:right] * sector.mask


def close_gaps(mask: Bool[np.ndarray, "h w"], structure: Bool[np.ndarray, "n n"]) -> Bool[np.ndarray, "h w"]:
    """Closes a mask by a structure; beyond the frame the mask continues as at its edge.

    So an image that the frame cuts keeps its pixels there, which would be lost beside background.

    Args:
        mask: Pixels.
        structure: What is closed with; its height and width are odd.

    Returns:
        The closed mask.

    Example:
        >>> bool(close_gaps(np.ones((4, 4), bool), np.ones((3, 3), bool)).all())
        True
    """
    radius = len(structure) // 2
    closed = ndimage.binary_closing(np.pad(mask, radius, mode="edge"), structure)
    return np.asarray(closed)[radius:-radius, radius:-radius]


def coloured_share(coloured: Float[np.ndarray, "h w"], sector: Sector) -> float:
    """Share of the sector that is in colour in some frame; lines and text, which are thin, do not count.

    Args:
        coloured: Share of the frames in which each pixel is coloured, as in `Recording`.
        sector: The sector on the same grid.

    Returns:
        0 to 1.
    """
    top, bottom, left, right = sector.box
    inside = (coloured[top:bottom, left:right] > 0) & sector.mask
    width = 2 * max(1, min(coloured.shape) // 150) + 1
    return float(ndimage.binary_opening(inside, np.ones((width, width), bool)).sum() / max(sector.mask.sum(), 1))


def colour_reason(coloured: Float[np.ndarray, "h w"] | None, sector: Sector) -> str | None:
    """Says that a recording is colour Doppler, if it is.

    Args:
        coloured: As of `coloured_share`; None if the file holds grey values.
        sector: The sector on the same grid.

    Returns:
        One sentence; None if hardly any of the sector is in colour.
    """
    share = 0.0 if coloured is None else coloured_share(coloured, sector)
    if share <= _MAX_COLOURED:
        return None
    return f"{100 * share:.0f} % of the sector is in colour, as in colour Doppler, which hides the outlines."


def _background_levels(low: Float[np.ndarray, "h w"], high: Float[np.ndarray, "h w"]) -> list[float]:
    """Grey levels that cover much of the frame's border and do not change; black if there are none.

    Args:
        low: Smallest value of each pixel over time.
        high: Largest value.
    """
    width = max(1, min(low.shape) // 100)
    ring = np.ones(low.shape, bool)
    ring[width:-width, width:-width] = False
    values = low[ring & (high - low <= CONTRAST)]
    levels: list[float] = []
    while values.size > _MIN_BACKGROUND * ring.sum():
        counts = np.bincount(np.round(255 * values).astype(int).clip(0, 255))
        level = float(counts.argmax() / 255)
        is_level = np.abs(values - level) <= CONTRAST
        if is_level.sum() < _MIN_BACKGROUND * ring.sum():
            break
        levels.append(level if level > CONTRAST else 0.0)  # black screens of 0 and of 1 are alike
        values = values[~is_level]
    return levels or [0.0]


def _candidates(lit: Bool[np.ndarray, "h w"], moving: Bool[np.ndarray, "h w"]) -> list[_Candidate]:
    """Connected regions of at least `_MIN_AREA`; one that hardly changes, in a loop, is reduced to what does."""
    kept = []
    for region in _large_regions(lit):
        share = float(moving[region].mean())
        core = _large_regions(region & moving) if 0 < share < _MIN_MOVING else []
        kept += core or [region]
    return [_Candidate(r, int(r.sum()), float(moving[r].mean())) for r in kept]


def _large_regions(lit: Bool[np.ndarray, "h w"]) -> list[Bool[np.ndarray, "h w"]]:
    """Connected regions, after a closing that joins speckle and an opening that breaks thin bridges to overlays."""
    radius = max(1, min(lit.shape) // 200)
    square = np.ones((2 * radius + 1, 2 * radius + 1), bool)
    numbered, count = ndimage.label(ndimage.binary_opening(close_gaps(lit, square), square))
    sizes = np.bincount(np.ravel(numbered), minlength=count + 1)
    return [numbered == n for n in range(1, count + 1) if sizes[n] >= _MIN_AREA * lit.size]


def _inside(box: Box, shape: tuple[int, ...]) -> Bool[np.ndarray, "h w"]:
    mask = np.zeros(shape, bool)
    mask[box[0] : box[1], box[2] : box[3]] = True
    return mask


def _are_regions_misplaced(whole: Sequence[_Candidate], boxes: Sequence[Box]) -> bool:
    """Whether the regions of a file do not hold the largest image, because they were stated for frames of another size.

    In reduced frames the image lies nearer to the first row and column than its region. This is checked in loops only:
    in a still, an overlay above the region looks like tissue.
    """
    if not whole or not boxes:
        return False
    largest = max(whole, key=_rank)
    union = np.any([_inside(box, largest.region.shape) for box in boxes], 0)
    top, left = np.min(boxes, 0)[[0, 2]]
    num_before = largest.area - int(largest.region[top:, left:].sum())
    is_reduced = largest.moving >= _MIN_MOVING and num_before > _MAX_OVERHANG * largest.area
    return is_reduced or bool((largest.region & ~union).sum() > _MAX_OUTSIDE * largest.area)


def _rank(candidate: _Candidate) -> float:
    """Area, reduced with the distance from the centre of the frame: by half in a corner."""
    shape = np.array(candidate.region.shape)
    centre = np.array(ndimage.center_of_mass(candidate.region))
    return candidate.area * (1 - float(np.linalg.norm(centre - shape / 2) / np.linalg.norm(shape)))


def _choice_note(candidates: Sequence[_Candidate]) -> tuple[str, ...]:
    chosen = candidates[0]
    others = [c for c in candidates[1:] if c.area >= _MIN_SECOND * chosen.area]
    if not others:
        return ()
    here, there = (np.array(ndimage.center_of_mass(c.region)) for c in (chosen, others[0]))
    down, across = here - there
    side = ("left" if across < 0 else "right") if abs(across) >= abs(down) else ("top" if down < 0 else "bottom")
    return (f"The frames show {len(others) + 1} ultrasound images; the one at the {side} is analysed.",)


def _regions_note(fits_regions: bool) -> tuple[str, ...]:
    note = "The image is not within the ultrasound regions that the file states: they are not used."
    return () if fits_regions else (note,)


def _whole_frame(lit: Bool[np.ndarray, "h w"], *, fits_regions: bool) -> Sector:
    height, width = lit.shape
    note = "No ultrasound sector stands out from the background: the whole frame is analysed, with any text in it."
    notes = (*((note,) if lit.any() else ()), *_regions_note(fits_regions))
    return Sector((0, height, 0, width), np.ones((height, width), bool), notes, fits_regions, is_found=False)
