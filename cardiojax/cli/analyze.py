"""``cardiojax analyze``: a file in, a report out."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import tyro

from cardiojax.analysis.crisp import make_crisp_estimator
from cardiojax.analysis.recording import Analysis, AnalyzeConfig, analyze, make_segment
from cardiojax.cli.progress import frame_progress
from cardiojax.correction.anatomical import make_anatomical_corrector
from cardiojax.correction.temporal import make_temporal_corrector
from cardiojax.data import UnreadableFileError, example_path, read
from cardiojax.report import figures
from cardiojax.report.files import check_folder, write_report
from cardiojax.runtime import aot


def analyze_command(
    file: Annotated[Path | None, tyro.conf.Positional] = None,
    /,
    *,
    out: Path,
    example: bool = False,
    cache_dir: Path | None = None,
    anatomical_correction: bool = True,
    temporal_correction: bool = True,
    crisp: bool = False,
    config: Annotated[AnalyzeConfig, tyro.conf.arg(name="")] = AnalyzeConfig(),
) -> None:
    """Measures an echo recording.

    Args:
        file: The recording.
        out: Folder for the report.
        example: Take the real apical four-chamber loop that ships with pydicom instead of a file.
        cache_dir: Folder that keeps compiled programs, so that the next call starts faster.
        anatomical_correction: Replace anatomically invalid outlines by the nearest valid ones.
        temporal_correction: Correct the frames of a loop that are inconsistent with their neighbours.
        crisp: Estimate the uncertainty by CRISP, which marks frames not to trust, instead of by the entropy.
        config: How the recording is analysed.
    """
    print(
        analyze_file(
            file,
            out=out,
            example=example,
            cache_dir=cache_dir,
            anatomical_correction=anatomical_correction,
            temporal_correction=temporal_correction,
            crisp=crisp,
            config=config,
        )
    )


def analyze_file(
    file: str | Path | None = None,
    *,
    out: str | Path,
    example: bool = False,
    cache_dir: str | Path | None = None,
    anatomical_correction: bool = True,
    temporal_correction: bool = True,
    crisp: bool = False,
    config: AnalyzeConfig = AnalyzeConfig(),
) -> str:
    """Reads, segments, measures and reports.

    Args:
        file: The recording.
        out: Folder for the report.
        example: Take the real loop that ships with pydicom instead.
        cache_dir: Folder for compiled programs, see `aot.set_cache_folder`; only trusted users may write to it.
        anatomical_correction: Whether anatomically invalid outlines are replaced by the nearest valid ones.
        temporal_correction: Whether temporally inconsistent frames of a loop are corrected.
        crisp: Whether uncertainty is estimated by CRISP instead of the entropy.
        config: How the recording is analysed.

    Returns:
        What was found, in a few lines.

    Raises:
        UnreadableFileError: If the file cannot be read.
        OutputFolderError: If the report cannot be written.
        ValueError: If not exactly one of ``file`` and ``example`` is given.
    """
    if (file is None) == (not example):
        raise ValueError("give one file to analyze, or --example")
    if cache_dir is not None:
        aot.set_cache_folder(cache_dir)
    check_folder(out)  # before the work, not after
    path = Path(example_path() if file is None else file)
    recording = read(path)
    if min(recording.frames.shape[1:]) < 32:
        h, w = recording.frames.shape[1:]
        raise UnreadableFileError(path, f"has frames of {h} x {w} pixels, expected at least 32 x 32")
    with ThreadPoolExecutor(1) as beside, frame_progress(len(recording.frames)) as on_progress:
        segment, corrector = make_segment(config), make_anatomical_corrector() if anatomical_correction else None
        estimator = make_crisp_estimator() if crisp else None
        is_corrected = temporal_correction and len(recording.frames) >= 3
        temporal = make_temporal_corrector(anatomical_corrector=corrector, size=config.size) if is_corrected else None

        def tell(done: int) -> None:
            if done == min(config.batch_size, len(recording.frames)):
                beside.submit(figures.prepare)  # now that the model runs, which needs no lock of Python's
            on_progress(done)

        analysis = analyze(
            recording,
            segment,
            config=config,
            anatomical_corrector=corrector,
            temporal_corrector=temporal,
            uncertainty_estimator=estimator,
            on_progress=tell,
        )
    page = write_report(analysis, out, config=config, name=path.name)
    return "\n".join([*_summary(analysis), f"report: {page}"])


def _summary(analysis: Analysis) -> list[str]:
    found = analysis.measurements
    ed, es = found.end_diastole, found.end_systole
    volume = found.lv_volume
    lines = [f"{len(analysis.labels)} frame{'s' if len(analysis.labels) > 1 else ''}"]
    if found.has_phases:
        lines[0] += f", end-diastole at frame {ed}, end-systole at frame {es}"
        change = f" ({volume[ed]:.0f} to {volume[es]:.0f} ml)" if found.is_calibrated else ""
        ends = analysis.ejection_interval
        likely = f" ({ends[0]:.0f} to {ends[1]:.0f} % nine times in ten)" if ends and math.isfinite(ends[0]) else ""
        lines.append(
            f"ejection fraction {found.ejection_fraction:.0f} %{likely}, single plane{change}"
            if math.isfinite(found.ejection_fraction)
            else "the ejection fraction could not be measured"
        )
        strain, rate = analysis.motion.mid_wall_peak, analysis.motion.heart_rate
        lines += [f"longitudinal strain {strain:.0f} %, mid-wall"] if math.isfinite(strain) else []
        lines += [f"heart rate {rate:.0f}/min"] if math.isfinite(rate) else []
    elif len(volume) > 1:
        lines.append("the ejection fraction could not be measured")
    elif found.is_calibrated:
        lines.append(f"LV volume {volume[0]:.0f} ml, single plane; LV length {found.lv_length[0]:.0f} mm")
    return lines + [f"note: {sentence}" for sentence in analysis.warnings]
