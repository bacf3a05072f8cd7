"""HMC-QU: apical videos; of 109 four-chamber ones, the wall of the left ventricle is annotated over one cycle."""

import functools
from pathlib import Path

import numpy as np

from cardiojax.data.datasets.layouts.pairs import frame_index
from cardiojax.data.datasets.layouts.tables import read_xlsx
from cardiojax.data.datasets.schema import Defect, Item, Layout, Pixels, Survey, grey_bytes
from cardiojax.data.files import read_values
from cardiojax.data.formats.common import UnreadableFileError
from cardiojax.data.formats.volumes.matlab import read_array
from cardiojax.labels import Structures

_MASKS = "LV Ground-truth Segmentation Masks"
_VIDEOS = ("HMC-QU/A4C", "A4C", "HMC-QU Echos/HMC-QU Echos", "HMC-QU/A2C", "A2C")
_TABLES = ("A4C.xlsx", "HMC_QU.xlsx", "HMC-QU.xlsx")
_COLUMNS = ("ECHO", "Reference Frame", "End of Cycle")
_VARIABLE = "predicted"


def find(root: Path, kind: str) -> Survey:
    """Finds the videos with masks.

    Args:
        root: The folder with the masks and the workbook.
        kind: Both kinds are made of the annotated cycles.

    Returns:
        Their annotated cycles.

    Raises:
        ValueError: If there is no such folder.
        UnreadableFileError: If the workbook is damaged, or openpyxl is not installed.
    """
    masks = sorted((root / _MASKS).glob("[!.]*.mat"))
    table = next((root / name for name in _TABLES if (root / name).is_file()), None)
    if not masks or table is None:
        raise ValueError(f"{root}: no HMC-QU found, expected {_TABLES[0]} and '{_MASKS}/*.mat'")
    rows: dict[str, dict[str, str]] = {}
    defects = []
    for row in read_xlsx(table, _COLUMNS):
        if rows.setdefault(_plain(row["ECHO"]), row) is not row and row["ECHO"]:
            defects.append(Defect(table, f"lists {row['ECHO']} twice"))
    videos = {_plain(path.stem): path for folder in _VIDEOS for path in _videos(root / folder)}
    items = []
    for path in masks:
        name = _plain(path.stem.removeprefix("Mask_"))
        if name not in videos or name not in rows:
            defects.append(Defect(path, "has no video" if name not in videos else f"is not in {table.name}"))
            continue
        first, last = (frame_index(rows[name][column]) for column in _COLUMNS[1:])
        if first is None or last is None or last < first:
            defects.append(Defect(path, "has no valid cycle ({} to {})".format(*(rows[name][c] for c in _COLUMNS[1:]))))
            continue
        items.append(
            Item(
                files=(videos[name], path, table),
                read=functools.partial(_read, videos[name], path, first, last),
                patient=videos[name].stem.split()[0].split("_")[0],
                view="4CH" if "4ch" in name else "2CH",
                first_frame=first,
                centre="Doha",
            )
        )
    return Survey(items, defects)


def _videos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() == ".avi")


def _plain(name: str) -> str:
    """Names of videos, masks and rows differ in blanks and case."""
    return "".join(name.split()).casefold()


def _read(video_path: Path, mask_path: Path, first: int, last: int) -> Pixels:
    masks = read_array(mask_path, _VARIABLE)
    values, _ = read_values(video_path)
    if last >= len(values):
        raise UnreadableFileError(video_path, f"has {len(values)} frames, expected {last + 1} as the table states")
    cycle = grey_bytes(video_path, values)[first : last + 1]
    if masks.ndim != 3 or len(masks) != len(cycle):
        raise UnreadableFileError(mask_path, f"is {list(masks.shape)}, expected {len(cycle)} masks of the cycle")
    if not np.isin(masks, (0, 1)).all():
        raise UnreadableFileError(mask_path, "holds values other than 0 and 1")
    images = resize_frames(cycle, (masks.shape[1], masks.shape[2]))
    return Pixels(images, masks.astype(np.uint8), np.ones(len(masks), bool), None)


def resize_frames(frames: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Brings frames to a size, each pixel the mean of what it covers.

    Args:
        frames: uint8 ``[t, h, w]``.
        shape: The new height and width.

    Returns:
        uint8 ``[t, *shape]``.
    """
    from PIL import Image

    resized = [Image.fromarray(f).resize((shape[1], shape[0]), Image.Resampling.BILINEAR) for f in frames]
    return np.stack([np.asarray(each) for each in resized])


LAYOUTS = (
    Layout(
        name="hmcqu",
        description="109 apical four-chamber loops over one cycle, the wall of the left ventricle annotated",
        structures=Structures(("background", "myocardium")),
        find=find,
        tree="""A4C.xlsx              ECHO, Reference Frame, End of Cycle
HMC-QU/A4C/ES0001 _4CH_1.avi
LV Ground-truth Segmentation Masks/Mask_ES0001 _4CH_1.mat""",
        download="Download https://www.kaggle.com/datasets/aysendegerli/hmcqu-dataset and unpack it.",
        citation=(
            "Degerli et al., Early Detection of Myocardial Infarction in Low-Quality Echocardiography, IEEE Access "
            "9:34442-34453, 2021, doi:10.1109/ACCESS.2021.3059595"
        ),
        licence="as stated on Kaggle, for research",
        has_spacing=False,
    ),
)
