"""Grey values: the luma of colours, what value is white, and which pixels are not grey."""

import numpy as np
from jaxtyping import Bool, Float, Num, Shaped

#: Whites of stored images: reals in [0, 1], then integers of 8, 10, 12, 14, 15 and 16 bits.
WHITES = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 32767.0, 65535.0)
#: Fraction of the pixels above zero that are at most white; what is above them is clipped.
_BULK = 0.999
#: Fraction of the range below zero up to which values are rounding or ringing, and zero stays black.
_MAX_RINGING = 0.05
#: Pixels that are looked at for that.
_MAX_SAMPLES = 2**20
#: Range of grey values whose reciprocal is a float32.
_SMALLEST = float(np.finfo(np.float32).tiny)
#: Frames of a loop whose colours are looked at, about.
_NUM_COLOUR_FRAMES = 8
#: Largest channel above which a pixel is not black, and distance of the chroma from the tint above which it is
#: coloured; white is 1.
_MIN_LIT, _MIN_CHROMA = 0.12, 0.12
#: Share of the lit pixels that have about the hue of the image if it is tinted, and the cosine between such hues.
_TINTED, _SAME_HUE = 0.6, 0.5


def luma(rgb: Num[np.ndarray, "*b c"]) -> Float[np.ndarray, "*b"]:
    """Computes the grey values of colours (ITU-R BT.601), float32 in the unit of the colours.

    Args:
        rgb: Red, green, blue and whatever follows them.

    Returns:
        Their luma.
    """
    grey = rgb[..., 0] * np.float32(0.299)
    grey += rgb[..., 1] * np.float32(0.587)
    grey += rgb[..., 2] * np.float32(0.114)
    return grey


