"""The numbers of a report as HTML: tiles, a table, and the reasons for what was not measured."""

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

from cardiojax.analysis import trust


class Quantity(NamedTuple):
    """A number of a report.

    Attributes:
        label: Its name for the reader.
        key: Its key in the measurements.
        quantity: The name under which it may be withdrawn.
        unit: Its unit as it is shown.
        factor: From the unit of the measurements to the shown one.
        digits: Decimals that are shown.
    """

    label: str
    key: str
    quantity: str
    unit: str
    factor: float = 1.0
    digits: int = 0

    def text(self, value: float | None) -> str:
        """A value with its unit; nothing if there is none."""
        return "" if value is None else f"{self.factor * value:.{self.digits}f} {self.unit}"


#: Numbers of a loop; the first ones are shown as tiles.
LOOP = (
    Quantity("ejection fraction, single plane", "ejection_fraction_percent", trust.EJECTION_FRACTION, "%"),
    Quantity("longitudinal strain, mid-wall", "longitudinal_strain_mid_wall_percent", trust.STRAIN, "%"),
    Quantity("end-diastolic volume", "end_diastolic_volume_ml", trust.VOLUMES, "ml"),
    Quantity("end-systolic volume", "end_systolic_volume_ml", trust.VOLUMES, "ml"),
    Quantity("LV area change", "lv_area_change_percent", trust.AREA_CHANGE, "%"),
    Quantity("heart rate", "heart_rate_per_min", trust.HEART_RATE, "/min"),
    Quantity(
        "ejection fraction, one length for both phases",
        "ejection_fraction_one_length_percent",
        trust.EJECTION_FRACTION,
        "%",
    ),
    Quantity("longitudinal strain, endocardial", "longitudinal_strain_endocardial_percent", trust.STRAIN, "%"),
    Quantity("LV length at end-diastole", "end_diastolic_length_mm", trust.LENGTHS, "mm"),
    Quantity("LV length at end-systole", "end_systolic_length_mm", trust.LENGTHS, "mm"),
    Quantity("LV area at end-diastole", "end_diastolic_area_mm2", trust.AREAS, "cm²", 0.01, 1),
    Quantity("LV area at end-systole", "end_systolic_area_mm2", trust.AREAS, "cm²", 0.01, 1),
)
NUM_TILES = 6
#: Numbers of a single frame, which are the first values of the curves.
STILL = (
    Quantity("LV area", "lv_area_mm2", trust.AREAS, "cm²", 0.01, 1),
    Quantity("LV length", "lv_length_mm", trust.LENGTHS, "mm"),
    Quantity("LV volume, single plane", "lv_volume_ml", trust.VOLUMES, "ml"),
)


class Row(NamedTuple):
    """A number as it is shown.

    Attributes:
        quantity: What it is.
        value: After all corrections; None if it was not measured or is withdrawn.
        before: On the outlines that the network drew; None if it is not measured on outlines.
        reason: Why it is withdrawn, if it is.
        note: What is added, such as an interval.
    """

    quantity: Quantity
    value: float | None
    before: float | None
    reason: str = ""
    note: str = ""


def rows(values: dict[str, Any]) -> list[Row]:
    """The numbers of a recording.

    Args:
        values: What `cardiojax.report.to_dict` gives.

    Returns:
        Those of a still or of a loop.
    """
    before, reasons, current = values["before_corrections"], values["withdrawn"], values
    is_still = values["recording"]["num_frames"] == 1
    if is_still:
        current = {name: curve[0] for name, curve in values["curves"].items()}
    numbers = []
    for quantity in STILL if is_still else LOOP:
        value, reason = current.get(quantity.key), reasons.get(quantity.quantity, "")
        note = _missing(quantity, values["recording"]) if value is None and not reason else ""
        numbers.append(Row(quantity, value, before.get(quantity.key), reason, note))
    ends = values["ejection_fraction_interval_percent"]
    if ends and None not in ends:
        numbers[0] = numbers[0]._replace(note=f"90 % interval {ends[0]:.0f} to {ends[1]:.0f} %")
    return numbers


def _missing(quantity: Quantity, recording: dict[str, Any]) -> str:
    """What the recording lacks for a quantity that is missing without being withdrawn."""
    if quantity.quantity == trust.HEART_RATE:
        return "needs two beats" if recording["frame_time_s"] else "frame rate unknown"
    if quantity.unit != "%" and recording["spacing_mm"] is None:
        return "pixel spacing unknown"
    return "not found in the outlines"


def tiles(numbers: Sequence[Row]) -> str:
    """The first numbers as tiles: each after the corrections and as the network drew it."""

    def tile(row: Row) -> str:
        text, before = row.quantity.text(row.value), row.quantity.text(row.before)
        notes = [html.escape(row.note)] if row.note else []
        if not text:
            value = '<b class="value none">not measured</b>'
            notes = ['<a href="#not-measured">reason</a>'] if row.reason else notes
        else:
            unit = row.quantity.unit
            value = f'<b class="value">{text.removesuffix(unit).strip()}<small>{unit}</small></b>'
            if before:
                notes.append("unchanged by corrections" if before == text else f"before corrections: {before}")
        lines = "".join(f"<em>{note}</em>" for note in notes)
        return f'<div class="tile">{value}<span>{html.escape(row.quantity.label)}</span>{lines}</div>'

    return "".join(map(tile, numbers[:NUM_TILES]))


def table(numbers: Sequence[Row]) -> str:
    """All numbers: after the corrections, as the network drew them, and why one is missing."""
    remarks = [f"not measured: {row.reason}" if row.reason else row.note for row in numbers]
    titles = ["measurement", "after corrections", "before corrections", *(["remark"] if any(remarks) else [])]
    lines = []
    for row, remark in zip(numbers, remarks, strict=True):
        cells = [row.quantity.text(row.value), row.quantity.text(row.before)]
        lines.append(
            f"<tr><th scope=row>{html.escape(row.quantity.label)}</th>"
            f"{''.join(f'<td class=number>{cell}</td>' for cell in cells)}"
            f"{f'<td>{html.escape(remark)}</td>' if any(remarks) else ''}</tr>"
        )
    head = "".join(f"<th scope=col>{title}</th>" for title in titles)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def withdrawn(findings: Sequence[trust.Finding]) -> str:
    """What was not measured, and why."""
    lines = [
        f"<p><b>Not measured: {html.escape(', '.join(f.quantities))}.</b> {html.escape(f.reason)}</p>"
        for f in findings
        if f.is_withdrawn
    ]
    return f'<div class="withdrawn" id="not-measured">{"".join(lines)}</div>' if lines else ""


def warnings(findings: Sequence[trust.Finding]) -> str:
    """The other findings."""
    lines = [html.escape(finding.reason) for finding in findings if not finding.is_withdrawn]
    if not lines:
        return ""
    return f"<h2>Warnings ({len(lines)})</h2>" + "".join(f'<p class="warning">{line}</p>' for line in lines)
