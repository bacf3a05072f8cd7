"""Functions with loops: time of a call with a batch, and of the function of one example under `jax.vmap`.

Run: ``python -m benchmarks.methods.vmapped``
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness import Section, compare, figures, main
from benchmarks.methods import anatomy as anatomy_benchmark
from benchmarks.methods import rejection_sampling, temporal

#: Masks of 224 x 224, codes, sequences of 60 frames, draws.
MASKS, CODES, SEQUENCES, DRAWS = 600, 64, 64, 20_000
#: Calls of `rejection_sample` under `vmap` for the draws of one.
CHAINS = 32


class Case(NamedTuple):
    """A function of a batch, what one example under `vmap` is given, and the arguments.

    Attributes:
        batched: Called with all arguments.
        single: Called under ``vmap``, with one row of each.
        arguments: Arrays with the batch in front; the others are bound.
    """

    batched: Callable[..., Any]
    single: Callable[..., Any]
    arguments: tuple[Any, ...]


def _damaged(num: int) -> np.ndarray:
    """Masks of which every third has a hole."""
    masks = anatomy_benchmark.masks(num, 224)
    masks[::3, 100:104, 108:112] = 0
    return masks


def _of_masks(function: Callable[[Any], Any]) -> Case:
    return Case(function, function, (_damaged(MASKS),))


def hausdorff() -> Case:
    """`metrics.hausdorff`."""
    import jax.numpy as jnp

    from cardiojax import metrics

    masks, spacing = _damaged(MASKS) == 1, jnp.array([0.5, 0.6])
    distance = functools.partial(metrics.hausdorff, spacing=spacing)
    return Case(distance, distance, (masks, np.roll(masks, 1, axis=0)))


def correct() -> Case:
    """`latent.correct`, which decodes and checks codes far from those of hearts."""
    import jax.numpy as jnp

    from cardiojax import anatomy, latent
    from cardiojax.correction.anatomical import load_shapes

    shapes, bank = load_shapes("cvae_camus"), jnp.asarray(rejection_sampling.real_codes())

    def decode(codes):
        return shapes.decode(codes, 224, 224)

    def all_codes(codes):
        return latent.correct(codes, bank, decode=decode, is_valid=anatomy.is_valid, num_neighbours=1).codes

    codes = 1.6 * rejection_sampling.drawn(CODES, 1)
    return Case(all_codes, lambda code: all_codes(code[None])[0], (codes,))


def nearest() -> Case:
    """`latent.nearest` in 100,000 codes."""
    import jax.numpy as jnp

    from cardiojax import latent

    bank = jnp.asarray(rejection_sampling.drawn(100_000, 0))
    search = functools.partial(latent.nearest, bank=bank, k=8)
    return Case(search, search, (rejection_sampling.drawn(256, 1),))


def rejection_sample() -> Case:
    """`latent.rejection_sample`: one call, and as many draws of 32 keys."""
    import jax

    from cardiojax import latent

    target = rejection_sampling.window()
    wide = target.widened(1.05)

    def all_draws(keys):
        return latent.rejection_sample(keys[0], target, wide, DRAWS, scale="max").values

    def one_chain(key):
        # rounds of 2,048 proposals in place of 32,768: one is enough for these few draws
        return latent.rejection_sample(key, target, wide, DRAWS // CHAINS, scale="max", blocks_per_round=2).values

    return Case(all_draws, one_chain, (jax.random.split(jax.random.key(0), CHAINS),))


def regularize() -> Case:
    """`temporal.regularize`, the published rule."""
    import jax.numpy as jnp

    from cardiojax import temporal as consistency

    limits = jnp.tile(jnp.array([0.0, 1.0]), (temporal.ATTRIBUTES, 1)), jnp.asarray(temporal.THRESHOLDS, jnp.float32)

    def smoothed(series):
        return consistency.regularize(series, *limits, rule="original").series

    return Case(smoothed, smoothed, (temporal.sequences(SEQUENCES).astype(np.float32),))


def cases() -> dict[str, Callable[[], Case]]:
    """What makes each function and its arguments, by its name."""
    import jax.numpy as jnp

    from cardiojax import anatomy, clinical, ops

    of_masks = {
        "anatomy.is_valid": anatomy.is_valid,
        "anatomy.check": anatomy.check,
        "anatomy.attributes": anatomy.attributes,
        "ops.largest_component": lambda masks: ops.largest_component(masks == 1),
        "ops.distance_transform": lambda masks: ops.distance_transform(masks == 1),
        "clinical.long_axis": lambda masks: clinical.long_axis(masks, jnp.ones(2)),
    }
    return {name: functools.partial(_of_masks, function) for name, function in of_masks.items()} | {
        "metrics.hausdorff": hausdorff,
        "latent.correct": correct,
        "latent.nearest": nearest,
        "latent.rejection_sample": rejection_sample,
        "temporal.regularize": regularize,
    }


def timed(name: str, form: str):
    """The compiled call of one of the two forms."""
    import jax

    case = cases()[name]()
    call = jax.jit(case.batched if form == "batched" else jax.vmap(case.single))
    arguments = jax.device_put(case.arguments)
    return lambda: jax.block_until_ready(call(*arguments))


def run(rounds: int = 5) -> Section:
    """Times both forms of each in turn."""
    lines = ["| | batched, ms | vmapped, ms | vmapped / batched | first call, s |", "|---|---|---|---|---|"]
    data = {}
    for name in cases():
        found = compare({form: functools.partial(timed, name, form) for form in ("batched", "vmapped")}, rounds=rounds)
        batched, vmapped = found["batched"], found["vmapped"]
        data[name] = figures(found)
        ms = f"{1e3 * batched.median:.3g} | {1e3 * vmapped.median:.3g} | {vmapped.median / batched.median:.2f}"
        lines.append(f"| `{name}` | {ms} | {batched.first:.1f}, {vmapped.first:.1f} |")
    return Section(title="Batched against vmapped", text="\n".join(lines), data=data)


PARTS = {"": run}
NOTE = f"""Each of the {CHAINS} keys of `latent.rejection_sample` estimates its acceptance anew, from 6,096 densities
of P and Q, and fills a round of 2,048 proposals for {DRAWS // CHAINS} draws: 65,536 proposals, against 32,768 of one
call."""

if __name__ == "__main__":
    main(__spec__.name, PARTS)
