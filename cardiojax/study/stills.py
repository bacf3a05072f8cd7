"""Stills of end-diastole and end-systole of one view, which together are a recording of two frames."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cardiojax.data import Recording, UnreadableFileError

#: The phase in the name of a file, as in ``patient0001_2CH_ED.mhd``.
_PHASE = re.compile(r"(?<![A-Za-z0-9])(ED|ES)(?![A-Za-z0-9])", re.IGNORECASE)
_PAIR_NOTE = "End-diastole and end-systole are two stills, as their names say."


def pair_stills(files: Sequence[Path]) -> tuple[tuple[Path, ...], ...]:
    """Groups files whose names differ in the phase alone.

    Args:
        files: The files of a study.

    Returns:
        One or two files each, in the order of the first; of two, end-diastole comes first.

    Example:
        >>> pair_stills([Path("p1_2CH_ED.mhd"), Path("p1_2CH_ES.mhd"), Path("p1_4CH.mp4")])[0][1].name
        'p1_2CH_ES.mhd'
    """
    phases = {file: _phase(file) for file in files}
    groups: list[tuple[Path, ...]] = []
    for file in files:
        phase = phases[file]
        if phase is None:
            groups.append((file,))
            continue
        key, name = phase
        others = [other for other in files if other != file and (phases[other] or ("", ""))[0] == key]
        if len(others) != 1 or phases[others[0]] == phase:
            groups.append((file,))
        elif name == "ED":
            groups.append((file, others[0]))
    return tuple(groups)


def read_pair(files: Sequence[Path], read: Callable[[Path], Recording]) -> Recording:
    """Reads one recording, or two stills as one of two frames.

    Args:
        files: One or two files of `pair_stills`.
        read: Reads one file.

    Returns:
        The recording.

    Raises:
        UnreadableFileError: If a file cannot be read, or two stills differ in size or spacing.
    """
    first, *others = (read(file) for file in files)
    if not others:
        return first
    second = others[0]
    for name, values in (
        ("frames", [recording.frames.shape for recording in (first, second)]),
        ("pixel spacing", [recording.spacing for recording in (first, second)]),
    ):
        if values[0] != values[1]:
            raise UnreadableFileError(files[1], f"differs from {files[0].name} in its {name}: {values[1]}, {values[0]}")
    if len(first.frames) != 1:
        raise UnreadableFileError(files[0], f"has {len(first.frames)} frames, expected a still of end-diastole")
    return first._replace(
        frames=np.concatenate([first.frames, second.frames]), frame_time=None, notes=(*first.notes, _PAIR_NOTE)
    )


def _phase(file: Path) -> tuple[str, str] | None:
    """The path without its phase, and the phase; None where the name states none or several."""
    matches = list(_PHASE.finditer(file.name))
    if len(matches) != 1:
        return None
    start, end = matches[0].span()
    return f"{file.parent}/{file.name[:start]}*{file.name[end:]}", matches[0][0].upper()
