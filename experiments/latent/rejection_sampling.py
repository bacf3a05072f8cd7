"""Rejection sampling in the latent space, drawn: the figures of Painchaud et al., IEEE TMI 2020.

1. ``rejection_1d.png``: along the first principal component of the codes of the CAMUS training masks, the Parzen target
   P, the normal proposal Q, k Q with k the largest ratio at the codes, and proposals under k Q, kept where they lie
   under P; beside it the widened window as the proposal.
2. ``rejection_2d.png``: the first two principal components of the codes of the masks, of the accepted draws, and of
   those whose shapes are anatomically valid, with the invalid ones.
3. ``latent_paths.png``: shapes between two valid codes, and along the principal components; a red frame marks shapes
   that violate a criterion.

Run: ``python -m experiments.latent.rejection_sampling --data DIR/camus_224 --out experiments/figures`` (a minute on two
cores). Expected: in one dimension half of the normal proposals are kept; 96 % of the accepted draws are valid. The
shapes are decoded from weights under CC BY-NC-SA 4.0.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure

from cardiojax import anatomy, latent
from cardiojax.correction.anatomical import Shapes, load_shapes
from cardiojax.recipes.bank import encode_all
from experiments.common.frames import training_labels

#: Background, LV cavity, myocardium, left atrium.
_COLOURS = np.array([(255, 255, 255), (86, 180, 233), (230, 159, 0), (0, 190, 125)], np.uint8)
_TARGET, _PROPOSAL, _INVALID = "#0072b2", "#999999", "#d55e00"
_DPI = 80


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is drawn.

    Attributes:
        data: Folder with ``camus224_train.npz``.
        out: Folder for the figures.
        num_points: Proposals in one dimension.
        num_samples: Accepted draws in two dimensions.
        num_shapes: Shapes on a path.
        widening: Factor on the kernels' width in the widened window.
        limit: Masks, 0 for all.
    """

    data: Path
    out: Path
    num_points: int = 1500
    num_samples: int = 8000
    num_shapes: int = 9
    widening: float = 1.05
    limit: int = 0


