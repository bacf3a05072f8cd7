"""Analysis of a study: which clips show which view, the best clip of each, and the numbers of the patient."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cardiojax.analysis.recording import Analysis
from cardiojax.analysis.trust import Finding, unique
from cardiojax.analysis.view import ViewEstimate
from cardiojax.data import Recording, UnreadableFileError, read
from cardiojax.labels import MEASURED_VIEWS, VIEW_NAMES
from cardiojax.study.collect import StudyError
from cardiojax.study.measurements import StudyMeasurements, View, measure_study
from cardiojax.study.notes import clip_findings, study_findings
from cardiojax.study.patient import Patient
from cardiojax.study.quality import Quality, assess_quality, longest_of, reason_of_choice
from cardiojax.study.stills import pair_stills, read_pair, separate_loops

#: Height and width below which a frame shows nothing.
_MIN_SIZE = 32
#: Grey values at and below which frames are label maps.
_MAX_LABELS = 8


class Clip(NamedTuple):
    """A recording of a study.

    Attributes:
        path: Its file; of two stills, that of end-diastole.
        name: What it is called: the names of its files.
        view: Which view it shows; None if it was not read.
        quality: In [0, 1], as `Quality.rank` has it; nan if it was not measured.
        analysis: Its analysis, if it is the chosen clip of its view; else None.
        reason: Why it was chosen, or why not; one sentence.
        parts: What the quality is made of; None if it was not measured.
        files: Its files, one or two.
    """

    path: Path
    name: str
    view: ViewEstimate | None
    quality: float
    analysis: Analysis | None
    reason: str
    parts: Quality | None
    files: tuple[Path, ...]


class StudyAnalysis(NamedTuple):
    """The analysis of a study.

    Attributes:
        clips: Every recording, in the order of the files.
        two_chamber: Index of the chosen two-chamber clip; None without one.
        four_chamber: Index of the chosen four-chamber clip; None without one.
        patient: Sex, height and weight, as far as they are known.
        measurements: The numbers of the patient.
        findings: What limits them, beside the findings of each chosen clip.
    """

    clips: tuple[Clip, ...]
    two_chamber: int | None
    four_chamber: int | None
    patient: Patient
    measurements: StudyMeasurements
    findings: tuple[Finding, ...]

    @property
    def chosen(self) -> dict[str, Clip]:
        """The chosen clip of each view that has one, by the name of the view."""
        indices = zip(MEASURED_VIEWS, (self.two_chamber, self.four_chamber), strict=True)
        return {view: self.clips[index] for view, index in indices if index is not None}


def analyze_study(
    files: Sequence[str | Path],
    *,
    analyze: Callable[[Recording], Analysis],
    classify: Callable[[Recording], ViewEstimate],
    views: Mapping[Path, str] | None = None,
    patient: Patient = Patient(),
    is_validated: bool = True,
    read: Callable[[Path], Recording] = read,
    on_clip: Callable[[int, int, str], None] = lambda index, num, name: None,
) -> StudyAnalysis:
    """Finds the views of a study, analyses their clips, chooses the best of each and measures the patient.

    Memory: the frames of one clip beside the analyses of the clips chosen so far, and the stills of pairs.

    Args:
        files: The recordings of one patient, as `files_of_study` lists them.
        analyze: Analyses a recording of an apical view, as `cardiojax.analysis.analyze` does.
        classify: Says which view a recording shows.
        views: Views that are stated by hand, ``"2CH"`` or ``"4CH"``; where the images look otherwise, a finding of the
            clip says so.
        patient: Sex, height and weight.
        is_validated: Whether the outlines are those of the networks for which the limits of agreement were measured.
        read: Reads a file.
        on_clip: Called before each clip with its index, their number and its name.

    Returns:
        The analysis.

    Raises:
        UnreadableFileError: If the only recording cannot be read.
        StudyError: If nothing can be measured; the sentence says why.
        ValueError: If a view is none of these, or two are stated for one clip.
    """
    groups, stills = separate_loops(pair_stills([Path(file) for file in files]), read)
    stated = [_stated(group, views or {}) for group in groups]
    read_clip = functools.partial(read_pair, read=lambda file: stills.pop(file) if file in stills else read(file))
    clips, best = list[Clip](), dict[str, int]()
    for index, group in enumerate(groups):
        on_clip(index, len(groups), _name(group))
        clip = _analyze_clip(group, analyze, classify, stated[index], read_clip, len(groups) == 1)
        clips.append(clip)
        if clip.analysis is None or clip.view is None or clip.parts is None:
            continue
        view = clip.view.view
        if view in best and not _is_better(clip.parts, clips[best[view]].parts):
            clips[index] = clip._replace(analysis=None)
        else:
            if view in best:
                clips[best[view]] = clips[best[view]]._replace(analysis=None)
            best[view] = index
    if not best:
        names = [str(clips[0].path)] if len(clips) == 1 else [clip.name for clip in clips]
        numbers = [f"clip {number}" for number in range(1, len(clips) + 1)]
        raise StudyError(_nothing_measured(clips, names), problem=_nothing_measured(clips, numbers))
    clips = _with_choice(clips, best)
    two_chamber, four_chamber = (best.get(view) for view in MEASURED_VIEWS)
    of_view = {view: _of_view(view, clips[index]) for view, index in best.items()}
    measurements = measure_study(of_view.get("2CH"), of_view.get("4CH"), patient=patient, is_validated=is_validated)
    findings = study_findings(of_view, patient)
    return StudyAnalysis(tuple(clips), two_chamber, four_chamber, patient, measurements, findings)


def _analyze_clip(
    group: tuple[Path, ...],
    analyze: Callable[[Recording], Analysis],
    classify: Callable[[Recording], ViewEstimate],
    stated: str | None,
    read: Callable[[Sequence[Path]], Recording],
    is_only: bool,
) -> Clip:
    clip = Clip(group[0], _name(group), None, np.nan, None, "", None, group)
    try:
        recording = read(group)
    except UnreadableFileError as error:
        if is_only:
            raise
        return clip._replace(reason=error.problem)
    reason = _unsuitable(recording)
    if reason is not None:
        return clip._replace(reason=reason)
    estimate = recognised = classify(recording)
    if stated is not None:
        estimate = recognised._replace(view=stated, reason=None)
    clip = clip._replace(view=estimate)
    if estimate.view not in MEASURED_VIEWS:
        return clip._replace(reason=estimate.reason or "It shows no apical two- or four-chamber view.")
    analysis = analyze(recording)
    contradictions = clip_findings(stated, recognised, analysis.measurements, is_pair=len(group) > 1)
    analysis = analysis._replace(findings=unique(contradictions, analysis.findings))
    quality = assess_quality(analysis)
    return clip._replace(analysis=analysis, parts=quality)


def _unsuitable(recording: Recording) -> str | None:
    height, width = recording.frames.shape[1:]
    if min(height, width) < _MIN_SIZE:
        return f"It has frames of {width} x {height} pixels, expected at least {_MIN_SIZE} x {_MIN_SIZE}."
    if all(len(np.unique(frame)) <= _MAX_LABELS for frame in recording.frames):
        return f"Its frames have at most {_MAX_LABELS} grey values: it holds label maps, or nothing."
    return None


def _stated(group: tuple[Path, ...], views: Mapping[Path, str]) -> str | None:
    """The view of a clip that is stated by hand."""
    stated = sorted({views[file] for file in group if file in views})
    for view in stated:
        if view not in MEASURED_VIEWS:
            raise ValueError(f"a view must be one of {', '.join(MEASURED_VIEWS)}, got {view!r}")
    if len(stated) > 1:
        raise ValueError(f"{_name(group)} are stills of one view, got {' and '.join(stated)}")
    return stated[0] if stated else None


def _with_choice(clips: list[Clip], best: Mapping[str, int]) -> list[Clip]:
    """Gives each measured clip its final quality, which counts foreshortening, and the reason of the choice."""
    explained = []
    for index, clip in enumerate(clips):
        if clip.parts is None or clip.view is None:
            explained.append(clip)
            continue
        view = clip.view.view
        rivals = [other.parts for other in clips if other.parts and other.view and other.view.view == view]
        quality = clip.parts.rank(longest_of(rivals)).quality
        name, chosen = VIEW_NAMES[view], clips[best[view]].parts
        if index != best[view]:
            cause = None if chosen is None else reason_of_choice(chosen, clip.parts)
            reason = f"Another {name} clip is better: clip {best[view] + 1}{f'; {cause}' if cause else ''}."
        elif len(rivals) == 1:
            reason = f"The only {name} clip."
        else:
            reason = f"The best of {len(rivals)} {name} clips."
        explained.append(clip._replace(quality=float(quality), reason=reason))
    return explained


def _of_view(name: str, clip: Clip) -> View:
    if clip.analysis is None:
        raise ValueError(f"{clip.name} was not analysed")
    return View.of_analysis(name, clip.analysis)


def _is_better(clip: Quality, other: Quality | None) -> bool:
    if other is None:
        return True
    longest = longest_of((clip, other))
    return clip.rank(longest) > other.rank(longest)


def _name(group: tuple[Path, ...]) -> str:
    return " + ".join(file.name for file in group)


def _nothing_measured(clips: Sequence[Clip], names: Sequence[str]) -> str:
    hint = " (--view states the view by hand)" if any(clip.view is not None for clip in clips) else ""
    if len(clips) == 1:
        reason = clips[0].reason
        return f"{names[0]}: {reason[:1].lower()}{reason[1:]}{hint}"
    reasons = "; ".join(f"{name}: {clip.reason}" for name, clip in zip(names[:3], clips[:3], strict=True))
    return f"none of {len(clips)} recordings can be measured: {reasons}{' ...' if len(clips) > 3 else ''}{hint}"
