"""The shape statistics behind the phantom: principal components of the contours of real CAMUS patients.

Each of the training patients gives one vector: endocardium, epicardium and left atrium in both apical views, at
end-diastole and end-systole, in mm from the probe, and the depth of the image. Motion and the likeness of the two views
are therefore part of the statistics. Patients whose left atrium is cut off by the image border are left out.

Run: ``python -m experiments.phantom.shapes --data DIR/camus_224/camus224_train.npz --out cardiojax/data/phantom/files``
(half a minute on one core). Expected: 32 components that hold 98 % of the variance.
"""

import dataclasses
import json
from pathlib import Path

import contourpy
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from cardiojax import clinical
from cardiojax.data.arrays import camus_224
from cardiojax.data.phantom.motion import contour_volume
from cardiojax.data.phantom.shape import NUM_ATRIUM, NUM_WALL
from cardiojax.labels import MEASURED_VIEWS, PHASES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is fitted.

    Attributes:
        data: An ``.npz`` of CAMUS frames of 224 x 224 with their masks.
        out: Folder for ``shapes.npz`` and ``shapes.json``.
        num_components: Components kept.
    """

    data: Path
    out: Path
    num_components: int = 32


def outline(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The longest outline of a mask in mm, ``(row, col)``, closed, clockwise or not."""
    soft = ndimage.gaussian_filter(np.pad(mask.astype(np.float32), 3), 1.0)
    lines = contourpy.contour_generator(z=soft).lines(0.5)
    longest = max(lines, key=len)[:-1, ::-1] - 3
    return longest * spacing


def arc(curve: np.ndarray, start: np.ndarray, through: np.ndarray, end: np.ndarray, num: int) -> np.ndarray:
    """Points of a closed curve from one point over another to a third: as many before the middle as after it."""
    first, middle, last = (int(np.argmin(((curve - p) ** 2).sum(-1))) for p in (start, through, end))
    for direction in (1, -1):
        turned = np.roll(curve[::direction], -(first if direction == 1 else len(curve) - 1 - first), axis=0)
        m, n = ((middle - first) * direction % len(curve), (last - first) * direction % len(curve))
        if 0 < m < n:
            half = num // 2 + 1
            return np.concatenate([_equal_steps(turned[: m + 1], half)[:-1], _equal_steps(turned[m : n + 1], half)])
    raise ValueError("the three points coincide")


def _equal_steps(line: np.ndarray, num: int) -> np.ndarray:
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    return np.stack([np.interp(np.linspace(0, along[-1], num), along, line[:, i]) for i in range(2)], -1)


def contours(label: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Endocardium, epicardium and atrium of a mask in mm from its first pixel, ``[p, 2]``."""
    axis = clinical.long_axis(jnp.asarray(label), jnp.asarray(spacing))
    left, right, base, apex = (np.asarray(p) for p in (axis.left_hinge, axis.right_hinge, axis.base, axis.apex))
    up = (apex - base) / np.linalg.norm(apex - base)
    across = np.array([-up[1], up[0]]) * np.sign(up[0])  # towards the right hinge
    endocardium = arc(outline(label == 1, spacing), left, apex, right, NUM_WALL)
    outer = outline((label == 1) | (label == 2), spacing)
    corners = [outer[np.argmax((outer - base) @ (-up + 0.8 * side * across))] for side in (-1, 1)]
    top = outer[np.argmax((outer - base) @ up)]
    epicardium = arc(outer, corners[0], top, corners[1], NUM_WALL)
    chamber = outline(label == 3, spacing)
    far = chamber[np.argmax(-(chamber - base) @ up)]
    atrium = arc(chamber, left, far, right, NUM_ATRIUM + 2)[1:-1]
    return np.concatenate([endocardium, epicardium, atrium])


def patient_vectors(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Contours ``[n, view, phase, p, 2]`` in mm from the probe and depths ``[n]`` of the patients that have all."""
    source = camus_224(path)
    examples = [source[i] for i in range(len(source))]
    index = {(str(e["patient"]), str(e["view"]), str(e["phase"])): e for e in examples}
    shapes, depths = [], []
    for patient in sorted({key[0] for key in index}):
        frames = [index[(patient, view, phase)] for view in MEASURED_VIEWS for phase in PHASES]
        if any((e["label"][-2:] == 3).any() or (e["label"][:, [0, -1]] > 0).any() for e in frames):
            continue
        try:
            lines = [contours(e["label"], e["spacing"]) - [0, 111.5 * e["spacing"][1]] for e in frames]
        except (ValueError, IndexError):  # a mask in which the curves cannot be separated
            continue
        shapes.append(np.reshape(lines, (len(MEASURED_VIEWS), len(PHASES), -1, 2)))
        depths.append(223 * frames[0]["spacing"][0])
    return np.array(shapes), np.array(depths)


def main(config: Config) -> None:
    """Fits and writes the statistics."""
    shapes, depths = patient_vectors(config.data)
    data = np.concatenate([shapes.reshape(len(shapes), -1), depths[:, None]], -1)
    mean = data.mean(0)
    u, s, vt = np.linalg.svd(data - mean, full_matrices=False)
    k = config.num_components
    modes = vt[:k] * s[:k, None] / np.sqrt(len(data) - 1)
    codes = u[:, :k] * np.sqrt(len(data) - 1)
    volumes = np.asarray(contour_volume(jnp.asarray(shapes[..., :NUM_WALL, :], jnp.float32)))
    fraction = 100 * (1 - volumes[..., 1] / volumes[..., 0]).mean(-1)
    gain = codes.T @ (fraction - fraction.mean()) / ((fraction - fraction.mean()) ** 2).sum()
    config.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        config.out / "shapes.npz",
        **{n: v.astype(np.float16) for n, v in (("mean", mean), ("modes", modes), ("fraction_gain", gain))},
    )
    card = {
        "data": "CAMUS, contours of the masks of training patients (apical 2- and 4-chamber, ED and ES)",
        "licence": "CC BY-NC-SA 4.0",
        "citation": "Leclerc et al., Deep Learning for Segmentation using an Open Large-Scale Dataset in 2D "
        "Echocardiography, IEEE TMI 2019, doi:10.1109/TMI.2019.2900516",
        "command": "python -m experiments.phantom.shapes --data camus224_train.npz --out cardiojax/data/phantom/files",
        "patients": len(data),
        "components": k,
        "variance": round(float((s[:k] ** 2).sum() / (s**2).sum()), 4),
        "ejection_fraction": {"mean": round(float(fraction.mean()), 1), "sd": round(float(fraction.std()), 1)},
    }
    (config.out / "shapes.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
