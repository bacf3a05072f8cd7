"""Pictures of the report. The only door to Matplotlib."""

import io

import numpy as np
from scipy import ndimage

from cardiojax import labels
from cardiojax.pipeline.analyze import Analysis, Measurements

#: Colours that stay apart for every kind of colour vision (Okabe and Ito).
COLOURS: dict[int, tuple[int, int, int]] = {
    labels.LV: (86, 180, 233),
    labels.MYOCARDIUM: (230, 159, 0),
    labels.LEFT_ATRIUM: (0, 158, 115),
}
_MAX_SIDE = 720


def overlay(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Draws the outline of each structure on a frame.

    Args:
        frame: Grey values in [0, 1], ``[h, w]``.
        mask: Label map, ``[h, w]``.

    Returns:
        Colours, uint8 ``[h, w, 3]``.
    """
    picture = np.repeat((np.clip(frame, 0, 1) * 255).astype(np.uint8)[..., None], 3, -1)
    width = 1 if max(frame.shape) < 500 else 2
    for label, colour in COLOURS.items():
        region = mask == label
        outline = region & ~ndimage.binary_erosion(region, iterations=width, border_value=1)
        picture[outline] = colour
    return picture


def animation(analysis: Analysis) -> bytes:
    """The loop with its outlines as an animated WebP, at the recording's own speed."""
    pictures = [_picture(overlay(f, m)) for f, m in zip(analysis.recording.frames, analysis.labels, strict=True)]
    milliseconds = round(1000 * (analysis.recording.frame_time or 0.04))
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, quality=80, method=2
    )
    return buffer.getvalue()


def still(analysis: Analysis, frame: int) -> bytes:
    """One frame with its outlines, as PNG."""
    return _png(overlay(analysis.recording.frames[frame], analysis.labels[frame]))


def uncertainty_still(analysis: Analysis, frame: int) -> bytes:
    """One frame in grey with the uncertainty in colour on top, as PNG."""
    from matplotlib import colormaps

    grey = np.repeat(analysis.recording.frames[frame][..., None], 3, -1)
    doubt = analysis.uncertainty[frame]
    colour = colormaps["inferno"](doubt)[..., :3]
    weight = np.clip(1.5 * doubt, 0, 0.9)[..., None]
    return _png(((1 - weight) * grey + weight * colour).clip(0, 1) * 255)


def curves(measurements: Measurements, frame_time: float | None) -> bytes:
    """Area, length and volume over the loop with end-diastole and end-systole marked, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.8), layout="constrained")
    FigureCanvasSVG(figure)
    time = np.arange(len(measurements.lv_area)) * (frame_time or 1.0)
    length_unit, area_unit, volume_unit = (
        ("mm", "mm²", "ml") if measurements.is_calibrated else ("px", "px²", "10³ px³")
    )
    panels = (
        ("LV area", area_unit, measurements.lv_area),
        ("LV length", length_unit, measurements.lv_length),
        ("LV volume, single plane", volume_unit, measurements.lv_volume),
    )
    for axes, (title, unit, values) in zip(figure.subplots(1, 3), panels, strict=True):
        axes.plot(time, values, color="#2a6f97", linewidth=1.8, marker="o" if len(time) == 1 else None)
        for name, frame, colour in (
            ("ED", measurements.end_diastole, "#0072b2"),
            ("ES", measurements.end_systole, "#d55e00"),
        ):
            if np.isfinite(values[frame]):
                axes.plot(time[frame], values[frame], "o", color=colour)
                axes.annotate(name, (time[frame], values[frame]), textcoords="offset points", xytext=(5, 5))
        axes.set(title=title, ylabel=unit, xlabel="s" if frame_time else "frame")
        axes.margins(y=0.2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return buffer.getvalue()


def _picture(values: np.ndarray):
    from PIL import Image

    picture = Image.fromarray(np.asarray(values).astype(np.uint8))
    factor = _MAX_SIDE / max(picture.size)
    return (
        picture.resize([round(factor * n) for n in picture.size], Image.Resampling.LANCZOS) if factor < 1 else picture
    )


def _png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    _picture(values).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
