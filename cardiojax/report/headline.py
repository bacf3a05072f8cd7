"""The numbers of a report as HTML: tiles, a table, and the reasons for what was not measured."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from cardiojax.analysis import trust
from cardiojax.analysis.recording import Analysis, AnalyzeConfig
from cardiojax.clinical.guidelines.ranges import rounded
from cardiojax.report.schema import to_dict
from cardiojax.study import Quantity, StudyMeasurements

#: Decimals of a number that is shown, by its unit; others have none.
_DIGITS = {"l/min": 1, "l/min/m²": 1, "cm²": 1, "m²": 2, "": 2}
_NUM_TILES = 6
#: Characters of a reason up to which a tile shows it; a longer one is below the table.
_MAX_REASON = 64
_NORMAL = "within the reference range"


class _Number(NamedTuple):
    """A number of a recording: its label, its key in the measurements, what withdraws it, and its unit."""

    label: str
    key: str
    quantity: str
    unit: str


_LOOP = (
    _Number("ejection fraction, single plane", "ejection_fraction_percent", trust.EJECTION_FRACTION, "%"),
    _Number("longitudinal strain, mid-wall", "longitudinal_strain_mid_wall_percent", trust.STRAIN, "%"),
    _Number("end-diastolic volume", "end_diastolic_volume_ml", trust.VOLUMES, "ml"),
    _Number("end-systolic volume", "end_systolic_volume_ml", trust.VOLUMES, "ml"),
    _Number("LV area change", "lv_area_change_percent", trust.AREA_CHANGE, "%"),
    _Number("heart rate", "heart_rate_per_min", trust.HEART_RATE, "/min"),
    _Number("EF, one length for both phases", "ejection_fraction_one_length_percent", trust.EJECTION_FRACTION, "%"),
    _Number("longitudinal strain, endocardial", "longitudinal_strain_endocardial_percent", trust.STRAIN, "%"),
    _Number("LV length at end-diastole", "end_diastolic_length_mm", trust.LENGTHS, "mm"),
    _Number("LV length at end-systole", "end_systolic_length_mm", trust.LENGTHS, "mm"),
    _Number("LV area at end-diastole", "end_diastolic_area_mm2", trust.AREAS, "cm²"),
    _Number("LV area at end-systole", "end_systolic_area_mm2", trust.AREAS, "cm²"),
)
#: Numbers of a single frame, which are the first values of the curves.
_STILL = (
    _Number("LV area", "lv_area_mm2", trust.AREAS, "cm²"),
    _Number("LV length", "lv_length_mm", trust.LENGTHS, "mm"),
    _Number("LV volume, single plane", "lv_volume_ml", trust.VOLUMES, "ml"),
)
#: First numbers of a study of one view, before the name of the view.
_OF_ONE_VIEW = (
    *("ejection_fraction", "longitudinal_strain", "end_diastolic_volume", "end_systolic_volume", "area_change"),
)


class Row(NamedTuple):
    """A number as it is shown.

    Attributes:
        label: What it is.
        unit: Its unit.
        value: After all corrections; empty if it was not measured or is withheld.
        before: On the outlines that the network drew; empty if it is not measured on outlines.
        reason: Why it was not measured.
        notes: What is added, each with its class in the style sheet: interval, range over the beats, reference range.
        method: How it is measured, and where that is printed.
    """

    label: str
    unit: str
    value: str
    before: str
    reason: str = ""
    notes: tuple[tuple[str, str], ...] = ()
    method: str = ""


def rows(values: dict[str, Any]) -> list[Row]:
    """The numbers of a recording.

    Args:
        values: What `cardiojax.report.to_dict` gives.

    Returns:
        Those of a still or of a loop.
    """
    before, withdrawn, current = values["before_corrections"], values["withdrawn"], values
    is_still = values["recording"]["num_frames"] == 1
    if is_still:
        current = {name: curve[0] for name, curve in values["curves"].items()}
    numbers = []
    for number in _STILL if is_still else _LOOP:
        factor = 0.01 if number.unit == "cm²" else 1.0  # the measurements are in mm²
        value, drawn = (number_text(_scaled(each.get(number.key), factor), number.unit) for each in (current, before))
        reason = "" if value else withdrawn.get(number.quantity) or _missing(number, values["recording"])
        numbers.append(Row(number.label, number.unit, value, drawn, reason))
    if not is_still:
        numbers[0] = _with_interval(numbers[0], values["ejection_fraction_interval_percent"])
    return numbers


def study_rows(
    measurements: StudyMeasurements, analyses: Mapping[str, Analysis]
) -> tuple[Sequence[Row], Sequence[Row]]:
    """The numbers of a study.

    Args:
        measurements: The numbers.
        analyses: The analysis of each view.

    Returns:
        Those that are shown as tiles, and all.
    """
    numbers = {quantity.key: _study_row(quantity) for quantity in measurements.quantities}
    if len(analyses) > 1:
        return [numbers[quantity.key] for quantity in measurements.headlines], [*numbers.values()]
    ((view, analysis),) = analyses.items()
    if len(analysis.labels) == 1:
        of_frame = rows(to_dict(analysis, config=AnalyzeConfig(), name=""))
        return of_frame, [*of_frame, *numbers.values()]
    keys = [f"{key}_{view.lower()}" for key in _OF_ONE_VIEW]
    numbers[keys[0]] = _with_interval(numbers[keys[0]], analysis.ejection_interval)
    return [*(numbers[key] for key in keys), numbers["heart_rate"]], [*numbers.values()]


def _with_interval(row: Row, ends: Sequence[float] | None) -> Row:
    """A row with the interval of the ejection fraction, if there is one."""
    if not row.value or not ends or not all(map(_is_known, ends)):
        return row
    return row._replace(
        notes=(*row.notes, ("interval", f"90 % interval {number_text(ends[0], '%')} to {number_text(ends[1], '%')} %"))
    )


def _study_row(quantity: Quantity) -> Row:
    unit = quantity.unit
    value, before, low, high = (number_text(x, unit) for x in (quantity.value, quantity.drawn, *quantity.beats))
    notes = []
    if quantity.reference is not None and value:
        limits = f"reference {quantity.reference.low:g} to {quantity.reference.high:g} {unit}"
        notes.append(("grade", limits if quantity.grade in (None, _NORMAL) else f"{quantity.grade} ({limits})"))
    if quantity.interval is not None and value:
        ends = (number_text(end, unit) for end in quantity.interval)
        notes.append(("interval", f"95 % interval {' to '.join(ends)} {unit}"))
    if quantity.num_beats > 1 and value:
        beats = "beats" if quantity.key.endswith(("_2ch", "_4ch")) else "pairs of beats"
        notes.append(("range", f"{low} to {high} {unit} over {quantity.num_beats} {beats}"))
    method = f"{quantity.method} ({quantity.source})" if quantity.source else quantity.method
    return Row(quantity.name, unit, value, before, quantity.reason or "", tuple(notes), method)


def _is_known(value: float | np.floating | None) -> TypeGuard[float | np.floating]:
    return value is not None and math.isfinite(value)


def number_text(value: float | np.floating | None, unit: str) -> str:
    """Writes a number with the decimals of its unit.

    Args:
        value: The number; None or nan if it is unknown.
        unit: Its unit, see `cardiojax.study.quantities.DEFINITIONS`.

    Returns:
        The number without its unit; empty if it is unknown. Whole numbers are rounded as they are graded.

    Example:
        >>> number_text(4.46, "l/min"), number_text(-0.04, "l/min"), number_text(72.5, "%"), number_text(None, "ml")
        ('4.5', '0.0', '73', '')
    """
    if not _is_known(value):
        return ""
    if unit not in _DIGITS:
        return str(rounded(float(value)))
    digits = _DIGITS[unit]
    return f"{round(float(value), digits) + 0.0:.{digits}f}"  # 0.0: no -0.0


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _missing(number: _Number, recording: dict[str, Any]) -> str:
    """What the recording lacks for a quantity that is missing without being withdrawn."""
    if number.quantity == trust.HEART_RATE:
        return "needs two beats" if recording["frame_time_s"] else "frame rate unknown"
    if number.unit != "%" and recording["spacing_mm"] is None:
        return "pixel spacing unknown"
    return "not found in the outlines"


def tiles(numbers: Sequence[Row]) -> str:
    """Numbers as tiles: each after the corrections and as the network drew it."""

    def tile(row: Row) -> str:
        notes = [(kind, html.escape(note)) for kind, note in row.notes]
        if row.value:
            value = f'<b class="value">{row.value}<small>{row.unit}</small></b>'
            if row.before == row.value:
                notes.insert(0, ("same", "unchanged by corrections"))
            elif row.before:
                notes.insert(0, ("before", f"before corrections: {row.before} {row.unit}"))
        else:
            value = '<b class="value none">not measured</b>'
            is_short = len(row.reason) <= _MAX_REASON
            notes = [("reason", html.escape(row.reason) if is_short else '<a href="#missing">reason</a>')]
        lines = "".join(f'<em class="{kind}">{note}</em>' for kind, note in notes)
        return f'<div class="tile">{value}<span>{html.escape(row.label)}</span>{lines}</div>'

    return "".join(map(tile, numbers))


def first_tiles(numbers: Sequence[Row]) -> str:
    """The first numbers of a recording as tiles."""
    return tiles(numbers[:_NUM_TILES])


def table(numbers: Sequence[Row]) -> str:
    """All numbers: after the corrections, as the network drew them, and what is missing for what reason."""
    measured = [row for row in numbers if row.value]
    has_notes, lines = any(row.notes for row in measured), []
    for row in measured:
        cells = [f"{number} {row.unit}" if number else "" for number in (row.value, row.before)]
        method = f"<small>{html.escape(row.method)}</small>" if row.method else ""
        remark = f"<td>{html.escape('; '.join(note for _, note in row.notes))}</td>" if has_notes else ""
        lines.append(
            f"<tr><th scope=row>{html.escape(row.label)}{method}</th>"
            f"{''.join(f'<td class=number>{cell}</td>' for cell in cells)}"
            f"{remark}</tr>"
        )
    titles = ["measurement", "after corrections", "before corrections", *(["remark"] if has_notes else [])]
    return _table(titles, lines) + _not_measured(row for row in numbers if not row.value)


def _not_measured(numbers: Iterable[Row]) -> str:
    """The numbers that are missing, by reason."""
    by_reason: dict[str, list[str]] = {}
    for row in numbers:
        by_reason.setdefault(row.reason, []).append(row.label)
    lines = "".join(
        f"<li>{html.escape(', '.join(labels))}: {html.escape(reason)}</li>" for reason, labels in by_reason.items()
    )
    return f'<div id="missing"><h3>Not measured</h3><ul>{lines}</ul></div>' if lines else ""


def clips_table(clips: Iterable[tuple[str, str, str, str]]) -> str:
    """The recordings of a study: name, view, quality, and why each was chosen or not."""
    lines = [
        f"<tr><th scope=row>{html.escape(name)}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in clips
    ]
    return _table(["recording", "view", "quality", "choice"], lines)


def _table(titles: Iterable[str], lines: Iterable[str]) -> str:
    head = "".join(f"<th scope=col>{title}</th>" for title in titles)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def withdrawn(findings: Iterable[tuple[str, trust.Finding]]) -> str:
    """What was not measured of which view, and why; the first of each pair names the view, if there are several."""
    lines = [
        f"<p><b>{html.escape(view + 'Not measured: ' + ', '.join(f.quantities))}.</b> {html.escape(f.reason)}</p>"
        for view, f in findings
        if f.is_withdrawn
    ]
    return f'<div class="withdrawn" id="not-measured">{"".join(lines)}</div>' if lines else ""


def warnings(findings: Iterable[tuple[str, trust.Finding]]) -> str:
    """The other findings, as `withdrawn` gets them."""
    lines = [html.escape(f"{view}{f.reason}") for view, f in findings if not f.is_withdrawn]
    if not lines:
        return ""
    return f"<h2>Warnings ({len(lines)})</h2>" + "".join(f'<p class="warning">{line}</p>' for line in lines)
