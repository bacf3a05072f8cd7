"""EchoNet-Dynamic: apical four-chamber videos, of which two frames are traced."""

import collections
import functools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from cardiojax.data.datasets.layouts.pairs import frame_index, number
from cardiojax.data.datasets.layouts.tables import fill_polygon, read_csv
from cardiojax.data.datasets.schema import Defect, Item, Layout, Pixels, Survey, grey_bytes
from cardiojax.data.files import read_values
from cardiojax.data.formats.common import UnreadableFileError
from cardiojax.labels import Structures

_VIDEO_COLUMNS = ("FileName", "Split")
_TRACING_COLUMNS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
_SPLITS = {"TRAIN": "train", "VAL": "validation", "TEST": "test"}
#: Chords of a tracing: the long axis and 20 across it.
_NUM_CHORDS = 21
_MAX_CHORDS = 1000
_NUM_TRACINGS = 2

#: Chords ``(x1, y1, x2, y2)`` of each traced frame, ``[n, 4]``.
Tracings = dict[int, Float[np.ndarray, "n 4"]]


def find(root: Path, kind: str) -> Survey:
    """Finds the videos that the tables list.

    Args:
        root: The folder with ``FileList.csv``.
        kind: Both kinds are made of the videos.

    Returns:
        Videos with at least one tracing.

    Raises:
        ValueError: If there is no such table.
        UnreadableFileError: If a table is damaged.
    """
    if not (root / "FileList.csv").is_file() or not (root / "VolumeTracings.csv").is_file():
        raise ValueError(f"{root}: no EchoNet-Dynamic found, expected FileList.csv, VolumeTracings.csv and Videos/")
    tracings, defects = _read_tracings(root / "VolumeTracings.csv")
    items: list[Item] = []
    names: set[str] = set()
    videos = {p.name.casefold(): p for p in sorted((root / "Videos").glob("[!.]*")) if p.suffix.lower() == ".avi"}
    for row in read_csv(root / "FileList.csv", _VIDEO_COLUMNS):
        name = _video_name(row["FileName"])
        path = videos.get(name.casefold(), root / "Videos" / name)
        problem = next(_faults(path, row, name in names, tracings.get(name)), None)
        names.add(name)
        if problem is not None:
            defects.append(Defect(path, problem))
            continue
        frames = tracings[name]
        if len(frames) != _NUM_TRACINGS:
            defects.append(Defect(path, f"has {len(frames)} traced frames, expected {_NUM_TRACINGS}"))
        phases = _phases(frames)
        items.append(
            Item(
                files=(path, root / "VolumeTracings.csv"),
                read=functools.partial(_read, path, frames),
                patient=path.stem,
                view="4CH",
                phases=phases,
                split=_SPLITS[row["Split"].upper()],
                centre="Stanford",
                num_frames=None if (count := frame_index(row.get("NumberOfFrames"))) is None else count + 1,
                ejection_fraction=number(row.get("EF")),
                frame_rate=number(row.get("FPS")),
            )
        )
    listed = {item.files[0].name for item in items} | {defect.path.name for defect in defects}
    extra = [path for path in videos.values() if path.name not in listed]
    return Survey(items, defects + [Defect(path, "is not in FileList.csv and is left out") for path in extra])


def _video_name(name: str) -> str:
    """The lists differ in whether they write the suffix; what is not a name of a file stays none."""
    stem = Path(name).name
    return stem if Path(stem).suffix else f"{stem}.avi"


def _faults(path: Path, row: dict[str, str], is_listed: bool, tracings: Tracings | None) -> Iterator[str]:
    """Reasons to leave a video out."""
    if is_listed:
        yield "is listed twice in FileList.csv"
    if not path.is_file():
        yield "is missing"
    if row["Split"].upper() not in _SPLITS:
        yield f"is in no split, but {row['Split']!r}"
    if not tracings:
        yield "has no tracing in VolumeTracings.csv"


