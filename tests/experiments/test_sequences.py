"""The experiments on loops: their tables on made-up masks, and two steps of the 2-D+t network."""

from pathlib import Path

import numpy as np
import pytest

from cardiojax import train
from cardiojax.data.phantom import PhantomSet
from experiments.temporal import ling2023, loops, painchaud2022, real_masks

SIZE, NUM_FRAMES = 32, 8


@pytest.fixture(scope="module")
def made_up():
    """Two patients in both views: a cavity that shrinks in its wall over an atrium."""
    rows, cols = np.mgrid[:SIZE, :SIZE]
    masks = np.zeros((4, NUM_FRAMES, SIZE, SIZE), np.int32)
    for i in range(4):
        for t in range(NUM_FRAMES):
            half = 4 + i // 2 + 1.5 * np.cos(2 * np.pi * t / (NUM_FRAMES - 1))
            masks[i, t][(rows > 3) & (rows <= 20) & (abs(cols - 16) <= half + 3)] = 2
            masks[i, t][(rows > 6) & (rows <= 20) & (abs(cols - 16) <= half)] = 1
            masks[i, t][(rows > 20) & (rows < 28) & (abs(cols - 16) <= half)] = 3
    return loops.Loops(
        (80 * masks).astype(np.uint8),
        masks,
        np.full((4, 2), 3.0),
        np.full(4, 0.1),
        np.full(4, NUM_FRAMES // 2),
        np.repeat(["a", "b"], 2),
        np.tile(["2CH", "4CH"], 2),
    )


def test_exact_masks_have_no_error(made_up):
    row = painchaud2022.scores(made_up, made_up.labels)
    assert row["Dice LV"] == 1
    assert row["HD LV, mm"] == 0
    assert row["EF MAE"] == 0
    wrong = made_up.labels.copy()
    wrong[:, 3] = np.roll(wrong[:, 3], 6, axis=-1)
    worse = painchaud2022.scores(made_up, wrong)
    assert worse["inconsistent sequences"] == 1
    assert worse["Dice LV"] < 1
    assert "| moved | 100.0% |" in painchaud2022.format_rows({"moved": worse})


def test_phases(made_up):
    chosen, examples = loops.phases(made_up, made_up.labels)
    assert chosen.shape == (8, SIZE, SIZE)
    assert [example["phase"] for example in examples[:2]] == ["ED", "ES"]


def test_label_maps_are_kept(tmp_path):
    first = loops.keep(tmp_path / "x" / "m.npz", lambda: np.full((2, 3), 3))
    again = loops.keep(tmp_path / "x" / "m.npz", lambda: np.zeros((2, 3)))
    np.testing.assert_array_equal(first, again)


def test_two_steps_of_the_network_with_time(made_up, tmp_path):
    config = ling2023.Config(
        data=Path(),
        out=tmp_path,
        second=PhantomSet(num_patients=2),
        size=SIZE,
        clip=4,
        features=(4, 4, 4),
        loop=train.LoopConfig(num_steps=2, eval_every=2),
    )
    arrays = (made_up.images, made_up.labels.astype(np.uint8))
    data = {"train": arrays, "validation": arrays}
    params = ling2023.train_network(config, "2D+t", data)
    logits = ling2023.make_predict(ling2023.make_model(config, "2D+t"))(params, made_up.images)
    assert logits.shape == (4, NUM_FRAMES, SIZE, SIZE, 4)
    assert bool(np.isfinite(logits).all())
    clips = ling2023.Clips(made_up.images, made_up.labels, 4)
    assert len(clips) == 8
    np.testing.assert_array_equal(clips[3]["image"], made_up.images[1, 4:8])


def test_real_masks_are_compared_with_what_was_drawn(made_up):
    drawn = made_up.labels[0]
    same = real_masks.loop_scores(drawn, drawn, (3.0, 3.0), 0.1)
    assert same["Dice lv to as drawn"] == 1
    assert 0 < same["area change"] < 1
    moved = real_masks.loop_scores(np.roll(drawn, 4, axis=-1), drawn, (3.0, 3.0), 0.1)
    assert moved["Dice lv to as drawn"] < 0.8
    assert moved["area change"] == same["area change"]
    assert real_masks.format_rows({"as drawn": same}).count("\n") == 3
