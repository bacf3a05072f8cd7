"""What the constraint on the phase gives a shape autoencoder, and what it costs: all measures, many variants.

Painchaud et al. add a linear neuron that reads the phase of the cycle from the code, so that the way from end-diastole
to end-systole becomes a straight line in the latent space. Small autoencoders (32 x 32 pixels, 8 to 32 channels,
otherwise as ``cvae_camus``) are trained alike on the masks of CAMUS, with

- no term, and the squared error of the phase with a weight of 0.3 (that of ``cvae_camus``), 1, 3 and 10;
- a weight that rises from 0 to 3 over the first half of the training;
- the neuron at sampled codes in place of the posterior's mean;
- pairs of one patient in one pose: the error of the difference of their phases, so that patients may differ;
- triples of one patient: the departure of the code of a shape between two others from the line between their codes,
  which is what the measure of straightness sees;
- twice as many steps.

Shapes between end-diastole and end-systole are interpolated in space, as in ``experiments.anatomy.shape_spaces``, whose
measures are taken on the validation patients.

Run: ``python -m experiments.anatomy.phase_constraint --data DIR/camus_224 --out runs/phase --figure
experiments/figures/phase_constraint.png`` (about a minute of processor time a variant). Writes ``scores.json``,
``table.md`` and the figure; variants that are trained are not trained again.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from cardiojax import losses, models, train
from cardiojax.correction.anatomical import Shapes, load_shapes
from cardiojax.data.loader import LoaderConfig, MappedBatches, make_loader
from cardiojax.data.shapes import ShapePairs
from cardiojax.recipes import RunConfig, run
from cardiojax.recipes.vae import VAELossConfig, random_shape, vae_loss
from experiments.anatomy import shape_spaces
from experiments.common.results import write_results

#: Measure to its title and whether more is better.
MEASURES = {
    "phase_by_linear_readout": ("phase by linear regression, r", True),
    "phase_along_line": ("phase along the line, r", True),
    "largest_departure": ("departure from the line", False),
    "dice_lv": ("Dice of the LV", True),
    "dice_epicardium": ("Dice of the epicardium", True),
    "valid_reconstructions": ("valid reconstructions", True),
    "valid_samples": ("valid samples", True),
    "valid_half_way": ("valid half-way between patients", True),
}
_PACKAGED = ("shape_vae_camus", "cvae_camus")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to train.

    Attributes:
        weight: Of the term.
        rises: Whether the weight rises from 0 over the first half of the steps.
        at_samples: Whether the neuron sees sampled codes in place of means.
        shapes: Shapes of one patient in one pose: 1 for the phase itself, 2 for the difference of phases, 3 for the
            departure of the second from the line between the others.
        longer: Factor on the steps.
    """

    weight: float = 0.0
    rises: bool = False
    at_samples: bool = False
    shapes: int = 1
    longer: int = 1


