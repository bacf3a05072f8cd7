"""What the constraint on the phase gives a shape autoencoder, and what it costs: all measures, many variants.

Painchaud et al. add a linear neuron that reads the phase of the cycle from the code, so that the way from end-diastole
to end-systole becomes a straight line in the latent space. Autoencoders are trained alike on the masks of CAMUS: small
ones from random weights (32 x 32 pixels, 8 to 32 channels, otherwise as ``cvae_camus``), or, with ``--init
shape_vae_camus``, that packaged one further, which was trained without a term and decodes to valid shapes. The
variants:

- no term, and the squared error of the phase with a weight of 0.3 (that of ``cvae_camus``), 1, 3 and 10;
- a weight that rises from 0 to 3 over the first half of the training;
- the neuron at sampled codes in place of the posterior's mean;
- pairs of one patient in one pose: the error of the difference of their phases, so that patients may differ;
- triples of one patient: the departure of the code of a shape between two others from the line between their codes,
  which is what the measure of straightness sees; alone, and beside the error of the phase;
- as many cycles of the phantom as of patients, whose shapes between end-diastole and end-systole are not interpolated
  but simulated at known instants; without and with the terms;
- twice as many steps.

Shapes between end-diastole and end-systole are interpolated in space, as in ``experiments.anatomy.shape_spaces``, whose
measures are taken on the validation patients.

Run: ``python -m experiments.anatomy.phase_constraint --data DIR/camus_224 --out runs/phase --figure
experiments/figures/phase_constraint.png`` (one to two minutes of processor time a variant, four with ``--init``).
Writes ``scores.json``, ``table.md`` and the figure; variants that are trained are not trained again. Several seeds are
stated as their mean and standard deviation.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cardiojax import losses, models, train
from cardiojax.correction.anatomical import Shapes, load_shapes
from cardiojax.data.loader import LoaderConfig, MappedBatches, make_loader
from cardiojax.data.shapes import ShapePairs, signed_distances
from cardiojax.recipes import RunConfig, run
from cardiojax.recipes.run import initializer
from cardiojax.recipes.vae import VAELossConfig, random_shape, vae_loss
from experiments.anatomy import shape_spaces
from experiments.common.results import KeptScores, write_results
from experiments.common.simulation import simulate_patient

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
        weight: Of the error of the phase.
        rises: Whether the weight rises from 0 over the first half of the steps.
        at_samples: Whether the neuron sees sampled codes in place of means.
        pairs: Whether the error is that of the difference of the phases of two shapes of a patient.
        line: Weight of the departure from the line of triples of a patient.
        phantom: Whether half of the cycles are those of the phantom.
        longer: Factor on the steps.
    """

    weight: float = 0.0
    rises: bool = False
    at_samples: bool = False
    pairs: bool = False
    line: float = 0.0
    phantom: bool = False
    longer: int = 1

    @property
    def shapes(self) -> int:
        """Shapes of one patient in one pose."""
        return 3 if self.line else 2 if self.pairs else 1