class ColourCounter:
    """Counts in how many frames each pixel is coloured.

    Args:
        num_frames: Frames to come, about; a few of them, evenly spaced, are looked at.
    """

    def __init__(self, num_frames: int = 1):
        self._step = max(1, num_frames // _NUM_COLOUR_FRAMES)
        self._index = -1
        self._count: np.ndarray | None = None
        self._num = 0

    def skips(self) -> bool:
        """Goes on to the next frame, and says whether it need not be given to `add`."""
        self._index += 1
        return self._index % self._step > 0

    def add(self, rgb: Num[np.ndarray, "h w 3"]) -> None:
        """Counts the coloured pixels of a frame in red, green and blue."""
        mask = is_coloured(rgb)
        self._count = mask.astype(np.float32) if self._count is None else self._count + mask
        self._num += 1

    def share(self) -> Float[np.ndarray, "h w"] | None:
        """Share of the frames in which each pixel is coloured; None if no frame had colours."""
        return None if self._count is None else self._count / self._num


def is_coloured(rgb: Num[np.ndarray, "h w c"]) -> Bool[np.ndarray, "h w"]:
    """Finds the pixels whose colour is not that of the image: those of colour Doppler, not those of a tinted image.

    A tint gives one colour to each grey value, most of them of one hue. The colour of a pixel is compared with the
    median of those of the same luma in a tinted image, and with grey in any other.

    Args:
        rgb: Red, green, blue; white is 255, or the largest value if that is above it.

    Returns:
        Which pixels are coloured.
    """
    values = rgb[..., :3].astype(np.float32)
    values /= max(255.0, float(values.max(initial=0)))
    grey = luma(values)
    chroma = np.stack([values[..., 2] - grey, values[..., 0] - grey], -1)
    is_lit = values.max(-1) > _MIN_LIT
    strength = np.hypot(chroma[..., 0], chroma[..., 1])
    is_vivid = is_lit & (strength > _MIN_CHROMA / 2)
    if is_vivid.any():
        hue = np.median(chroma[is_vivid] / strength[is_vivid, None], 0)
        is_tinted = is_lit & (chroma @ hue > _SAME_HUE * np.linalg.norm(hue) * strength)
        if (is_tinted & is_vivid).sum() > _TINTED * is_lit.sum():
            strength = np.linalg.norm(chroma - _tint(grey, chroma, is_lit, is_tinted), axis=-1)
    return is_lit & (strength > _MIN_CHROMA)


def _tint(
    grey: Float[np.ndarray, "h w"],
    chroma: Float[np.ndarray, "h w 2"],
    is_lit: Bool[np.ndarray, "h w"],
    is_tinted: Bool[np.ndarray, "h w"],
) -> Float[np.ndarray, "h w 2"]:
    """Median chroma of the lit pixels of about the same luma, of those with the hue of the tint if there are any."""
    levels = np.minimum((grey * 32).astype(int), 31)
    table = np.zeros((32, 2), np.float32)
    for level in np.unique(levels[is_lit]):
        same = is_lit & (levels == level)
        table[level] = np.median(chroma[same & is_tinted if (same & is_tinted).any() else same], 0)
    return table[levels]


def infer_white(values: Num[np.ndarray, "t h w"], *, at_least: float = 1.0) -> float:
    """Infers the value of white from the bulk of the values, not from their type or their maximum.

    Args:
        values: Grey values as stored.
        at_least: A white that is known to be reached or exceeded, such as 255 for integers.

    Returns:
        The smallest of `WHITES` that 99.9 % of the values above zero do not exceed; that quantile if it is larger.
    """
    sample = _sample(values)
    sample = sample[sample > 0]
    bulk = float(np.quantile(sample, _BULK, method="lower")) if sample.size else 0.0
    return next((white for white in WHITES if white >= max(bulk, at_least)), bulk)


def infer_range(values: Num[np.ndarray, "t h w"]) -> tuple[float, float] | None:
    """Infers black and white of values that were shifted below zero, as networks expect them or with a mean of zero.

    Args:
        values: Grey values as stored.

    Returns:
        The value that 0.1 % do not exceed and the one that 99.9 % do not, the two at equal distances from zero if the
        first is farther from it; None where zero is black.
    """
    if values.dtype.kind not in "if":
        return None
    sample = _sample(values)
    low = float(np.quantile(sample, 1 - _BULK, method="higher"))
    high = float(np.quantile(sample, _BULK, method="lower"))
    return (low, max(high, -low)) if -low > _MAX_RINGING * max(high, -low) else None


def _sample(values: Num[np.ndarray, "t h w"]) -> Num[np.ndarray, "a b c"]:
    step = max(1, int(np.ceil((values.size / _MAX_SAMPLES) ** (1 / 3))))
    steps = [min(step, max(1, n // 64)) for n in values.shape]  # a short loop keeps all of its frames
    return values[tuple(slice(None, None, s) for s in steps)]


def to_unit_range(
    values: Shaped[np.ndarray, "t h w"], white: float | None = None, *, black: float = 0.0
) -> Float[np.ndarray, "t h w"]:
    """Converts grey values to float32 in [0, 1], one frame at a time.

    Args:
        values: Grey values as stored; a writeable float32 array is overwritten, so that no second one is needed.
        white: The value of white; inferred if not given. Values above it and below black are clipped.
        black: The value of black.

    Returns:
        The grey values.
    """
    if white is None:
        if values.dtype.kind == "b":
            white = 1.0
        elif values.dtype.kind in "ui" and values.dtype.itemsize == 1:
            white = float(np.iinfo(values.dtype).max)
        else:
            white = infer_white(values, at_least=255.0 if values.dtype.kind in "ui" else 1.0)
    is_reused = values.dtype == np.float32 and values.flags.writeable
    result = values if is_reused else np.empty(values.shape, np.float32)
    for source, target in zip(values, result, strict=True):
        np.subtract(source, np.float32(black), out=target, casting="unsafe")
        with np.errstate(over="ignore"):  # what is far beyond white is clipped
            np.multiply(target, 1 / max(white - black, _SMALLEST), out=target)
        np.clip(target, 0, 1, out=target)
    return result
