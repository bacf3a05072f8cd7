"""Smoothing the codes of a sequence under its constraint: ours beside SciPy's banded solver and the original's descent.

Sixty frames of sixteen dimensions, seven of them attributes whose weight is chosen by bisection, as published. Then
from masks to masks: encoded, smoothed and decoded, with either solver between the packaged autoencoder's halves, and
the rounds of `correction.temporal`, which measure, move and measure again.

Run: ``python -m benchmarks.methods.temporal [smoothing | sequence]``
"""

import functools
from typing import Literal

import numpy as np

from benchmarks.harness import Section, compare, figures, main, ratio_text, ratio_to_best, table

FRAMES, DIMS, ATTRIBUTES = 60, 16, 7
THRESHOLDS = np.array([1.60e-2, 9.69e-2, 2.62e-2, 2.29e-2, 3.21e-2, 4.56e-3, 1.10e-2])


def sequences(num: int) -> np.ndarray:
    """Noisy beats, scaled to their bounds."""
    rng = np.random.default_rng(0)
    time = np.linspace(0, 1, FRAMES)[:, None]
    return 0.5 + 0.3 * np.cos(2 * np.pi * time) + rng.normal(0, 0.02, (num, FRAMES, DIMS))


def ours(num: int, rule: Literal["original", "minimal"] = "original"):
    """One compiled call for all sequences."""
    import jax
    import jax.numpy as jnp

    from cardiojax import temporal

    limits = jnp.tile(jnp.array([0.0, 1.0]), (ATTRIBUTES, 1)), jnp.asarray(THRESHOLDS, jnp.float32)
    call = jax.jit(lambda x: temporal.regularize(x, *limits, rule=rule).series)
    batch = jnp.asarray(sequences(num), jnp.float32)
    return lambda: jax.block_until_ready(call(batch))


def _bisect(batch, solve):
    def is_within(value, threshold):
        return (np.abs(value[1:-1] - (value[:-2] + value[2:]) / 2) <= threshold).all()

    def call():
        result = np.empty_like(batch)
        for series, out in zip(batch, result, strict=True):
            for k in range(ATTRIBUTES):
                low, high = 0.0, 128.0
                for _ in range(5):
                    middle = (low + high) / 2
                    if is_within(solve(series[:, k], middle), THRESHOLDS[k]):
                        high = middle
                    else:
                        low = middle
                out[:, k] = solve(series[:, k], high)
            for k in range(ATTRIBUTES, DIMS):
                out[:, k] = solve(series[:, k], 50.0)
        return result

    return call


def _solve_banded(series, weight):
    from scipy.linalg import solveh_banded

    bands = np.empty((2, len(series)))
    bands[0], bands[1] = -weight / 2, 1 + weight
    bands[1, [0, -1]] = 1 + weight / 2
    return solveh_banded(bands, series, check_finite=False)


def scipy(num: int):
    """``solveh_banded`` for each dimension and each weight of the bisection."""
    return _bisect(sequences(num), _solve_banded)


def descent(num: int):
    """Gradient descent with momentum, step .01, until a step is below 1.2e-7 or 10,000 of them, as published."""

    def solve(series, weight):
        value, velocity = series.copy(), np.zeros_like(series)
        for _ in range(10_000):
            padded = np.concatenate([value[:1], value, value[-1:]])
            slope = (value - series) + weight * (value - (padded[:-2] + padded[2:]) / 2)
            velocity = 0.9 * velocity + 0.1 * slope
            value = value - 0.01 * velocity
            if np.sqrt(np.sum((0.01 * velocity) ** 2)) <= 1.19e-7:
                break
        return value

    return _bisect(sequences(num), solve)


def _flickering_masks():
    """A beat of sixty frames of 224 x 224, whose size flickers by a few percent."""
    beat = (
        1
        - 0.15 * (1 - np.cos(2 * np.pi * np.arange(FRAMES) / FRAMES))
        + np.random.default_rng(0).normal(0, 0.03, FRAMES)
    )
    rows, cols = (np.mgrid[:224, :224] - np.array([110, 112])[:, None, None])[..., None]
    inner = np.hypot(rows / (70 * beat**0.3), cols / (30 * beat)) < 1
    outer = np.hypot(rows / (70 * beat**0.3 + 18), cols / (30 * beat + 14)) < 1
    atrium = np.hypot((rows - 38) / 42, cols / 28) < 1
    masks = np.where(rows <= 38, np.where(inner, 1, 2 * outer), 3 * atrium)
    return np.ascontiguousarray(np.moveaxis(masks, -1, 0), np.int32)


