"""Checks of the options of a configuration."""

import math
from typing import Any

#: Seeds that JAX and Grain both take.
MAX_SEED = 2**32 - 1
#: Steps and examples are counted in 32 bits.
MAX_COUNT = 2**31 - 1
#: Height and width of the largest square grid, on which an array of 32 bits takes 256 MiB.
MAX_SIZE = 8192


def check_range(config: Any, *names: str, low: float, high: float = math.inf, open_low: bool = False) -> None:
    """Requires fields of a configuration to be finite numbers of a range.

    Args:
        config: A dataclass.
        names: Fields that hold a number, or a tuple of numbers.
        low: Smallest allowed value.
        high: Largest allowed value.
        open_low: Whether ``low`` itself is refused.

    Raises:
        ValueError: If a number is outside, infinite or NaN; the sentence names the field, the range and the value.

    Example:
        >>> import types
        >>> check_range(types.SimpleNamespace(rate=float("nan")), "rate", low=0, open_low=True)
        Traceback (most recent call last):
        ValueError: rate must be finite and above 0, got nan
    """
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple | list) else (value,):
            is_high_enough = low < number if open_low else low <= number
            if not (is_high_enough and number <= high and -math.inf < number < math.inf):
                raise ValueError(f"{name} must be {_describe(value, low, high, open_low)}, got {value}")


def check_seed(config: Any) -> None:
    """Requires the field ``seed`` to be one that every random generator takes.

    Args:
        config: A dataclass.

    Raises:
        ValueError: If it is negative or needs more than 32 bits.
    """
    check_range(config, "seed", low=0, high=MAX_SEED)


def _describe(value: Any, low: float, high: float, open_low: bool) -> str:
    if high < math.inf:
        return f"above {low:g} and at most {high:g}" if open_low else f"from {low:g} to {high:.12g}"
    has_reals = any(isinstance(number, float) for number in (value if isinstance(value, tuple | list) else (value,)))
    return f"{'finite and ' if has_reals else ''}{'above' if open_low else 'at least'} {low:g}"
