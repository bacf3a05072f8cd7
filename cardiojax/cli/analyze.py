"""``cardiojax analyze``: the recordings of a patient in, a report out."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cardiojax.analysis import trust
from cardiojax.analysis.recording import Analysis, AnalyzeConfig
from cardiojax.analysis.view import make_view_classifier
from cardiojax.cli.progress import frame_progress
from cardiojax.data import Recording, example_path, printable, read
from cardiojax.labels import MEASURED_VIEWS
from cardiojax.report import check_output, write_study
from cardiojax.report.dicom import check_dicom, segmentation_problem
from cardiojax.report.headline import number_text
from cardiojax.runtime import aot
from cardiojax.study import CollectedFiles, Patient, StudyAnalysis, analyze_study, describe_patient, files_of_study
from cardiojax.study.analyzer import Analyzer

#: Files that are no recordings, of which each is named on the terminal.
_MAX_OTHERS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What is known of a study beside its files.

    Attributes:
        view: ``auto``: the view of each recording is recognised; ``2CH`` or ``4CH``: that of all recordings; or
            ``NAME=2CH`` for single files.
        sex: Sex of the patient, for the reference ranges; else as the files state it.
        height_cm: Height of the patient in cm, for the body surface area; else as the files state it.
        weight_kg: Weight of the patient in kg.
    """

    view: tuple[str, ...] = ("auto",)
    sex: Literal["F", "M"] | None = None
    height_cm: float | None = None
    weight_kg: float | None = None


def analyze_command(
    files: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    /,
    *,
    out: Path,
    example: bool = False,
    weights: Path | None = None,
    cache_dir: Path | None = None,
    anatomical_correction: bool = True,
    temporal_correction: bool = True,
    crisp: bool = False,
    keep_names: bool = False,
    burned_in_text: bool = True,
    dicom: bool = False,
    keep_identity: bool = False,
    study: Annotated[StudyConfig, tyro.conf.arg(name="")] = StudyConfig(),
    config: Annotated[AnalyzeConfig, tyro.conf.arg(name="")] = AnalyzeConfig(),
) -> None:
    """Measures the echo recordings of a patient.

    Args:
        files: The recordings: files, a folder or a DICOMDIR.
        out: Folder for the report.
        example: Take the real apical four-chamber loop that ships with pydicom instead of files.
        weights: A weight file that `cardiojax train` wrote, instead of a model of the zoo.
        cache_dir: Folder that keeps compiled programs for the next call, instead of the user's cache.
        anatomical_correction: Replace anatomically invalid outlines by the nearest valid ones.
        temporal_correction: Correct the frames of a loop that are inconsistent with their neighbours.
        crisp: Estimate the uncertainty by CRISP instead of the entropy; frames of poor quality are reported.
        keep_names: Show the files' names in the report; they may identify the patient.
        burned_in_text: Where no sector is found, show nothing in pictures that may be text, unless the file states that
            there is none.
        dicom: Write DICOM objects too: a segmentation of each measured clip and a structured report.
        keep_identity: Let the DICOM objects name the patient and belong to the study of the files.
        study: The patient, and the views of the recordings.
        config: How the recordings are analysed.
    """
    print(
        analyze_files(
            files,
            out=out,
            example=example,
            weights=weights,
            cache_dir=cache_dir,
            anatomical_correction=anatomical_correction,
            temporal_correction=temporal_correction,
            crisp=crisp,
            keep_names=keep_names,
            burned_in_text=burned_in_text,
            dicom=dicom,
            keep_identity=keep_identity,
            study=study,
            config=config,
        )
    )


