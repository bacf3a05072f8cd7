"""One view of a report: its loop with outlines as layers, its curves, and its stills for paper."""

import base64
import html
import json
import string
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from cardiojax.analysis import trust
from cardiojax.analysis.recording import Analysis
from cardiojax.measurement.motion import ATTRIBUTES
from cardiojax.report import pictures
from cardiojax.report.figures import OUTLINES

#: Frames of a loop beyond which only every second one or fewer is shown, to bound the size of the page.
_MAX_FRAMES = 120
#: Class in the style sheet of each of `cardiojax.report.figures.OUTLINES`.
_CLASSES = ("lv", "epicardium", "atrium")
#: Colours in the style sheet for other structures, in turn.
_NUM_OTHER_COLOURS = 4
_URL = "data:image/webp;base64,"


class Panel(NamedTuple):
    """Parts of a page.

    Attributes:
        player: The viewer of the loop.
        charts: The curves; empty for a still.
        stills: Pictures of the phases.
        data: What the script shows, as JSON in an element of its own.
    """

    player: str
    charts: str
    stills: str
    data: str


class _Loop(NamedTuple):
    """What is shown of a loop inside its sector, for the frames ``shown``: pictures and outlines of each layer."""

    shown: list[int]
    frames: list[bytes]
    uncertainty: list[bytes]
    outlines: dict[str, list[list[str] | None]]
    height: int
    width: int
    aspect: float


def make_panel(analysis: Analysis, *, title: str, index: int, pool: ThreadPoolExecutor, subtitle: str = "") -> Panel:
    """Draws one view.

    Args:
        analysis: The analysis.
        title: What the view is called.
        index: Its number on the page.
        pool: Encodes pictures while Python draws.
        subtitle: What is written below the title.

    Returns:
        Its parts as HTML.
    """
    loop = _draw(analysis, pool)
    curves = _curves(analysis) if len(analysis.labels) > 1 else []
    consistency = _consistency(analysis)
    data = _data(analysis, loop, title, curves, [ratio for _, ratio in consistency])
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":  # nothing in it may end the element or begin another
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Panel(
        _player(analysis, title, _with_count(subtitle, len(loop.shown), len(analysis.labels)), index),
        _charts(curves, [text for text, _ in consistency], html.escape(title), index),
        _stills(analysis, loop, title),
        f'<script type="application/json" id="data-{index}">{text}</script>',
    )


def template(name: str) -> string.Template:
    """A file of the page with its placeholders."""
    return string.Template(resource(name))


def resource(name: str) -> str:
    """The content of a file of the page."""
    return resources.files("cardiojax.report").joinpath("web", name).read_text("utf-8")


def _draw(analysis: Analysis, pool: ThreadPoolExecutor) -> _Loop:
    top, bottom, left, right = analysis.sector.box

    def inside(maps: np.ndarray) -> np.ndarray:
        return maps[:, top:bottom, left:right]

    beats = analysis.measurements.beats
    phases = [*_phases(analysis).values(), *beats.end_diastole, *beats.end_systole]
    shown = pictures.choose_frames(len(analysis.labels), [int(t) for t in phases], most=_MAX_FRAMES)
    frames = pool.map(pictures.encode_frame, inside(analysis.frames_of_sector())[shown])
    uncertainty = pool.map(pictures.encode_uncertainty, inside(analysis.uncertainty)[shown])
    layers = {
        "predicted": analysis.predicted.labels,
        "anatomical": analysis.predicted.labels if analysis.correction is None else analysis.correction.labels,
        "final": analysis.labels,
    }
    outlines: dict[str, list[list[str] | None]] = {}
    before = np.full_like(analysis.labels, -1)
    for name, labels in layers.items():
        changed = [i for i, t in enumerate(shown) if (labels[t] != before[t]).any()]
        paths = pictures.outline_paths(inside(labels)[[shown[i] for i in changed]])
        of_frames: dict[int, list[str]] = dict(zip(changed, paths, strict=True))
        outlines[name], before = [of_frames.get(i) for i in range(len(shown))], labels
    if analysis.others is not None:
        masks = inside(analysis.others.labels)[shown]
        others = [pictures.mask_paths(masks == i) for i in range(1, len(analysis.others.names) + 1)]
        for frames_of_layer in outlines.values():
            for paths, *extra in zip(frames_of_layer, *others, strict=True):
                if paths is not None:  # else those of the layer before
                    paths += extra
    spacing = analysis.recording.spacing
    aspect = spacing[0] / spacing[1] if spacing else 1.0
    return _Loop(shown, [*frames], [*uncertainty], outlines, bottom - top, right - left, aspect)