def _read_tracings(path: Path) -> tuple[dict[str, Tracings], list[Defect]]:
    chords: dict[str, dict[int, list[list[float]]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    num_wrong = 0
    for row in read_csv(path, _TRACING_COLUMNS):
        values = [number(row[column]) for column in _TRACING_COLUMNS[1:]]
        if not all(map(math.isfinite, values)) or values[-1] < 0 or max(map(abs, values)) > 2**20:
            num_wrong += 1
            continue
        chords[_video_name(row["FileName"])][int(values[-1])].append(values[:-1])
    defects = [Defect(path, f"has {num_wrong} rows that are no chord of a frame")] if num_wrong else []
    tracings: dict[str, Tracings] = {}
    for name, frames in chords.items():
        for frame, rows in frames.items():
            if len(rows) != _NUM_CHORDS:
                defects.append(
                    Defect(path, f"has {len(rows)} chords in frame {frame} of {name}, expected {_NUM_CHORDS}")
                )
            if not _area(np.array(rows)):
                defects.append(Defect(path, f"has a tracing without an area in frame {frame} of {name}"))
            elif 3 < len(rows) <= _MAX_CHORDS:
                tracings.setdefault(name, {})[frame] = np.array(rows)
    return tracings, defects


def polygon(chords: Float[np.ndarray, "n 4"], shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The mask of a tracing, as the authors draw it: down one end of the chords across the long axis, up the other.

    Args:
        chords: The long axis and the chords, ``(x1, y1, x2, y2)`` in pixels.
        shape: Height and width.

    Returns:
        The mask of the cavity.
    """
    x, y = np.rint(_corners(chords))
    return fill_polygon(y, x, shape)


def _corners(chords: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "2 m"]:
    """The ``x`` and the ``y`` of the ends of the chords, around the cavity."""
    across = chords[1:]
    return np.stack([np.concatenate([across[:, i], across[::-1, i + 2]]) for i in (0, 1)])


def _phases(frames: Tracings) -> dict[int, str]:
    """The frame with the largest tracing is end-diastole, that with the smallest end-systole."""
    if len(frames) < _NUM_TRACINGS:
        return {}
    areas = {frame: _area(chords) for frame, chords in frames.items()}
    return {min(areas, key=areas.__getitem__): "ES", max(areas, key=areas.__getitem__): "ED"}


def _area(chords: Float[np.ndarray, "n 4"]) -> float:
    x, y = _corners(chords)
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _read(path: Path, frames: Tracings) -> Pixels:
    values, _ = read_values(path)
    images = grey_bytes(path, values)
    labels, annotated, defects = np.zeros(images.shape, np.uint8), np.zeros(len(images), bool), []
    shape = (images.shape[1], images.shape[2])
    for frame, chords in sorted(frames.items()):
        if frame >= len(images):
            defects.append(f"has a tracing of frame {frame} of {len(images)}")
            continue
        x, y = np.rint(_corners(chords))
        if min(x.min(), y.min()) < 0 or x.max() >= shape[1] or y.max() >= shape[0]:
            defects.append(f"has a tracing outside the image in frame {frame}")
        labels[frame] = polygon(chords, shape)
        annotated[frame] = labels[frame].any()
        if not annotated[frame]:
            defects.append(f"has an empty tracing in frame {frame}")
    if not annotated.any():
        raise UnreadableFileError(path, "has no tracing of one of its frames")
    return Pixels(images, labels, annotated, None, tuple(defects))


LAYOUTS = (
    Layout(
        name="echonet",
        description="10,030 apical four-chamber videos of 112 x 112 pixels, the cavity traced at ED and ES",
        structures=Structures(("background", "lv")),
        find=find,
        tree="""FileList.csv          FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split
VolumeTracings.csv    FileName,X1,Y1,X2,Y2,Frame
Videos/0X*.avi""",
        download="Request access at https://echonet.github.io/dynamic/; nothing of it may be passed on.",
        citation=(
            "Ouyang et al., Video-based AI for beat-to-beat assessment of cardiac function, Nature 580:252-256, 2020, "
            "doi:10.1038/s41586-020-2145-8"
        ),
        licence="Stanford University Dataset Research Use Agreement",
        has_spacing=False,
    ),
)
