"""The report: a folder written whole or not at all, whose page opens offline."""

import base64
import csv
import dataclasses
import html
import io
import json
import math
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import cardiojax
from cardiojax import zoo
from cardiojax.analysis.recording import Analysis, AnalyzeConfig
from cardiojax.correction.anatomical import AnatomicalCorrection
from cardiojax.data import write_labels
from cardiojax.measurement.volumes import Measurements
from cardiojax.report import figures

_MOTION = ("strain_endocardial_percent", "strain_mid_wall_percent", "worst_ratio_to_consistency_threshold")
_FILES = {"report.html", "measurements.json", "measurements.csv", "masks.nii.gz", "config.json"}


class OutputFolderError(Exception):
    """The folder for a report cannot be written, in one sentence."""


def check_folder(folder: str | Path) -> Path:
    """Refuses a folder that holds anything but an earlier report.

    Args:
        folder: Where a report shall go.

    Returns:
        The absolute path.

    Raises:
        OutputFolderError: If it is a file, or holds other files.
    """
    folder = Path(folder).resolve()
    if folder.exists() and not folder.is_dir():
        raise OutputFolderError(f"{folder} is a file, expected a folder for the report")
    names = {p.name for p in folder.iterdir()} if folder.exists() else set()
    others = sorted(names - _FILES) or ([] if "report.html" in names else sorted(names))
    if others:
        raise OutputFolderError(
            f"{folder} holds {others[0]}{' and other files' if len(others) > 1 else ''} that no report wrote; "
            "choose an empty folder"
        )
    return folder