def analyze_files(
    files: Sequence[str | Path] = (),
    *,
    out: str | Path,
    example: bool = False,
    weights: str | Path | None = None,
    cache_dir: str | Path | None = None,
    anatomical_correction: bool = True,
    temporal_correction: bool = True,
    crisp: bool = False,
    keep_names: bool = False,
    burned_in_text: bool = True,
    dicom: bool = False,
    keep_identity: bool = False,
    study: StudyConfig = StudyConfig(),
    config: AnalyzeConfig = AnalyzeConfig(),
) -> str:
    """Reads, segments, measures and reports; a single file is a study of one clip.

    Args:
        files: Recordings of one patient: files, a folder or a DICOMDIR.
        out: Folder for the report.
        example: Take the real loop that ships with pydicom instead.
        weights: A weight file that `cardiojax.zoo.save` wrote; it takes the place of the default ``config.model``.
        cache_dir: Folder for compiled programs, see `aot.set_cache_folder`; only trusted users may write to it.
        anatomical_correction: Whether anatomically invalid outlines are replaced by the nearest valid ones.
        temporal_correction: Whether temporally inconsistent frames of a loop are corrected.
        crisp: Whether uncertainty is estimated by CRISP instead of the entropy.
        keep_names: Whether the report shows the files' names, which may identify the patient.
        burned_in_text: Whether frames may hold text that identifies the patient, if the file says nothing.
        dicom: Whether DICOM objects are written, see `cardiojax.report.dicom.write_dicom`.
        keep_identity: Whether these name the patient and belong to the study of the files.
        study: The patient, and the views of the recordings.
        config: How the recordings are analysed.

    Returns:
        The results in a few lines.

    Raises:
        UnreadableFileError: If the only file cannot be read.
        StudyError: If nothing can be measured, or the files belong to several patients.
        OutputFolderError: If the report cannot be written.
        ValueError: If neither or both of ``files`` and ``example`` are given, or an option is impossible.
    """
    _check_options(files, example, dicom=dicom, keep_identity=keep_identity, weights=weights, model=config.model)
    if cache_dir is not None:
        aot.set_cache_folder(cache_dir)
    paths = [example_path()] if example else [Path(file) for file in files]
    check_output(out, inputs=paths)  # before the work, not after
    if weights is not None:
        config = dataclasses.replace(config, model=str(weights))
    collected = files_of_study(paths)
    if dicom:
        check_dicom(collected.files, keep_identity=keep_identity)
    given = Patient(study.sex, study.height_cm, study.weight_kg)
    analyzer = Analyzer(
        config, anatomical_correction=anatomical_correction, temporal_correction=temporal_correction, crisp=crisp
    )
    analyzer.prepare()

    def read_file(path: Path) -> Recording:
        recording = read(path)
        return recording if burned_in_text else recording._replace(burned_in=False)

    classifier = functools.cache(functools.partial(make_view_classifier, config=config))
    analysis = analyze_study(
        collected.files,
        analyze=functools.partial(_with_progress, analyzer),
        classify=lambda recording: classifier()(recording),
        views=_stated_views(study.view, collected.files),
        patient=describe_patient(collected.headers, given=given),
        is_validated=analyzer.is_validated,
        read=read_file,
    )
    page = write_study(
        analysis,
        out,
        config=config,
        keep_names=keep_names,
        others=collected.others,
        dicom=dicom,
        keep_identity=keep_identity,
    )
    lines = [*_lines(analysis, collected), *(_unsegmented(analysis) if dicom else ())]
    return "\n".join([*lines, f"report: {printable(page)}"])


def _check_options(
    files: Sequence[str | Path],
    example: bool,
    *,
    dicom: bool,
    keep_identity: bool,
    weights: str | Path | None,
    model: str,
) -> None:
    if bool(files) == example:
        raise ValueError("give files to analyze, or --example")
    if "" in files:  # which is the current folder as a path
        raise ValueError("a path is empty, expected a file or a folder")
    if keep_identity and not dicom:
        raise ValueError("--keep-identity needs --dicom: nothing else names the patient")
    if weights is not None and model != AnalyzeConfig().model:
        raise ValueError("give --model or --weights, not both")


def _with_progress(analyzer: Analyzer, recording: Recording) -> Analysis:
    with frame_progress(len(recording.frames)) as on_progress:
        return analyzer(recording, on_progress=on_progress)


def _unsegmented(study: StudyAnalysis) -> list[str]:
    """Why there is no DICOM segmentation of a clip."""
    problems = {view: segmentation_problem(clip) for view, clip in study.chosen.items()}
    return [f"no DICOM segmentation, {view}: {problem}" for view, problem in problems.items() if problem is not None]


def _stated_views(stated: Sequence[str], files: Sequence[Path]) -> dict[Path, str]:
    """The views that are stated by hand; one for a single file takes the place of that for all."""
    general: dict[Path, str] = {}
    named: dict[Path, str] = {}
    for text in stated:
        name, equals, view = text.rpartition("=")
        if view not in (*MEASURED_VIEWS, "auto") or (equals and not name):
            raise ValueError(f"--view takes auto, {', '.join(MEASURED_VIEWS)} or NAME=VIEW, got {text!r}")
        views, chosen = (named, [f for f in files if name in (f.name, str(f))]) if name else (general, files)
        if not chosen:
            raise ValueError(f"--view names {name!r}, which is no recording of the study")
        for file in chosen:
            if views.setdefault(file, view) != view:
                raise ValueError(f"--view states both {views[file]} and {view} for {file.name}")
    return {file: view for file, view in (general | named).items() if view != "auto"}


