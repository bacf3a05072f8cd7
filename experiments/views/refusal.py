"""Which views the classifier recognises, and what it refuses: CAMUS validation patients, changed images, real files.

Run: ``python -m experiments.views.refusal --data DIR`` (a few minutes on two cores), ``DIR`` with ``camus_224``,
``camus_meta``, ``camus_mhd``, ``dicom_us`` and ``echo_cine``. It prints the tables of ``docs/results/views.md``.
Neither the validation patients nor the files have part in the training or in the choice of a threshold.
"""

import csv
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from cardiojax.analysis.view import ClassifyImages, ViewEstimate, make_image_classifier, make_view_classifier
from cardiojax.data import read
from cardiojax.data.arrays import camus_224, stack_examples
from cardiojax.data.other_views import KINDS, other_view
from cardiojax.labels import MEASURED_VIEWS

#: Side of the images on which counterexamples are made, as in the training.
_SIZE = 224


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is classified.

    Attributes:
        data: Folder of the data.
        model: Name or file of the classifier.
        limit: Clips of CAMUS and images of each kind, 0 for all.
    """

    data: Path
    model: str = "view_camus"
    limit: int = 0


class Clip(NamedTuple):
    """End-diastole and end-systole of a view: images ``[2, h, w]`` in [0, 1] and label maps."""

    images: np.ndarray
    labels: np.ndarray
    view: str
    quality: str


def clips_of_validation(data: Path, limit: int = 0) -> list[Clip]:
    """Reads the clips of the validation patients.

    Args:
        data: Folder with ``camus_224`` and ``camus_meta``.
        limit: Clips, 0 for all.
    """
    with (data / "camus_meta" / "patients_info.csv").open() as file:
        quality = {row["Patient"]: row["ImageQuality"] for row in csv.DictReader(file)}
    examples = stack_examples(camus_224(data / "camus_224" / "camus224_val.npz"))
    keys = [*zip(examples["patient"].tolist(), examples["view"].tolist(), strict=True)]
    clips = []
    for patient, view in sorted(set(keys)):
        rows = [i for i, key in enumerate(keys) if key == (patient, view)]
        images, labels = examples["image"][rows].astype(np.float32) / 255, examples["label"][rows].astype(np.int32)
        clips.append(Clip(images, labels, view, quality.get(patient, "unknown")))
    return clips[: limit or None]


def wilson(count: int, total: int) -> str:
    """A share in percent with its 95 % interval (Wilson)."""
    if not total:
        return "-"
    z, p = 1.96, count / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * np.sqrt(p * (1 - p) / total + z * z / (4 * total**2)) / (1 + z * z / total)
    return f"{100 * p:.0f} % ({100 * (centre - half):.0f} to {100 * (centre + half):.0f})"


def changes() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Changes of images ``[n, h, w]`` under which the view stays the same."""
    rng = np.random.default_rng(0)

    def turned(angle: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: ndimage.rotate(x, angle, (2, 1), reshape=False, order=1).clip(0, 1)

    def speckle(x: np.ndarray) -> np.ndarray:
        return (x * rng.gamma(6, 1 / 6, x.shape)).clip(0, 1)

    return {
        "none": lambda x: x,
        "gain halved": lambda x: x / 2,
        "gain doubled, clipped": lambda x: (2 * x).clip(0, 1),
        "gamma 0.5": lambda x: x**0.5,
        "gamma 2": lambda x: x**2,
        "multiplicative noise": speckle,
        "additive noise, 0.1": lambda x: (x + rng.normal(0, 0.1, x.shape)).clip(0, 1) * (x > 0),
        "Gaussian blur, 3 pixels": lambda x: ndimage.gaussian_filter(x, (0, 3, 3)),
        "width 75 %": lambda x: np.pad(ndimage.zoom(x, (1, 1, 0.75), order=1), ((0, 0), (0, 0), (28, 28))),
        "turned by 10 degrees": turned(10),
        "turned by 20 degrees": turned(20),
        "turned by 30 degrees": turned(30),
    }


def displays() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """How a display may turn images ``[n, h, w]``; none of them should be measured."""
    return {
        "mirrored": lambda x: x[:, :, ::-1],
        "upside down": lambda x: x[:, ::-1],
        "turned by half": lambda x: x[:, ::-1, ::-1],
        "turned by a quarter, left": lambda x: np.rot90(x, 1, (1, 2)),
        "turned by a quarter, right": lambda x: np.rot90(x, -1, (1, 2)),
    }


def unknown_kinds(clips: list[Clip]) -> dict[str, np.ndarray]:
    """Images ``[n, h, w]`` of kinds that the training has not seen."""
    from skimage import data as pictures
    from skimage.transform import resize

    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:_SIZE, :_SIZE] / _SIZE
    names = ("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass", "gravel")
    names += ("horse", "moon", "page", "rocket", "text", "checkerboard", "colorwheel", "binary_blobs")
    natural = []
    for name in names:
        picture = np.asarray(getattr(pictures, name)(), np.float32)
        grey = picture[..., :3].mean(-1) if picture.ndim == 3 else picture
        natural.append(resize(grey / max(grey.max(), 1e-6), (_SIZE, _SIZE), anti_aliasing=True))
    frames = np.concatenate([clip.images for clip in clips])
    shear = np.array([[1, 0], [1.2, 1]])
    fan = (np.abs(np.arctan2(cols - 0.5, rows + 0.02)) < 0.65) & (np.hypot(rows, cols - 0.5) < 1)
    return {
        "photographs, text and textures (scikit-image)": np.stack(natural),
        "label maps": np.concatenate([clip.labels for clip in clips]).astype(np.float32) / 3,
        "white noise": rng.random((50, _SIZE, _SIZE)).astype(np.float32),
        "white noise in a fan": rng.rayleigh(0.3, (50, _SIZE, _SIZE)).clip(0, 1) * fan,
        "an even fan": np.stack([fan * level for level in np.linspace(0.2, 1, 20)]).astype(np.float32),
        "a fan that fades with depth": np.stack([fan * np.exp(-k * rows) for k in np.linspace(0.5, 6, 20)]),
        "stripes": np.stack([0.5 + 0.5 * np.sin(k * rows + 3 * k * cols) for k in np.linspace(5, 60, 20)]),
        "apical views sheared by 50 degrees": np.stack(
            [ndimage.affine_transform(f, shear, offset=(0, -0.6 * _SIZE), order=1) for f in frames]
        ),
        "mean of two patients, one upside down": (frames + np.roll(frames, 4, 0)[:, ::-1]) / 2,
        "two apical views side by side": np.concatenate([frames, np.roll(frames, 4, 0)], 2)[:, :, ::2],
    }