def write_report(analysis: Analysis, folder: str | Path, *, config: AnalyzeConfig, name: str) -> Path:
    """Writes ``report.html``, ``measurements.json`` and ``.csv``, ``masks.nii.gz`` and ``config.json``.

    Everything is written beside the folder first and then put in its place, so that no half-written report is left.

    Args:
        analysis: What was found.
        folder: Target; an earlier report there is replaced.
        config: How it was found.
        name: What the recording is called.

    Returns:
        The path of the page.

    Raises:
        OutputFolderError: If the folder holds other files or cannot be written.
    """
    folder = check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise OutputFolderError(f"{folder} cannot be written ({error.strerror})") from error
    try:
        values = to_dict(analysis, config=config, name=name)
        (temporary / "measurements.json").write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", "utf-8")
        (temporary / "measurements.csv").write_text(_rows(analysis), "utf-8")
        (temporary / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n", "utf-8")
        facts = {"spacing": analysis.recording.spacing, "frame_time": analysis.recording.frame_time}
        with ThreadPoolExecutor(1) as beside:  # files are compressed while Python draws
            written = beside.submit(write_labels, temporary / "masks.nii.gz", analysis.labels, **facts)
            (temporary / "report.html").write_text(_page(analysis, values, beside), "utf-8")
            written.result()
        temporary.chmod(0o755)
        _put_in_place(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder / "report.html"


def _put_in_place(new: Path, folder: Path) -> None:
    """Moves a folder to its place; what was there goes only once the new one stands."""
    if not folder.exists():
        new.rename(folder)
        return
    check_folder(folder)  # it may have changed while we worked
    old = new.with_name(f"{new.name}.old")
    folder.rename(old)
    try:
        new.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def to_dict(analysis: Analysis, *, config: AnalyzeConfig, name: str) -> dict[str, Any]:
    """The measurements as JSON values; what could not be measured is null.

    Args:
        analysis: What was found.
        config: How it was found.
        name: What the recording is called.
    """
    found, motion, recording = analysis.measurements, analysis.motion, analysis.recording
    ed, es = found.end_diastole, found.end_systole

    def at(curve, frame):
        return _number(curve[frame]) if found.is_calibrated and found.has_phases else None

    return {
        "recording": {
            "name": name,
            "source": recording.source,
            "num_frames": len(recording.frames),
            "height": recording.frames.shape[1],
            "width": recording.frames.shape[2],
            "spacing_mm": list(recording.spacing) if recording.spacing else None,
            "frame_time_s": recording.frame_time,
        },
        "model": config.model,
        "ensemble": list(config.ensemble),
        "cardiojax": cardiojax.__version__,
        "end_diastole_frame": ed if found.has_phases else None,
        "end_systole_frame": es if found.has_phases else None,
        "ejection_fraction_percent": _number(found.ejection_fraction),
        "ejection_fraction_interval_percent": _interval(analysis),
        "ejection_fraction_one_length_percent": _number(found.ejection_fraction_one_length),
        "fractional_area_change_percent": _number(found.fractional_area_change),
        "longitudinal_strain_endocardial_percent": _number(motion.endocardial_peak),
        "longitudinal_strain_mid_wall_percent": _number(motion.mid_wall_peak),
        "heart_rate_per_min": _number(motion.heart_rate),
        "inconsistent_frames": int((~motion.is_consistent).sum()) if np.isfinite(motion.ratio).any() else None,
        "temporal_correction": _temporal_correction(analysis),
        "end_diastolic_volume_ml": at(found.lv_volume, ed),
        "end_systolic_volume_ml": at(found.lv_volume, es),
        "end_diastolic_area_mm2": at(found.lv_area, ed),
        "end_systolic_area_mm2": at(found.lv_area, es),
        "end_diastolic_length_mm": at(found.lv_length, ed),
        "end_systolic_length_mm": at(found.lv_length, es),
        "curves": {
            f"{name}_{unit}": [_number(value) for value in curve]
            for (name, unit), curve in zip(
                _units(found), (found.lv_area, found.lv_length, found.lv_volume), strict=True
            )
        },
        "plausibility": _plausibility(analysis.correction),
        "frame_quality_percent": None if analysis.quality is None else [_number(q) for q in analysis.quality],
        "warnings": list(analysis.warnings),
    }


def _interval(analysis: Analysis) -> list[float | None] | None:
    """Of the ejection fraction, with 90 % coverage."""
    return analysis.ejection_interval and [_number(end) for end in analysis.ejection_interval]


def _plausibility(correction: AnatomicalCorrection | None) -> dict[str, Any] | None:
    """Frames whose outlines passed the anatomical criteria, and what was done to the others."""
    if correction is None:
        return None
    rows = np.flatnonzero(correction.changed > 0)
    return {
        "plausible_before": int(correction.plausible.sum()),
        "plausible_after": int(correction.valid.sum()),
        "corrected": [
            {
                "frame": int(t),
                "changed_percent": _number(100 * correction.changed[t]),
                "latent_distance": _number(correction.distance[t]),
            }
            for t in rows
        ],
    }


def _temporal_correction(analysis: Analysis) -> dict[str, Any] | None:
    """Frames that were changed for the loop to move like a heart."""
    temporal_correction, before = analysis.temporal_correction, analysis.motion_before
    if temporal_correction is None or before is None:
        return None
    return {
        "inconsistent_before": int((~before.is_consistent).sum()),
        "moved": np.flatnonzero(temporal_correction.moved).tolist(),
        "replaced": np.flatnonzero(temporal_correction.replaced).tolist(),
        "changed_percent": [_number(100 * share) for share in temporal_correction.changed],
    }


def _uncertainty_method(analysis: Analysis, frame: int) -> str:
    """What the map of a frame shows."""
    if analysis.quality is None:
        return "softmax entropy"
    return f"disagreement with plausible hearts, quality {analysis.quality[frame]:.0f} %"


def _units(found: Measurements) -> tuple[tuple[str, str], ...]:
    units = ("mm2", "mm", "ml") if found.is_calibrated else ("px2", "px", "kpx3")
    return tuple(zip(("lv_area", "lv_length", "lv_volume"), units, strict=True))


def _number(value: float | np.floating) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None


def _rows(analysis: Analysis) -> str:
    found = analysis.measurements
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    units = (f"{name}_{unit}" for name, unit in _units(found))
    writer.writerow(["frame", "time_s", *units, *_MOTION, "mean_uncertainty", "quality_percent", "changed_percent"])
    motion = analysis.motion
    worst = np.where(np.isnan(motion.ratio), -np.inf, motion.ratio).max(1)
    curves = (motion.endocardial_strain, motion.mid_wall_strain, np.where(worst < 0, np.nan, worst))
    for t, row in enumerate(zip(found.lv_area, found.lv_length, found.lv_volume, *curves, strict=True)):
        time = None if analysis.recording.frame_time is None else round(t * analysis.recording.frame_time, 5)
        inside = analysis.labels[t] > 0
        uncertainty = float(analysis.uncertainty[t][inside].mean()) if inside.any() else math.nan
        changed = 0.0 if analysis.correction is None else 100 * analysis.correction.changed[t]
        quality = math.nan if analysis.quality is None else analysis.quality[t]
        writer.writerow([t, time, *(_number(v) for v in (*row, uncertainty, quality, changed))])
    return buffer.getvalue()


def _page(analysis: Analysis, values: dict[str, Any], beside: ThreadPoolExecutor) -> str:
    found = analysis.measurements
    ed, es = found.end_diastole, found.end_systole
    num_frames = len(analysis.labels)
    animation = beside.submit(figures.animation(analysis)) if num_frames > 1 else None

    def picture(content: bytes, kind: str, text: str) -> str:
        data = base64.b64encode(content).decode()
        return (
            f'<figure><img alt="{text}" src="data:image/{kind};base64,{data}"><figcaption>{text}</figcaption></figure>'
        )

    def still(text: str, frame: int) -> str:
        return picture(figures.still(analysis, frame), "png", text)

    def section(title: str, kind: str, figures: list[str]) -> str:
        return f'<h2>{title}</h2><div class="{kind}">{"".join(figures)}</div>' if figures else ""

    def tile(label: str, value: float | None, unit: str, digits: int = 0) -> str:
        shown = "&ndash;" if value is None else f"{value:.{digits}f}<small>{unit}</small>"
        return f'<div class="tile"><b>{shown}</b><span>{label}</span></div>'

    ends = values["ejection_fraction_interval_percent"]
    likely = f" (90 % of the time {ends[0]:.0f} to {ends[1]:.0f})" if ends and None not in ends else ""
    if num_frames > 1:
        tiles = [
            tile(f"ejection fraction, single plane{likely}", values["ejection_fraction_percent"], "%"),
            tile("the same, one length for both phases", values["ejection_fraction_one_length_percent"], "%"),
            tile("end-diastolic volume", values["end_diastolic_volume_ml"], "ml"),
            tile("end-systolic volume", values["end_systolic_volume_ml"], "ml"),
            tile("fractional area change", values["fractional_area_change_percent"], "%"),
            tile("longitudinal strain, mid-wall", values["longitudinal_strain_mid_wall_percent"], "%"),
            tile("longitudinal strain, endocardial", values["longitudinal_strain_endocardial_percent"], "%"),
            tile("LV length at end-diastole", values["end_diastolic_length_mm"], "mm"),
            tile("heart rate", values["heart_rate_per_min"], "/min"),
        ]
    else:
        titles = (("LV area", "mm²"), ("LV length", "mm"), ("LV volume, single plane", "ml"))
        curves = values["curves"].values()
        tiles = [
            tile(title, curve[0] if found.is_calibrated else None, unit)
            for (title, unit), curve in zip(titles, curves, strict=True)
        ]
    stills = [(f"end-diastole, frame {ed}", ed), (f"end-systole, frame {es}", es)] if found.has_phases else []
    frame_time = analysis.recording.frame_time
    over_time = [picture(figures.curves(found, frame_time), "svg+xml", "the left ventricle over time")]
    for motion, when in ((analysis.motion_before, "as drawn, "), (analysis.motion, "")):
        if motion is not None and values["inconsistent_frames"] is not None:
            num_wrong = int((~motion.is_consistent).sum())
            text = f"temporal consistency: {when}{num_wrong} of {num_frames} frames move unlike a heart"
            over_time.append(picture(figures.consistency(motion, frame_time), "svg+xml", text))
    corrected = []
    if analysis.correction is not None and (analysis.correction.changed > 0).any():
        t = int(analysis.correction.changed.argmax())
        before = analysis._replace(labels=analysis.correction.before)
        corrected = [
            picture(figures.still(before, t), "png", f"as the model drew it, frame {t}"),
            still(f"corrected, frame {t}", t),
        ]
    uncertain = stills or [("the frame", 0)]
    main = (
        picture(animation.result(), "webp", "the loop with its outlines")
        if animation
        else picture(figures.still(analysis, 0), "png", "the frame with its outlines")
    )
    legend = "".join(
        f'<span><i style="background:rgb{colour}"></i>{text}</span>' for text, (_, colour) in figures.OUTLINES.items()
    )
    cards = [zoo.card(name, count=False) for name in (values["model"], *values["ensemble"])]
    licences = {f"{card.get('licence', 'unknown licence')}. {card.get('citation', '')}." for card in cards}
    recording = values["recording"]
    spacing = recording["spacing_mm"]
    facts = [
        recording["source"],
        f"{num_frames} frames of {recording['width']} x {recording['height']}",
        f"pixels of {spacing[0]:.3f} x {spacing[1]:.3f} mm" if spacing else "pixel spacing unknown",
        f"{1 / recording['frame_time_s']:.0f} frames/s" if recording["frame_time_s"] else "frame rate unknown",
    ]
    return _TEMPLATE.format(
        name=html.escape(recording["name"]),
        facts=html.escape(" · ".join(facts)),
        warnings="".join(f"<p class=warning>{html.escape(w)}</p>" for w in values["warnings"]),
        tiles="".join(tiles),
        legend=legend,
        main=main,
        stills=section("End-diastole and end-systole", "pair", [still(text, t) for text, t in stills]),
        curves=section("Over time", "curves", over_time if num_frames > 1 else []),
        corrected=section("The largest correction", "pair", corrected),
        uncertain="".join(
            picture(
                figures.uncertainty_still(analysis, t),
                "png",
                f"uncertainty ({_uncertainty_method(analysis, t)}), {text}",
            )
            for text, t in uncertain
        ),
        model=html.escape("; ".join(f"{card['name']} ({card.get('data', '')})" for card in cards)),
        licence=html.escape(f"Weights: {' '.join(sorted(licences))}"),
        version=html.escape(values["cardiojax"]),
    )


_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{name} - cardiojax</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; --ink: #1d2733; --faint: #5f6f81; --paper: #f6f7f9; --card: #fff; --line: #dde3ea; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e8edf3; --faint: #9aa9b9; --paper: #12171d; --card: #1b222b; --line: #2d3845; }}
  .curves img {{ filter: invert(.9) hue-rotate(180deg); }}
}}
body {{ margin: 0 auto; max-width: 1080px; padding: 2rem 1.2rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; }} h2 {{ font-size: 1.05rem; margin: 2rem 0 .6rem; }}
.facts, figcaption, footer {{ color: var(--faint); font-size: .86rem; }}
.warning {{ border-left: 4px solid #d55e00; background: var(--card); padding: .5rem .8rem; margin: .6rem 0; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem; margin: 1.4rem 0; }}
.tile {{ background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; }}
.tile b {{ display: block; font-size: 1.9rem; font-weight: 600; }}
.tile small {{ font-size: 1rem; margin-left: .2em; color: var(--faint); }}
.tile span {{ color: var(--faint); font-size: .86rem; }}
.pair {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 1rem; }}
figure {{ margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .6rem; }}
img {{ display: block; max-width: 100%; margin: 0 auto .3rem; border-radius: 4px; }}
.main img {{ width: 100%; max-width: 720px; }} .pair img, .curves img {{ width: 100%; }}
.curves figure {{ overflow-x: auto; }} .curves img {{ min-width: 640px; }}
.legend span {{ margin-right: 1.2rem; font-size: .9rem; }}
.legend i {{ display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }}
footer {{ margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }}
</style></head><body>
<h1>{name}</h1><div class="facts">{facts}</div>
{warnings}
<div class="tiles">{tiles}</div>
<div class="legend">{legend}</div>
<h2>Outlines</h2><div class="main">{main}</div>
{stills}
{curves}
{corrected}
<h2>Where the model is unsure</h2><div class="pair">{uncertain}</div>
<footer>Model: {model}. {licence} Made with cardiojax {version} for research; not a medical device.</footer>
</body></html>
"""
