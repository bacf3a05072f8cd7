"""The experiments on shapes run from end to end on a few real frames."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import anatomy, models, zoo
from cardiojax.correction.anatomical import load_shapes
from experiments.anatomy import latent_walks, painchaud2020, phase_constraint, shape_spaces


@pytest.fixture(scope="module")
def camus(data_dir):
    return data_dir / "camus_224"


def test_painchaud2020(camus, tmp_path):
    with np.load(camus / "camus224_val.npz") as archive:
        masks = archive["label"].copy()
    masks[:, 100:104, 100:104] = 0
    np.savez(tmp_path / "damaged.npz", label=masks)
    config = painchaud2020.Config(data=camus, out=tmp_path, others=(tmp_path / "damaged.npz",), limit=3)
    rows = painchaud2020.main(config)
    assert set(rows) == {"experts", "U-Net", "U-Net, largest regions", "U-Net, noise 0.25", "damaged"}
    for name, row in rows.items():
        if name != "experts":
            assert row["invalid_after"] == 0
            assert row["valid_untouched"]
    assert rows["damaged"]["invalid_before"] > 0
    table = (tmp_path / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(rows)
    assert len({line.count("|") for line in table}) == 1


def test_shape_spaces(camus, tmp_path):
    config = shape_spaces.Config(data=camus, out=tmp_path, models=("cvae_camus",), num_samples=20, limit=40)
    scores = shape_spaces.main(config)["cvae_camus"]
    assert scores["dice_lv"] > 0.93
    assert 0 < scores["valid_samples"] <= 1
    assert scores["phase_along_line"] > 0.9
    assert "dice_lv" in (tmp_path / "table.md").read_text()


def test_each_attribute_follows_its_dimension():
    """Of the packaged autoencoder, through the mean of hearts that come with the package."""
    ordered, constrained = load_shapes("arvae_camus"), load_shapes("cvae_camus")
    hearts = constrained.decode(jnp.asarray(zoo.load_bank("cvae_camus")[:200], jnp.float32), 64, 64)
    config = latent_walks.Config(data=Path(), out=Path(), num=5)
    ways = latent_walks.traversals(ordered, np.asarray(ordered.encode(hearts)), config)
    measured = jax.jit(anatomy.attributes)(ordered.decode(jnp.stack(list(ways.values())), 128, 128))
    assert tuple(ways) == anatomy.Attributes._fields
    for row, values in enumerate(measured):
        assert (np.diff(values[row]) > 0).all()


def test_shapes_of_one_patient_share_their_pose():
    maps = jnp.stack([jnp.eye(16)[..., None] * jnp.array([1.0, -1, 2, -2]), jnp.ones((16, 16, 4))])
    shapes, phases = phase_constraint.shapes_of_cycle(jax.random.key(0), jnp.stack([maps[0], maps[0]]), 3)
    np.testing.assert_allclose(shapes[0], shapes[2], atol=1e-6)  # the same shape at every phase
    assert (float(phases[0]), float(phases[2])) == (0, 1)
    assert phase_constraint.shapes_of_cycle(jax.random.key(1), maps, 2)[0].shape == (2, 16, 16, 4)


def test_a_cycle_with_an_instant_half_way():
    """With the mean of both ends half-way it is the cycle of the two ends."""
    ends = jax.random.normal(jax.random.key(0), (2, 16, 16, 4))
    instants = jnp.stack([ends[0], ends.mean(0), ends[1]])
    for seed in range(5):
        shapes, phases = phase_constraint.shapes_of_cycle(jax.random.key(seed), ends, 1)
        same, same_phases = phase_constraint.shapes_of_cycle(jax.random.key(seed), instants, 1)
        np.testing.assert_allclose(same, shapes, atol=1e-5)
        np.testing.assert_array_equal(same_phases, phases)


def test_a_straight_way_costs_nothing():
    phases = jnp.array([[0.0, 0.25, 1.0]])
    codes = jnp.array([1.0, 2.0]) + phases[0][:, None] * jnp.array([3.0, -1.0])
    posterior = models.Posterior(codes, jnp.zeros_like(codes))
    output = models.VAEOutput(jnp.zeros((3, 4, 4, 4)), posterior, codes + 1, None)

    def error(variant):
        return float(phase_constraint.phase_error(output, phases, lambda z: (z[:, 0] - 1) / 3, variant))

    assert error(phase_constraint.Variant()) == pytest.approx(0, abs=1e-6)
    assert error(phase_constraint.Variant(at_samples=True)) == pytest.approx(1 / 9, rel=1e-4)
    assert error(phase_constraint.Variant(pairs=True, at_samples=True)) == pytest.approx(0, abs=1e-6)
    assert float(phase_constraint.departure(codes, phases)) == pytest.approx(0, abs=1e-6)
    bent = codes.at[1, 1].add(1.0)
    assert float(phase_constraint.departure(bent, phases)) == pytest.approx(0.1, rel=1e-3)  # 1 over a length of 10


def test_simulated_cycles_shrink():
    """The cavity of a simulated heart becomes smaller from each instant to the next."""
    cycles = phase_constraint.simulated_cycles(2, size=32)
    assert cycles.shape == (2, 5, 32, 32, 4)
    areas = (cycles.argmax(-1) == 1).sum((2, 3))
    assert (np.diff(areas, axis=1) <= 0).all()
    assert (areas[:, 0] > 1.1 * areas[:, -1]).all()


def test_every_measure_is_drawn(tmp_path):
    rows = [dict.fromkeys(phase_constraint.MEASURES, value) for value in (0.4, 0.6)]
    scores = {"cvae_camus": phase_constraint.summary(rows[:1]), "plain": phase_constraint.summary(rows)}
    phase_constraint.draw(scores, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 0
    lines = phase_constraint.table(scores).splitlines()
    assert len(lines) == 4
    assert "| 0.400 |" in lines[2]
    assert "| 0.500 ± 0.141 |" in lines[3]
