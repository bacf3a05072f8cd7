"""The figures of the comparison on made-up maps, and the perturbation."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import uncertainty
from experiments.common.frames import perturb
from experiments.uncertainty import judge2022

CONFIG = judge2022.Config(data=Path(), out=Path(), num_bootstrap=20, failure=0.85)
PATIENTS = np.repeat([f"p{i}" for i in range(12)], 4)


@pytest.fixture(scope="module")
def frames():
    """Squares that were predicted too large by a random amount, and the truth."""
    rng = np.random.default_rng(0)
    truth, labels = np.zeros((2, 48, 32, 32), np.int32)
    for i in range(48):
        for k in (1, 2, 3):
            top = 9 * (k - 1) + 2
            truth[i, top : top + 6, 6:20] = k
            labels[i, top : top + 6, 6 : 20 + rng.integers(0, 11)] = k
    return jnp.asarray(truth), jnp.asarray(labels)


def rows_of(values, labels, truth):
    images = jnp.broadcast_to(jnp.linspace(0, 1, 32)[:, None], (*labels.shape,))[..., None]
    rows = judge2022.measure(uncertainty.from_map(images, values, labels), truth)
    return {name: np.asarray(value) for name, value in rows.items()}


def test_a_map_of_the_errors_is_perfect_and_noise_is_not(frames):
    truth, labels = frames
    perfect = rows_of((labels != truth) * 0.99 + 0.005, labels, truth)
    noise = rows_of(jnp.asarray(np.random.default_rng(0).random(labels.shape), jnp.float32), labels, truth)
    best, worst = (judge2022.figures(rows, CONFIG) for rows in (perfect, noise))
    assert best["corr"] > 0.97
    assert best["auroc"] > 0.98  # the score counts pixels, the coefficient is a mean over classes
    assert best["ece"] < 0.01
    assert best["ause"] < 0.01
    assert best["mi"] > 10 * worst["mi"]
    assert worst["ece"] > 0.3
    rates = [judge2022.conformal(np.random.default_rng(0), rows, PATIENTS, 0.1) for rows in (perfect, noise)]
    assert all(f["missed"] < 0.12 for f in rates)
    assert rates[0]["flagged"] < 0.3 < 0.8 < rates[1]["flagged"]


def test_intervals_hold_the_figures(frames):
    truth, labels = frames
    rows = rows_of(jnp.where(labels != truth, 0.6, 0.2), labels, truth)
    value = judge2022.figures(rows, CONFIG)
    interval = judge2022.bootstrap(np.random.default_rng(0), rows, PATIENTS, CONFIG)
    for name in ("corr", "ece", "mi"):
        assert interval[name][0] <= value[name] <= interval[name][1]
    table = judge2022.format_table(
        {"made up": {"value": value, "interval": interval, "missed": 0.1, "flagged": 0.2, "ms": 1.0}}, CONFIG
    )
    assert table.count("\n") == 3
    assert "20.0% (90.0%)" in table


def test_perturbed_images_stay_images_and_differ():
    image = np.random.default_rng(0).random((64, 64), np.float32)
    changed = [perturb(np.random.default_rng(seed), image) for seed in range(8)]
    assert all(c.min() >= 0 and c.max() <= 1 and c.dtype == np.float32 for c in changed)
    assert 0.02 < np.mean([np.abs(c - image).mean() for c in changed]) < 0.3
