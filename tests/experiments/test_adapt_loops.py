"""How masks of a loop are scored without reference."""

import numpy as np

from experiments.rl4seg2024 import adapt_loops


def test_a_still_loop_is_consistent_and_a_jump_is_seen(monkeypatch):
    monkeypatch.setattr(adapt_loops, "_is_valid", lambda masks: masks[:, 0, 0] == 0)
    masks = np.zeros((10, 16, 16), np.int32)
    for k in (1, 2, 3):
        masks[:, 4 * k : 4 * k + 4, 4:12] = k
    still = adapt_loops.consistency_scores(masks)
    assert still["valid"] == 1
    assert np.isclose(still["similarity"], 1)
    assert still["jump"] == 0
    masks[5, 4:8, 4:8] = 0
    masks[9, 0, 0] = 1
    moved = adapt_loops.consistency_scores(masks)
    assert moved["valid"] == 0.9
    assert moved["similarity"] < 1
    assert moved["jump"] > 0
