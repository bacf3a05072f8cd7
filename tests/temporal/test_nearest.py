"""The nearest consistent series: SciPy's answer, and what it leaves alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from cardiojax import temporal

LIMITS = temporal.Limits(jnp.array([[0.0, 1.0], [-1.0, 3.0]]), jnp.array([0.012, 0.01]))
nearest = jax.jit(temporal.nearest_consistent)


def noisy_beats(num_frames=24, seed=0):
    rng = np.random.default_rng(seed)
    curve = 0.5 + 0.2 * np.cos(2 * np.pi * np.arange(num_frames) / num_frames)
    return jnp.asarray(np.stack([curve, 2 * curve], 1) + rng.normal(0, 0.02, (num_frames, 2)), jnp.float32)


def test_it_is_the_projection_that_scipy_finds_in_the_dual():
    series = noisy_beats()
    projected = np.asarray(nearest(series, *LIMITS))
    difference = (np.eye(24) - (np.eye(24, k=1) + np.eye(24, k=-1)) / 2)[1:-1]
    for k, limit in enumerate((0.012, 0.04)):
        values, limit = np.asarray(series[:, k], float), 0.999 * limit

        def dual(multipliers, values=values, limit=limit):
            first, second = np.split(multipliers, 2)
            rest = difference.T @ (first - second) - values
            slope = difference @ rest
            return 0.5 * rest @ rest + limit * multipliers.sum(), np.concatenate([slope + limit, limit - slope])

        options: Any = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-10}
        best = minimize(dual, np.zeros(44), jac=True, bounds=[(0, None)] * 44, method="L-BFGS-B", options=options).x
        np.testing.assert_allclose(projected[:, k], values - difference.T @ (best[:22] - best[22:]), atol=1e-3)
    assert bool(temporal.consistency(jnp.asarray(projected), *LIMITS).is_sequence_consistent)


def test_a_glitch_moves_its_neighbours_little_and_the_rest_not_at_all():
    smooth = 0.5 + 0.1 * jnp.cos(2 * jnp.pi * jnp.arange(24.0) / 24)
    series = jnp.stack([smooth, 2 * smooth], 1)
    np.testing.assert_allclose(nearest(series, *LIMITS), series, atol=1e-5)
    projected = nearest(series.at[12, 0].add(0.3), *LIMITS)
    moved = np.flatnonzero(np.abs(projected - series)[:, 0] > 1e-4)
    assert moved.min() >= 8
    assert moved.max() <= 16
    assert np.abs(projected - series).max() < 0.05
    assert bool(temporal.consistency(projected, *LIMITS).is_sequence_consistent)


def test_gaps_are_filled_and_padding_takes_no_part():
    series = noisy_beats(seed=1)
    short = series[:18].at[7].set(jnp.nan)
    batch = jnp.stack([series, jnp.pad(short, [(0, 6), (0, 0)], constant_values=9.0)])
    valid = jnp.arange(24) < jnp.array([24, 18])[:, None]
    projected = nearest(batch, *LIMITS, valid=valid)
    np.testing.assert_allclose(projected[0], nearest(series, *LIMITS), atol=1e-5)
    np.testing.assert_allclose(projected[1, :18], nearest(short, *LIMITS), atol=1e-4)
    assert bool(jnp.isfinite(projected).all())
    assert bool((projected[1, 18:] == 9).all())
    assert bool(temporal.consistency(projected, *LIMITS, valid=valid).is_sequence_consistent.all())
