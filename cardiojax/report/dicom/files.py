"""The DICOM objects of a study as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cardiojax import storage
from cardiojax.analysis.pairs import frames_of_beats
from cardiojax.data.formats.quiet import quiet_decoders
from cardiojax.labels import LEFT_ATRIUM, LV, MEASURED_VIEWS, MYOCARDIUM, VIEW_NAMES
from cardiojax.report.dicom import source as sources
from cardiojax.study import Clip, StudyAnalysis


def check_dicom(paths: Sequence[Path], *, keep_identity: bool) -> None:
    """Checks that the DICOM objects of a study can be written, before the work.

    Args:
        paths: The recordings.
        keep_identity: Whether the objects shall name the patient and belong to the study of the files.

    Raises:
        UnreadableFileError: If a file does not state the identity that is to be kept.
        ValueError: If highdicom is not installed, or the identity is to be kept and no file is DICOM.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise ValueError(f"DICOM objects need highdicom: pip install 'cardiojax[dicom]' ({error})") from error
    sources.check_sources(paths, keep_identity=keep_identity)


def segmentation_problem(clip: Clip) -> str | None:
    """Why no segmentation can be written of a measured clip.

    Args:
        clip: The clip.

    Returns:
        One sentence; None if one can.
    """
    if clip.analysis is None:
        return "It is not measured."
    if not all(map(sources.is_dicom, clip.files)):
        return "Its source is no DICOM file, and a segmentation refers to frames of one."
    stated = sum(map(sources.stated_frames, clip.files))
    if stated != len(clip.analysis.recording.frames):
        return f"Its source states {stated or 'no'} frames, and {len(clip.analysis.recording.frames)} were read."
    others = clip.analysis.others
    if not np.isin(clip.analysis.labels, (LV, MYOCARDIUM, LEFT_ATRIUM)).any() and not (others and others.labels.any()):
        return "Nothing is outlined in it."
    return None


def write_dicom(study: StudyAnalysis, folder: Path, *, keep_identity: bool = False) -> list[Path]:
    """Writes a segmentation of each measured clip, ``segmentation_4ch.dcm``, and ``structured_report.dcm``.

    Args:
        study: The study; its files are read again.
        folder: An existing folder.
        keep_identity: Whether the objects name the patient and belong to the study of the files. Otherwise nothing of
            patient, study and dates is copied, and all identifiers are made from the SHA-256 of the files: whoever has
            them can compute the identifiers, and the same study gives the same objects.

    Returns:
        The files.
    """
    with quiet_decoders():  # values of damaged headers, if the identity is kept
        return _write(study, folder, keep_identity)


def _write(study: StudyAnalysis, folder: Path, keep_identity: bool) -> list[Path]:
    from cardiojax.report.dicom.segmentation import make_segmentation
    from cardiojax.report.dicom.structured_report import ImageReference, make_report

    contents = {file: storage.sha256(file) for clip in study.chosen.values() for file in clip.files}
    content = sorted(contents.values())
    study_uid = sources.uid("study", *content)
    salt = sources.random_salt() if keep_identity else ""  # objects of one study at two times are two
    named = [file for file in contents if sources.is_dicom(file)]
    common: Any = sources.anonymous_study(content)
    if named:
        common = sources.reference(named[0], study_uid, keep_identity=keep_identity)
    images: dict[str, list[Any]] = {}
    segmentations, written = list[str](), list[Path]()
    for number, (view, clip) in enumerate(study.chosen.items(), 1):
        if segmentation_problem(clip) is not None or clip.analysis is None:
            continue
        references = [sources.reference(file, study_uid, keep_identity=keep_identity) for file in clip.files]
        labels = clip.analysis.labels_of_frames()
        others = clip.analysis.others.names if clip.analysis.others else ()
        seed = (salt, *(contents[file] for file in clip.files), sources.digest_of(labels.tobytes()), *others)
        segmentation = make_segmentation(
            labels,
            _frames(references),
            uids=(sources.uid("segmentation series", *seed), sources.uid("segmentation", *seed)),
            series_number=990 + number,
            description=f"cardiojax: outlines, {VIEW_NAMES[view]} view",
            is_anonymous=not keep_identity,
            others=others,
        )
        images[view] = [*_phases(clip, references), ImageReference(segmentation)]
        segmentations.append(segmentation.SOPInstanceUID)
        written.append(_save(segmentation, folder / f"segmentation_{view.lower()}.dcm"))
    values = [(q.key, q.value, q.interval, q.reason) for q in study.measurements.quantities]
    seed = (salt, *content, storage.to_json(values), *segmentations)
    report = make_report(
        study,
        images=images,
        source=common,
        comments=_comments(study),
        uids=(sources.uid("report series", *seed), sources.uid("report", *seed)),
        is_anonymous=not keep_identity,
    )
    return [*written, _save(report, folder / "structured_report.dcm")]


def _frames(references: Sequence[Any]) -> list[Any]:
    """The frames of one or more files in turn; a file of one frame has no number for it."""
    from cardiojax.report.dicom.segmentation import SourceFrame

    frames = []
    for reference in references:
        num = int(reference.get("NumberOfFrames", None) or 0)
        frames += [SourceFrame(reference, number) for number in range(1, num + 1)] or [SourceFrame(reference, None)]
    return frames


def _phases(clip: Clip, references: Sequence[Any]) -> list[Any]:
    """The files of a clip with the frames of end-diastole and end-systole."""
    from cardiojax.report.dicom.structured_report import ImageReference

    assert clip.analysis is not None
    frames = _frames(references)
    chosen = [frames[i] for i in np.unique(frames_of_beats(clip.analysis.measurements))]
    return [
        ImageReference(
            reference,
            tuple(f.number for f in chosen if f.source is reference and f.number is not None) or None,
        )
        for reference in references
    ]


def _comments(study: StudyAnalysis) -> list[str]:
    """What limits the numbers, and which are withheld."""
    comments = [finding.reason for finding in study.findings]
    for view in MEASURED_VIEWS:
        clip = study.chosen.get(view)
        if clip is not None and clip.analysis is not None:
            name = VIEW_NAMES[view].capitalize()
            comments += [f"{name} clip: {finding.reason}" for finding in clip.analysis.findings]
    withheld: dict[str, list[str]] = {}
    for quantity in study.measurements.quantities:
        if quantity.reason is not None:
            withheld.setdefault(quantity.reason, []).append(quantity.name)
    comments += [f"Not measured: {', '.join(names)}. {reason}" for reason, names in withheld.items()]
    return list(dict.fromkeys(comments))


def _save(object_: Any, path: Path) -> Path:
    object_.save_as(path, enforce_file_format=True)
    return path