def _lines(study: StudyAnalysis, collected: CollectedFiles) -> list[str]:
    """The numbers in a few lines, and what is not measured for what reason."""
    others = [f"left out: {printable(other.path.name)}: {other.reason}" for other in collected.others[:_MAX_OTHERS]]
    if len(collected.others) > _MAX_OTHERS:
        others.append(f"left out: {len(collected.others) - _MAX_OTHERS} more files, listed in measurements.json")
    if len(study.clips) == 1:
        ((view, clip),) = study.chosen.items()
        lines = _summary(clip.analysis, view) if clip.analysis is not None else []
        return [*lines, *others]
    lines = []
    for number, clip in enumerate(study.clips, 1):
        view = "" if clip.view is None else f"{clip.view.view}, "
        quality = "" if math.isnan(clip.quality) else f"quality {100 * clip.quality:.0f} %: "
        lines.append(f"clip {number} ({printable(clip.name)}): {view}{quality}{clip.reason}")
    for quantity in study.measurements.headlines:
        if quantity.reason is not None:
            lines.append(f"not measured: {quantity.name}: {quantity.reason}")
            continue
        value, low, high = (number_text(number, quantity.unit) for number in (quantity.value, *quantity.beats))
        spread = f" ({low} to {high} over the beats)" if quantity.num_beats > 1 else ""
        grade = f", {quantity.grade}" if quantity.grade else ""
        lines.append(f"{quantity.name} {value} {quantity.unit}{spread}{grade}")
    for view, clip in study.chosen.items():
        if clip.analysis is not None:
            withdrawn = [f for f in clip.analysis.findings if f.is_withdrawn]
            lines += [f"not measured, {view}: {', '.join(f.quantities)}: {f.reason}" for f in withdrawn]
            lines += [f"warning, {view}: {f.reason}" for f in clip.analysis.findings if not f.is_withdrawn]
    return [*lines, *(f"warning: {finding.reason}" for finding in study.findings), *others]


def _summary(analysis: Analysis, view: str) -> list[str]:
    """The measurements in a few lines, and which quantities are withdrawn for what reason."""
    measurements, motion, withdrawn = analysis.measurements, analysis.motion, analysis.withdrawn
    ed, es, num_frames = measurements.end_diastole, measurements.end_systole, len(analysis.labels)
    lines = [f"{view}, {num_frames} frame{'s' if num_frames > 1 else ''}"]
    has_volumes = measurements.is_calibrated and trust.VOLUMES not in withdrawn
    if measurements.has_phases:
        lines[0] += f", end-diastole at frame {ed}, end-systole at frame {es}"
        ends = analysis.ejection_interval
        low, high = (number_text(end, "%") for end in ends or (None, None))
        interval = f" (90 % interval {low} to {high} %)" if low else ""
        first, last = (number_text(measurements.lv_volume[frame], "ml") for frame in (ed, es))
        volumes = f" ({first} to {last} ml)" if has_volumes else ""
        for quantity, value, unit, text in (
            (trust.EJECTION_FRACTION, measurements.ejection_fraction, "%", f" %{interval}, single plane{volumes}"),
            (trust.STRAIN, motion.mid_wall_peak, "%", " %, mid-wall"),
            (trust.HEART_RATE, motion.heart_rate, "/min", "/min"),
        ):
            if math.isfinite(value) and quantity not in withdrawn:
                lines.append(f"{quantity} {number_text(value, unit)}{text}")
    elif num_frames == 1 and has_volumes and math.isfinite(measurements.lv_volume[0]):
        volume, length = number_text(measurements.lv_volume[0], "ml"), number_text(measurements.lv_length[0], "mm")
        lines.append(f"LV volume {volume} ml, single plane; LV length {length} mm")
    if (
        num_frames > 1
        and not math.isfinite(measurements.ejection_fraction)
        and trust.EJECTION_FRACTION not in withdrawn
    ):
        lines.append("ejection fraction not measured")
    lines += [f"not measured: {', '.join(f.quantities)}: {f.reason}" for f in analysis.findings if f.is_withdrawn]
    return lines + [f"warning: {f.reason}" for f in analysis.findings if not f.is_withdrawn]
