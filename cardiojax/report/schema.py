"""The measurements of a report as JSON and CSV values; what was not measured, or is withdrawn, is null."""

import csv
import dataclasses
import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import cardiojax
from cardiojax.analysis import trust
from cardiojax.analysis.pairs import choose_pair_model
from cardiojax.analysis.recording import Analysis, AnalyzeConfig
from cardiojax.correction.anatomical import AnatomicalCorrection
from cardiojax.labels import NUM_CLASSES
from cardiojax.measurement.motion import Motion
from cardiojax.measurement.volumes import Measurements

#: Raised whenever a key changes its name or meaning.
SCHEMA_VERSION = 3

_MOTION = ("strain_endocardial_percent", "strain_mid_wall_percent", "worst_ratio_to_consistency_threshold")


def to_dict(analysis: Analysis, *, config: AnalyzeConfig, name: str) -> dict[str, Any]:
    """The measurements as JSON values.

    Args:
        analysis: The analysis.
        config: The options of the analysis.
        name: What the recording is called.

    Returns:
        Numbers, strings, lists and dictionaries; null where something was not measured or is withdrawn.
    """
    motion, pair_frames = analysis.motion, analysis.pair_frames
    names = named_config(config)
    return {
        "schema_version": SCHEMA_VERSION,
        "recording": _recording(analysis, name),
        "model": names.model,
        "ensemble": list(names.ensemble),
        "pair_model": None if pair_frames is None else Path(str(_pair_model(config))).name,
        "pair_frames": None if pair_frames is None else pair_frames.tolist(),
        "cardiojax": cardiojax.__version__,
        **_phases(analysis),
        **_strains(analysis, motion),
        "heart_rate_per_min": json_number(motion.heart_rate, _reason(analysis, trust.HEART_RATE)),
        "beats": _beats(analysis),
        "inconsistent_frames": int((~motion.is_consistent).sum()) if np.isfinite(motion.ratio).any() else None,
        "curves": {
            f"{name}_{unit}": _numbers(curve, _reason(analysis, quantity))
            for name, unit, quantity, curve in _curves(analysis.measurements)
        },
        "other_structures": {
            name: {"label": NUM_CLASSES + i, f"area_{unit}": _numbers(areas, _reason(analysis, trust.AREAS))}
            for i, (name, unit, areas) in enumerate(_other_areas(analysis))
        },
        "anatomical_correction": _anatomical_correction(analysis.correction),
        "temporal_correction": _temporal_correction(analysis),
        "frame_quality_percent": None if analysis.quality is None else _numbers(analysis.quality),
        "before_corrections": _before_corrections(analysis),
        "replaced_frames": np.flatnonzero(analysis.replaced.is_replaced).tolist(),
        "withdrawn": analysis.withdrawn,
        "warnings": list(analysis.warnings),
    }


def named_config(config: AnalyzeConfig) -> AnalyzeConfig:
    """The options with the names of weight files without their folders, which may identify a person."""
    model, pair_model, *ensemble = (Path(n).name for n in (config.model, config.pair_model, *config.ensemble))
    return dataclasses.replace(config, model=model, pair_model=pair_model, ensemble=tuple(ensemble))


def model_files(config: AnalyzeConfig, analysis: Analysis) -> list[str]:
    """Names or weight files of the networks that an analysis used, each once."""
    pair_model = None if analysis.pair_frames is None else _pair_model(config)
    return list(dict.fromkeys([config.model, *config.ensemble, *([pair_model] if pair_model else [])]))