VARIANTS = {
    "plain": Variant(),
    "weight 0.3": Variant(weight=0.3),
    "weight 1": Variant(weight=1.0),
    "weight 3": Variant(weight=3.0),
    "weight 10": Variant(weight=10.0),
    "weight rises to 3": Variant(weight=3.0, rises=True),
    "weight 1, sampled codes": Variant(weight=1.0, at_samples=True),
    "weight 1, pairs": Variant(weight=1.0, shapes=2),
    "triples on a line": Variant(weight=0.3, shapes=3),
    "plain, twice the steps": Variant(longer=2),
    "weight 1, twice the steps": Variant(weight=1.0, longer=2),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is trained.

    Attributes:
        data: Folder with ``camus224_train.npz`` and ``camus224_val.npz``.
        out: Folder for the runs, ``scores.json`` and ``table.md``.
        figure: The figure; none if not given.
        num_steps: Steps of each variant.
        batch_size: Shapes a step.
        variants: By name.
        seeds: Of each variant.
        limit: Frames of each split, 0 for all.
    """

    data: Path
    out: Path
    figure: Path | None = None
    num_steps: int = 600
    batch_size: int = 24
    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: tuple[int, ...] = (0,)
    limit: int = 0


#: Half the channels and half the side of ``cvae_camus``.
_MODEL = models.VAEConfig(size=32, features=(8, 16, 32), bottleneck=32, regress_phase=True)


def shapes_of_cycle(
    key: Key[Array, ""], maps: Float[Array, "2 h w k"], num: int
) -> tuple[Float[Array, "num h w k"], Float[Array, " num"]]:
    """Shapes of one patient in one random pose.

    Args:
        key: Random key.
        maps: Signed distances at end-diastole and at end-systole.
        num: 1; 2; or 3, then the first and the last are the ends.

    Returns:
        Class probabilities, and the phases.
    """
    phase_key, pose_key = jax.random.split(key)
    phases = jnp.clip(jax.random.uniform(phase_key, (num,), minval=-0.5, maxval=1.5), 0, 1)
    if num == 3:
        phases = jnp.stack([jnp.zeros(()), jax.random.uniform(phase_key), jnp.ones(())])
    first, last = maps.astype(jnp.float32)

    def at(phase):
        between = (1 - phase) * first + phase * last
        return random_shape(pose_key, jnp.stack([between, between]))[0]  # the pose alone is random

    return jax.vmap(at)(phases), phases


def constraint(output: models.VAEOutput, phases: Float[Array, "n k"], read: Any, variant: Variant) -> Float[Array, ""]:
    """The term of the loss that is to make the way straight.

    Args:
        output: Of all shapes, those of one patient beside each other, ``[n * k, ...]``.
        phases: Of the shapes.
        read: Codes to phases: the neuron.
        variant: Which term.
    """
    codes = output.codes if variant.at_samples else output.posterior.mean
    if variant.shapes == 3:
        first, between, last = jnp.moveaxis(codes.reshape(*phases.shape, -1), 1, 0)
        line = last - first
        away = between - first - phases[:, 1:2] * line
        return (jnp.square(away).sum(-1) / (jnp.square(line).sum(-1) + 1e-3)).mean()
    found = read(codes).reshape(phases.shape)
    if variant.shapes == 2:
        return losses.squared_error_loss(found[:, 1] - found[:, 0], phases[:, 1] - phases[:, 0]).mean()
    return losses.squared_error_loss(found, phases).mean()


def train_variant(variant: Variant, seed: int, pairs: ShapePairs, config: Config) -> Shapes:
    """Trains, or resumes."""
    model, num_steps = models.VAE(_MODEL), variant.longer * config.num_steps
    name = "-".join(map(str, (*dataclasses.astuple(variant), seed)))
    loader = make_loader(pairs, LoaderConfig(batch_size=config.batch_size // variant.shapes, seed=seed))
    rest = VAELossConfig(phase=0)

    def init(key):
        return model.init(key, jnp.zeros((1, _MODEL.size, _MODEL.size, _MODEL.num_classes)))["params"]

    def loss(key, params, maps, *, step):
        shape_key, latent_key = jax.random.split(key)
        keys = jax.random.split(shape_key, len(maps))
        shapes, phases = jax.vmap(lambda key, maps: shapes_of_cycle(key, maps, variant.shapes))(keys, maps)
        shapes = shapes.reshape(-1, *shapes.shape[2:])
        output: Any = model.apply({"params": params}, shapes, train=True, rngs={"latent": latent_key})
        weight = variant.weight * (jnp.minimum(1.0, 2 * step / num_steps) if variant.rises else 1.0)
        read = lambda codes: codes @ params["phase"]["kernel"][:, 0] + params["phase"]["bias"]  # noqa: E731
        term = constraint(output, phases, read, variant)
        return vae_loss(output, shapes, phases.reshape(-1), step=step, config=rest) + weight * term

    fitted = run(
        train.Task(init=init, loss=loss, evaluate=lambda params: {"score": 0.0}),
        MappedBatches(loader, lambda batch: batch["maps"]),
        config=RunConfig(
            out=config.out / name, seed=seed, loop=train.LoopConfig(num_steps=num_steps, eval_every=num_steps)
        ),
        optimizer=train.make_optimizer(train.OptimizerConfig(learning_rate=1.5e-3), num_steps),
    )
    return Shapes(name=name, model=model, variables={"params": fitted.params})


def table(scores: dict[str, dict[str, float]]) -> str:
    """The rows as Markdown."""
    lines = ["| | " + " | ".join(title for title, _ in MEASURES.values()) + " |", "|---" * (len(MEASURES) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{row[key]:.3f}" for key in MEASURES) + " |" for name, row in scores.items()]
    return "\n".join(lines) + "\n"


def draw(scores: dict[str, dict[str, float]], path: Path) -> None:
    """One panel a measure; the dashed line is the plain autoencoder of the same size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), layout="constrained")
    panels = figure.subplots(2, 4, sharey=True).ravel()
    names = list(scores)[::-1]
    for axis, (key, (title, is_more_better)) in zip(panels, MEASURES.items(), strict=True):
        values = [scores[name][key] for name in names]
        colours = ["#999999" if name in _PACKAGED else "#0072b2" for name in names]
        axis.scatter(values, range(len(names)), c=colours, s=30)
        base = scores.get("plain", scores[names[-1]])[key]
        axis.axvline(base, color="#d55e00", linestyle="--", linewidth=1)
        axis.set_title(f"{title} ({'more' if is_more_better else 'less'} is better)", fontsize=8)
        axis.grid(alpha=0.3)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.tick_params(axis="x", labelsize=7)
    figure.savefig(path, dpi=85)


def main(config: Config) -> dict[str, dict[str, float]]:
    """Trains and measures; returns the scores by variant, the packaged autoencoders first."""
    settings = shape_spaces.Config(data=config.data, out=config.out, limit=config.limit)
    masks = shape_spaces.read_masks(settings)
    pairs = ShapePairs(masks.splits[0], size=_MODEL.size)
    path = config.out / "measured.json"
    scores: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    todo = {name: lambda name=name: load_shapes(name) for name in _PACKAGED}
    for name in config.variants:
        for seed in config.seeds:
            full = name if seed == config.seeds[0] else f"{name}, seed {seed}"
            todo[full] = lambda name=name, seed=seed: train_variant(VARIANTS[name], seed, pairs, config)
    for name, make in todo.items():
        if name not in scores:
            found = shape_spaces.measure(make(), masks, settings)
            scores[name] = {key: found[key] for key in MEASURES}
            config.out.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(scores, indent=2) + "\n")
            print(name, json.dumps(scores[name]), flush=True)
    scores = {name: scores[name] for name in todo}
    write_results(config.out, table(scores), scores)
    if config.figure:
        draw(scores, config.figure)
    return scores


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
