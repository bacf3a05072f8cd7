"""Time of DICOM loops: frame time and heart rate."""

import datetime
import re
from typing import Any

import numpy as np

from cardiojax.data.formats.common import check_frame_time, frame_time_from_stamps
from cardiojax.data.formats.dicom import header

#: Heart rates outside this range (beats per minute) are taken for unknown; many scanners write 0.
HEART_RATE_RANGE = (20.0, 300.0)


def read_frame_time(dataset: Any, num_frames: int) -> tuple[float | None, tuple[str, ...]]:
    """Reads the time between frames.

    The first of these sources that gives a possible frame time is used: the element that FrameIncrementPointer names,
    FrameTime, FrameTimeVector, CineRate, RecommendedDisplayFrameRate, the acquisition times of the frames,
    ActualFrameDuration, EffectiveDuration over the frames.

    Args:
        dataset: The elements of the file.
        num_frames: Frames that are in the file.

    Returns:
        Seconds between frames, None if unknown, and sentences about sources that were passed over.
    """
    if num_frames < 2:
        return None, ()
    sources = ["FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate"]
    sources += ["FrameAcquisitionDateTime", "ActualFrameDuration", "EffectiveDuration"]
    pointer = _pointed_at(dataset)
    if pointer in sources:
        sources.insert(0, sources.pop(sources.index(pointer)))
    notes: list[str] = []
    for source in sources:
        seconds, source_notes = _from_source(dataset, source, num_frames)
        notes += source_notes
        if seconds is not None:
            return seconds, tuple(notes)
    return None, tuple(notes)


def read_heart_rate(dataset: Any) -> float | None:
    """Reads the heart rate in beats per minute, None if it is missing or impossible."""
    rate = header.number(dataset, "HeartRate")
    low, high = HEART_RATE_RANGE
    return rate if rate is not None and low <= rate <= high else None


def _pointed_at(dataset: Any) -> str | None:
    from pydicom.datadict import keyword_for_tag

    pointers = header.numbers(dataset, "FrameIncrementPointer")
    return keyword_for_tag(int(pointers[0])) if pointers and 0 <= pointers[0] < 2**32 else None


def _from_source(dataset: Any, source: str, num_frames: int) -> tuple[float | None, list[str]]:
    if source == "FrameTimeVector":
        steps = header.numbers(dataset, source)
        # No interval lies before the first frame; files that leave its entry of zero out start with the first interval.
        stamps = np.cumsum(steps if steps and steps[0] == 0 else [0.0, *steps]) / 1000
        seconds, notes = frame_time_from_stamps(stamps)
        return seconds, [f"FrameTimeVector: {note}" for note in notes]
    if source == "FrameAcquisitionDateTime":
        seconds, notes = frame_time_from_stamps(_acquisition_times(dataset))
        return seconds, list(notes)
    stated = header.value(dataset, source)
    if stated is None:
        return None, []
    value, seconds = header.number(dataset, source), None
    if value:
        if source in ("CineRate", "RecommendedDisplayFrameRate"):
            seconds = check_frame_time(1 / value)
        else:
            per_frame = value / num_frames if source == "EffectiveDuration" else value / 1000
            seconds = check_frame_time(per_frame)
    if seconds is None:
        number = "" if value is None else f" of {value:g}"
        return None, [f"The file states a {source}{number}, which no echo loop has."]
    return seconds, []


def _acquisition_times(dataset: Any) -> list[float]:
    """Seconds at which the frames of an enhanced multi-frame image were acquired; empty if it is none."""
    times: list[float] = []
    for group in header.items(dataset, "PerFrameFunctionalGroupsSequence"):
        content = header.items(group, "FrameContentSequence")
        stamp = header.text(content[0], "FrameAcquisitionDateTime") if content else ""
        if len(stamp) < 14:
            return []
        try:
            whole = datetime.datetime.strptime(f"{stamp[:14]}+0000", "%Y%m%d%H%M%S%z").timestamp()
            digits = re.match(r"\.\d{1,6}", stamp[14:])
            times.append(whole + (float(digits[0]) if digits else 0.0))
        except ValueError:
            return []
    return times
