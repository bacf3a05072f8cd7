"""The report as one HTML page with its pictures inside, so that it opens offline."""

import base64
import html
import string
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from cardiojax import zoo
from cardiojax.analysis import trust
from cardiojax.analysis.recording import Analysis
from cardiojax.report import figures

#: Label, key in the measurements, quantity that may be withdrawn, and unit of each tile of a loop.
_LOOP_TILES = (
    ("ejection fraction, single plane", "ejection_fraction_percent", trust.EJECTION_FRACTION, "%"),
    ("the same, one length for both phases", "ejection_fraction_one_length_percent", trust.EJECTION_FRACTION, "%"),
    ("end-diastolic volume", "end_diastolic_volume_ml", trust.VOLUMES, "ml"),
    ("end-systolic volume", "end_systolic_volume_ml", trust.VOLUMES, "ml"),
    ("LV area change", "lv_area_change_percent", trust.AREA_CHANGE, "%"),
    ("longitudinal strain, mid-wall", "longitudinal_strain_mid_wall_percent", trust.STRAIN, "%"),
    ("longitudinal strain, endocardial", "longitudinal_strain_endocardial_percent", trust.STRAIN, "%"),
    ("LV length at end-diastole", "end_diastolic_length_mm", trust.LENGTHS, "mm"),
    ("heart rate", "heart_rate_per_min", trust.HEART_RATE, "/min"),
)
_STILL_TILES = (
    ("LV area", "lv_area_mm2", trust.AREAS, "mm²"),
    ("LV length", "lv_length_mm", trust.LENGTHS, "mm"),
    ("LV volume, single plane", "lv_volume_ml", trust.VOLUMES, "ml"),
)


class _Pictures(NamedTuple):
    """HTML of the pictures."""

    main: str
    stills: list[str]
    uncertain: list[str]
    curves: list[str]
    corrected: list[str]


def render(analysis: Analysis, values: dict[str, Any], pool: ThreadPoolExecutor, *, models: Sequence[str]) -> str:
    """Writes the page.

    Args:
        analysis: The analysis.
        values: The same as `cardiojax.report.to_dict` gives it.
        pool: Encodes the animation while Python draws.
        models: Names or weight files of the networks.

    Returns:
        The HTML.
    """
    pictures = _pictures(analysis, values, pool)
    cards = [zoo.card(name, count=False) for name in models]
    stated = [(card.get("licence", "unknown licence"), card.get("citation")) for card in cards]
    licences = {"".join(f"{text}. " for text in texts if text) for texts in stated}
    legend = "".join(
        f'<span><i style="background:rgb{colour}"></i>{text}</span>' for text, (_, colour) in figures.OUTLINES.items()
    )
    template = resources.files("cardiojax.report").joinpath("template.html").read_text("utf-8")
    return string.Template(template).substitute(
        name=html.escape(values["recording"]["name"]),
        metadata=html.escape(" · ".join(_metadata(values["recording"]))),
        warnings=_warnings(analysis),
        tiles=_tiles(values),
        legend=legend,
        main=pictures.main,
        stills=_section("End-diastole and end-systole", "pair", pictures.stills),
        curves=_section("Over time", "curves", pictures.curves),
        corrected=_section("The largest anatomical correction", "pair", pictures.corrected),
        uncertain="".join(pictures.uncertain),
        model=html.escape("; ".join(f"{card['name']} ({card.get('data', 'own weights')})" for card in cards)),
        licence=html.escape(f"Weights: {''.join(sorted(licences)).strip()}"),
        version=html.escape(values["cardiojax"]),
    )


def _metadata(recording: dict[str, Any]) -> list[str]:
    spacing, frame_time, num = recording["spacing_mm"], recording["frame_time_s"], recording["num_frames"]
    return [
        recording["source"],
        f"{num} frame{'s' if num > 1 else ''} of {recording['width']} x {recording['height']}",
        f"pixels of {spacing[0]:.3f} x {spacing[1]:.3f} mm" if spacing else "pixel spacing unknown",
        f"{1 / frame_time:.0f} frames/s" if frame_time else "frame rate unknown",
    ]


def _warnings(analysis: Analysis) -> str:
    def paragraph(finding: trust.Finding) -> str:
        text = html.escape(finding.reason)
        if not finding.is_withdrawn:
            return f'<p class="warning">{text}</p>'
        return f'<p class="withdrawn"><b>Not measured: {html.escape(", ".join(finding.quantities))}.</b> {text}</p>'

    return "".join(map(paragraph, analysis.findings))