def to_csv(analysis: Analysis) -> str:
    """The measurements of each frame, one a row.

    Args:
        analysis: The analysis.

    Returns:
        The file's content; cells are empty where something was not measured or is withdrawn.
    """
    buffer, motion, measurements = io.StringIO(), analysis.motion, analysis.measurements
    writer = csv.writer(buffer, lineterminator="\n")
    curves = [
        (f"{name}_{unit}", _numbers(curve, _reason(analysis, q))) for name, unit, q, curve in _curves(measurements)
    ]
    worst = np.where(np.isnan(motion.ratio), -np.inf, motion.ratio).max(1)
    strain = _reason(analysis, trust.STRAIN)
    others = {
        f"{name}_area_{unit}": _numbers(areas, _reason(analysis, trust.AREAS))
        for name, unit, areas in _other_areas(analysis)
    }
    columns = dict(curves) | {
        _MOTION[0]: _numbers(motion.endocardial_strain, strain),
        _MOTION[1]: _numbers(motion.mid_wall_strain, strain),
        _MOTION[2]: _numbers(np.where(worst < 0, np.nan, worst)),
        "mean_uncertainty": _numbers(map(_mean_uncertainty, analysis.labels, analysis.uncertainty)),
        "quality_percent": None if analysis.quality is None else _numbers(analysis.quality),
        "changed_percent": None if analysis.correction is None else _numbers(100 * analysis.correction.changed),
        **others,
    }
    writer.writerow(["frame", "time_s", *columns])
    frame_time = analysis.recording.frame_time
    for t in range(len(analysis.labels)):
        time = None if frame_time is None else round(t * frame_time, 5)
        writer.writerow([t, time, *(None if column is None else column[t] for column in columns.values())])
    return buffer.getvalue()


def _pair_model(config: AnalyzeConfig) -> str | None:
    return choose_pair_model(config.model, config.pair_model)


def _recording(analysis: Analysis, name: str) -> dict[str, Any]:
    recording, grid = analysis.recording, analysis.grid
    num_frames, height, width = recording.frames.shape
    box = np.array(analysis.sector.box) * grid.stride + np.repeat([grid.window[0], grid.window[2]], 2)
    return {
        "name": name,
        "source": recording.source,
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "spacing_mm": list(recording.spacing) if recording.spacing else None,
        "frame_time_s": recording.frame_time,
        "sector_box": box.tolist(),
        "analysis_stride": grid.stride,
    }


def _phases(analysis: Analysis) -> dict[str, Any]:
    measurements, fraction = analysis.measurements, _reason(analysis, trust.EJECTION_FRACTION)
    frames = {"end_diastole": measurements.end_diastole, "end_systole": measurements.end_systole}
    interval = analysis.ejection_interval
    return {
        **{f"{phase}_frame": frame if measurements.has_phases else None for phase, frame in frames.items()},
        "ejection_fraction_interval_percent": None if interval is None else _numbers(interval, fraction),
        "ejection_fraction_range_percent": _numbers(measurements.ejection_fraction_range, fraction),
        **_fractions(analysis, measurements),
        **_sizes(analysis, measurements),
    }


def _fractions(analysis: Analysis, measurements: Measurements) -> dict[str, float | None]:
    fraction, area_change = (_reason(analysis, q) for q in (trust.EJECTION_FRACTION, trust.AREA_CHANGE))
    return {
        "ejection_fraction_percent": json_number(measurements.ejection_fraction, fraction),
        "ejection_fraction_one_length_percent": json_number(measurements.ejection_fraction_one_length, fraction),
        "lv_area_change_percent": json_number(measurements.area_change, area_change),
    }


def _sizes(analysis: Analysis, measurements: Measurements) -> dict[str, float | None]:
    """Volumes, areas and lengths at the phases of the analysis."""
    phases = (("diastolic", analysis.measurements.end_diastole), ("systolic", analysis.measurements.end_systole))
    has_sizes = measurements.is_calibrated and measurements.has_phases
    return {
        f"end_{phase}_{quantity}_{unit}": json_number(curve[frame] if has_sizes else math.nan, _reason(analysis, name))
        for quantity, unit, name, curve in (
            ("volume", "ml", trust.VOLUMES, measurements.lv_volume),
            ("area", "mm2", trust.AREAS, measurements.lv_area),
            ("length", "mm", trust.LENGTHS, measurements.lv_length),
        )
        for phase, frame in phases
    }


def _strains(analysis: Analysis, motion: Motion) -> dict[str, float | None]:
    reason = _reason(analysis, trust.STRAIN)
    return {
        "longitudinal_strain_endocardial_percent": json_number(motion.endocardial_peak, reason),
        "longitudinal_strain_mid_wall_percent": json_number(motion.mid_wall_peak, reason),
    }


