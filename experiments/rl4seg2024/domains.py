"""A domain with masks, and another scanner's images of other patients whose masks only score: for adaptation.

``phantom``: source and target are two simulated scanners. ``camus``: the target are real images with another gain,
contrast, depth, resolution and grain.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cardiojax import anatomy, metrics
from cardiojax.analysis.recording import keep_largest
from cardiojax.data import phantom
from cardiojax.data.arrays import camus_224, stack_examples
from cardiojax.data.augment import AugmentConfig, augment
from cardiojax.labels import STRUCTURES
from experiments.common.simulation import simulate_patient

#: Masks are checked and scored on a grid of this height and width, whatever the networks work on.
FINE = 224
#: For each ratio the published limit or the one that true CAMUS masks keep, whichever is wider: of true masks drawn on
#: 64 x 64 and enlarged, the published ones alone fail half.
LIMITS = anatomy.CAMUS._replace(
    max_frontier_myocardium_atrium=anatomy.CAMUS_CALIBRATED.max_frontier_myocardium_atrium,
)
#: Part of the altered image that the original one fills: its depth is greater.
FILLED = 0.8
#: What the altered images go through: gain and contrast, attenuation, resolution, grain.
ALTERED = AugmentConfig(
    rotation=0.0,
    scale=(1.0, 1.0),
    aspect=0.0,
    shift=0.0,
    gamma=(1.6, 1.8),
    contrast=(1.2, 1.3),
    brightness=0.05,
    attenuation=1.0,
    speckle=0.6,
    noise=0.05,
    blur=1.6,
    sector=0.0,
    probability=1.0,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DomainConfig:
    """Two domains and how many patients of each.

    Attributes:
        kind: ``"phantom"`` or ``"camus"``.
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``, for ``"camus"``.
        size: Height and width of the images.
        vendor: The phantom's target scanner; the source is ``ge_like``.
        num_source: Patients of the source.
        num_target: Patients of the target that are adapted to.
        num_scored: Other patients of the target, that are scored.
    """

    kind: str = "phantom"
    data: Path = Path()
    size: int = 64
    vendor: str = "philips_like"
    num_source: int = 60
    num_target: int = 30
    num_scored: int = 30


class Frames(NamedTuple):
    """Images ``[n, size, size, 1]`` in [0, 1]; masks ``[n, FINE, FINE]`` and their spacing ``[n, 2]`` in mm."""

    images: np.ndarray
    labels: np.ndarray
    spacing: np.ndarray


class Domains(NamedTuple):
    """Frames to learn from, to adapt to (whose masks are not used), and to be scored on."""

    source: Frames
    target: Frames
    scored: Frames


def load_domains(config: DomainConfig, folder: Path) -> Domains:
    """Makes the images of an experiment, or reads them from the folder where they were kept."""
    path = folder / f"{config.kind}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = (make_phantom if config.kind == "phantom" else make_camus)(config)
        np.savez(path, **{f"{d}_{f}": v for d, part in made._asdict().items() for f, v in part._asdict().items()})
    with np.load(path) as archive:
        return Domains(*(Frames(*(archive[f"{d}_{f}"] for f in Frames._fields)) for d in Domains._fields))


def make_phantom(config: DomainConfig) -> Domains:
    """End-diastole and a time near end-systole, in both views of every patient."""

    @functools.partial(jax.jit, static_argnums=(1, 2))
    def scan(key, view, vendor):
        return simulate_patient(
            key,
            view=view,
            vendor=phantom.VENDORS[vendor],
            frame_rate=2.9,
            shape=(FINE, FINE),
            num_scatterers=20_000,
        )

    def frames(first: int, num: int, vendor: str) -> Frames:
        keys = [jax.random.fold_in(jax.random.key(2024), first + i) for i in range(num)]
        loops = [scan(key, view, vendor) for key in keys for view in ("2CH", "4CH")]
        images, masks = (np.concatenate([np.asarray(getattr(p, name)) for p in loops]) for name in ("images", "labels"))
        return Frames(
            resize(images, config.size), masks.astype(np.uint8), np.repeat([np.asarray(p.spacing) for p in loops], 2, 0)
        )

    n, m = config.num_source, config.num_target
    return Domains(
        frames(0, n, "ge_like"), frames(n, m, config.vendor), frames(n + m, config.num_scored, config.vendor)
    )


def make_camus(config: DomainConfig) -> Domains:
    """Training patients for source and target, validation patients for the score."""

    def frames(split: str, first: int, num: int, filled: float = 1.0) -> Frames:
        arrays = stack_examples(camus_224(config.data / f"camus224_{split}.npz"))
        is_chosen = np.isin(arrays["patient"], np.unique(arrays["patient"])[first : first + num])
        images = arrays["image"][is_chosen, :, :, None].astype(np.float32) / 255
        masks = arrays["label"][is_chosen]
        side = round(filled * FINE)
        if side < FINE:
            images, masks = resize(images, side), coarse(masks, side).astype(np.uint8)
        left = (FINE - side) // 2  # the probe stays at the top
        space = ((0, 0), (0, FINE - side), (left, FINE - side - left))
        images, masks = np.pad(images, (*space, (0, 0))), np.pad(masks, space)
        return Frames(images, masks, arrays["spacing"][is_chosen] * np.float32(FINE / side))

    @jax.jit
    def change(key, image):
        return augment(key, image[..., 0], jnp.zeros(image.shape[:-1], jnp.int32), config=ALTERED).image[..., None]

    def alter(frames: Frames) -> Frames:
        keys = jax.random.split(jax.random.key(2024), len(frames.images))
        return frames._replace(images=np.stack([change(k, x) for k, x in zip(keys, frames.images, strict=True)]))

    parts = (
        frames("train", 0, config.num_source),
        alter(frames("train", config.num_source, config.num_target, FILLED)),
        alter(frames("val", 0, config.num_scored, FILLED)),
    )
    return Domains(*(part._replace(images=resize(part.images, config.size)) for part in parts))


def resize(maps: np.ndarray, size: int) -> np.ndarray:
    """Resizes ``[n, h, w, c]``; what shrinks is smoothed first."""
    shrink = jax.jit(lambda x: jax.image.resize(x, (*x.shape[:-3], size, size, x.shape[-1]), "linear"))
    return np.stack([np.asarray(shrink(x)) for x in maps])


def coarse(masks: np.ndarray, size: int) -> np.ndarray:
    """Label maps on another grid, ``size`` wide and high."""
    return resize(np.eye(4, dtype=np.float32)[masks], size).argmax(-1).astype(np.int32)


def make_scorer(policy: Callable[[Any, Any], Any], scored: Frames) -> Callable[[Any], dict[str, float]]:
    """Dice (mean of the three structures), Hausdorff distance of cavity and epicardium in mm, share of valid hearts.

    Valid by the 12 criteria within `LIMITS`, and within the published ones. Of the network's own masks, and again of
    the largest region of each structure.
    """

    @jax.jit
    def draw(params, images):
        logits = policy(params, images)
        return (
            jax.image.resize(logits, (len(images), *scored.labels.shape[1:], 4), "linear").argmax(-1).astype(jnp.int32)
        )

    @jax.jit
    def score_masks(masks, truth, spacing):
        both = [(jnp.isin(masks, jnp.array(m)), jnp.isin(truth, jnp.array(m))) for m in STRUCTURES.values()]
        dice = jnp.stack([metrics.dice(*pair) for pair in both]).mean(0)
        far = jnp.stack([metrics.hausdorff(*pair, spacing) for pair in both[:2]]).mean(0)
        side = jnp.array(truth.shape[-2:]) * spacing
        far = jnp.where(jnp.isnan(far), jnp.linalg.norm(side, axis=-1), far)
        return dice, far, anatomy.is_valid(masks, thresholds=LIMITS), anatomy.is_valid(masks)

    def score(params: Any) -> dict[str, float]:
        rows = []
        for i in range(0, len(scored.images), 20):
            part = Frames(*(leaf[i : i + 20] for leaf in scored))
            masks = draw(params, part.images)
            largest = np.stack([keep_largest(mask) for mask in np.asarray(masks)])
            truth = part.labels.astype(np.int32)
            rows.append((*score_masks(masks, truth, part.spacing), *score_masks(largest, truth, part.spacing)))
        means = (float(np.concatenate(values).mean()) for values in zip(*rows, strict=True))
        names = [f"{name}{which}" for which in ("", "_largest") for name in ("dice", "hd", "valid", "valid_published")]
        return dict(zip(names, means, strict=True))

    return score
