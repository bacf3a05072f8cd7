"""The report as one HTML page with everything inside, so that it opens offline and loads nothing."""

import base64
import hashlib
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cardiojax
from cardiojax import zoo
from cardiojax.analysis.recording import Analysis
from cardiojax.analysis.trust import Finding
from cardiojax.report import headline
from cardiojax.report.panel import Panel, make_panel, resource, template
from cardiojax.study import Clip, Patient, StudyAnalysis

#: Keys of the viewer and what they do.
_KEYS = (
    ("Space", "play or pause"),
    ("← →", "previous, next frame"),
    ("Home End", "first, last frame"),
    ("D S", "end-diastole, end-systole"),
    ("1 2 3 U", "layers"),
)
_VIEWS = {"2CH": "Two-chamber view", "4CH": "Four-chamber view"}
_RULES = (
    "The CAMUS rule takes the longest length of both views and phases for all volumes, the textbook that of each "
    "phase, so that its end-systolic volume is smaller."
)
_SEXES = {"F": "female", "M": "male"}


class _Content(NamedTuple):
    """What a page shows, as text and HTML."""

    name: str
    metadata: str
    tiles: str
    notice: Sequence[str]
    panels: Sequence[Panel]
    findings: Sequence[tuple[str, Finding]]
    tables: str
    models: Sequence[str]


def render(analysis: Analysis, values: dict[str, Any], pool: ThreadPoolExecutor, *, models: Sequence[str]) -> str:
    """Writes the page of a recording.

    Args:
        analysis: The analysis.
        values: The same as `cardiojax.report.to_dict` gives it.
        pool: Encodes pictures while Python draws.
        models: Names or weight files of the networks.

    Returns:
        The HTML.
    """
    title = "Loop" if len(analysis.labels) > 1 else "Image"
    numbers = headline.rows(values)
    content = _Content(
        name=values["recording"]["name"],
        metadata=_describe(analysis),
        tiles=headline.first_tiles(numbers),
        notice=[_corrected(analysis)],
        panels=[make_panel(analysis, title=title, index=0, pool=pool)],
        findings=[("", finding) for finding in analysis.findings],
        tables=_section("All measurements", headline.table(numbers)),
        models=models,
    )
    return _page(content)


def render_study(
    study: StudyAnalysis,
    pool: ThreadPoolExecutor,
    *,
    name: str,
    clip_names: Sequence[str],
    models: Sequence[str],
    others: Iterable[tuple[str, str]] = (),
) -> str:
    """Writes the page of a study: its views beside each other, its numbers, and which recordings were chosen.

    Args:
        study: The study.
        pool: Encodes pictures while Python draws.
        name: What the study is called; one of a single recording is called as the recording is.
        clip_names: What each recording is called.
        models: Names or weight files of the networks.
        others: Name of each file that was not analysed, and why.

    Returns:
        The HTML.
    """
    chosen = study.chosen
    analyses = {view: _analysis(clip) for view, clip in chosen.items()}
    is_one = len(study.clips) == 1
    described = {
        view: (clip_names[study.clips.index(clip)], _describe(analyses[view])) for view, clip in chosen.items()
    }
    panels = [
        make_panel(
            analysis, title=_VIEWS[view], index=i, pool=pool, subtitle="" if is_one else " · ".join(described[view])
        )
        for i, (view, analysis) in enumerate(analyses.items())
    ]
    prefixes = {view: f"{_VIEWS[view]}: " if len(analyses) > 1 else "" for view in analyses}
    of_views = [(prefixes[view], finding) for view, analysis in analyses.items() for finding in analysis.findings]
    clips = [_describe_clip(clip, each) for clip, each in zip(study.clips, clip_names, strict=True)]
    clips += [(file, "", "", reason) for file, reason in others]
    first, numbers = headline.study_rows(study.measurements, analyses)
    patient = _patient(study.patient)
    content = _Content(
        name=clip_names[0] if is_one else name,
        metadata=" · ".join(part for part in (*(text for _, text in described.values() if is_one), patient) if part),
        tiles=headline.tiles(first),
        notice=_corrected_of_views(analyses),
        panels=panels,
        findings=[*(("", finding) for finding in study.findings), *of_views],
        tables=_section("All measurements", headline.table(numbers))
        + _section("Recordings", headline.clips_table(clips)),
        models=models,
    )
    return _page(content)


def _analysis(clip: Clip) -> Analysis:
    if clip.analysis is None:
        raise ValueError("a chosen clip has no analysis")
    return clip.analysis


