"""The tables of the view classifier, on a few clips."""

import numpy as np

from experiments.views import refusal


def test_intervals_are_those_of_wilson():
    assert refusal.wilson(50, 50) == "100 % (93 to 100)"
    assert refusal.wilson(5, 10) == "50 % (24 to 76)"
    assert refusal.wilson(0, 0) == "-"


def test_changes_and_displays_keep_the_shape():
    images = np.random.default_rng(0).random((2, 224, 224)).astype(np.float32)
    for change in (*refusal.changes().values(), *refusal.displays().values()):
        changed = change(images)
        assert changed.shape == images.shape
        assert ((changed >= 0) & (changed <= 1)).all()


def test_tables_of_a_few_clips(data_dir):
    table = refusal.main(refusal.Config(data=data_dir, limit=2))
    assert "| 2CH | all | 1 |" in table
    assert "| label maps | no | 2 |" in table
    assert "| OBXXXX1A_2frame.dcm | other |" in table
