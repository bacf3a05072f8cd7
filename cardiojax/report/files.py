"""The files of a report."""

import dataclasses
from pathlib import Path

from cardiojax.analysis.recording import Analysis, AnalyzeConfig
from cardiojax.data import printable, write_labels
from cardiojax.report.output import staged_output
from cardiojax.report.page import render
from cardiojax.report.schema import model_files, named_config, to_csv, to_dict
from cardiojax.runtime import thread_pool
from cardiojax.storage import to_json


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
    name, recording = printable(name), analysis.recording
    with staged_output(folder) as staging, thread_pool(1) as pool:  # files are compressed while Python draws
        values = to_dict(analysis, config=config, name=name)
        (staging / "measurements.json").write_text(to_json(values, indent=2) + "\n", "utf-8")
        (staging / "measurements.csv").write_text(to_csv(analysis), "utf-8")
        (staging / "config.json").write_text(
            to_json(dataclasses.asdict(named_config(config)), indent=2) + "\n", "utf-8"
        )
        written = pool.submit(
            write_labels,
            staging / "masks.nii.gz",
            analysis.labels_of_frames(),
            spacing=recording.spacing,
            frame_time=recording.frame_time,
            geometry=recording.geometry,
        )
        (staging / "report.html").write_text(
            render(analysis, values, pool, models=model_files(config, analysis)), "utf-8"
        )
        written.result()
    return Path(folder) / "report.html"