def _structures(analysis: Analysis) -> dict[str, str]:
    """Name and class in the style sheet of each structure that is drawn."""
    others = () if analysis.others is None else analysis.others.names
    named = {name.replace("_", " "): f"other{i % _NUM_OTHER_COLOURS}" for i, name in enumerate(others)}
    return dict(zip(OUTLINES, _CLASSES, strict=True)) | named


def _phases(analysis: Analysis) -> dict[str, int]:
    measurements = analysis.measurements
    if not measurements.has_phases:
        return {}
    return {"end_diastole": measurements.end_diastole, "end_systole": measurements.end_systole}


def _beats(analysis: Analysis) -> list[list[int | None]]:
    """End-diastole, end-systole and the next end-diastole of each beat, the last none where the loop ends before."""
    beats = analysis.measurements.timing.beats
    return [
        [int(first), int(smallest), int(following) if is_whole else None]
        for first, smallest, following, is_whole, valid in zip(
            np.asarray(beats.end_diastole),
            np.asarray(beats.end_systole),
            np.asarray(beats.next_end_diastole),
            np.asarray(beats.is_whole),
            np.asarray(beats.valid),
            strict=True,
        )
        if valid
    ]


def _data(
    analysis: Analysis,
    loop: _Loop,
    title: str,
    curves: list[dict[str, Any]],
    consistency: list[list[list[float | None]]],
) -> dict[str, Any]:
    phases, beats, replaced = _phases(analysis), _beats(analysis), analysis.replaced
    ends: list[int | None] = [*phases.values()]
    beat = next((beat for beat in beats if beat[:2] == ends), None)
    if beat is None and ends:  # two stills, or the extremes of a loop without a beat
        beat = [*ends, None] if phases["end_diastole"] < phases["end_systole"] else [None, *reversed(ends)]
    return {
        "title": title,
        "width": loop.width,
        "height": loop.height,
        "aspect": round(loop.aspect, 5),
        "scale": pictures.PATH_SCALE,
        "structures": [*_structures(analysis).values()],
        "num_frames": len(analysis.labels),
        "frame_time": analysis.recording.frame_time,
        "frames": loop.shown,
        "images": [*map(_base64, loop.frames)],
        "uncertainty": [*map(_base64, loop.uncertainty)],
        "outlines": loop.outlines,
        "notes": [_note(analysis, t) for t in loop.shown],
        "changed": [round(float(share), 3) for share in replaced.changed],
        "replaced": replaced.is_replaced.tolist(),
        "phases": phases or None,
        "beats": beats,
        "beat": beat,
        "curves": curves,
        "consistency": consistency,
    }


def _base64(file: bytes) -> str:
    return base64.b64encode(file).decode()


def _note(analysis: Analysis, frame: int) -> str:
    """What was done to the outlines of a frame."""
    notes, anatomical, temporal = [], analysis.correction, analysis.temporal_correction
    if analysis.pair_frames is not None and frame in analysis.pair_frames:
        notes.append("segmented together with the other phase")
    if anatomical is not None and anatomical.changed[frame] > 0:
        notes.append(f"anatomical correction of {_share(anatomical.changed[frame])}")
    if temporal is not None and temporal.replaced[frame]:
        notes.append("outlines interpolated between the neighbours")
    elif temporal is not None and temporal.changed[frame] > 0:
        notes.append(f"temporal correction of {_share(temporal.changed[frame])}")
    if not analysis.motion.is_consistent[frame]:
        notes.append("temporally inconsistent")
    if analysis.quality is not None:
        notes.append(f"quality {analysis.quality[frame]:.0f} %")
    return ", ".join(notes)


def _share(changed: float | np.floating) -> str:
    return f"{max(100 * changed, 1):.0f} % of the heart's area"


