"""Changed fields of a model's configuration: from the command line, into a weight file and back."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """Reads fields and values from texts such as ``num_classes=2``, ``features=[8,16]`` or ``encoder.width=64``.

    Args:
        assignments: A name, dots between nested ones, ``=``, and a JSON value; what is no JSON is text.

    Returns:
        Names and values, nested as the names are.

    Raises:
        ValueError: If a text has no ``=`` or no name, or two of them disagree.

    Example:
        >>> parse_overrides(["num_classes=2", "encoder.width=64", "norm=group"])
        {'num_classes': 2, 'encoder': {'width': 64}, 'norm': 'group'}
    """
    nested: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        *outer, last = name.strip().split(".")
        if not equals or not all((*outer, last)):
            raise ValueError(f"a changed field is given as name=value, got {assignment!r}")
        target = nested
        for part in outer:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise ValueError(f"the field {part} is given twice")
        if last in target:
            raise ValueError(f"the field {name} is given twice")
        try:
            target[last] = _tuples(json.loads(text))
        except (ValueError, RecursionError):
            target[last] = text
    return nested


def write_overrides(overrides: Mapping[str, Any]) -> str:
    """Writes overrides as JSON: a configuration as the dictionary of its fields, a tuple as a list.

    Args:
        overrides: Names and values.

    Returns:
        The text.

    Raises:
        ValueError: If a value is none of those that JSON can write.
    """
    plain = {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        for name, value in overrides.items()
    }
    try:
        return json.dumps(plain, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"a weight file keeps numbers, text, tuples and configurations ({error})") from None


def read_overrides(text: str) -> dict[str, Any]:
    """Reads what `write_overrides` wrote.

    Args:
        text: The text.

    Returns:
        Names and values; each list is a tuple, and each configuration a dictionary of its fields.

    Raises:
        ValueError: If it is none.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("values are nested too deep") from None
    if not isinstance(values, dict):
        raise ValueError(f"a {type(values).__name__} instead of names and values")
    return _tuples(values)


def replace_fields(config: Any, overrides: Mapping[str, Any]) -> Any:
    """Replaces fields of a configuration; a dictionary replaces fields of the configuration within it.

    Args:
        config: A frozen dataclass.
        overrides: Names and values.

    Returns:
        The new configuration.

    Raises:
        ValueError: If there is no such field, or a value has another type.

    Example:
        >>> from cardiojax.models import UNETRConfig
        >>> replace_fields(UNETRConfig(), {"encoder": {"width": 64}}).encoder.width
        64
    """
    kind = type(config)
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(config)]
    changes = {}
    for name, value in overrides.items():
        if name not in names:
            raise ValueError(f"{kind.__name__} has no field {name!r}; there are {', '.join(names)}")
        inner = getattr(config, name)
        if dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
            value = replace_fields(inner, value)
        if isinstance(value, list):
            value = _tuples(value)
        if not _fits(value, hints[name]):
            shown = hints[name].__name__ if isinstance(hints[name], type) else hints[name]
            raise ValueError(f"the field {name} of {kind.__name__} is of type {shown}, got {value!r}")
        changes[name] = value
    return dataclasses.replace(config, **changes)


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is typing.Literal:
        return value in inner
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if inner[-1] is Ellipsis:
            return all(_fits(each, inner[0]) for each in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(each) for key, each in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
