"""Fine-tuning on made-up frames: boxes, what each way trains, two steps of one, and the comparison with few labels."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cardiojax import train
from cardiojax.models import sam
from experiments.common import phases
from experiments.common.frames import Frames, boxes_of, rows_of_patients
from experiments.segmentation import medsam_camus

MODEL = sam.SAMConfig(
    image_size=32, patch_size=8, width=8, depth=1, num_heads=2, global_blocks=(0,), prompt_dim=16, attention_rows=None
)
CONFIG = medsam_camus.Config(data=Path(), out=Path(), batch_size=2, rank=2, small=MODEL)


def frames():
    masks = np.zeros((4, 32, 32), np.int32)
    masks[:, 4:20, 6:26], masks[:, 8:20, 10:20], masks[:, 21:28, 8:22] = 2, 1, 3
    return (masks > 0).astype(np.float32), masks


@pytest.fixture(scope="module")
def parts(fill):
    model = sam.SAM(sam.SAMConfig(**{**vars(MODEL), "adapters": True}))
    params = fill(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))))["params"]
    adapters, params = train.partition(params, train.trainable(params, ("*/adapter/*",)))
    return params, adapters


def test_boxes_hold_their_structures():
    result = boxes_of(frames()[1])
    np.testing.assert_array_equal(result[0], [[8, 10, 19, 19], [4, 6, 19, 25], [21, 8, 27, 21]])


def test_each_way_trains_its_leaves_and_changes_nothing_before(parts):
    images = jnp.asarray(frames()[0])
    boxes = jnp.asarray(boxes_of(frames()[1])[:, 0])
    before = medsam_camus.segment(sam.SAM(MODEL), parts[0], images[:1], boxes[:1])
    counts = {}
    for name in medsam_camus.WAYS:
        way = medsam_camus.prepare(CONFIG, *parts, name)
        counts[name] = sum(leaf.size for leaf in jax.tree.leaves(way.trained))
        assert "gaussian_matrix" not in str(jax.tree.structure(way.trained))
        if "adapters" in name:
            after = medsam_camus.segment(way.model, way.build(way.trained), images[:1], boxes[:1])
            np.testing.assert_allclose(after, before, atol=1e-5)
    decoder, low_rank, adapters, encoder = counts.values()
    assert decoder < low_rank < min(adapters, encoder)


def test_training_lowers_the_loss_and_the_table_tells(parts, capsys):
    way = medsam_camus.prepare(CONFIG, *parts, "decoder, prompts, LoRA")
    result = medsam_camus.fit(CONFIG, way, frames(), 12, seed=0)
    first, last = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines())
    assert last < first
    assert jax.tree.structure(result.params) == jax.tree.structure(way.trained)
    assert result.memory > 0
    dice = {name: {"ED": 0.9, "ES": 0.8} for name in ("lv", "epicardium", "left_atrium")}
    row = {"dice": dice, "true": 0.85, "hausdorff": {"ED": 4.0, "ES": 5.0}, "invalid": 3, "trained": 1234}
    better = {**row, "true": 0.87, "minutes": 2.0, "memory": 100.0}
    lines = medsam_camus.tabulate({"nothing": [row], "x": [row, better]}).splitlines()
    assert lines[-2] == "| nothing | " + "0.900 / 0.800 | " * 3 + "1,234 |  |  | 0.850 | 3 | 4.0 / 5.0 |"
    assert lines[-1] == "| x | " + "0.900 / 0.800 | " * 3 + "1,234 | 2.0 | 100 | 0.860 | 3 | 4.0 / 5.0 |"


def test_masks_of_many_boxes_are_those_of_one_at_a_time(parts):
    images, masks = frames()
    given = Frames(images, masks, np.arange(4), np.array(["ED", "ES"] * 2), np.ones((4, 2)))
    boxes = boxes_of(masks)
    many = medsam_camus.masks_in_boxes(sam.SAM(MODEL), parts[0], given, boxes, CONFIG)
    for k in range(3):
        single = medsam_camus.segment(sam.SAM(MODEL), parts[0], jnp.asarray(images), jnp.asarray(boxes[:, k])) > 0
        np.testing.assert_array_equal(many[:, k], single)


def test_scores_of_perfect_masks(split, monkeypatch):
    twice = np.tile(phases.structures_of(split.labels), (1, 2, 1, 1))
    monkeypatch.setattr(medsam_camus, "masks_in_boxes", lambda *_: twice)
    boxes = {"true": np.zeros((80, 3, 4)), "up to 5 pixels": np.zeros((80, 3, 4))}
    scores = medsam_camus.evaluate(sam.SAM(MODEL), {}, split, boxes, CONFIG)
    assert scores["true"] == scores["up to 5 pixels"] == pytest.approx(1)
    assert scores["hausdorff"] == {"ED": 0, "ES": 0}
    assert scores["invalid"] == 80  # the drawn rectangles are no hearts


@pytest.fixture
def split():
    patients = np.repeat([f"patient{i:04d}" for i in range(20)], 4)
    masks = np.zeros((80, 16, 16), np.int32)
    masks[:, 4:12, 4:8], masks[:, 4:12, 8:12], masks[:, 12:15, 4:12] = 1, 2, 3
    return Frames(np.zeros((80, 16, 16), np.float32), masks, patients, np.tile(["ED", "ES"], 40), np.ones((80, 2)))


def test_fewer_patients_are_among_more(split):
    few, many = (set(rows_of_patients(split, num, 3)) for num in (5, 12))
    assert (len(few), len(many)) == (20, 48)
    assert few < many
    assert len(rows_of_patients(split, 0, 3)) == 0
    assert few != set(rows_of_patients(split, 5, 4))


def test_scores_of_each_phase(split):
    predicted = split.labels.copy()
    predicted[1::2, 4:8, 4:8] = 0  # half of the cavity is missing at end-systole
    scores = phases.dice_by_phase(*map(phases.structures_of, (predicted, split.labels)), split.phases)
    assert scores["lv"] == {"ED": pytest.approx(1), "ES": pytest.approx(2 / 3)}
    assert scores["left_atrium"] == {"ED": pytest.approx(1), "ES": pytest.approx(1)}
    assert scores["epicardium"]["ES"] == pytest.approx(2 * 48 / (64 + 48))
    row = phases.table({"a": scores}, title="method", more={"minutes": {"a": "3"}}).splitlines()[-1]
    assert row == "| a | 1.000 / 0.667 | 1.000 / 0.857 | 1.000 / 1.000 | 3 |"
