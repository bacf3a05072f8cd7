"""Masks without prompts: the original's steps, written plainly with NumPy, choose the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardiojax.models import sam

CONFIG = sam.SAMConfig(
    image_size=64, width=16, depth=1, num_heads=2, global_blocks=(0,), prompt_dim=16, attention_rows=None
)


def plain_suppress(boxes, scores, max_overlap):
    order, kept = np.argsort(-scores, kind="stable"), []
    for i in order[np.isfinite(scores[order])]:
        for j in kept:
            sides = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2])
            common = np.maximum(sides, 0).prod()
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[i], boxes[j])]
            if common > max_overlap * (sum(areas) - common):
                break
        else:
            kept.append(i)
    return kept


@given(st.integers(0, 2**31), st.floats(0.1, 0.9))
def test_suppression_is_greedy(seed, max_overlap):
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(0, 20, (30, 2)), rng.uniform(2, 20, (30, 2))
    boxes = np.concatenate([corner, corner + side], 1).astype(np.float32)
    scores = np.where(rng.random(30) < 0.8, rng.random(30), -np.inf).astype(np.float32)
    chosen, valid, is_full = jax.jit(sam.suppress, static_argnames=("max_overlap", "capacity"))(
        jnp.asarray(boxes), jnp.asarray(scores), max_overlap=round(max_overlap, 1), capacity=30
    )
    assert np.asarray(chosen)[np.asarray(valid)].tolist() == plain_suppress(boxes, scores, round(max_overlap, 1))
    assert not is_full


def test_boxes_of_masks():
    mask = jnp.zeros((7, 9), bool)
    assert sam.mask_box(mask).tolist() == [0, 0, 0, 0]
    assert sam.mask_box(mask.at[2, 3].set(True).at[5, 1].set(True)).tolist() == [2, 1, 5, 3]


def discs(points):
    """A network's answer to points: three discs around the nearest of five objects, and what it thinks of them."""
    centres = jnp.array([[10.0, 12], [12, 40], [30, 20], [33, 45], [20, 30]])
    distance = jnp.linalg.norm(points[:, None] - centres, axis=-1)
    nearest = jnp.argmin(distance, 1)
    rows, columns = jnp.mgrid[:44, :60]
    away = jnp.hypot(rows - centres[nearest, 0, None, None], columns - centres[nearest, 1, None, None])
    radii = jnp.array([1.0, 4, 7, 9])
    logits = (radii - away[..., None]) * jnp.array([1.0, 2, 9, 0.5])
    quality = 1 - distance.min(1)[:, None] / 60 - jnp.array([0, 0.01, 0.05, 0.02])
    return logits, quality


@pytest.mark.parametrize("capacity", [3, 40])
def test_finds_what_the_plain_steps_find(monkeypatch, capacity):
    def predict(model, variables, embedded, prompts, *, size, batch_size):
        assert size == (44, 60)
        return sam.Prediction(*discs(prompts.points[:, 0]))

    monkeypatch.setattr(
        "cardiojax.models.sam.automatic.embed_image", lambda *_: sam.Embedded(jnp.zeros(0), jnp.ones(2))
    )
    monkeypatch.setattr("cardiojax.models.sam.automatic.predict_masks", predict)
    limits = {"min_quality": 0.8, "min_stability": 0.5}
    masks = jax.jit(
        lambda x: sam.find_masks(
            sam.SAM(), {}, x, points_per_side=5, max_overlap=0.6, capacity=capacity, batch_size=4, **limits
        )
    )(jnp.zeros((44, 60, 1)))

    cells = (np.arange(5) + 0.5) / 5
    points = np.array([[y * 44, x * 60] for y in cells for x in cells], np.float32)
    logits, quality = map(np.asarray, discs(jnp.asarray(points)))
    logits, quality = np.moveaxis(logits[..., 1:], -1, 1).reshape(75, 44, 60), quality[:, 1:].ravel()
    stability = (logits > 1).sum((1, 2)) / (logits > -1).sum((1, 2))
    keep = (quality > limits["min_quality"]) & (stability >= limits["min_stability"])
    assert 0 < keep.sum() < 75
    boxes = np.array([np.asarray(sam.mask_box(jnp.asarray(each > 0))) for each in logits])
    expected = plain_suppress(boxes, np.where(keep, quality, -np.inf), 0.6)
    assert 3 < len(expected) < keep.sum()
    number = min(capacity, len(expected))
    assert masks.valid.sum() == number
    assert bool(masks.is_full) == (capacity < len(expected))
    expected = expected[:number]
    np.testing.assert_allclose(masks.quality[:number], quality[expected], rtol=1e-5)
    np.testing.assert_allclose(masks.stability[:number], stability[expected], rtol=1e-5)
    np.testing.assert_allclose(masks.points[:number], points[np.array(expected) // 3])
    np.testing.assert_array_equal(masks.masks[:number], logits[expected] > 0)
    np.testing.assert_array_equal(masks.boxes[:number], boxes[expected])
    assert not masks.masks[number:].any()


def test_runs_on_a_network():
    model = sam.SAM(CONFIG)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    masks = jax.eval_shape(
        lambda v, x: sam.find_masks(model, v, x, points_per_side=4, capacity=5), variables, jnp.zeros((20, 24, 1))
    )
    assert masks.masks.shape == (5, 20, 24)