def _before_corrections(analysis: Analysis) -> dict[str, float | None]:
    """The numbers of the outlines as the networks drew them; of a still, those of the frame."""
    measurements, motion = analysis.predicted.measurements, analysis.predicted.motion
    if len(analysis.labels) == 1:
        return {
            f"{name}_{unit}": json_number(curve[0], _reason(analysis, quantity))
            for name, unit, quantity, curve in _curves(measurements)
        }
    return _fractions(analysis, measurements) | _sizes(analysis, measurements) | _strains(analysis, motion)


def _beats(analysis: Analysis) -> list[dict[str, Any]]:
    """Every beat with its own numbers."""
    beats, reason = analysis.measurements.beats, _reason(analysis, trust.EJECTION_FRACTION)
    return [
        {
            "end_diastole_frame": int(end_diastole),
            "end_systole_frame": int(end_systole),
            "is_whole": bool(is_whole),
            "ejection_fraction_percent": json_number(fraction, reason),
        }
        for end_diastole, end_systole, is_whole, fraction, *_ in zip(*beats, strict=True)
    ]


def _anatomical_correction(correction: AnatomicalCorrection | None) -> dict[str, Any] | None:
    """Frames whose outlines met the anatomical criteria, and what was done to the others."""
    if correction is None:
        return None
    return {
        "valid_before": int(correction.was_valid.sum()),
        "valid_after": int(correction.valid.sum()),
        "corrected": [
            {
                "frame": int(t),
                "changed_percent": json_number(100 * correction.changed[t]),
                "latent_distance": json_number(correction.distance[t]),
            }
            for t in np.flatnonzero(correction.changed > 0)
        ],
    }


def _temporal_correction(analysis: Analysis) -> dict[str, Any] | None:
    """Frames that were changed to make the loop temporally consistent."""
    correction, before = analysis.temporal_correction, analysis.motion_before
    if correction is None or before is None:
        return None
    return {
        "inconsistent_before": int((~before.is_consistent).sum()),
        "moved": np.flatnonzero(correction.moved).tolist(),
        "replaced": np.flatnonzero(correction.replaced).tolist(),
        "changed_percent": _numbers(100 * correction.changed),
    }


def _curves(measurements: Measurements) -> tuple[tuple[str, str, str, np.ndarray], ...]:
    """Name, unit, quantity and values of what is measured in each frame."""
    units = ("mm2", "mm", "ml") if measurements.is_calibrated else ("px2", "px", "kpx3")
    return (
        ("lv_area", units[0], trust.AREAS, measurements.lv_area),
        ("lv_length", units[1], trust.LENGTHS, measurements.lv_length),
        ("lv_volume", units[2], trust.VOLUMES, measurements.lv_volume),
    )


def _other_areas(analysis: Analysis) -> list[tuple[str, str, np.ndarray]]:
    """Name, unit and area in each frame of the structures that are drawn and not measured otherwise."""
    if analysis.others is None:
        return []
    spacing = analysis.recording.spacing
    unit, pixel = ("px2", 1.0) if spacing is None else ("mm2", math.prod(analysis.grid.spacing(spacing)))
    return [
        (name, unit, pixel * (analysis.others.labels == i).sum((1, 2)))
        for i, name in enumerate(analysis.others.names, 1)
    ]


def _mean_uncertainty(labels: np.ndarray, uncertainty: np.ndarray) -> float:
    return float(uncertainty[labels > 0].mean()) if labels.any() else math.nan


def _reason(analysis: Analysis, quantity: str) -> str | None:
    """Why a quantity is withdrawn, if it is."""
    return analysis.withdrawn.get(quantity)


def json_number(value: float | np.floating, withdrawn: str | None = None) -> float | None:
    """A number to four decimals; None if it is none or withdrawn."""
    return round(float(value), 4) if withdrawn is None and math.isfinite(value) else None


def _numbers(values: Iterable[float | np.floating], withdrawn: str | None = None) -> list[float | None]:
    return [json_number(value, withdrawn) for value in values]
