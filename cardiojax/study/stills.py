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


def separate_loops(
    groups: Sequence[tuple[Path, ...]], read: Callable[[Path], Recording]
) -> tuple[tuple[tuple[Path, ...], ...], dict[Path, Recording]]:
    """Takes two files of one group apart if one of them is a loop, such as two loops that are named by phase.

    Args:
        groups: Of `pair_stills`.
        read: Reads one file; those of pairs alone are read, one at a time.

    Returns:
        One or two files each; a pair that cannot be read stays one. And the stills that were read, by file.
    """
    stills: dict[Path, Recording] = {}

    def is_loop(file: Path) -> bool:
        try:
            recording = read(file)
        except UnreadableFileError:  # whoever reads the pair says why
            return False
        if len(recording.frames) > 1:
            return True
        stills[file] = recording
        return False

    separated: list[tuple[Path, ...]] = []
    for group in groups:
        separated += [(file,) for file in group] if len(group) > 1 and any(map(is_loop, group)) else [group]
    return tuple(separated), stills


def read_pair(files: Sequence[Path], read: Callable[[Path], Recording]) -> Recording:
    """Reads one recording, or two stills as one of two frames.

    Args:
        files: One or two files of `pair_stills`.
        read: Reads one file.

    Returns:
        The recording.

    Raises:
        UnreadableFileError: If a file cannot be read, one of two is no still, or they differ in size, spacing or
            ultrasound regions.
    """
    first, *others = (read(file) for file in files)
    if not others:
        return first
    second = others[0]
    for file, recording in zip(files, (first, second), strict=True):
        if len(recording.frames) != 1:
            raise UnreadableFileError(file, f"has {len(recording.frames)} frames, expected a still of one phase")
    for name, of_second, of_first, shown in (
        ("frames", second.frames.shape, first.frames.shape, True),
        ("pixel spacing", second.spacing, first.spacing, True),
        ("ultrasound regions", _boxes_and_spacing(second), _boxes_and_spacing(first), False),
    ):
        if of_first != of_second:
            values = f": {of_second}, {of_first}" if shown else ""
            problem = f"differs from the still of end-diastole ({{stated}}) in its {name}{values}"
            raise UnreadableFileError(files[1], problem, stated=files[0].name)
    return first._replace(
        frames=np.concatenate([first.frames, second.frames]),
        frame_time=None,
        notes=tuple(dict.fromkeys((*first.notes, *second.notes, _PAIR_NOTE))),
        heart_rate=second.heart_rate if first.heart_rate is None else first.heart_rate,
        burned_in=_either(first.burned_in, second.burned_in),
        coloured=_largest(first.coloured, second.coloured),
    )


def _boxes_and_spacing(recording: Recording) -> list[tuple[tuple[int, ...], tuple[float, float] | None]]:
    """The regions of tissue, which alone are used."""
    return [(region.box, region.spacing) for region in recording.regions if region.is_tissue]


def _either(first: bool | None, second: bool | None) -> bool | None:
    """Whether one of two is true; None if neither is and one is unknown."""
    if first or second:
        return True
    return None if None in (first, second) else False


def _largest(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
    """The larger value of each pixel; that of the other where one is None."""
    if first is None or second is None:
        return second if first is None else first
    return np.maximum(first, second)


def _phase(file: Path) -> tuple[str, str] | None:
    """The path without its phase, and the phase; None where the name states none or several."""
    matches = list(_PHASE.finditer(file.name))
    if len(matches) != 1:
        return None
    start, end = matches[0].span()
    return f"{file.parent}/{file.name[:start]}*{file.name[end:]}", matches[0][0].upper()
