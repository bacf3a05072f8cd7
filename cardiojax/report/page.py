"""The report as one HTML page with everything inside, so that it opens offline and loads nothing."""

import base64
import hashlib
import html
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cardiojax import zoo
from cardiojax.analysis.recording import Analysis
from cardiojax.report import headline
from cardiojax.report.panel import make_panel, resource, template

#: Keys of the viewer and what they do.
_KEYS = (
    ("Space", "play or pause"),
    ("← →", "previous, next frame"),
    ("Home End", "first, last frame"),
    ("D S", "end-diastole, end-systole"),
    ("1 2 3 U", "layers"),
)


def render(analysis: Analysis, values: dict[str, Any], pool: ThreadPoolExecutor, *, models: Sequence[str]) -> str:
    """Writes the page.

    Args:
        analysis: The analysis.
        values: The same as `cardiojax.report.to_dict` gives it.
        pool: Encodes pictures while Python draws.
        models: Names or weight files of the networks.

    Returns:
        The HTML.
    """
    name, num_frames = values["recording"]["name"], values["recording"]["num_frames"]
    panel = make_panel(analysis, title="Loop" if num_frames > 1 else "Image", index=0, pool=pool)
    cards = [zoo.card(model, count=False) for model in models]
    stated = [(card.get("licence", "unknown licence"), card.get("citation")) for card in cards]
    licences = {"".join(f"{text}. " for text in texts if text) for texts in stated}
    numbers = headline.rows(values)
    style, script = resource("style.css"), resource("charts.js") + resource("viewer.js")
    return template("page.html").substitute(
        policy=_policy(style, script),
        style=style,
        script=script,
        layout="single",
        name=html.escape(name),
        metadata=html.escape(" · ".join(_metadata(values["recording"]))),
        withdrawn=headline.withdrawn(analysis.findings),
        tiles=headline.tiles(numbers),
        notice=_notice(analysis),
        linked="",
        panels=f"{panel.player}{panel.charts}{_keys() if num_frames > 1 else ''}",
        warnings=headline.warnings(analysis.findings),
        table=headline.table(numbers),
        stills=panel.stills,
        model=html.escape("; ".join(f"{card['name']} ({card.get('data', 'own weights')})" for card in cards)),
        licence=html.escape(f"Weights: {''.join(sorted(licences)).strip()}"),
        version=html.escape(values["cardiojax"]),
        data=panel.data,
    )


def _policy(style: str, script: str) -> str:
    """The content security policy: no network; this style sheet and this script alone."""

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    sources = f"style-src {digest(style)}; script-src {digest(script)}"
    return f"default-src 'none'; img-src data:; {sources}; base-uri 'none'; form-action 'none'"


def _metadata(recording: dict[str, Any]) -> list[str]:
    spacing, frame_time, num = recording["spacing_mm"], recording["frame_time_s"], recording["num_frames"]
    return [
        recording["source"],
        f"{num} frame{'s' if num > 1 else ''} of {recording['width']} x {recording['height']}",
        f"pixels of {spacing[0]:.3f} x {spacing[1]:.3f} mm" if spacing else "pixel spacing unknown",
        *([f"{1 / frame_time:.0f} frames/s" if frame_time else "frame rate unknown"] if num > 1 else []),
    ]


def _notice(analysis: Analysis) -> str:
    """A line below the numbers: how many outlines they rest on were changed, and that there are warnings."""
    replaced, num_warnings = analysis.replaced, sum(not finding.is_withdrawn for finding in analysis.findings)
    num_changed, num_frames = int((replaced.changed > 0).sum()), len(replaced.changed)
    parts = (
        [f"Outlines of {num_changed} of {num_frames} frame{'s' if num_frames > 1 else ''} corrected"]
        if num_changed
        else []
    )
    if num_changed and replaced.is_replaced.any():
        parts[0] += f", {int(replaced.is_replaced.sum())} replaced"
    if num_warnings:
        parts.append(f'<a href="#warnings">{num_warnings} warning{"s" if num_warnings > 1 else ""}</a>')
    return ". ".join(parts)


def _keys() -> str:
    lines = " · ".join(f"<kbd>{'</kbd> <kbd>'.join(keys.split())}</kbd> {text}" for keys, text in _KEYS)
    return f'<p class="keys">Keys: {lines}</p>'