def files_of(data: Path) -> Iterator[tuple[Path, str]]:
    """The real files with what they show: no view where nothing should be measured."""
    shown = {
        "examples_ybr_color.dcm": "4CH",
        "color3d_jpeg_baseline.dcm": "4CH",
        "a4c_ntnu_echotracker_input.mp4": "4CH",
        "alax_ntnu_echotracker_input1.mp4": "other",
    }
    for folder in ("dicom_us", "echo_cine"):
        for path in sorted((data / folder).glob("*.*")):
            yield path, shown.get(path.name, "other")
    for path in sorted((data / "camus_mhd").rglob("*_E[DS].mhd")):
        yield path, "2CH" if "2CH" in path.name else "4CH"


def answer(estimate: ViewEstimate) -> str:
    """A cell of a table."""
    probs = ", ".join(f"{p:.2f}" for p in estimate.probs)
    return f"{estimate.view} | {probs} | {estimate.reason or ''}"


def known_table(clips: list[Clip], classify: ClassifyImages) -> list[str]:
    """Accuracy by view and quality, and under changes."""
    lines = ["| view | quality | clips | right | refused | wrong |", "|---|---|---|---|---|---|"]
    estimates = [classify(clip.images[..., None]) for clip in clips]
    for view in MEASURED_VIEWS:
        for quality in ("Good", "Medium", "Poor", None):
            own = [
                e.view for c, e in zip(clips, estimates, strict=True) if c.view == view and quality in (None, c.quality)
            ]
            right, refused = own.count(view), own.count("other")
            cells = (wilson(right, len(own)), refused, len(own) - right - refused)
            lines.append(f"| {view} | {quality or 'all'} | {len(own)} | {' | '.join(map(str, cells))} |")
    lines += ["", "| change | right | refused | wrong |", "|---|---|---|---|"]
    for name, change in changes().items():
        views = [classify(change(clip.images)[..., None].astype(np.float32)).view for clip in clips]
        right = sum(view == clip.view for view, clip in zip(views, clips, strict=True))
        refused = views.count("other")
        lines.append(f"| {name} | {wilson(right, len(clips))} | {refused} | {len(clips) - right - refused} |")
    return lines


def refusal_table(clips: list[Clip], classify: ClassifyImages, limit: int) -> list[str]:
    """Refusal of displays, of kinds that were trained on, and of kinds that were not."""
    lines = ["| display | view | refused | with the right reason |", "|---|---|---|---|"]
    for name, turn in displays().items():
        for view in MEASURED_VIEWS:
            own = [classify(turn(c.images)[..., None]) for c in clips if c.view == view]
            refused = [e.reason or "" for e in own if e.view == "other"]
            named = sum(name.split(",")[0] in reason for reason in refused)
            lines.append(f"| {name} | {view} | {wilson(len(refused), len(own))} | {named} of {len(own)} |")
    lines += ["", "| kind | trained on | images | refused |", "|---|---|---|---|"]
    make = jax.jit(other_view, static_argnames="kind")
    for kind in KINDS:
        keys = jax.random.split(jax.random.key(1), len(clips))
        pairs = zip(keys, clips, strict=True)
        made = [make(key, jnp.asarray(c.images[0]), jnp.asarray(c.labels[0]), kind=kind) for key, c in pairs]
        lines.append(_refused_row(kind, "yes", np.stack(made), classify))
    for kind, images in unknown_kinds(clips).items():
        lines.append(_refused_row(kind, "no", images[: limit or None], classify))
    return lines


def _refused_row(kind: str, is_known: str, images: np.ndarray, classify: ClassifyImages) -> str:
    views = [classify(image[None, ..., None].astype(np.float32)).view for image in images]
    return f"| {kind} | {is_known} | {len(images)} | {wilson(views.count('other'), len(images))} |"


def main(config: Config) -> str:
    """Makes the tables.

    Args:
        config: What is classified.

    Returns:
        The tables.
    """
    clips = clips_of_validation(config.data, config.limit)
    classify = make_image_classifier(config.model)
    lines = [*known_table(clips, classify), "", *refusal_table(clips, classify, config.limit), ""]
    lines += ["| file | shows | answer | probabilities | reason |", "|---|---|---|---|---|"]
    classify_recording = make_view_classifier(config.model)
    for path, shown in list(files_of(config.data))[: config.limit or None]:
        lines.append(f"| {path.name} | {shown} | {answer(classify_recording(read(path)))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    import tyro

    print(main(tyro.cli(Config)))
