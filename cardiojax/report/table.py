"""Measurements of many recordings and studies as one table: columns with a description and a unit."""

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from cardiojax.study.quantities import DEFINITIONS

#: Columns that are counted from lists, with what they hold.
_COUNTS = {
    "num_beats": ("beats", "Beats whose end-diastole and end-systole the loop holds.", "beats"),
    "num_replaced_frames": ("replaced_frames", "Frames whose outlines the corrections replaced.", "frames"),
    "num_clips": ("clips", "Recordings of the study.", "recordings"),
}
_BEFORE = "before_corrections"
_BOUNDS = {
    "ejection_fraction_interval_percent": ("lower", "upper"),
    "ejection_fraction_range_percent": ("lowest", "highest"),
    "spacing_mm": ("row", "column"),
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of ``measurements.json``, each key with its description and unit.

    Example:
        >>> json_schema()["properties"]["heart_rate_per_min"]["unit"]
        '1/min'
    """
    return json.loads(resources.files("cardiojax.report").joinpath("schema.json").read_text("utf-8"))


def table_columns() -> dict[str, tuple[str, str]]:
    """The columns of a table of recordings and studies.

    Returns:
        Description and unit of each column, in order; the unit is empty for text and counts without one.

    Example:
        >>> table_columns()["end_diastolic_volume_ml"][1]
        'ml'
    """
    properties = json_schema()["properties"]
    columns: dict[str, tuple[str, str]] = {"file": ("The file that was read.", "")}
    columns |= _describe(properties["recording"]["properties"])
    columns |= _describe(properties)
    before = _describe(properties[_BEFORE]["properties"])
    columns |= {f"{_BEFORE}_{name}": (f"Before the corrections: {d}", unit) for name, (d, unit) in before.items()}
    columns |= {name: (description, unit) for name, (_, description, unit) in _COUNTS.items()}
    patient = _describe(properties["patient"]["properties"])
    columns |= {f"patient_{name}": text for name, text in patient.items()}
    for key, definition in DEFINITIONS.items():
        description = f"{definition.name[:1].upper()}{definition.name[1:]}: {definition.method}."
        columns[key] = (description, definition.unit)
        columns[f"{key}_{_BEFORE}"] = (f"Before the corrections: {description}", definition.unit)
    columns["num_warnings"] = ("Reasons not to rely on a measurement.", "warnings")
    return columns | {"withdrawn": ("What is withheld, by reason.", "")}


def to_row(values: Mapping[str, Any], *, file: str = "") -> dict[str, Any]:
    """The measurements of one recording or study as one row of a table.

    Args:
        values: The content of ``measurements.json``, as `cardiojax.report.to_dict` gives it.
        file: What the column ``file`` holds.

    Returns:
        A value for each of `table_columns`; None where something was not measured or is withheld, and for the numbers
        of single recordings in a study of several.
    """
    before = {f"{_BEFORE}_{name}": value for name, value in values.get(_BEFORE, {}).items()}
    row = {"file": file} | _flat(values.get("recording", {})) | _flat(values) | before
    row |= {name: len(values[key]) for name, (key, *_) in _COUNTS.items() if key in values}
    row |= {f"patient_{name}": value for name, value in values.get("patient", {}).items()}
    for key, quantity in values.get("measurements", {}).items():
        row |= {key: quantity["value"], f"{key}_{_BEFORE}": quantity[_BEFORE]}
    warnings = [*values.get("warnings", ()), *values.get("findings", ())]
    row["num_warnings"] = len(warnings) + sum(len(view["warnings"]) for view in values.get("views", {}).values())
    row["withdrawn"] = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in _withheld(values).items())
    return {name: row.get(name) for name in table_columns()}


def to_frame(files: Iterable[str | Path] | str | Path) -> Any:
    """Reads measurements into a pandas DataFrame, one row for each recording or study.

    Args:
        files: Files ``measurements.json``, or folders of reports; one or many.

    Returns:
        A DataFrame with the columns of `table_columns`; ``attrs["units"]`` and ``attrs["descriptions"]`` are
        dictionaries by column.

    Raises:
        ImportError: If pandas is not installed (``pip install 'cardiojax[table]'``).
        ValueError: If a file is of another version of the schema.
    """
    try:
        import pandas  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ImportError("tables need pandas: pip install 'cardiojax[table]'") from error
    paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
    columns, version = table_columns(), json_schema()["properties"]["schema_version"]["const"]
    rows = []
    for path in paths:
        path = path / "measurements.json" if path.is_dir() else path
        values = json.loads(path.read_text("utf-8"))
        found = values.get("schema_version") if isinstance(values, dict) else None
        if found != version:
            raise ValueError(f"{path} has version {found} of the measurements, expected {version}")
        rows.append(to_row(values, file=str(path)))
    frame = pandas.DataFrame(rows, columns=list(columns))
    frame.attrs = {
        "descriptions": {name: description for name, (description, _) in columns.items()},
        "units": {name: unit for name, (_, unit) in columns.items()},
    }
    return frame


def _withheld(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is withheld, by reason."""
    by_reason: dict[str, list[str]] = {}
    of_study = {key: quantity["withheld"] for key, quantity in values.get("measurements", {}).items()}
    for name, reason in (values.get("withdrawn", {}) | of_study).items():
        if reason:
            by_reason.setdefault(reason, []).append(name)
    return by_reason


def _is_scalar(schema: Mapping[str, Any]) -> bool:
    types = schema.get("type", "string")  # a constant or a choice is one value
    return not {"array", "object"} & set([types] if isinstance(types, str) else types)


def _describe(properties: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    columns = {}
    for name, schema in properties.items():
        text = (schema["description"], schema.get("unit", ""))
        if _is_scalar(schema):
            columns[name] = text
        for bound in _BOUNDS.get(name, ()):
            columns[f"{name}_{bound}"] = (f"{text[0]} Here: {bound}.", text[1])
    return columns


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    row = {}
    for name, value in values.items():
        if name in _BOUNDS:
            ends = value or [None] * len(_BOUNDS[name])
            row |= {f"{name}_{bound}": end for bound, end in zip(_BOUNDS[name], ends, strict=True)}
        elif not isinstance(value, list | dict):
            row[name] = value
    return row
