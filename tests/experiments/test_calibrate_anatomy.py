"""The calibration runs on a few masks."""

import numpy as np

from experiments.anatomy.calibrate import Config, main


def test_smoke(tmp_path, capsys):
    mask = np.zeros((24, 24), np.uint8)
    mask[4:14, 6:18] = 2
    mask[7:14, 9:15] = 1
    mask[14:18, 9:15] = 3
    for split in ("train", "val"):
        np.savez(tmp_path / f"camus224_{split}.npz", label=np.stack([mask, mask]), view=np.array(["2CH", "4CH"]))
    measured = main(Config(data=tmp_path))
    assert measured["both"].max_width_ratio == 1.0
    assert "calibrated: 100.0% of the validation masks valid" in capsys.readouterr().out
