"""Smoothing the codes of a sequence under its constraint: ours beside SciPy's banded solver and the original's descent.

Sixty frames of sixteen dimensions, seven of them attributes whose weight is found by bisection, as published.

Run: ``python -m benchmarks.temporal``
"""

import functools

import numpy as np

from benchmarks.harness import Section, compare, figures, main, ratio_to_best, table

FRAMES, DIMS, ATTRIBUTES = 60, 16, 7
THRESHOLDS = np.array([1.60e-2, 9.69e-2, 2.62e-2, 2.29e-2, 3.21e-2, 4.56e-3, 1.10e-2])


def sequences(num: int) -> np.ndarray:
    """Noisy beats, scaled to their bounds."""
    rng = np.random.default_rng(0)
    time = np.linspace(0, 1, FRAMES)[:, None]
    return 0.5 + 0.3 * np.cos(2 * np.pi * time) + rng.normal(0, 0.02, (num, FRAMES, DIMS))


def ours(num: int, rule: str = "original"):
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


def scipy(num: int):
    """``solve_banded`` for each dimension and each weight of the bisection."""
    from scipy.linalg import solveh_banded

    def solve(series, weight):
        bands = np.empty((2, FRAMES))
        bands[0], bands[1] = -weight / 2, 1 + weight
        bands[1, [0, -1]] = 1 + weight / 2
        return solveh_banded(bands, series, check_finite=False)

    return _bisect(sequences(num), solve)


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


def run(rounds: int = 5) -> Section:
    """Times one sequence, then batches."""
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
    text += f"\n\nOurs over the best peer: **{ratio_to_best(rest):.2f}**; largest difference to SciPy {agree:.1e}\n"
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
        text += f"\n\nOurs over the best peer: **{ratio_to_best(rest):.3f}**\n"
        data[f"batch_{num}"] = figures(timings)
    return Section(title="Temporal smoothing under its constraint", text=text, data=data)


PARTS = {"": run}

if __name__ == "__main__":
    main(__spec__.name, PARTS)