VARIANTS = {
    "plain": Variant(),
    "weight 0.3": Variant(weight=0.3),
    "weight 1": Variant(weight=1.0),
    "weight 3": Variant(weight=3.0),
    "weight 10": Variant(weight=10.0),
    "weight rises to 3": Variant(weight=3.0, rises=True),
    "weight 1, sampled codes": Variant(weight=1.0, at_samples=True),
    "weight 1, pairs": Variant(weight=1.0, pairs=True),
    "line 0.3": Variant(line=0.3),
    "line 0.3, weight 0.3": Variant(weight=0.3, line=0.3),
    "line 1, weight 0.3": Variant(weight=0.3, line=1.0),
    "phantom": Variant(phantom=True),
    "phantom, weight 0.3": Variant(weight=0.3, phantom=True),
    "phantom, line 0.3, weight 0.3": Variant(weight=0.3, line=0.3, phantom=True),
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
        init: A packaged autoencoder that is trained further; small ones are trained from random weights if not given.
        num_steps: Steps of each variant.
        batch_size: Shapes a step.
        variants: By name.
        seeds: Of each variant.
        limit: Frames of each split, 0 for all.
    """

    data: Path
    out: Path
    figure: Path | None = None
    init: str | None = None
    num_steps: int = 600
    batch_size: int = 24
    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: tuple[int, ...] = (0,)
    limit: int = 0


#: Half the channels and half the side of ``cvae_camus``.
_SMALL = models.VAEConfig(size=32, features=(8, 16, 32), bottleneck=32, regress_phase=True)
#: Instants of a cycle of the phantom from end-diastole to end-systole, ends included.
_NUM_INSTANTS = 5
#: From end-diastole to end-systole in the phantom at 60 beats a minute, seconds.
_SYSTOLE = 0.361


class Cycles:
    """Signed distances at equal steps of the phase, first those of patients, interpolated, then those of the phantom.

    Args:
        pairs: The patients.
        num_simulated: Cycles of the phantom.
        size: Height and width of the maps.
    """

    def __init__(self, pairs: ShapePairs, *, num_simulated: int, size: int):
        self._pairs = pairs
        self._simulated = simulated_cycles(num_simulated, size=size)

    def __len__(self) -> int:
        return len(self._pairs) + len(self._simulated)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if index >= len(self._pairs):
            return {"maps": self._simulated[index - len(self._pairs)]}
        first, last = self._pairs[index]["maps"]
        phases = np.linspace(0, 1, _NUM_INSTANTS, dtype=np.float16)[:, None, None, None]
        return {"maps": (1 - phases) * first + phases * last}


def simulated_cycles(num: int, *, size: int) -> Float[np.ndarray, "num instants size size 4"]:
    """Signed distances of random patients of the phantom at instants of systole, both views in turn."""

    @functools.partial(jax.jit, static_argnames="view")
    def masks(key: Key[Array, ""], view: str) -> Array:
        frame_rate = (_NUM_INSTANTS - 1) / _SYSTOLE
        # what is not used of the loop, the images, is not computed
        return simulate_patient(key, view=view, num_frames=_NUM_INSTANTS, frame_rate=frame_rate).labels

    loops = [
        np.asarray(masks(key, ("2CH", "4CH")[i % 2])) for i, key in enumerate(jax.random.split(jax.random.key(0), num))
    ]
    maps = signed_distances(list(np.concatenate(loops)), size=size)
    return maps.reshape(num, _NUM_INSTANTS, *maps.shape[1:])


def shapes_of_cycle(
    key: Key[Array, ""], maps: Float[Array, "t h w k"], num: int
) -> tuple[Float[Array, "num h w k"], Float[Array, " num"]]:
    """Shapes of one patient in one random pose.

    Args:
        key: Random key.
        maps: Signed distances at equal steps from end-diastole to end-systole, between which is interpolated.
        num: 1; 2; or 3, then the first and the last are the ends.

    Returns:
        Class probabilities, and the phases.
    """
    phase_key, pose_key = jax.random.split(key)
    phases = jnp.clip(jax.random.uniform(phase_key, (num,), minval=-0.5, maxval=1.5), 0, 1)
    if num == 3:
        phases = jnp.stack([jnp.zeros(()), jax.random.uniform(phase_key), jnp.ones(())])
    last = len(maps) - 1

    def at(phase):
        before = jnp.minimum((phase * last).astype(jnp.int32), last - 1)
        share = phase * last - before
        between = (1 - share) * maps[before].astype(jnp.float32) + share * maps[before + 1].astype(jnp.float32)
        return random_shape(pose_key, jnp.stack([between, between]))[0]  # the pose alone is random

    return jax.vmap(at)(phases), phases


def phase_error(output: models.VAEOutput, phases: Float[Array, "n k"], read: Any, variant: Variant) -> Float[Array, ""]:
    """The mean square error of the phase that is read from the codes.

    Args:
        output: Of all shapes, those of one patient beside each other, ``[n * k, ...]``.
        phases: Of the shapes.
        read: Codes to phases: the neuron.
        variant: Whether of each phase or of the difference of two, at means or at samples.
    """
    codes = output.codes if variant.at_samples else output.posterior.mean
    found = read(codes).reshape(phases.shape)
    if variant.pairs:
        return losses.squared_error_loss(found[:, 1] - found[:, 0], phases[:, 1] - phases[:, 0]).mean()
    return losses.squared_error_loss(found, phases).mean()


def departure(codes: Float[Array, "m d"], phases: Float[Array, "n 3"]) -> Float[Array, ""]:
    """Mean square distance of the second code of a triple from the line between the others, over that of those."""
    first, between, last = jnp.moveaxis(codes.reshape(*phases.shape, -1), 1, 0)
    line = last - first
    away = between - first - phases[:, 1:2] * line
    return (jnp.square(away).sum(-1) / (jnp.square(line).sum(-1) + 1e-3)).mean()


def train_variant(variant: Variant, seed: int, source: Any, start: Shapes | None, config: Config) -> Shapes:
    """Trains, or resumes.

    Args:
        variant: What is trained.
        seed: Of the parameters, the order and the shapes.
        source: Cycles, or pairs.
        start: An autoencoder that is trained further.
        config: Length and folder.

    Returns:
        The autoencoder.
    """
    sizes = model_config(start)
    model, num_steps = models.VAE(sizes), variant.longer * config.num_steps
    name = "-".join(map(str, (config.init, config.num_steps, *dataclasses.astuple(variant), seed)))
    loader = make_loader(source, LoaderConfig(batch_size=config.batch_size // variant.shapes, seed=seed))
    rest = VAELossConfig(phase=0, kl_warmup=0 if start else 500)

    draw_params = initializer(model, (1, sizes.size, sizes.size, sizes.num_classes))

    def init(key):
        return {**draw_params(key), **(start.variables["params"] if start else {})}

    def loss(key, params, maps, *, step):
        shape_key, latent_key = jax.random.split(key)
        keys = jax.random.split(shape_key, len(maps))
        shapes, phases = jax.vmap(lambda key, maps: shapes_of_cycle(key, maps, variant.shapes))(keys, maps)
        shapes = shapes.reshape(-1, *shapes.shape[2:])
        output: Any = model.apply({"params": params}, shapes, train=True, rngs={"latent": latent_key})
        total = vae_loss(output, shapes, phases.reshape(-1), step=step, config=rest)
        read = lambda codes: codes @ params["phase"]["kernel"][:, 0] + params["phase"]["bias"]  # noqa: E731
        rise = jnp.minimum(1.0, 2 * step / num_steps) if variant.rises else 1.0
        total += variant.weight * rise * phase_error(output, phases, read, variant)
        return total + variant.line * departure(output.posterior.mean, phases) if variant.line else total

    fitted = run(
        train.Task(init=init, loss=loss, evaluate=lambda params: {"score": 0.0}),
        MappedBatches(loader, lambda batch: batch["maps"]),
        config=RunConfig(
            out=config.out / name, seed=seed, loop=train.LoopConfig(num_steps=num_steps, eval_every=num_steps)
        ),
        optimizer=train.make_optimizer(train.OptimizerConfig(learning_rate=5e-4 if start else 1.5e-3), num_steps),
    )
    return Shapes(name=name, model=model, variables={"params": fitted.params})


def model_config(start: Shapes | None) -> models.VAEConfig:
    """Sizes of the autoencoders; all have the neuron."""
    return _SMALL if start is None else dataclasses.replace(start.model.config, regress_phase=True)


class Score(NamedTuple):
    """A measure over the seeds.

    Attributes:
        mean: Of the seeds.
        deviation: Their standard deviation; None of one seed.
    """

    mean: float
    deviation: float | None


def summary(rows: list[dict[str, float]]) -> dict[str, Score]:
    """Each measure over the seeds of a variant."""

    def score(values: list[float]) -> Score:
        return Score(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)

    return {key: score([row[key] for row in rows]) for key in MEASURES}


def table(scores: dict[str, dict[str, Score]]) -> str:
    """The rows as Markdown."""

    def cell(score: Score) -> str:
        return f"{score.mean:.3f}" if score.deviation is None else f"{score.mean:.3f} ± {score.deviation:.3f}"

    lines = ["| | " + " | ".join(title for title, _ in MEASURES.values()) + " |", "|---" * (len(MEASURES) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(cell(row[key]) for key in MEASURES) + " |" for name, row in scores.items()]
    return "\n".join(lines) + "\n"


def draw(scores: dict[str, dict[str, Score]], path: Path) -> None:
    """One panel a measure, bars of one standard deviation; the dashed line is training without a term."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8), layout="constrained")
    panels = figure.subplots(2, 4, sharey=True).ravel()
    names = list(scores)[::-1]
    for axis, (key, (title, is_more_better)) in zip(panels, MEASURES.items(), strict=True):
        for place, name in enumerate(names):
            score = scores[name][key]
            colour = "#999999" if name in _PACKAGED else "#0072b2"
            axis.errorbar(score.mean, place, xerr=score.deviation, fmt="o", color=colour, markersize=5)
        base = scores.get("plain", scores[names[-1]])[key].mean
        axis.axvline(base, color="#d55e00", linestyle="--", linewidth=1)
        axis.set_title(f"{title} ({'more' if is_more_better else 'less'} is better)", fontsize=8)
        axis.grid(alpha=0.3)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.tick_params(axis="x", labelsize=7)
    figure.savefig(path, dpi=85)


def main(config: Config) -> dict[str, dict[str, Score]]:
    """Trains and measures; returns the scores by variant, the packaged autoencoders first."""
    settings = shape_spaces.Config(data=config.data, out=config.out, limit=config.limit)
    masks = shape_spaces.read_masks(settings)
    start = load_shapes(config.init) if config.init else None
    size = model_config(start).size
    pairs = ShapePairs(masks.splits[0], size=size)
    with_phantom = functools.cache(lambda: Cycles(pairs, num_simulated=len(pairs), size=size))
    kept = KeptScores(config.out / "measured.json")

    def train_one(variant: Variant, seed: int) -> Shapes:
        return train_variant(variant, seed, with_phantom() if variant.phantom else pairs, start, config)

    def scored(key: str, make: Callable[..., Shapes], *arguments: Any) -> dict[str, float]:
        def measure() -> dict[str, float]:
            every = shape_spaces.measure(make(*arguments), masks, settings)
            return {title: every[title] for title in MEASURES}

        return kept.measure(key, measure)

    scores = {name: summary([scored(name, load_shapes, name)]) for name in _PACKAGED}
    length = f"{config.init or 'small'}, {config.num_steps} steps"
    for name in config.variants:
        runs = [scored(f"{name}, {length}, seed {seed}", train_one, VARIANTS[name], seed) for seed in config.seeds]
        scores[name] = summary(runs)
    in_json = {name: {key: score._asdict() for key, score in row.items()} for name, row in scores.items()}
    write_results(config.out, table(scores), in_json)
    if config.figure:
        draw(scores, config.figure)
    return scores


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
