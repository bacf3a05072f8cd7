"""TED: apical four-chamber loops of CAMUS patients over a whole cycle."""

import functools
from pathlib import Path

from cardiojax.data.datasets.layouts.pairs import MHD, find_pair, frame_index, number, read_info, read_pair
from cardiojax.data.datasets.schema import Defect, Item, Layout, Survey
from cardiojax.labels import CAMUS as STRUCTURES


def find(root: Path, kind: str) -> Survey:
    """Finds the loops, from end-diastole over end-systole to the next end-diastole.

    Args:
        root: The folder of the patients.
        kind: Both kinds are made of the loops.

    Returns:
        The recordings.

    Raises:
        ValueError: If there are none.
    """
    folders = sorted(p.parent for p in root.glob("patient*/patient*_4CH_info.cfg"))
    if not folders:
        raise ValueError(f"{root}: no TED found, expected patientNNN/patientNNN_4CH_info.cfg")
    items, defects = [], []
    for folder in folders:
        stem = folder / f"{folder.name}_4CH"
        info_path = stem.with_name(f"{stem.name}_info.cfg")
        info, pair = read_info(info_path), find_pair(stem.with_name(f"{stem.name}_sequence"), MHD)
        if isinstance(pair, Defect):
            defects.append(pair)
            continue
        diastole, systole, last = (frame_index(info.get(key)) for key in ("ED", "ES", "NbFrame"))
        phases = {frame: phase for frame, phase in ((diastole, "ED"), (systole, "ES")) if frame is not None}
        if diastole is None or systole is None or (last is not None and max(diastole, systole) > last):
            defects.append(Defect(info_path, f"states the frames {info.get('ED')} and {info.get('ES')} as phases"))
            phases = {}
        elif diastole == systole:
            defects.append(Defect(info_path, "states one frame for both phases, which counts as neither"))
            phases = {}
        elif diastole > systole:
            defects.append(Defect(info_path, f"states end-diastole ({diastole + 1}) after end-systole ({systole + 1})"))
        items.append(
            Item(
                files=(*pair, info_path),
                read=functools.partial(read_pair, *pair),
                patient=folder.name,
                view="4CH",
                phases=phases,
                num_frames=None if last is None else last + 1,
                vendor="GE",
                centre="Saint-Etienne",
                ejection_fraction=number(info.get("LVef", info.get("EF"))),
                image_quality=info.get("ImageQuality", ""),
                sex=info.get("Sex", ""),
                age=number(info.get("Age")),
            )
        )
    return Survey(items, defects)


LAYOUTS = (
    Layout(
        name="ted",
        description="98 apical four-chamber loops over a whole cycle, every frame annotated",
        structures=STRUCTURES,
        find=find,
        tree="""patient001/patient001_4CH_info.cfg
patient001/patient001_4CH_sequence{,_gt}.{mhd,raw}""",
        download="Register at https://humanheart-project.creatis.insa-lyon.fr/ted.html and unpack it.",
        citation=(
            "Painchaud et al., Echocardiography Segmentation with Enforced Temporal Consistency, IEEE Transactions on "
            "Medical Imaging 41(10):2867-2878, 2022, doi:10.1109/TMI.2022.3173669"
        ),
        licence="CC BY-NC-SA 4.0",
    ),
)
