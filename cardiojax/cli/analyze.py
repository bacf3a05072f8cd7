"""``cardiojax analyze``: a file in, a report out."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated

import tyro

from cardiojax.analysis import trust
from cardiojax.analysis.crisp import make_crisp_estimator
from cardiojax.analysis.pairs import choose_pair_model, make_pair_segment
from cardiojax.analysis.recording import Analysis, AnalyzeConfig, analyze, make_segment
from cardiojax.cli.progress import frame_progress
from cardiojax.correction.anatomical import make_anatomical_corrector
from cardiojax.correction.temporal import make_temporal_corrector
from cardiojax.data import Recording, UnreadableFileError, example_path, printable, read
from cardiojax.report import check_output, write_report
from cardiojax.runtime import aot


def analyze_command(
    file: Annotated[Path | None, tyro.conf.Positional] = None,
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
    config: Annotated[AnalyzeConfig, tyro.conf.arg(name="")] = AnalyzeConfig(),
) -> None:
    """Measures an echo recording.

    Args:
        file: The recording.
        out: Folder for the report.
        example: Take the real apical four-chamber loop that ships with pydicom instead of a file.
        weights: A weight file that `cardiojax train` wrote, instead of a model of the zoo.
        cache_dir: Folder that keeps compiled programs, so that the next call starts faster.
        anatomical_correction: Replace anatomically invalid outlines by the nearest valid ones.
        temporal_correction: Correct the frames of a loop that are inconsistent with their neighbours.
        crisp: Estimate the uncertainty by CRISP instead of the entropy; frames of poor quality are reported.
        keep_names: Show the file's name in the report; it may identify the patient.
        burned_in_text: Where no sector is found, show nothing in pictures that may be text, unless the file states that
            there is none.
        config: How the recording is analysed.
    """
    print(
        analyze_file(
            file,
            out=out,
            example=example,
            weights=weights,
            cache_dir=cache_dir,
            anatomical_correction=anatomical_correction,
            temporal_correction=temporal_correction,
            crisp=crisp,
            keep_names=keep_names,
            burned_in_text=burned_in_text,
            config=config,
        )
    )


def analyze_file(
    file: str | Path | None = None,
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
    config: AnalyzeConfig = AnalyzeConfig(),
) -> str:
    """Reads, segments, measures and reports.

    Args:
        file: The recording.
        out: Folder for the report.
        example: Take the real loop that ships with pydicom instead.
        weights: A weight file that `cardiojax.zoo.save` wrote; it takes the place of ``config.model``.
        cache_dir: Folder for compiled programs, see `aot.set_cache_folder`; only trusted users may write to it.
        anatomical_correction: Whether anatomically invalid outlines are replaced by the nearest valid ones.
        temporal_correction: Whether temporally inconsistent frames of a loop are corrected.
        crisp: Whether uncertainty is estimated by CRISP instead of the entropy.
        keep_names: Whether the report shows the file's name, which may identify the patient.
        burned_in_text: Whether frames may hold text that identifies the patient, if the file says nothing.
        config: How the recording is analysed.

    Returns:
        The results in a few lines.

    Raises:
        UnreadableFileError: If the file cannot be read.
        OutputFolderError: If the report cannot be written.
        ValueError: If not exactly one of ``file`` and ``example`` is given.
    """
    if (file is None) == (not example):
        raise ValueError("give one file to analyze, or --example")
    if cache_dir is not None:
        aot.set_cache_folder(cache_dir)
    path = Path(example_path() if file is None else file)
    check_output(out, inputs=[path])  # before the work, not after
    if weights is not None:
        config = dataclasses.replace(config, model=str(weights))
    recording = read(path)
    if min(recording.frames.shape[1:]) < 32:
        h, w = recording.frames.shape[1:]
        raise UnreadableFileError(path, f"has frames of {h} x {w} pixels, expected at least 32 x 32")
    if not burned_in_text:
        recording = recording._replace(burned_in=False)
    analysis = _analyze(
        recording,
        config,
        anatomical_correction=anatomical_correction,
        temporal_correction=temporal_correction and len(recording.frames) >= 3,
        crisp=crisp,
    )
    page = write_report(analysis, out, config=config, name=path.name if keep_names else "clip 1")
    return "\n".join([*_summary(analysis), f"report: {printable(page)}"])


def _analyze(
    recording: Recording, config: AnalyzeConfig, *, anatomical_correction: bool, temporal_correction: bool, crisp: bool
) -> Analysis:
    """Loads the models and analyses a recording, with a progress bar."""
    with frame_progress(len(recording.frames)) as on_progress:
        segment, corrector = make_segment(config), make_anatomical_corrector() if anatomical_correction else None
        pair_model, pair_segment = choose_pair_model(config.model, config.pair_model), None
        if pair_model is not None and len(recording.frames) > 1:
            pair_segment = make_pair_segment(
                pair_model, size=config.size, test_time_augmentation=config.test_time_augmentation
            )
        estimator, temporal = make_crisp_estimator() if crisp else None, None
        if temporal_correction:
            temporal = make_temporal_corrector(anatomical_corrector=corrector, size=config.size)

        return analyze(
            recording,
            segment,
            config=config,
            pair_segment=pair_segment,
            anatomical_corrector=corrector,
            temporal_corrector=temporal,
            uncertainty_estimator=estimator,
            on_progress=on_progress,
        )


def _summary(analysis: Analysis) -> list[str]:
    """The measurements in a few lines, and which quantities are withdrawn for what reason."""
    measurements, motion, withdrawn = analysis.measurements, analysis.motion, analysis.withdrawn
    ed, es, num_frames = measurements.end_diastole, measurements.end_systole, len(analysis.labels)
    lines = [f"{num_frames} frame{'s' if num_frames > 1 else ''}"]
    has_volumes = measurements.is_calibrated and trust.VOLUMES not in withdrawn
    if measurements.has_phases:
        lines[0] += f", end-diastole at frame {ed}, end-systole at frame {es}"
        ends = analysis.ejection_interval
        interval = f" (90 % interval {ends[0]:.0f} to {ends[1]:.0f} %)" if ends and math.isfinite(ends[0]) else ""
        volumes = f" ({measurements.lv_volume[ed]:.0f} to {measurements.lv_volume[es]:.0f} ml)" if has_volumes else ""
        for quantity, value, text in (
            (trust.EJECTION_FRACTION, measurements.ejection_fraction, f" %{interval}, single plane{volumes}"),
            (trust.STRAIN, motion.mid_wall_peak, " %, mid-wall"),
            (trust.HEART_RATE, motion.heart_rate, "/min"),
        ):
            if math.isfinite(value) and quantity not in withdrawn:
                lines.append(f"{quantity} {value:.0f}{text}")
    elif num_frames == 1 and has_volumes and math.isfinite(measurements.lv_volume[0]):
        lines.append(
            f"LV volume {measurements.lv_volume[0]:.0f} ml, single plane; LV length {measurements.lv_length[0]:.0f} mm"
        )
    if (
        num_frames > 1
        and not math.isfinite(measurements.ejection_fraction)
        and trust.EJECTION_FRACTION not in withdrawn
    ):
        lines.append("ejection fraction not measured")
    lines += [f"not measured: {', '.join(f.quantities)}: {f.reason}" for f in analysis.findings if f.is_withdrawn]
    return lines + [f"warning: {f.reason}" for f in analysis.findings if not f.is_withdrawn]