def _curves(analysis: Analysis) -> list[dict[str, Any]]:
    """Name, unit and values of each curve that is not withdrawn, with those before the corrections if they differ."""
    measured, drawn = analysis.measurements, analysis.predicted.measurements
    strains = (analysis.motion.mid_wall_strain, analysis.predicted.motion.mid_wall_strain)
    units, per_cm2 = (("cm²", "mm", "ml"), 0.01) if measured.is_calibrated else (("px²", "px", "10³ px³"), 1.0)
    curves = []
    for title, unit, quantity, factor, after, before in (
        ("LV area", units[0], trust.AREAS, per_cm2, measured.lv_area, drawn.lv_area),
        ("LV volume, single plane", units[2], trust.VOLUMES, 1.0, measured.lv_volume, drawn.lv_volume),
        ("LV length", units[1], trust.LENGTHS, 1.0, measured.lv_length, drawn.lv_length),
        ("longitudinal strain, mid-wall", "%", trust.STRAIN, 1.0, *strains),
    ):
        if quantity in analysis.withdrawn or not np.isfinite(after).any():
            continue
        values, predicted = ([_number(factor * value) for value in curve] for curve in (after, before))
        curves.append(
            {"title": title, "unit": unit, "values": values, "predicted": None if values == predicted else predicted}
        )
    return curves


def _consistency(analysis: Analysis) -> list[tuple[str, list[list[float | None]]]]:
    """Indicator of temporal consistency over its threshold, of each frame and attribute, with a caption."""
    if len(analysis.labels) == 1:
        return []
    maps = []
    for motion, when in ((analysis.motion_before, "before the temporal correction"), (analysis.motion, "as measured")):
        if motion is not None and np.isfinite(motion.ratio).any():
            num = int((~motion.is_consistent).sum())
            caption = f"{when}: {num} of {len(motion.ratio)} frames are inconsistent"
            maps.append((caption, [[_number(ratio, 2) for ratio in ratios] for ratios in motion.ratio]))
    return maps


def _number(value: float | np.floating, digits: int = 3) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


def _player(analysis: Analysis, title: str, subtitle: str, index: int) -> str:
    is_loop, title = len(analysis.labels) > 1, html.escape(title)
    corrections = (analysis.correction is not None, analysis.temporal_correction is not None)
    legend = "".join(
        f'<span><i class="{kind}"></i>{html.escape(name)}</span>' for name, kind in _structures(analysis).items()
    )
    return template("panel.html").substitute(
        index=index,
        title=title,
        subtitle=html.escape(subtitle),
        alt=f"{title}, {'a loop' if is_loop else 'a frame'} with the outlines of the left ventricle and atrium",
        controls=_controls(analysis, title) if is_loop else "",
        layers=_layers(*corrections, uncertainty=_uncertainty_method(analysis)),
        legend=legend,
    )


def _with_count(subtitle: str, num_shown: int, num_frames: int) -> str:
    """Says if not all frames of a long loop are shown."""
    note = f"{num_shown} of {num_frames} frames are shown" if num_shown < num_frames else ""
    return " · ".join(part for part in (subtitle, note) if part)


def _layers(has_anatomical: bool, has_temporal: bool, *, uncertainty: str) -> str:
    """Buttons that show and hide the layers."""

    def button(name: str, key: str, text: str, title: str, *, pressed: bool = False, enabled: bool = True) -> str:
        state = f'aria-pressed="{str(pressed).lower()}"{"" if enabled else " disabled"}'
        return (
            f'<button type="button" data-act="{name}" {state} aria-keyshortcuts="{key}" title="{html.escape(title)}">'
            f'{text} <kbd aria-hidden="true">{key}</kbd></button>'
        )

    final = "temporally consistent (final)" if has_temporal else "final"
    is_corrected = has_anatomical or has_temporal
    return "".join(
        (
            button("predicted", "1", "network", "as drawn by the network, dotted", enabled=is_corrected),
            button("anatomical", "2", "anatomical", "anatomically corrected, dashed", enabled=has_anatomical),
            button("final", "3", final, "after all corrections, solid", pressed=True),
            button("uncertainty", "U", "uncertainty", uncertainty),
        )
    )