def principal(codes: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
    """Standard deviations and directions (rows) of the principal components."""
    _, values, directions = np.linalg.svd(codes - codes.mean(0), full_matrices=False)
    return values / np.sqrt(len(codes) - 1), directions


def draw_1d(codes: Float[np.ndarray, " n"], config: Config) -> float:
    """Draws P, Q, k Q and the proposals in one dimension; returns the acceptance of the normal proposal."""
    points = jnp.asarray(codes[:, None])
    window = latent.fit_parzen(points)
    proposals = {"normal Q": latent.fit_gaussian(points), "widened window Q": window.widened(config.widening)}
    grid = jnp.linspace(codes.min() - 1, codes.max() + 1, 500)[:, None]
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    accepted = []
    for axis, (name, proposal) in zip(figure.subplots(1, 2, sharey=True), proposals.items(), strict=True):
        envelope = latent.measure_envelope(jax.random.key(0), window, proposal, points)
        k = float(jnp.exp(envelope.log_scale))
        keys = jax.random.split(jax.random.key(1), config.num_points)
        z, is_accepted = jax.vmap(lambda key, q=proposal, e=envelope: latent.propose(key, window, q, e.log_scale))(keys)
        # for the picture: a height for each proposal, under P for accepted ones and between P and k Q for the others
        p, kq = (np.exp(np.asarray(v)) for v in (window.log_prob(z), proposal.log_prob(z) + envelope.log_scale))
        height = np.random.default_rng(0).uniform(size=config.num_points)
        height = np.where(is_accepted, height * np.minimum(p, kq), p + height * np.maximum(kq - p, 0))
        for mask, colour, label in ((is_accepted, _TARGET, "accepted"), (~is_accepted, _INVALID, "rejected")):
            axis.scatter(z[mask, 0], height[np.asarray(mask)], s=2, color=colour, alpha=0.5, label=label, linewidths=0)
        for values, style, label in (
            (window.log_prob(grid), "-", "P"),
            (proposal.log_prob(grid), ":", "Q"),
            (proposal.log_prob(grid) + envelope.log_scale, "--", f"kQ, k = {k:.2f}"),
        ):
            axis.plot(grid, np.exp(values), style, color=_TARGET if label == "P" else _PROPOSAL, label=label)
        accepted.append(float(is_accepted.mean()))
        axis.set_title(f"{name}: {100 * accepted[-1]:.0f} % accepted", fontsize=10)
        axis.set_xlabel("first principal component of the codes")
        axis.legend(fontsize=8, markerscale=4)
    figure.savefig(config.out / "rejection_1d.png", dpi=_DPI)
    return accepted[0]


def draw_2d(
    codes: Float[np.ndarray, "n d"], samples: Float[np.ndarray, "m d"], valid: Bool[np.ndarray, " m"], config: Config
) -> None:
    """Draws the codes, the accepted draws, and those that are valid, on two principal components."""
    spread, directions = principal(codes)

    def project(z):
        return (z - codes.mean(0)) @ directions[:2].T

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    titles = (
        f"{len(codes):,} codes of masks",
        f"densified: {len(samples):,} accepted draws",
        f"selected: {int(valid.sum()):,} valid",
    )
    for axis, title, points in zip(axes, titles, (codes, samples, samples[valid]), strict=True):
        x, y = project(points).T
        axis.scatter(x, y, s=2, color=_TARGET, alpha=0.35, linewidths=0)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("principal component 1")
    x, y = project(samples[~valid]).T
    axes[2].scatter(x, y, s=4, color=_INVALID, linewidths=0, label=f"{int((~valid).sum()):,} invalid")
    axes[2].legend(fontsize=8, markerscale=2)
    axes[0].set_ylabel("principal component 2")
    limits = 3.2 * spread[:2]
    axes[0].set(xlim=(-limits[0], limits[0]), ylim=(-limits[1], limits[1]))
    figure.savefig(config.out / "rejection_2d.png", dpi=_DPI)


def paths(codes: Float[np.ndarray, "n d"], num: int) -> dict[str, Float[np.ndarray, "m d"]]:
    """Codes between two masks, and along principal components through the mean."""
    spread, directions = principal(codes)
    far = np.argsort((codes - codes.mean(0)) @ directions[0])[[len(codes) // 20, -len(codes) // 20]]
    found = {
        "interpolation": np.asarray(latent.interpolate(jnp.asarray(codes[far[0]]), jnp.asarray(codes[far[1]]), num))
    }
    steps = np.linspace(-2.5, 2.5, num)[:, None]
    for i in range(4):
        found[f"component {i + 1}"] = codes.mean(0) + steps * spread[i] * directions[i]
    return found


def draw_paths(ways: dict[str, Float[np.ndarray, "m d"]], decode: Any, config: Config) -> None:
    """Draws the shapes on every path."""
    figure = Figure(figsize=(10, 1.15 * len(ways)), layout="constrained")
    axes = figure.subplots(len(ways), config.num_shapes)
    for row, (name, way) in zip(axes, ways.items(), strict=True):
        masks, valid = decode(jnp.asarray(way, jnp.float32))
        for axis, mask, is_valid in zip(row, np.asarray(masks), np.asarray(valid), strict=True):
            axis.imshow(_COLOURS[mask])
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set(color="#cccccc" if is_valid else _INVALID, linewidth=1 if is_valid else 2.5)
        row[0].set_ylabel(name, fontsize=8)
    figure.savefig(config.out / "latent_paths.png", dpi=_DPI)


def make_decode(shapes: Shapes) -> Any:
    """A function of codes to label maps and their validity."""

    @jax.jit
    def decode(codes: Float[jax.Array, "n d"]) -> tuple[Int[jax.Array, "n h w"], Bool[jax.Array, " n"]]:
        masks = shapes.decode(codes, 224, 224)
        return masks, anatomy.is_valid(masks)

    return decode


def main(config: Config) -> dict[str, float]:
    """Draws all figures; returns the acceptance in one dimension and in all, and the share of valid draws."""
    shapes = load_shapes("cvae_camus")
    masks = training_labels(config.data)[: config.limit or None].astype(np.int32)
    codes = encode_all(shapes, masks)
    config.out.mkdir(parents=True, exist_ok=True)
    _, directions = principal(codes)
    acceptance_1d = draw_1d(((codes - codes.mean(0)) @ directions[0]).astype(np.float32), config)

    window = latent.fit_parzen(jnp.asarray(codes))
    drawn = latent.rejection_sample(
        jax.random.key(0), window, window.widened(config.widening), config.num_samples, block_size=256
    )
    decode = make_decode(shapes)
    samples, batch = np.asarray(drawn.values), min(config.num_samples, 200)
    valid = np.concatenate([np.asarray(decode(samples[i : i + batch])[1]) for i in range(0, len(samples), batch)])
    draw_2d(codes, samples, valid, config)
    draw_paths(paths(codes, config.num_shapes), decode, config)
    found = {
        "acceptance_1d": acceptance_1d,
        "acceptance": float(drawn.acceptance),
        "valid": float(valid.mean()),
    }
    print(found)
    return found


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
