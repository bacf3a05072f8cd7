"""The measurements of a study as JSON values."""

from collections.abc import Sequence
from typing import Any

import cardiojax
from cardiojax.analysis.recording import AnalyzeConfig
from cardiojax.analysis.view import VIEWS
from cardiojax.report.schema import SCHEMA_VERSION, json_number, named_config, to_dict
from cardiojax.study import Clip, OtherFile, Patient, Quantity, StudyAnalysis


def study_to_dict(
    study: StudyAnalysis,
    *,
    config: AnalyzeConfig,
    names: Sequence[str],
    others: Sequence[OtherFile] = (),
) -> dict[str, Any]:
    """The measurements of a study as JSON values.

    A study of one recording has all keys of that recording as well; one of several holds them under ``views``.

    Args:
        study: The study.
        config: The options of the analysis.
        names: What each clip is called.
        others: Files that are no recordings; their names are not written.

    Returns:
        Numbers, strings, lists and dictionaries; null where something was not measured or is withheld.
    """
    indices = {"2CH": study.two_chamber, "4CH": study.four_chamber}
    of_views = {
        view: to_dict(analysis, config=config, name=names[index])
        for view, index in indices.items()
        if index is not None and (analysis := study.clips[index].analysis) is not None
    }
    of_clip = next(iter(of_views.values())) if len(study.clips) == 1 else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "cardiojax": cardiojax.__version__,
        "model": named_config(config).model,
        **of_clip,
        "patient": _patient(study.patient),
        "measurements": {quantity.key: _quantity(quantity) for quantity in study.measurements.quantities},
        "clips": [
            _clip(clip, name, i in indices.values())
            for i, (clip, name) in enumerate(zip(study.clips, names, strict=True))
        ],
        "corrected_phase_frames": {v: list(frames) for v, frames in study.measurements.corrected_frames.items()},
        "findings": [finding.reason for finding in study.findings],
        "other_files": [other.reason for other in others],
        **({} if of_clip else {"views": of_views}),
    }


def _patient(patient: Patient) -> dict[str, Any]:
    return {"sex": patient.sex, "height_cm": patient.height_cm, "weight_kg": patient.weight_kg}


def _quantity(quantity: Quantity) -> dict[str, Any]:
    limits = quantity.reference
    return {
        "name": quantity.name,
        "unit": quantity.unit,
        "value": json_number(quantity.value),
        "before_corrections": json_number(quantity.drawn),
        "range_over_beats": [json_number(value) for value in quantity.beats] if quantity.num_beats else None,
        "num_beats": quantity.num_beats,
        "interval_95": None if quantity.interval is None else [json_number(value) for value in quantity.interval],
        "interval_source": quantity.interval_source,
        "method": quantity.method,
        "source": quantity.source,
        "reference_range": None if limits is None else [limits.low, limits.high],
        "reference_source": None if limits is None else limits.source,
        "grade": quantity.grade,
        "withheld": quantity.reason,
    }


def _clip(clip: Clip, name: str, is_chosen: bool) -> dict[str, Any]:
    parts = clip.parts
    return {
        "name": name,
        "view": None if clip.view is None else clip.view.view,
        "view_probabilities": None
        if clip.view is None
        else {view: json_number(prob) for view, prob in zip(VIEWS, clip.view.probs, strict=True)},
        "quality": json_number(clip.quality),
        "quality_parts": None
        if parts is None
        else {
            "certainty": json_number(parts.certainty),
            "validity": json_number(parts.validity),
            "beats": json_number(parts.beats),
            "frame_rate": json_number(parts.frame_rate),
            "length_mm": json_number(parts.length),
        },
        "num_files": len(clip.files),
        "is_chosen": is_chosen,
        "reason": clip.reason,
    }
