"""The experiments on shapes run from end to end on a few real frames."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import anatomy, zoo
from cardiojax.correction.anatomical import load_shapes
from experiments.anatomy import latent_walks, painchaud2020, shape_spaces


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
