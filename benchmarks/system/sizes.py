"""Time an item against the number of items in a call, for each headline workload.

Run: ``python -m benchmarks.system.sizes``
"""

import functools
from pathlib import Path

from benchmarks.harness import Section, Timing, compare, figures, main
from benchmarks.methods import anatomy, rejection_sampling, surface, temporal

PLOT = Path(__file__).resolve().parents[1] / "sizes.svg"


def segmentation(num: int):
    """Label maps of frames of 224 x 224 by the packaged network of two frames, each seen alone."""
    import jax
    import jax.numpy as jnp

    from cardiojax import zoo

    model, variables = zoo.load("unet_pair_camus")
    call = jax.jit(lambda variables, x: model.apply(variables, x).logits.argmax(-1))
    images = jax.random.uniform(jax.random.key(0), (num, 224, 224, 1), jnp.float32)
    return lambda: call(variables, images).block_until_ready()


#: Name, what makes a call of so many items, and the numbers.
WORKLOADS = {
    "segmentation, frames of 224 x 224": (segmentation, (1, 4, 16, 64)),
    "12 criteria, label maps of 256 x 256": (anatomy.ours, (1, 16, 256, 1024)),
    "surface distances, masks of 224 x 224": (surface.ours, (1, 16, 256, 1024)),
    "smoothing, sequences of 60 frames": (temporal.ours, (1, 16, 256, 4096)),
    "log density, points among 2000 codes": (rejection_sampling.density_ours, (1, 100, 10_000, 1_000_000)),
}


def run(rounds: int = 5) -> Section:
    """Times every workload at every number of items, and draws the plot."""
    lines = ["| µs an item, by items in a call | | | | |", "|---|---|---|---|---|"]
    timed: dict[str, list[tuple[int, Timing]]] = {}
    for name, (workload, numbers) in WORKLOADS.items():
        timings = compare({str(num): functools.partial(workload, num) for num in numbers}, rounds=rounds)
        timed[name] = [(num, timings[str(num)]) for num in numbers]
        lines.append(f"| {' | '.join([name, *(f'{n:,}: {1e6 * t.median / n:.4g}' for n, t in timed[name])])} |")
    _plot(timed)
    text = "\n".join([*lines, "", "![Time an item against the number of items in a call](sizes.svg)"])
    every = {f"{name}, {num}": t for name, rows in timed.items() for num, t in rows}
    return Section(title="Cost against size", text=text, data={"timings": figures(every)})


def _plot(timed: dict[str, list[tuple[int, Timing]]]) -> None:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for name, rows in timed.items():
        axes.loglog([num for num, _ in rows], [1e6 * t.median / num for num, t in rows], "o-", label=name)
    axes.set_xlabel("items in a call")
    axes.set_ylabel("µs an item")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with rc_context({"svg.hashsalt": "cardiojax"}):
        figure.savefig(PLOT, metadata={"Date": None})


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
