"""Which pixels of a recording can be shown: those of ultrasound, not those of text that may identify the patient."""

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from cardiojax.analysis.sector import CONTRAST, Sector, close_gaps

#: Fraction of the frame's shorter side below which a part that sticks out of the sector is text, a scale or a mark.
_MIN_WIDTH = 0.05
#: Fraction of the sector that changes over time, from which on what does not change at its edge is an overlay.
_MIN_MOVING = 0.5
#: Frames from which on that holds within a sector: between two frames bright tissue may stay saturated.
_MIN_FRAMES = 8
#: Pixels at most two steps away: gaps of up to four pixels between those that change are closed.
_DIAMOND = np.asarray(ndimage.iterate_structure(ndimage.generate_binary_structure(2, 1), 2), bool)


def visible_part(
    frames: Float[np.ndarray, "t h w"], sector: Sector, *, burned_in: bool | None = None
) -> Bool[np.ndarray, "h w"]:
    """Finds the pixels that show ultrasound and no text beside it.

    Text that touches the sector is connected to it: it is narrow, and in a loop of at least eight frames it does not
    change. Without a sector, text can be anywhere: if at least half of the frame changes over time, the part that
    changes is shown; else nothing, unless the file says that its frames hold no such text. Nothing is shown if it says
    that they do. Text within the sector is not found.

    Args:
        frames: Grey values in [0, 1].
        sector: The sector of these frames.
        burned_in: Whether the file says that text which identifies the patient is part of the frames; None if it says
            nothing.

    Returns:
        The pixels.

    Example:
        >>> frames = np.zeros((1, 100, 100), np.float32)
        >>> frames[:, 20:80, 20:80] = 0.5  # ultrasound
        >>> frames[:, 30:33, 80:95] = 1.0  # a mark that touches it
        >>> sector = Sector((20, 80, 20, 95), frames[0, 20:80, 20:95] > 0)
        >>> visible = visible_part(frames, sector)
        >>> bool(visible[50, 50]), bool(visible[31, 90])
        (True, False)
    """
    visible = np.zeros(frames.shape[1:], bool)
    top, bottom, left, right = sector.box
    visible[top:bottom, left:right] = sector.mask
    if burned_in and not sector.is_found:
        return np.zeros_like(visible)
    moving = frames.max(0) - frames.min(0) > CONTRAST
    if (len(frames) >= _MIN_FRAMES or not sector.is_found) and moving[visible].mean() >= _MIN_MOVING:
        visible &= close_gaps(moving, _DIAMOND)
    elif not sector.is_found:
        return visible if burned_in is False else np.zeros_like(visible)
    visible = _without_narrow_parts(visible)
    return np.asarray(ndimage.binary_fill_holes(visible)) if sector.is_found else visible


def _without_narrow_parts(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The largest region of an opening by a disk."""
    radius = _MIN_WIDTH / 2 * min(mask.shape)
    numbered, count = ndimage.label(ndimage.distance_transform_edt(mask) > radius)
    if not count:
        return np.zeros_like(mask)
    core = numbered == 1 + np.bincount(numbered.ravel())[1:].argmax()
    return mask & (ndimage.distance_transform_edt(~core) <= radius)
