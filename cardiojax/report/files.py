"""The files of a report."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from cardiojax.analysis.recording import Analysis, AnalyzeConfig
from cardiojax.data import printable, write_labels
from cardiojax.report.dicom import write_dicom
from cardiojax.report.output import staged_output
from cardiojax.report.page import render, render_study
from cardiojax.report.schema import model_files, named_config, to_csv, to_dict
from cardiojax.report.study import study_to_dict
from cardiojax.runtime import thread_pool
from cardiojax.storage import to_json
from cardiojax.study import OtherFile, StudyAnalysis


def write_study(
    study: StudyAnalysis,
    folder: str | Path,
    *,
    config: AnalyzeConfig,
    keep_names: bool = False,
    others: Sequence[OtherFile] = (),
    dicom: bool = False,
    keep_identity: bool = False,
) -> Path:
    """Writes the report of a study: ``report.html``, ``measurements.json``, ``config.json``, and files of each view.

    These are ``measurements.csv`` and ``masks.nii.gz`` for a study of one recording; for several, the name of the view
    is part of theirs, as in ``masks_4ch.nii.gz``. Pictures and names are as in `write_report`.

    Args:
        study: The study.
        folder: Target; see `cardiojax.report.output.check_output`.
        config: The options of the analysis.
        keep_names: Whether recordings are called by the names of their files, which may identify the patient.
        others: Files that are no recordings.
        dicom: Whether DICOM objects are written too, see `cardiojax.report.dicom.write_dicom`.
        keep_identity: Whether they name the patient and belong to the study of the files.

    Returns:
        The path of the page, in the folder as it was given.

    Raises:
        OutputFolderError: If the folder holds other files or cannot be written.
    """
    names = [printable(clip.name) if keep_names else f"clip {i + 1}" for i, clip in enumerate(study.clips)]
    chosen = {view: clip.analysis for view, clip in study.chosen.items() if clip.analysis is not None}
    with staged_output(folder) as staging, thread_pool(1) as pool:  # files are compressed while Python draws
        values = study_to_dict(study, config=config, names=names, others=others)
        (staging / "measurements.json").write_text(to_json(values, indent=2) + "\n", "utf-8")
        _write_config(staging, config)
        written = [
            pool.submit(_write_view, staging, analysis, _suffix(study, view)) for view, analysis in chosen.items()
        ]
        page = render_study(
            study,
            pool,
            name=names[0] if len(names) == 1 else "study",
            clip_names=names,
            models=list(dict.fromkeys(name for analysis in chosen.values() for name in model_files(config, analysis))),
            others=[(f"file {i + 1}", other.reason) for i, other in enumerate(others)],
        )
        (staging / "report.html").write_text(page, "utf-8")
        if dicom:
            write_dicom(study, staging, keep_identity=keep_identity)
        for view in written:
            view.result()
    return Path(folder) / "report.html"


def write_report(analysis: Analysis, folder: str | Path, *, config: AnalyzeConfig, name: str) -> Path:
    """Writes ``report.html``, ``measurements.json`` and ``.csv``, ``masks.nii.gz`` and ``config.json``.

    Pictures show only what lies inside the sector, because text around it may identify the patient. Of weight
    files the name is written without the folder. If anything fails, an earlier report in the folder stays as it was.

    Args:
        analysis: The analysis.
        folder: Target; see `cardiojax.report.output.check_output`.
        config: The options of the analysis.
        name: What the recording is called; the name of its file may identify the patient.

    Returns:
        The path of the page, in the folder as it was given.

    Raises:
        OutputFolderError: If the folder holds other files or cannot be written.
    """
    name = printable(name)
    with staged_output(folder) as staging, thread_pool(1) as pool:  # files are compressed while Python draws
        values = to_dict(analysis, config=config, name=name)
        (staging / "measurements.json").write_text(to_json(values, indent=2) + "\n", "utf-8")
        (staging / "measurements.csv").write_text(to_csv(analysis), "utf-8")
        _write_config(staging, config)
        written = pool.submit(_write_masks, staging / "masks.nii.gz", analysis)
        (staging / "report.html").write_text(
            render(analysis, values, pool, models=model_files(config, analysis)), "utf-8"
        )
        written.result()
    return Path(folder) / "report.html"


def _suffix(study: StudyAnalysis, view: str) -> str:
    return "" if len(study.clips) == 1 else f"_{view.lower()}"


def _write_view(folder: Path, analysis: Analysis, suffix: str) -> None:
    (folder / f"measurements{suffix}.csv").write_text(to_csv(analysis), "utf-8")
    _write_masks(folder / f"masks{suffix}.nii.gz", analysis)


def _write_masks(path: Path, analysis: Analysis) -> None:
    recording = analysis.recording
    write_labels(
        path,
        analysis.labels_of_frames(),
        spacing=recording.spacing,
        frame_time=recording.frame_time,
        geometry=recording.geometry,
    )


def _write_config(folder: Path, config: AnalyzeConfig) -> None:
    text = to_json(dataclasses.asdict(named_config(config)), indent=2)
    (folder / "config.json").write_text(f"{text}\n", "utf-8")