def _controls(analysis: Analysis, title: str) -> str:
    phases = "".join(
        f'<button type="button" data-act="{act}" aria-keyshortcuts="{key}" aria-label="Show {name}">{text}</button>'
        for act, key, name, text in (("ed", "D", "end-diastole", "ED"), ("es", "S", "end-systole", "ES"))
        if analysis.measurements.has_phases
    )
    return template("controls.html").substitute(title=title, phases=phases)


def _uncertainty_method(analysis: Analysis) -> str:
    """What the uncertainty map shows."""
    return "entropy of the network" if analysis.quality is None else "disagreement with matching training shapes"


def _charts(curves: list[dict[str, Any]], captions: list[str], title: str, index: int) -> str:
    if not curves and not captions:
        return ""
    charts = "".join(
        f'<figure class="chart"><figcaption><span>{html.escape(curve["title"])}, {curve["unit"]}</span>'
        f'<output aria-hidden="true"></output></figcaption>'
        f'<svg role="img" aria-label="{html.escape(curve["title"])} over time, {curve["unit"]}"></svg></figure>'
        for curve in curves
    )
    names = "".join(f"<li>{name.replace('_', ' ').replace('lv', 'LV')}</li>" for name in ATTRIBUTES)
    matrices = "".join(
        f'<p>{html.escape(text)}</p><div class="matrix"><ul>{names}</ul>'
        f'<svg class="consistency" role="img" aria-label="Temporal consistency, {html.escape(text)}"></svg></div>'
        for text in captions
    )
    details = f"<details><summary>Temporal consistency of the shape</summary>{matrices}</details>" if matrices else ""
    key = (
        '<p class="keys">Point at a curve to see its frame. Bands: beats, systole darker. Dotted: before the '
        "corrections. Triangles: frames whose outlines were corrected, large and red where they were replaced.</p>"
    )
    return (
        f'<section class="charts" id="charts-{index}" aria-label="{title} over time">'
        f'<h2 class="on-paper">{title} over time</h2>{charts}{key if charts else ""}{details}</section>'
    )


def _stills(analysis: Analysis, loop: _Loop, title: str) -> str:
    """End-diastole and end-systole, or the first frame, with outlines and uncertainty."""
    phases = {name.replace("_", "-"): t for name, t in _phases(analysis).items()}
    figures = []
    for name, t in (phases or {"first frame": 0}).items():
        i = loop.shown.index(t)
        text = f"{name}, frame {t}" if phases else name
        kinds = [*_structures(analysis).values()]
        figures.append(_still(loop, i, text, kinds))
        figures.append(
            _still(loop, i, f"uncertainty ({_uncertainty_method(analysis)}), {name}", kinds, is_uncertainty=True)
        )
    heading = f"{html.escape(title)}: {' and '.join(phases) if phases else 'outlines and uncertainty'}"
    return (
        f'<section class="pictures" aria-label="{heading}"><h2>{heading}</h2>'
        f'<div class="stills">{"".join(figures)}</div></section>'
    )


def _still(loop: _Loop, i: int, text: str, kinds: list[str], *, is_uncertainty: bool = False) -> str:
    """A frame with its outlines, or its uncertainty, as a vector picture that needs no script."""
    width, height = pictures.PATH_SCALE * loop.width, pictures.PATH_SCALE * loop.height
    size = f'width="{width}" height="{height}" preserveAspectRatio="none"'
    below = 'class="below" ' if is_uncertainty else ""
    content = f'<image {below}{size} href="{_URL}{_base64(loop.frames[i])}"/>'
    if is_uncertainty:
        content += f'<image class="map" {size} href="{_URL}{_base64(loop.uncertainty[i])}"/>'
    else:
        layers = (loop.outlines[name][i] for name in ("final", "anatomical", "predicted"))
        paths = next(paths for paths in layers if paths is not None)
        content += "".join(f'<path class="{kind}" d="{d}"/>' for kind, d in zip(kinds, paths, strict=True))
    text = html.escape(text)
    return (
        f'<figure><svg role="img" aria-label="{text}" viewBox="0 0 {width} {height * loop.aspect:.1f}">'
        f'<g transform="scale(1 {loop.aspect:.5f})">{content}</g></svg><figcaption>{text}</figcaption></figure>'
    )