def _tiles(values: dict[str, Any]) -> str:
    def tile(label: str, value: float | None, quantity: str, unit: str) -> str:
        if value is not None:
            return f'<div class="tile"><b>{value:.0f}<small>{unit}</small></b><span>{label}</span></div>'
        reason = html.escape(values["withdrawn"].get(quantity, ""))
        return f'<div class="tile" title="{reason}"><b class="none">not measured</b><span>{label}</span></div>'

    if values["recording"]["num_frames"] == 1:
        curves = values["curves"]
        return "".join(tile(label, curves.get(key, [None])[0], q, unit) for label, key, q, unit in _STILL_TILES)
    ends = values["ejection_fraction_interval_percent"]
    likely = f" (90 % interval {ends[0]:.0f} to {ends[1]:.0f})" if ends and None not in ends else ""
    first, *others = _LOOP_TILES
    return "".join(
        tile(label, values[key], quantity, unit)
        for label, key, quantity, unit in ((first[0] + likely, *first[1:]), *others)
    )


def _pictures(analysis: Analysis, values: dict[str, Any], pool: ThreadPoolExecutor) -> _Pictures:
    measurements, frame_time = analysis.measurements, analysis.recording.frame_time
    frames, num_frames = analysis.frames_of_sector(), len(analysis.labels)
    animation = pool.submit(figures.animation(frames, analysis.labels, frame_time)) if num_frames > 1 else None

    def still(text: str, t: int, labels: np.ndarray = analysis.labels) -> str:
        return _picture(figures.still(frames[t], labels[t]), "png", text)

    ends = (
        [("end-diastole", measurements.end_diastole), ("end-systole", measurements.end_systole)]
        if measurements.has_phases
        else []
    )
    named = [(f"{phase}, frame {t}", t) for phase, t in ends]
    uncertain = [
        _picture(
            figures.uncertainty_still(frames[t], analysis.uncertainty[t]),
            "png",
            f"uncertainty ({_uncertainty_method(analysis, t)}), {text}",
        )
        for text, t in named or [("the frame" if num_frames == 1 else "frame 0", 0)]
    ]
    corrected, correction = [], analysis.correction
    if correction is not None and (correction.changed > 0).any():
        t = int(correction.changed.argmax())
        corrected = [still(f"as predicted, frame {t}", t, correction.before), still(f"corrected, frame {t}", t)]
    if animation:
        main = _picture(animation.result(), "webp", "the loop with its outlines")
    else:
        main = still("the frame with its outlines", 0)
    return _Pictures(
        main,
        [still(text, t) for text, t in named],
        uncertain,
        _curves(analysis, values) if num_frames > 1 else [],
        corrected,
    )


def _curves(analysis: Analysis, values: dict[str, Any]) -> list[str]:
    frame_time, num_frames = analysis.recording.frame_time, len(analysis.labels)
    shown = figures.curves(analysis.measurements, frame_time, withdrawn=analysis.withdrawn)
    pictures = [_picture(shown, "svg+xml", "the left ventricle over time")] if shown else []
    for motion, when in ((analysis.motion_before, "before the correction, "), (analysis.motion, "")):
        if motion is not None and values["inconsistent_frames"] is not None:
            num_wrong = int((~motion.is_consistent).sum())
            text = f"temporal consistency: {when}{num_wrong} of {num_frames} frames are inconsistent"
            pictures.append(_picture(figures.consistency(motion, frame_time), "svg+xml", text))
    return pictures


def _uncertainty_method(analysis: Analysis, frame: int) -> str:
    """What the map of a frame shows."""
    if analysis.quality is None:
        return "softmax entropy"
    return f"disagreement with matching training shapes, quality {analysis.quality[frame]:.0f} %"


def _picture(content: bytes, kind: str, text: str) -> str:
    data, text = base64.b64encode(content).decode(), html.escape(text)
    return f'<figure><img alt="{text}" src="data:image/{kind};base64,{data}"><figcaption>{text}</figcaption></figure>'


def _section(title: str, kind: str, pictures: list[str]) -> str:
    return f'<h2>{title}</h2><div class="{kind}">{"".join(pictures)}</div>' if pictures else ""