def _page(content: _Content) -> str:
    style, script = resource("style.css"), resource("charts.js") + resource("viewer.js")
    cards = [zoo.card(model, count=False) for model in content.models]
    stated = [(card.get("licence", "unknown licence"), card.get("citation")) for card in cards]
    licences = {"".join(f"{text}. " for text in texts if text) for texts in stated}
    has_loop, is_pair = any(panel.charts for panel in content.panels), len(content.panels) > 1
    num_warnings = sum(not finding.is_withdrawn for _, finding in content.findings)
    link = f'<a href="#warnings">{num_warnings} warning{"s" if num_warnings > 1 else ""}</a>' if num_warnings else ""
    return template("page.html").substitute(
        policy=_policy(style, script),
        style=style,
        script=script,
        layout="several" if is_pair else "single",
        name=html.escape(content.name),
        metadata=html.escape(content.metadata),
        withdrawn=headline.withdrawn(content.findings),
        tiles=content.tiles,
        notice=" ".join([*(f"<span>{html.escape(part)}</span>" for part in content.notice if part), link]),
        linked=resource("linked.html") if is_pair and has_loop else "",
        panels="".join(panel.player + panel.charts for panel in content.panels) + (_keys() if has_loop else ""),
        warnings=headline.warnings(content.findings),
        tables=content.tables,
        stills="".join(panel.stills for panel in content.panels),
        model=html.escape("; ".join(f"{card['name']} ({card.get('data', 'own weights')})" for card in cards)),
        licence=html.escape(f"Weights: {''.join(sorted(licences)).strip()}"),
        version=html.escape(cardiojax.__version__),
        data="".join(panel.data for panel in content.panels),
    )


def _policy(style: str, script: str) -> str:
    """The content security policy: no network; this style sheet and this script alone."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    sources = f"style-src {digest(style)}; script-src {digest(script)}"
    return f"default-src 'none'; img-src data:; {sources}; base-uri 'none'; form-action 'none'"


def _describe(analysis: Analysis) -> str:
    """Format, frames, pixels and frame rate of a recording; width before height."""
    recording = analysis.recording
    num, height, width = recording.frames.shape
    spacing, frame_time = recording.spacing, recording.frame_time
    parts = [
        recording.source,
        f"{num} frame{'s' if num > 1 else ''} of {width} x {height}",
        f"pixels of {spacing[1]:.3f} x {spacing[0]:.3f} mm" if spacing else "pixel spacing unknown",
        *([f"{1 / frame_time:.0f} frames/s" if frame_time else "frame rate unknown"] if num > 1 else []),
    ]
    return " · ".join(parts)


def _patient(patient: Patient) -> str:
    parts = [
        "" if patient.sex is None else _SEXES[patient.sex],
        "" if patient.height_cm is None else f"{patient.height_cm:.0f} cm",
        "" if patient.weight_kg is None else f"{patient.weight_kg:.0f} kg",
    ]
    return " · ".join(part for part in parts if part)


def _describe_clip(clip: Clip, name: str) -> tuple[str, str, str, str]:
    """Name, view, quality and choice of a recording."""
    view = "" if clip.view is None else _VIEWS.get(clip.view.view, clip.view.view)
    if clip.view is not None:
        view += f" ({100 * float(max(clip.view.probs)):.0f} %)"
    quality = "" if math.isnan(clip.quality) else f"{100 * clip.quality:.0f} %"
    return name, view, quality, f"{'chosen: ' if clip.analysis is not None else ''}{clip.reason}"


def _corrected(analysis: Analysis) -> str:
    """How many outlines were changed and replaced."""
    replaced = analysis.replaced
    num_changed, num_frames = int((replaced.changed > 0).sum()), len(replaced.changed)
    if not num_changed:
        return ""
    num_replaced = int(replaced.is_replaced.sum())
    text = f"Outlines of {num_changed} of {num_frames} frame{'s' if num_frames > 1 else ''} corrected"
    return f"{text}, {num_replaced} replaced." if num_replaced else f"{text}."


def _corrected_of_views(analyses: Mapping[str, Analysis]) -> list[str]:
    """The same for each view, after how the two rules for the ejection fraction differ."""
    texts = {view: text for view, analysis in analyses.items() if (text := _corrected(analysis))}
    parts = [f"{_VIEWS[view]}: {text[:1].lower()}{text[1:]}" for view, text in texts.items()]
    return [_RULES, *parts] if len(analyses) > 1 else parts


def _section(heading: str, content: str) -> str:
    return f'<section aria-label="{heading}"><h2>{heading}</h2>{content}</section>'


def _keys() -> str:
    lines = " · ".join(f"<kbd>{'</kbd> <kbd>'.join(keys.split())}</kbd> {text}" for keys, text in _KEYS)
    return f'<p class="keys">Keys: {lines}</p>'
