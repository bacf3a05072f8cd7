"""How much of the left atrium's volume is missing where the image ends in it.

Run: ``python -m experiments.segmentation.atrial_cut --data DIR``

``DIR`` holds ``camus224_train.npz``. Of training patients whose atrium lies within the sector at end-systole, the true
mask is cut as a smaller imaging depth would cut it: the lower edge of the sector is moved up step by step. Each
volume of the cut mask is compared with that of the whole one, against the share of the cut outline that lies at the
edge, on which `cardiojax.study.view` decides. Prints a table as Markdown; a minute on one CPU core.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from cardiojax import clinical
from cardiojax.analysis.sector import find_sector
from cardiojax.data.arrays import camus_224
from cardiojax.labels import BACKGROUND, LEFT_ATRIUM
from cardiojax.study.view import edge_share

#: Edges of the groups of the table.
SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured.

    Attributes:
        data: Folder of ``camus224_train.npz``.
        num_views: Views at end-systole, in the order of the file.
        step: Rows by which the depth is reduced at a time.
    """

    data: Path
    num_views: int = 200
    step: int = 3


class Cut(NamedTuple):
    """Share of the outline at the edge, and volumes over those of the whole atrium: area-length, disks."""

    share: float
    area_length: float
    disks: float


def cuts_of(labels: np.ndarray, sector: np.ndarray, spacing: tuple[float, float], step: int) -> list[Cut]:
    """Cuts one atrium at growing heights; empty if it is cut already."""
    if edge_share(labels, sector) > 0:
        return []
    whole = np.array(_volumes(labels, spacing))
    cuts = []
    for rows in range(step, len(labels), step):
        reduced = sector.copy()
        reduced[:-rows] &= sector[rows:]
        reduced[-rows:] = False
        cut = np.where((labels == LEFT_ATRIUM) & ~reduced, BACKGROUND, labels)
        share = edge_share(cut, reduced)
        if share > SHARES[-1] or not (cut == LEFT_ATRIUM).any():
            break
        if share > 0:
            cuts.append(Cut(share, *(np.array(_volumes(cut, spacing)) / whole)))
    return cuts


def _volumes(labels: np.ndarray, spacing: tuple[float, float]) -> tuple[float, float]:
    area_length, disks = _measure(np.asarray(labels, np.int32), np.asarray(spacing, np.float32))
    return float(area_length), float(disks)


@jax.jit
def _measure(labels, spacing):
    axis = clinical.long_axis(labels, spacing)
    disks = clinical.atrial_disks(labels, spacing, axis=axis)
    area_length = clinical.area_length_volume(clinical.atrial_area(labels, spacing), disks.length)
    return area_length, clinical.single_plane_volume(disks)


def table(cuts: list[Cut]) -> str:
    """Missing volume by the share of the outline at the edge, as Markdown."""
    share, *volumes = np.array(cuts).T
    lines = [
        "| share of the outline at the edge | cuts | area-length: median, 95 % below | disks: median, 95 % below |",
        "|---" * 4 + "|",
    ]
    for low, high in itertools.pairwise(SHARES):
        group = (share > low) & (share <= high)
        if not group.any():
            continue
        missing = [100 * (1 - values[group]) for values in volumes]
        cells = [f"{np.median(lost):.1f} %, {np.quantile(np.abs(lost), 0.95):.1f} %" for lost in missing]
        lines.append(f"| {100 * low:.0f} to {100 * high:.0f} % | {group.sum()} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(config: Config) -> str:
    """Cuts the atria of training patients."""
    source, cuts, num, num_whole = camus_224(config.data / "camus224_train.npz"), list[Cut](), 0, 0
    for index in range(len(source)):
        example = source[index]
        if example["phase"] != "ES" or num == config.num_views:
            continue
        num += 1
        image = np.asarray(example["image"], np.float32)
        found = find_sector(image[None] / max(image.max(), 1.0))
        sector = np.zeros(image.shape, bool)
        top, bottom, left, right = found.box
        sector[top:bottom, left:right] = found.mask
        dy, dx = np.asarray(example["spacing"], float)
        of_view = cuts_of(np.asarray(example["label"]), sector, (float(dy), float(dx)), config.step)
        num_whole += bool(of_view)
        cuts += of_view
    return f"{num_whole} of {num} atria lie within the sector.\n\n{table(cuts)}"


if __name__ == "__main__":
    import tyro

    print(main(tyro.cli(Config)), end="")
