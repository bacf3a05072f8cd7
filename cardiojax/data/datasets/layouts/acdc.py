"""ACDC: short-axis stacks of magnetic resonance at end-diastole and end-systole, with labels in another order."""

import functools
from pathlib import Path

import numpy as np

from cardiojax.data.datasets.layouts.pairs import NIFTI, find_pair, frame_index, read_info
from cardiojax.data.datasets.schema import Defect, Item, Layout, Pixels, Survey
from cardiojax.data.files import read_labels, read_values
from cardiojax.data.formats.common import UnreadableFileError
from cardiojax.labels import PHASES, Structures

_FOLDERS = {"training": "train", "testing": "test"}


def find(root: Path, kind: str) -> Survey:
    """Finds the stacks with masks.

    Args:
        root: The folder of ``training`` and ``testing``.
        kind: There are only frames.

    Returns:
        The stacks at both phases of each patient.

    Raises:
        ValueError: If there are none.
    """
    infos = [(path, split) for name, split in _FOLDERS.items() for path in sorted((root / name).glob("*/Info.cfg"))]
    if not infos:
        raise ValueError(f"{root}: no ACDC found, expected training/patientNNN/Info.cfg")
    items, defects = [], []
    for info_path, split in infos:
        folder, info = info_path.parent, read_info(info_path)
        frames = {phase: frame_index(info.get(phase)) for phase in PHASES}
        for phase, frame in frames.items():
            if frame is None:
                defects.append(Defect(info_path, f"states no frame for {phase}"))
                continue
            pair = find_pair(folder / f"{folder.name}_frame{frame + 1:02d}", NIFTI)
            if isinstance(pair, Defect):
                defects.append(pair)
                continue
            items.append(
                Item(
                    files=(*pair, info_path),
                    read=functools.partial(_read, *pair),
                    patient=folder.name,
                    view="SAX",
                    phases={0: phase},
                    first_frame=frame,
                    is_stack=True,
                    split=split,
                    vendor="Siemens",
                    centre="Dijon",
                )
            )
        if None not in frames.values() and frames["ED"] == frames["ES"]:
            defects.append(Defect(info_path, "states one frame for both phases"))
    return Survey(items, defects)


def _read(image_path: Path, label_path: Path) -> Pixels:
    """A stack; grey values are scaled so that the brightest one of a stack is white."""
    values, spacing = read_values(image_path)
    labels = read_labels(label_path).labels
    if labels.shape != values.shape:
        raise UnreadableFileError(label_path, f"is {list(labels.shape)}, expected {list(values.shape)}")
    brightest = float(values.max())
    if not np.isfinite(values).all() or values.min() < 0 or brightest <= 0:
        raise UnreadableFileError(image_path, "holds values that are negative, not finite, or zero everywhere")
    images = np.rint(values.astype(np.float32) * (255 / brightest)).astype(np.uint8)
    return Pixels(images, labels.astype(np.uint8), np.ones(len(labels), bool), spacing)


LAYOUTS = (
    Layout(
        name="acdc",
        description="short-axis magnetic resonance of 150 patients, both ventricles annotated at ED and ES",
        structures=Structures(("background", "right_ventricle", "myocardium", "lv")),
        find=find,
        tree="""{training,testing}/patient001/Info.cfg      ED, ES
{training,testing}/patient001/patient001_frame01{,_gt}.nii.gz""",
        download="Register at https://www.creatis.insa-lyon.fr/Challenge/acdc/databases.html and unpack both archives.",
        citation=(
            "Bernard et al., Deep Learning Techniques for Automatic MRI Cardiac Multi-structures Segmentation and "
            "Diagnosis, IEEE Transactions on Medical Imaging 37(11):2514-2525, 2018, doi:10.1109/TMI.2018.2837502"
        ),
        licence="for research, as stated by the organisers",
        kinds=("frames",),
    ),
)
