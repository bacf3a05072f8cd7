"""One study as one row: the choice of clips, numbers with their units, and what is missing and why."""

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cardiojax
from cardiojax.analysis.trust import withdrawn
from cardiojax.data import printable
from cardiojax.study import StudyAnalysis, StudyFiles
from cardiojax.study.collect import pixel_files
from cardiojax.study.quantities import DEFINITIONS

#: Units as parts of a column's name.
_UNITS = {"%": "percent", "/min": "per_min", "": ""}
_SYMBOLS = {"²": "2", "³": "3", "/": "_per_", "%": "percent"}
#: Columns beside the quantities, and whether they hold text (else whole numbers or, for seconds, a number).
_TEXTS = ("study", "status", "reason", "key", "files", "refused", "clips", "withheld", "warnings", "cardiojax")
_COUNTS = ("num_files", "num_refused", "two_chamber_clip", "four_chamber_clip")
MEASURED, REFUSED, FAILED = "measured", "refused", "failed"
#: Status of what is no row: the study is not to blame, and every other one would meet the same.
_STOPPED = "stopped"


class BatchError(Exception):
    """An archive cannot be analysed further before a person has mended something; the message is one sentence."""

    def __init__(self, sentence: str):
        super().__init__(printable(sentence))


def columns() -> dict[str, str]:
    """The columns of a table of studies, and the type of each: ``text``, ``count`` or ``number``.

    Example:
        >>> columns()["ejection_fraction_biplane_percent"]
        'number'
    """
    texts, counts = dict.fromkeys(_TEXTS, "text"), dict.fromkeys(_COUNTS, "count")
    return texts | counts | dict.fromkeys([*map(_column, DEFINITIONS), "seconds"], "number")


def study_label(key: str) -> str:
    """A short name of a study that does not identify the patient: the start of the SHA-256 of its key.

    Whoever has the key, a StudyInstanceUID or a folder, can compute it.

    Args:
        key: As of `cardiojax.study.StudyFiles`.

    Example:
        >>> study_label("1.2.3")
        'c47f5b18b8a430e6'
    """
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def files_state(study: StudyFiles, root: Path) -> str:
    """A digest of the names, sizes and times of a study's files: another one if a file came, went or changed.

    Args:
        study: The study.
        root: The folder of the archive.
    """
    files = [each for file in study.files for each in (file, *pixel_files(file))]
    parts = [f"{file.relative_to(root)}\0{_size_and_time(file)}" for file in files]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _size_and_time(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:  # whoever reads it says why
        return None
    return status.st_size, status.st_mtime_ns


def row_of_study(study: StudyAnalysis) -> dict[str, Any]:
    """What was measured in a study.

    Args:
        study: The study.

    Returns:
        Values of some of `columns`; clips are numbered from 1 in the order of the files.
    """
    quantities = study.measurements.quantities
    refused = [(i, clip.reason) for i, clip in enumerate(study.clips, 1) if clip.view is None]
    warnings = [finding.reason for finding in study.findings]
    withheld = {quantity.name: quantity.reason for quantity in quantities if quantity.reason is not None}
    for clip in study.chosen.values():
        if clip.analysis is not None:
            warnings += [finding.reason for finding in clip.analysis.findings if not finding.is_withdrawn]
            withheld |= withdrawn(clip.analysis.findings)
    return {
        "status": MEASURED,
        "num_refused": len(refused),
        "refused": _numbered(refused),
        "clips": _numbered([(i, f"{_view(clip)}{clip.reason}") for i, clip in enumerate(study.clips, 1)]),
        "two_chamber_clip": None if study.two_chamber is None else study.two_chamber + 1,
        "four_chamber_clip": None if study.four_chamber is None else study.four_chamber + 1,
        "withheld": "; ".join(f"{name}: {reason}" for name, reason in withheld.items()),
        "warnings": " ".join(dict.fromkeys(warnings)),
        **{_column(q.key): q.value if math.isfinite(q.value) else None for q in quantities},
    }


def row_of_failure(reason: str, *, status: str = FAILED) -> dict[str, Any]:
    """A study that was not measured, and why.

    Args:
        reason: One sentence, without names of files or text of a header.
        status: ``"refused"`` if its files are the reason, ``"failed"`` if the program is.

    Returns:
        Values of some of `columns`.
    """
    return {"status": status, "reason": reason}


def no_row(sentence: str) -> dict[str, Any]:
    """What takes the place of a row where the program cannot go on; `completed` raises it.

    Args:
        sentence: What is to be mended; it is shown on the terminal and written nowhere.
    """
    return {"status": _STOPPED, "reason": sentence}


def completed(
    row: dict[str, Any], *, key: str, files: Sequence[Path], seconds: float, keep_names: bool, root: Path
) -> dict[str, Any]:
    """A row with all of `columns`; the key and the names of the files only if they are kept.

    Args:
        row: Of `row_of_study` or `row_of_failure`.
        key: Key of the study.
        files: Its files.
        seconds: Time of its analysis.
        keep_names: Whether names are kept; they may identify the patient.
        root: The folder of the archive, to which files are relative.

    Raises:
        BatchError: If the row is one of `no_row`.
    """
    if row["status"] == _STOPPED:
        raise BatchError(row["reason"])
    row = {"study": study_label(key), "num_files": len(files), "seconds": round(seconds, 3), **row}
    row["cardiojax"] = cardiojax.__version__
    if keep_names:
        row |= {"key": printable(key), "files": "; ".join(printable(file.relative_to(root)) for file in files)}
    return {name: row.get(name) for name in columns()}


def _column(key: str) -> str:
    unit = DEFINITIONS[key].unit
    for symbol, text in _SYMBOLS.items():
        unit = unit.replace(symbol, text) if unit not in _UNITS else unit
    unit = _UNITS.get(unit, re.sub(r"\W+", "_", unit))
    return f"{key}_{unit}".rstrip("_")


def _view(clip: Any) -> str:
    return "" if clip.view is None else f"{clip.view.view}, "


def _numbered(sentences: Sequence[tuple[int, str]]) -> str:
    return "; ".join(f"clip {number}: {sentence}" for number, sentence in sentences)
