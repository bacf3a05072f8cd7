"""Grey values: the luma of colours, and what value is white."""

import numpy as np
from jaxtyping import Float, Num, Shaped

#: Whites of stored images: reals in [0, 1], then integers of 8, 10, 12, 14, 15 and 16 bits.
WHITES = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 32767.0, 65535.0)
#: Fraction of the pixels above zero that are at most white; what is above them is clipped.
_BULK = 0.999
#: Fraction of the range below zero up to which values are rounding or ringing, and zero stays black.
_MAX_RINGING = 0.05
#: Pixels that are looked at for that.
_MAX_SAMPLES = 2**20


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
        np.multiply(target, 1 / (white - black), out=target)
        np.clip(target, 0, 1, out=target)
    return result
