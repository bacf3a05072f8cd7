"""The experiments on shapes run from end to end on a few real frames."""

import numpy as np
import pytest

from experiments import painchaud2020, shape_spaces


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
            assert row["implausible_after"] == 0
            assert row["plausible_untouched"]
    assert rows["damaged"]["implausible_before"] > 0
    table = (tmp_path / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(rows)
    assert len({line.count("|") for line in table}) == 1


def test_shape_spaces(camus, tmp_path):
    config = shape_spaces.Config(data=camus, out=tmp_path, models=("cvae_camus",), num_samples=20, limit=40)
    scores = shape_spaces.main(config)["cvae_camus"]
    assert scores["dice_lv"] > 0.93
    assert 0 < scores["plausible_samples"] <= 1
    assert scores["phase_along_line"] > 0.9
    assert "dice_lv" in (tmp_path / "table.md").read_text()
