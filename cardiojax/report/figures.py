"""Figures of tables and experiments. The only importer of Matplotlib."""

import functools
import io
from collections.abc import Container
from typing import Any

import numpy as np
from scipy import ndimage, sparse

from cardiojax.analysis import trust
from cardiojax.clinical import Agreement
from cardiojax.labels import STRUCTURES
from cardiojax.measurement.volumes import Measurements

#: The outlines that are drawn, in colours that stay apart for every kind of colour vision (Okabe and Ito).
OUTLINES: dict[str, tuple[tuple[int, ...], tuple[int, int, int]]] = {
    "LV cavity": (STRUCTURES["lv"], (86, 180, 233)),
    "epicardium": (STRUCTURES["epicardium"], (230, 159, 0)),
    "left atrium": (STRUCTURES["left_atrium"], (0, 190, 125)),
}
#: Longer side of a picture, in pixels.
_SIZE = 720
_LINE_WIDTH = 1.1  # half of that of an outline, in pixels
_FAR = 0.05  # pixels of a blurred mask that are nearer than this to 0 or 1 lie outside the line


def overlay(frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Enlarges or reduces a frame for the screen and draws smooth outlines on it.

    Args:
        frame: Grey values in [0, 1], ``[h, w]``.
        labels: Label map, ``[h, w]``.

    Returns:
        Colours, uint8 ``[720 h / side, 720 w / side, 3]`` where ``side`` is the longer one.
    """
    picture = np.repeat(_enlarge(frame)[..., None], 3, -1)
    for members, colour in OUTLINES.values():
        soft = _enlarge(np.isin(labels, members), smooth=True)
        rows, cols = np.nonzero((soft > _FAR) & (soft < 1 - _FAR))
        height, width = soft.shape
        down = (soft[np.minimum(rows + 1, height - 1), cols] - soft[np.maximum(rows - 1, 0), cols]) / 2
        across = (soft[rows, np.minimum(cols + 1, width - 1)] - soft[rows, np.maximum(cols - 1, 0)]) / 2
        slope = np.hypot(down, across)
        distance = np.abs(soft[rows, cols] - 0.5) / np.maximum(slope, 1e-3)  # to the outline, in pixels
        weight = np.clip(_LINE_WIDTH + 0.5 - distance, 0, 1)[:, None]
        picture[rows, cols] = (1 - weight) * picture[rows, cols] + weight * np.array(colour, np.float32) / 255
    return (picture.clip(0, 1) * 255).astype(np.uint8)


def _enlarge(image: np.ndarray, *, smooth: bool = False) -> np.ndarray:
    """Brings an image to the size of the screen, and blurs it there so that the borders of a mask are smooth."""
    zoom = _SIZE / max(image.shape)
    rows, cols = (_interpolation(n, zoom, max(_LINE_WIDTH, 0.5 * zoom) if smooth else 0.0) for n in image.shape)
    return (cols @ (rows @ image.astype(np.float32)).T).T


@functools.lru_cache(maxsize=16)
def _interpolation(num: int, zoom: float, blur: float) -> sparse.csr_array:
    """Linear interpolation of one axis as a matrix: a product takes a tenth of the time of ``ndimage.zoom``."""
    matrix = ndimage.zoom(np.eye(num), (zoom, 1), order=1, grid_mode=True, mode="nearest")
    return sparse.csr_array((ndimage.gaussian_filter1d(matrix, blur, axis=0) if blur else matrix).astype(np.float32))


def curves(
    measurements: Measurements,
    frame_time: float | None,
    *,
    before: Measurements | None = None,
    withdrawn: Container[str] = (),
) -> bytes | None:
    """Draws area, length and volume over a loop with end-diastole and end-systole marked.

    Args:
        measurements: The measurements.
        frame_time: Seconds from frame to frame, if known.
        before: Other measurements of the same loop, drawn as dotted lines.
        withdrawn: Quantities that are left out.

    Returns:
        An SVG file; None if all are left out.
    """
    length_unit, area_unit, volume_unit = (
        ("mm", "mm²", "ml") if measurements.is_calibrated else ("px", "px²", "10³ px³")
    )
    panels = [
        (title, unit, name)
        for title, unit, quantity, name in (
            ("LV area", area_unit, trust.AREAS, "lv_area"),
            ("LV length", length_unit, trust.LENGTHS, "lv_length"),
            ("LV volume, single plane", volume_unit, trust.VOLUMES, "lv_volume"),
        )
        if quantity not in withdrawn
    ]
    if not panels:
        return None
    figure = _figure(10, 2.8)
    time = np.arange(len(measurements.lv_area)) * (frame_time or 1.0)
    for axes, (title, unit, name) in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        values = getattr(measurements, name)
        if before is not None:
            axes.plot(time, getattr(before, name), ":", color="#d55e00", linewidth=1.4)
        axes.plot(time, values, color="#2a6f97", linewidth=1.8, marker="o" if len(time) == 1 else None)
        for phase, frame, colour in (
            ("ED", measurements.end_diastole, "#0072b2"),
            ("ES", measurements.end_systole, "#d55e00"),
        ):
            if np.isfinite(values[frame]):
                axes.plot(time[frame], values[frame], "o", color=colour)
                axes.annotate(phase, (time[frame], values[frame]), textcoords="offset points", xytext=(5, 5))
        axes.set(title=title, ylabel=unit, xlabel="s" if frame_time else "frame")
        axes.margins(y=0.2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    return _svg(figure)


def bland_altman(measured: np.ndarray, reference: np.ndarray, agreement: Agreement, *, name: str, unit: str) -> bytes:
    """Difference against mean of two ways of measuring, with bias and limits of agreement, as SVG."""
    figure = _figure(5.5, 4)
    axes = figure.subplots()
    axes.plot((measured + reference) / 2, measured - reference, "o", color="#2a6f97", alpha=0.7, markersize=5)
    bias, low, high = (float(x) for x in (agreement.bias, agreement.lower_limit, agreement.upper_limit))
    for value, style, text in ((bias, "-", "bias"), (low, "--", "-1.96 sd"), (high, "--", "+1.96 sd")):
        axes.axhline(value, color="#d55e00", linestyle=style, linewidth=1.2)
        axes.annotate(f"{text} {value:+.1f}", (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    axes.set(xlabel=f"mean {name}, {unit}", ylabel=f"measured - reference, {unit}", title=name)
    axes.margins(y=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def _svg(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return buffer.getvalue()
