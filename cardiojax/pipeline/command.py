"""``cardiojax analyze``: a file in, a report out."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cardiojax.data import UnreadableFileError, example_path, read
from cardiojax.pipeline import ahead, draw
from cardiojax.pipeline.analyze import Analysis, AnalyzeConfig, analyze, make_segment
from cardiojax.pipeline.crisp import make_judge
from cardiojax.pipeline.plausible import make_corrector
from cardiojax.pipeline.progress import frame_progress
from cardiojax.pipeline.report import check_folder, write_report
from cardiojax.pipeline.steady import make_steadier


def analyze_file(
    file: str | Path | None = None,
    *,
    out: str | Path,
    example: bool = False,
    cache_dir: str | Path | None = None,
    correct: bool = True,
    raw: bool = False,
    judge: bool = False,
    config: AnalyzeConfig = AnalyzeConfig(),
) -> str:
    """Reads, segments, measures and reports.

    Args:
        file: The recording.
        out: Folder for the report.
        example: Take the real loop that ships with pydicom instead.
        cache_dir: Folder for compiled programs, see `ahead.keep_programs`; only trusted users may write to it.
        correct: Whether implausible outlines are replaced by the nearest plausible ones.
        raw: Whether the frames of a loop that move unlike a heart are left as they were drawn.
        judge: Whether the outlines are judged by the shapes of other hearts that go with such images.
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
        ahead.keep_programs(cache_dir)
    check_folder(out)  # before the work, not after
    path = Path(example_path() if file is None else file)
    recording = read(path)
    if min(recording.frames.shape[1:]) < 32:
        h, w = recording.frames.shape[1:]
        raise UnreadableFileError(path, f"has frames of {h} x {w} pixels, expected at least 32 x 32")
    with ThreadPoolExecutor(1) as beside, frame_progress(len(recording.frames)) as on_progress:
        segment, corrector = make_segment(config), make_corrector() if correct else None
        judges = make_judge() if judge else None
        steady = None if raw or len(recording.frames) < 3 else make_steadier(correct=corrector, size=config.size)

        def tell(done: int) -> None:
            if done == min(config.batch_size, len(recording.frames)):
                beside.submit(draw.prepare)  # now that the model runs, which needs no lock of Python's
            on_progress(done)

        options = {"correct": corrector, "steady": steady, "judge": judges, "on_progress": tell}
        analysis = analyze(recording, segment, config=config, **options)
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