def whole(solver: str):
    """Sixty masks to sixty masks."""
    import jax
    import jax.numpy as jnp

    from cardiojax import temporal
    from cardiojax.correction.anatomical import load_shapes
    from cardiojax.correction.temporal import make_temporal_corrector

    masks = _flickering_masks()
    if solver == "temporal_correction":
        correct_in_time = make_temporal_corrector()
        return lambda: correct_in_time(masks, spacing=(0.7, 0.7), frame_time=0.02)
    shapes = load_shapes("arvae_camus")
    encode, decode = jax.jit(shapes.encode), jax.jit(lambda z: shapes.decode(z, 224, 224))
    codes = np.asarray(encode(masks))[:, :ATTRIBUTES]
    low, span = codes.min(0), np.ptp(codes, 0)

    def between(codes):
        scaled = np.concatenate([(codes[:, :ATTRIBUTES] - low) / span, codes[:, ATTRIBUTES:]], 1)
        (smoothed,) = _bisect(scaled[None], _solve_banded)()
        return np.concatenate([smoothed[:, :ATTRIBUTES] * span + low, smoothed[:, ATTRIBUTES:]], 1)

    if solver == "scipy":
        return lambda: jax.block_until_ready(decode(between(np.asarray(encode(masks)))))
    bounds = jnp.stack([jnp.asarray(low), jnp.asarray(low + span)], -1)
    call = jax.jit(
        lambda x: (
            temporal.consistent_sequence(
                x,
                bounds,
                jnp.asarray(THRESHOLDS, jnp.float32),
                encode=shapes.encode,
                decode=lambda z: shapes.decode(z, 224, 224),
                rule="original",
            ).labels
        )
    )
    return lambda: jax.block_until_ready(call(masks))


TITLE = "Temporal smoothing under its constraint"


def smoothing(rounds: int = 5) -> Section:
    """Times one sequence of codes, then batches."""
    agree = np.abs(np.asarray(ours(1)()) - scipy(1)()).max()
    single = compare(
        {
            "cardiojax": functools.partial(ours, 1),
            "SciPy, banded": functools.partial(scipy, 1),
            "gradient descent": functools.partial(descent, 1),
            "cardiojax, minimal rule": functools.partial(ours, 1, "minimal"),
        },
        rounds=rounds,
    )
    text = "One sequence of 60 frames and 16 dimensions\n\n" + table(list(single.values()), unit_name="sequence")
    rest = {name: t for name, t in single.items() if "minimal" not in name}
    text += f"\n\n{ratio_text(ratio_to_best(rest))}; largest difference to SciPy {agree:.1e}\n"
    data = {"single": figures(single), "difference": float(agree)}
    for num in (16, 256):
        timings = compare(
            {
                "cardiojax": functools.partial(ours, num),
                "SciPy, banded": functools.partial(scipy, num),
                "cardiojax, minimal rule": functools.partial(ours, num, "minimal"),
            },
            rounds=rounds,
        )
        rest = {name: t for name, t in timings.items() if "minimal" not in name}
        text += f"\n{num} sequences\n\n" + table(list(timings.values()), unit=num, unit_name="sequence")
        text += f"\n\n{ratio_text(ratio_to_best(rest))}\n"
        data[f"batch_{num}"] = figures(timings)
    return Section(title=TITLE, text=text, data=data)


def sequence(rounds: int = 5) -> Section:
    """Times the whole way from masks to masks."""
    ways = {
        "cardiojax": "ours",
        "SciPy between two jitted halves": "scipy",
        "cardiojax, rounds on the outlines": "temporal_correction",
    }
    timings = compare({name: functools.partial(whole, way) for name, way in ways.items()}, rounds=rounds)
    text = "From 60 masks to 60 masks, 224 x 224\n\n" + table(list(timings.values()), unit_name="sequence") + "\n"
    return Section(title=TITLE, text=text, data={"whole": figures(timings)})


PARTS = {"smoothing": smoothing, "sequence": sequence}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
